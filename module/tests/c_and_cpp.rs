//! The headers for authors in C and C++, by programs in these languages: `hot_testing.h` reports every breach of a module
//! that commits them all, and a module that uses all of `hot_module.hpp` passes under it.
//!
//! Each is built as people build (several standards, without RTTI, by each compiler that is here, warnings as errors) and
//! once more with the compiler's own checks of memory and undefined behaviour, where it has them.
//!
//! The wrapper's own words are checked in `wrapper/test.cpp`, those of the other header in `testing/test.c`.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the message")]
#![expect(clippy::print_stderr, reason = "what could not be tried on this machine is said")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const WARNINGS: [&str; 6] = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"];
const SANITIZERS: [&str; 2] = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

/// Runs a compiler in `folder`: whether it could be started, and what came of it.
fn run(compiler: &str, folder: &Path, arguments: &[&str]) -> Option<Output> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(compiler);
    command.current_dir(folder).arg("-I").arg(root.join("include")).args(WARNINGS).args(["-g", "-pthread"]);
    // clang minds a library where nothing is linked.
    command.args(arguments).args(["-Wno-unused-command-line-argument", "-ldl"]).output().ok()
}

fn source(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name).to_str().unwrap().to_owned()
}

/// Those of `compilers` that this machine has. C is needed to build anything here; C++ is not.
fn present<'a>(compilers: &[&'a str]) -> Vec<&'a str> {
    let (here, missing): (Vec<&str>, Vec<&str>) =
        compilers.iter().partition(|compiler| Command::new(compiler).arg("--version").output().is_ok());
    if !missing.is_empty() {
        eprintln!("skipped: not on this machine: {}", missing.join(", "));
    }
    here
}

/// Whether programs that this compiler builds with its sanitizers run here.
fn has_sanitizers(compiler: &str) -> bool {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::write(folder.path().join("probe.c"), "int main(void) { return 0; }\n").unwrap();
    let built = run(compiler, folder.path(), &[&SANITIZERS[..], &["probe.c", "-o", "probe"]].concat());
    let runs = built.is_some_and(|output| output.status.success())
        && Command::new(folder.path().join("probe")).output().is_ok_and(|output| output.status.success());
    if !runs {
        eprintln!("skipped: {compiler} has no sanitizers on this machine, so memory was not checked");
    }
    runs
}

