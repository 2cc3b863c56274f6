//! `hotctl new`, as a shell sees it: what it prints, what it refuses, and that nothing is left of what it refused. That what
//! it writes can be built, tested and pushed is in the end to end tests.

#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs it in `folder`: exit code, standard output, standard error.
fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotctl"));
    command
        .current_dir(folder)
        .env("XDG_RUNTIME_DIR", folder)
        .env("XDG_CONFIG_HOME", folder)
        .env_remove("HOTCTL_NODE")
        .stdin(Stdio::null());
    let output = command.arg("new").args(arguments).output().expect("runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).expect("reads").next().is_none()
}

#[test]
fn it_says_what_to_type_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, out, err) = run(folder.path(), &["shop", "--lang", "c"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[..5],
        ["shop: a module in C", "Next:", "  cd shop", "  make test", "  hotctl push shop.so"]
    );
    for file in ["Makefile", "module.c", "test.c", "README.md", ".gitignore", "include/hot_testing.h"] {
        assert!(folder.path().join("shop").join(file).is_file(), "{file}");
    }
}

#[test]
fn json_has_every_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, out, _) = run(folder.path(), &["shop", "--lang", "cpp", "-o", "json"]);
    assert_eq!(code, Some(0));
    let made: serde_json::Value = serde_json::from_str(&out).expect("one object");
    assert_eq!((made["module"].as_str(), made["language"].as_str()), (Some("shop"), Some("cpp")));
    let written = Path::new(made["folder"].as_str().expect("a path"));
    assert!(written.is_absolute());
    for file in made["files"].as_array().expect("files") {
        assert!(written.join(file.as_str().expect("a path")).is_file(), "{file}");
    }
    assert_eq!(made["next"][1], "make test");
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    for (arguments, code, sentence) in [
        (&["Shop"][..], 2, "`Shop` is not a module name; one has 1 to 63 characters"),
        (&["../shop"], 2, "is not a module name"),
        (&["shop", "--lang", "go"], 2, "possible values: rust, c, cpp"),
        (&["shop", "--lang", "c", "--sdk", "."], 2, "--sdk is for Rust"),
        (&["shop", "--sdk", "."], 1, ". is not the crate hot-module"),
        (&["hot-module"], 2, "hot-module is the name of the SDK's own crate"),
    ] {
        let (found, out, err) = run(folder.path(), arguments);
        assert_eq!((found, out.as_str()), (Some(code), ""), "{arguments:?}: {err}");
        assert!(err.contains(sentence), "{arguments:?}: {err}");
        assert!(is_empty(folder.path()), "{arguments:?}");
    }
}

#[test]
fn what_is_there_stays_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let mine = folder.path().join("shop");
    fs::create_dir(&mine).expect("a folder");
    fs::write(mine.join("notes"), "mine").expect("writes");
    let (code, _, err) = run(folder.path(), &["shop", "--lang", "c", "-o", "json"]);
    assert_eq!(code, Some(1));
    let error: serde_json::Value = serde_json::from_str(&err).expect("an object");
    assert_eq!(error["error"]["code"], "folder.taken");
    assert_eq!(fs::read_to_string(mine.join("notes")).expect("reads"), "mine");
    assert_eq!(fs::read_dir(&mine).expect("reads").count(), 1);
}
