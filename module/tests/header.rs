//! `include/hot_module.h` and the Rust types say the same: a C compiler is asked about every member and constant.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the message")]

use hot_module::abi::{self, Header, Host, Slice, Table};
use hot_module::note::{Metadata, Note};
use std::fmt::Write as _;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Writes the source into a folder of its own and runs the compiler on it there.
fn compile(source: &str, file: &str, compiler: &str, options: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::write(folder.path().join(file), source).unwrap();
    let status = Command::new(compiler)
        .current_dir(folder.path())
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic"])
        .args(options)
        .arg("-I")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include"))
        .args([file, "-o", "out"])
        .status()
        .unwrap();
    assert!(status.success(), "{compiler} {options:?}: {status}\n{source}");
    let out = folder.path().join("out");
    (folder, out)
}

macro_rules! members {
    ($asserts:ident, $c:literal, $rust:ty, $($member:ident),*) => {
        writeln!($asserts, "_Static_assert(sizeof({}) == {}, \"size\");", $c, size_of::<$rust>()).unwrap();
        $(
            let name = stringify!($member);
            let at = offset_of!($rust, $member);
            writeln!($asserts, "_Static_assert(offsetof({}, {name}) == {at}, \"{name}\");", $c).unwrap();
        )*
    };
}

#[test]
fn layouts_and_constants_are_those_of_the_header() {
    let mut asserts = String::from("#include \"hot_module.h\"\n");
    members!(asserts, "hot_slice", Slice, ptr, len);
    members!(asserts, "hot_header", Header, name, value);
    members!(
        asserts,
        "hot_host",
        Host,
        abi,
        size,
        log,
        now,
        config,
        method,
        target,
        peer,
        headers,
        header,
        time_left,
        body_read,
        body_all,
        request_trailers,
        reply,
        respond,
        body_write,
        trailers,
        finish,
        abort,
        metric,
        notify
    );
    members!(asserts, "hot_table", Table, abi, size, start, handle, health, save, load, stop);
    for (name, value) in [
        ("HOT_ABI", i64::from(hot_module::ABI)),
        ("HOT_NOTE_TYPE", i64::from(hot_module::NOTE_TYPE)),
        ("HOT_OK", i64::from(abi::OK)),
        ("HOT_ENDED", i64::from(abi::ENDED)),
        ("HOT_STATE", i64::from(abi::STATE)),
        ("HOT_INVALID", i64::from(abi::INVALID)),
        ("HOT_CANCELLED", i64::from(abi::CANCELLED)),
        ("HOT_WOULD_BLOCK", i64::from(abi::WOULD_BLOCK)),
        ("HOT_TOO_LARGE", i64::from(abi::TOO_LARGE)),
        ("HOT_NOT_FOUND", i64::from(abi::NOT_FOUND)),
        ("HOT_FAILED", i64::from(abi::FAILED)),
        ("HOT_NONBLOCK", i64::from(abi::NONBLOCK)),
        ("HOT_READABLE", i64::from(abi::READABLE)),
        ("HOT_WRITABLE", i64::from(abi::WRITABLE)),
        ("HOT_ENDING", i64::from(abi::ENDING)),
        ("HOT_COUNTER", i64::from(abi::COUNTER)),
        ("HOT_GAUGE", i64::from(abi::GAUGE)),
        ("HOT_HISTOGRAM", i64::from(abi::HISTOGRAM)),
        ("HOT_LOG_ERROR", i64::from(abi::LOG_ERROR)),
        ("HOT_LOG_WARN", i64::from(abi::LOG_WARN)),
        ("HOT_LOG_INFO", i64::from(abi::LOG_INFO)),
        ("HOT_LOG_DEBUG", i64::from(abi::LOG_DEBUG)),
        ("(int)sizeof(HOT_NOTE_OWNER)", i64::try_from(hot_module::NOTE_OWNER.len() + 1).unwrap()),
    ] {
        writeln!(asserts, "_Static_assert({name} == {value}, \"{name}\");").unwrap();
    }
    compile(&asserts, "asserts.c", "cc", &["-std=c11", "-c"]);
}

/// A module with nothing but what must be there, in the words that C and C++ share.
const LEAST: &str = r#"
#include "hot_module.h"
HOT_MODULE_METADATA("least", "1.0.0", "routes = [\"/\"]\n");
static hot_status start(const hot_host *host, hot_slice config, void **self, hot_slice *why) {
    (void)config, (void)self, (void)why;
    return HOT_HAS(hot_host, host, abort) ? HOT_OK : HOT_FAILED;
}
HOT_EXPORT const hot_table hot_module = {HOT_ABI, sizeof(hot_table), start, NULL, NULL, NULL, NULL, NULL};
"#;

/// The content of the section `.note.hot` of a shared object.
fn note(file: &Path) -> Vec<u8> {
    let bytes = file.with_extension("note");
    let status = Command::new("objcopy")
        .args(["-O", "binary", "-j", hot_module::NOTE_SECTION])
        .args([file, &bytes])
        .status()
        .unwrap();
    assert!(status.success(), "objcopy: {status}");
    std::fs::read(bytes).unwrap()
}

#[test]
fn the_macro_of_the_header_makes_the_note_that_the_sdk_makes() {
    const META: Metadata<'_> = Metadata { name: "least", version: "1.0.0", routes: &["/"], lines: "" };
    const NOTE: Note<{ META.content_size() }> = META.note();
    let shared = ["-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections"];
    let hard = ["-Wl,--gc-sections", "-flto", "-s"];
    let (_c, c) = compile(LEAST, "least.c", "cc", &[&["-std=c99"], &shared[..], &hard[..]].concat());
    let from_c = note(&c);
    for compiler in ["c++", "clang++"] {
        if Command::new(compiler).arg("--version").output().is_err() {
            eprintln!("skipped: there is no {compiler} here, so the header is not tried with it");
            continue;
        }
        // clang leaves link-time optimisation to a plugin that the linker of the machine may not have.
        let hard = if compiler == "clang++" { &["-Wl,--gc-sections", "-s"][..] } else { &hard };
        let options = [&["-std=c++11"], &shared[..], hard].concat();
        let (_cpp, cpp) = compile(LEAST, "least.cc", compiler, &options);
        assert_eq!(from_c, note(&cpp), "{compiler}");
    }

    let ours = NOTE.content();
    let content = &from_c[16..];
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().trim_end_matches('\0').to_owned();
    assert_eq!(text(content), text(ours));
    let size = u32::try_from(content.len()).unwrap();
    let head =
        [&4_u32.to_ne_bytes()[..], &size.to_ne_bytes(), &hot_module::NOTE_TYPE.to_ne_bytes(), b"hot\0"]
            .concat();
    assert_eq!(&from_c[..16], head);
    assert_eq!(content.len() % 4, 0);
}