/// Builds module and test, and runs the one with the other: what was said on standard error.
fn passes(
    compiler: &str,
    module: &str,
    module_options: &[&str],
    test: &str,
    test_options: &[&str],
) -> String {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let build = |options: &[&str], from: &str, to: &str| {
        let output = run(compiler, folder.path(), &[options, &[&source(from), "-o", to]].concat()).unwrap();
        assert!(
            output.status.success(),
            "{compiler} {options:?}:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    build(&[module_options, &["-shared", "-fPIC"]].concat(), module, "module.so");
    build(test_options, test, "test");
    let program: PathBuf = folder.path().join("test");
    let output = Command::new(program).current_dir(folder.path()).arg("module.so").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{compiler} {module_options:?}: {}\n{said}", output.status);
    said
}

/// One for each way to go wrong that the header knows of.
const BREACHES: [&str; 27] = [
    "the table's abi is not 0",
    "the table has no `start`",
    "`start` failed and said no reason",
    "`start` answered -2",
    "GET /twice: `finish` after `reply` had ended it",
    "GET /late: `method` after `abort` had ended it",
    "`finish` of exchange 4711, which there is not",
    "GET /short: content-length says 5 and the body has 4 bytes",
    "GET /never: it was not ended by its deadline, by none of `reply`, `finish` and `abort`; its `handle` has returned",
    "GET /endless: a body without end",
    "`log` was called within a wake",
    "`log` with level 9",
    "GET /order/body: `body_write` was refused: the head comes first",
    "GET /order/finish: `finish` was refused",
    "GET /order/head: `respond` was refused: the head is sent once",
    "GET /order/trailers: `trailers` was refused",
    "GET /order/request-trailers: `request_trailers` was refused",
    "GET /upgrade: `respond` was refused: a status outside 200 to 599 (101 is for `respond`",
    "GET /upgrade/trailers: `trailers` was refused: once, after the head, and none after a 101",
    "GET /upgrade/request-trailers: `request_trailers` was refused",
    "GET /null/out: `target` was refused: `out` is null",
    "GET /null/wake: `notify` was refused",
    "GET /flag: `body_read` was refused",
    "GET /status: `reply` was refused: a status outside 200 to 599",
    "GET /header/hop: `reply` was refused",
    "`metric` was refused: its kind (9)",
    "`*why` of `health` changed before the next call of it",
];

#[test]
fn every_breach_of_the_contract_is_reported() {
    let compilers = present(&["gcc", "clang"]);
    assert!(!compilers.is_empty(), "no C compiler is on this machine");
    for compiler in compilers {
        let mut ways = vec![["-std=c99", "-O0"], ["-std=gnu17", "-O2"]];
        ways.extend(has_sanitizers(compiler).then_some(SANITIZERS));
        for way in ways {
            // The module's own source is C11: the last one counts.
            let module = [&way[..], &["-std=c11"]].concat();
            let said = passes(compiler, "testing/misuses.c", &module, "testing/test.c", &way);
            for breach in BREACHES {
                let sentence = format!("hot_testing: the module broke the contract: {breach}");
                assert!(said.contains(&sentence), "{compiler} {way:?}: {breach}\n{said}");
            }
        }
    }
}

#[test]
fn a_module_in_cpp_uses_every_part_of_the_wrapper() {
    for compiler in present(&["g++", "clang++"]) {
        // Some warnings come with optimisation only.
        passes(
            compiler,
            "wrapper/module.cpp",
            &["-std=c++20", "-fno-rtti", "-O2"],
            "wrapper/test.cpp",
            &["-std=c++20"],
        );
        if has_sanitizers(compiler) {
            let checked = [&SANITIZERS[..], &["-std=c++17"]].concat();
            passes(compiler, "wrapper/module.cpp", &checked, "wrapper/test.cpp", &checked);
        }
    }
}

/// The modules of the contract, which the real host is held to by `host/tests/conformance.rs`: whoever tests a module without
/// a daemon must find what the daemon's host would answer.
#[test]
fn the_host_of_the_header_answers_as_the_real_one_does() {
    let steps = format!("-I{}", source("../../tests/modules"));
    for compiler in present(&["gcc", "clang"]) {
        let mut ways = vec![&["-O2"][..]];
        ways.extend(has_sanitizers(compiler).then_some(&SANITIZERS[..]));
        for way in ways {
            let module = [way, &["-std=gnu11", &steps, "-lm"]].concat();
            let test = [way, &["-std=c99", &steps]].concat();
            passes(compiler, "../../tests/modules/conforms.c", &module, "testing/contract.c", &test);
            let test = [&test[..], &["-DMISUSES"]].concat();
            passes(compiler, "../../tests/modules/misuses.c", &module, "testing/contract.c", &test);
        }
    }
}

/// The block of `docs/modules.md` in that language that contains `mark`.
fn documented(language: &str, mark: &str) -> String {
    let docs = std::fs::read_to_string(source("../../docs/modules.md")).unwrap();
    let fence = format!("```{language}\n");
    let block = docs.split(&fence).skip(1).filter_map(|rest| rest.split("```").next());
    block.into_iter().find(|block| block.contains(mark)).expect("the block is in the docs").to_owned()
}

#[test]
fn the_module_and_the_test_that_the_docs_show_pass() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let Some(&cpp) = present(&["g++", "clang++"]).first() else { return };
    std::fs::write(folder.path().join("greeter.cpp"), documented("cpp", "HOT_MODULE(")).unwrap();
    std::fs::write(folder.path().join("test.c"), documented("c", "hot_test_start(")).unwrap();
    let module = ["-std=c++17", "-shared", "-fPIC", "greeter.cpp", "-o", "greeter.so"];
    for (compiler, arguments) in [(cpp, &module[..]), ("cc", &["test.c", "-o", "greeter-test"])] {
        let output = run(compiler, folder.path(), arguments).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let test =
        Command::new("./greeter-test").current_dir(folder.path()).arg("./greeter.so").output().unwrap();
    assert!(test.status.success(), "{}", String::from_utf8_lossy(&test.stderr));
}

/// A test program in the oldest C++ that the header serves.
#[test]
fn the_testing_header_is_cpp_11_too() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for compiler in present(&["g++", "clang++"]) {
        let test = source("testing/test.c");
        let output =
            run(compiler, folder.path(), &["-std=c++11", "-x", "c++", "-fsyntax-only", &test]).unwrap();
        assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What the header refuses is refused with a sentence, not with pages of templates.
#[test]
fn the_wrapper_says_what_it_needs() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let module = source("wrapper/module.cpp");
    for (options, sentence) in [
        (&["-std=c++14"][..], "hot_module.hpp needs C++17 or later"),
        (&["-std=c++17", "-fno-exceptions"], "hot_module.hpp reports errors as exceptions"),
    ] {
        let Some(output) = run("c++", folder.path(), &[options, &["-fsyntax-only", &module]].concat()) else {
            panic!("c++ can't be started");
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(sentence), "{options:?}: {said}");
    }
}
