//! What the two programs say to a person who finds them.

use std::process::{Command, Output};

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().expect("runs")
}

#[test]
fn each_says_what_it_is_and_who_starts_it() {
    for (name, program, words, usage) in [
        ("hot-spawn", env!("CARGO_BIN_EXE_hot-spawn"), "started before hotd", 2),
        ("hot-host", env!("CARGO_BIN_EXE_hot-host"), "hot-spawn does, when hotd asks", 1),
    ] {
        for argument in ["-h", "--help"] {
            let output = run(program, &[argument]);
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && output.stderr.is_empty(), "{name} {argument}: {output:?}");
            assert!(text.contains(words) && text.contains(&format!("Usage: {name}")), "{text}");
        }
        let version = run(program, &["--version"]);
        let expected = format!("{name} {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(String::from_utf8_lossy(&version.stdout), expected);
        let unknown = run(program, &["--what"]);
        assert_eq!(unknown.status.code(), Some(usage), "{name}");
        assert!(String::from_utf8_lossy(&unknown.stderr).contains("unknown argument --what"), "{unknown:?}");
    }
}
