//! The header as compilers see it, held to a copy. People build modules on it, so a change must be meant.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the message")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

const GOLDEN: &str = "tests/golden/hot_module.h.txt";

/// What the preprocessor makes of the header.
fn preprocessed(options: &[&str]) -> String {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/hot_module.h");
    let output =
        Command::new("cc").args(["-std=c11", "-E", "-P"]).args(options).arg(header).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Macros by name, then declarations in order: white space and comments do not count.
fn snapshot() -> String {
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let macros = preprocessed(&["-dM"]);
    let mut macros: Vec<_> =
        macros.lines().filter(|line| line.starts_with("#define HOT_")).map(one_line).collect();
    macros.sort_unstable();
    let mut text = macros.join("\n") + "\n";

    let all = preprocessed(&[]);
    let (_, ours) = all.split_once("typedef int32_t hot_status;").expect("the first declaration of ours");
    for declaration in ours.split_inclusive([';', '{']) {
        let declaration = one_line(declaration);
        if !declaration.is_empty() {
            writeln!(text, "{declaration}").unwrap();
        }
    }
    text
}

#[test]
fn the_header_is_what_it_was() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    let now = snapshot();
    if std::env::var_os("HOT_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&golden, &now).unwrap();
    }
    let before = std::fs::read_to_string(&golden).unwrap_or_default();
    let gone: Vec<_> = before.lines().filter(|line| !now.lines().any(|other| other == *line)).collect();
    let came: Vec<_> = now.lines().filter(|line| !before.lines().any(|other| other == *line)).collect();
    assert!(
        now == before,
        "hot_module.h no longer says what module/{GOLDEN} says.\ngone: {gone:#?}\ncame: {came:#?}\nIt is the contract \
         that modules are built on: a change needs a record in docs/decisions that says why, and what modules built \
         before see of it. With that written, run this test with HOT_GOLDEN=write."
    );
}
