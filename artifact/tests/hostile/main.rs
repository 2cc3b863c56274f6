//! Hostile files against `hot-artifact`'s public door: each refusal by name, files cut short and with flipped bits,
//! limits, and the heap that all of this takes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;
mod elf;
mod flips;
mod heap;
mod limits;
mod real;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{LazyLock, Mutex};

use hot_artifact::{
    Found, InspectError, Inspection, Library, Node, Refusal, Sha256, check, inspect, symbols,
};

/// This machine.
static NODE: LazyLock<Node> = LazyLock::new(Node::native);

/// What this machine's libraries were found to be: looking for one opens files, and there are a hundred thousand
/// questions.
static LIBRARIES: Mutex<BTreeMap<String, Option<Library>>> = Mutex::new(BTreeMap::new());

/// Most heap that a list of symbols takes: two times 1024 names, versions and libraries of up to 255 bytes, twice over
/// while the lists grow.
const LISTED: usize = 4 << 20;

/// What a file is, without its digest, or the first reason why this machine refuses it.
fn judge(bytes: &[u8]) -> Result<Inspection, Refusal> {
    let (inspected, peak) = heap::peak(|| inspect(bytes));
    assert!(peak <= heap::allowed(bytes.len()), "{peak} bytes of heap for {} bytes", bytes.len());
    let (listed, peak) = heap::peak(|| symbols(bytes));
    assert!(peak <= LISTED, "{peak} bytes of heap for the symbols of {} bytes", bytes.len());
    drop(listed);
    let file = inspected.map_err(|error: InspectError| error.refusal())?;
    let mut libraries = LIBRARIES.lock().unwrap();
    let mut found = Found::new();
    for needed in &file.needed {
        let library = libraries
            .entry(needed.name.clone())
            .or_insert_with(|| NODE.find(std::slice::from_ref(needed)).remove(&needed.name));
        found.extend(library.clone().map(|library| (needed.name.clone(), library)));
    }
    drop(libraries);
    match check(&file, &NODE, &found).first() {
        Some(reason) => Err(reason.refusal()),
        None => Ok(Inspection { digest: Sha256::of(b""), ..file }),
    }
}

/// The code of the refusal, or `ok`.
fn code(bytes: &[u8]) -> &'static str {
    judge(bytes).map_or_else(|refusal| refusal.code, |_file| "ok")
}

/// What a compiler makes of a source with these arguments.
fn build(compiler: &str, source: &str, extension: &str, arguments: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("module").with_extension(extension);
    let output = folder.path().join("module.so");
    std::fs::write(&input, source).unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../module/include");
    let mut command = Command::new(compiler);
    if compiler == "cc" {
        command.arg("-I").arg(include);
    }
    let status = command.args(arguments).arg(&input).arg("-o").arg(&output).status().unwrap();
    assert!(status.success(), "{command:?}");
    std::fs::read(output).unwrap()
}

/// A good module in C, which uses libc.
const C: &str = "#include \"hot_module.h\"\n\
    HOT_MODULE_METADATA(\"probe\", \"1.0.0\", \"routes = [\\\"/probe\\\"]\\n\");\n\
    HOT_EXPORT const hot_table hot_module = { .abi = HOT_ABI, .size = sizeof(hot_table) };\n\
    #include <stdio.h>\n\
    int probe(void) { return puts(\"probe\"); }\n";

/// A good module in Rust.
const RUST: &str = "#[unsafe(no_mangle)]\npub static hot_module: [u32; 4] = [0, 16, 0, 0];\n\
    const TEXT: [u8; 64] = *b\"format = 1\\nname = \\\"probe\\\"\\nversion = \\\"1.0.0\\\"\\nabi = 0\\n           \\n\";\n\
    #[repr(C, align(4))]\npub struct Note(u32, u32, u32, [u8; 4], [u8; 64]);\n\
    #[used]\n#[unsafe(no_mangle)]\n#[unsafe(link_section = \".note.hot\")]\n\
    pub static hot_module_note: Note = Note(4, 64, 1, *b\"hot\\0\", TEXT);\n\
    #[unsafe(no_mangle)]\npub extern \"C\" fn probe() { println!(\"{:?}\", std::thread::current()); }\n";
