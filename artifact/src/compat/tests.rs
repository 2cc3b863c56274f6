use super::*;
use crate::testing::PROBE;
use crate::{Entry, Libraries, Library, Metadata, inspect};

/// A good module for this machine, with other metadata.
fn file(lines: &str) -> Inspection {
    let text = format!("format = 1\nname = \"m\"\nversion = \"1.0.0\"\n{lines}\n");
    let metadata = Metadata::parse(text.as_bytes()).unwrap();
    let entry = Entry { abi: metadata.abi, size: 64 };
    let needed = vec![NeededLibrary { name: "libc.so.6".into(), versions: vec!["GLIBC_2.2.5".into()] }];
    let target = "x86_64-gnu".parse().unwrap();
    Inspection { metadata, entry, needed, target, ..inspect(PROBE.as_slice()).unwrap() }
}

fn node() -> Node {
    let target = "x86_64-gnu".parse().unwrap();
    Node { target, abi: 0, libraries: Libraries::in_folders(target, Vec::new()) }
}

fn library(versions: &[&str]) -> Library {
    Library { path: "/lib/x".into(), versions: versions.iter().map(|&version| version.into()).collect() }
}

/// What a node has that is a few years old.
fn found() -> Found {
    Found::from([
        (
            "libc.so.6".into(),
            library(&["libc.so.6", "GLIBC_2.2.5", "GLIBC_2.9", "GLIBC_2.36", "GLIBC_PRIVATE"]),
        ),
        ("libold.so".into(), library(&[])),
    ])
}

fn codes(file: &Inspection, node: &Node) -> Vec<&'static str> {
    check(file, node, &found()).iter().map(|reason| reason.refusal().code).collect()
}

fn needs(name: &str, versions: &[&str]) -> Inspection {
    let versions = versions.iter().map(|&version| version.into()).collect();
    Inspection { needed: vec![NeededLibrary { name: name.into(), versions }], ..file("abi = 0") }
}

#[test]
fn each_reason_has_its_code() {
    let target = |text: &str| Inspection { target: text.parse().unwrap(), ..file("abi = 0") };
    let state = "abi = 0\nstate = { schema = 1, accepts = \"1\" }";
    let table = Inspection { entry: Entry { abi: 3, size: 64 }, ..file("abi = 0") };
    let hazard = Inspection { hazards: vec![Hazard::TextRelocations], ..file("abi = 0") };
    for (file, expected) in [
        (file("abi = 0"), None),
        (target("x86_64-none"), None),
        (target("x86_64-musl"), Some("compat.target")),
        (target("aarch64-gnu"), Some("compat.target")),
        (file("abi = 1"), Some("compat.abi")),
        (table, Some("compat.entry_abi")),
        (hazard, Some("elf.text_relocations")),
        (file(state), Some("compat.state_not_served")),
        (file("abi = 0\nrequires = [\"auth 1\"]"), Some("compat.requires_not_served")),
        (needs("libc.so.6", &["GLIBC_2.36", "GLIBC_2.9"]), None),
        (needs("libc.so.6", &["GLIBC_2.37"]), Some("compat.library_version")),
        (needs("libnew.so", &[]), Some("compat.library_missing")),
        (needs("libold.so", &["ANY_1"]), None),
    ] {
        assert_eq!(codes(&file, &node()), Vec::from_iter(expected), "{file:?}");
    }
}

#[test]
fn all_reasons_are_given_at_once() {
    let file = Inspection {
        hazards: vec![
            Hazard::ExecutableStack { declared: false },
            Hazard::NeededPath { name: "/x.so".into() },
        ],
        needed: ["/x.so", "libnew.so", "libnewer.so"]
            .map(|name| NeededLibrary { name: name.into(), versions: Vec::new() })
            .into(),
        ..file("abi = 2\nrequires = [\"auth 1\"]")
    };
    let expected = [
        "elf.executable_stack",
        "elf.needed_path",
        "compat.abi",
        "compat.library_missing",
        "compat.library_missing",
        "compat.requires_not_served",
    ];
    assert_eq!(codes(&file, &node()), expected);
}

#[test]
fn the_newest_version_is_by_number_and_of_the_same_name() {
    let reasons = check(&needs("libc.so.6", &["GLIBC_2.99"]), &node(), &found());
    let expected = "needed symbol version: found `GLIBC_2.99` of `libc.so.6`, expected a version that this node's library \
                    has, up to `GLIBC_2.36`; build the module on a system that is as old as the node, or update the node";
    assert_eq!(reasons[0].to_string(), expected);
    let reasons = check(&needs("libc.so.6", &["GLIBC_ABI_DT_RELR"]), &node(), &found());
    assert!(
        reasons[0].to_string().contains("expected a version that this node's library has;"),
        "{}",
        reasons[0]
    );
}

#[test]
fn an_operator_may_allow_only_some_libraries() {
    let only = |pattern: &str| Node { libraries: node().libraries.only(vec![pattern.into()]), ..node() };
    assert_eq!(codes(&file("abi = 0"), &only("libc.so.?")), [""; 0]);
    assert_eq!(codes(&file("abi = 0"), &only("libm.*")), ["compat.library_not_allowed"]);
}
