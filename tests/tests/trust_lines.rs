//! `hotctl trust` says how each line stands now, and what it has not looked at.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hot_tests::{Key, Node, Output, text};
use serde_json::Value;

/// A file of allowed signers of no node, some keys, and a file that one of them signs.
struct Case {
    node: Node,
    signers: PathBuf,
    revoked: PathBuf,
    keys: Vec<Key>,
}

impl Case {
    fn new() -> Result<Self> {
        let node = Node::start()?;
        let keys = ["a", "b"].map(|name| Key::generate(node.scratch().join(name)));
        let (signers, revoked) = (node.scratch().join("signers"), node.scratch().join("revoked"));
        Ok(Self { node, signers, revoked, keys: keys.into_iter().collect::<Result<_>>()? })
    }

    fn trust(&self, command: &[&str], arguments: &[&str]) -> Result<Output> {
        let file = ["--allowed-signers", text(&self.signers)?];
        self.node.hotctl(&[&["trust"], command, &file, arguments].concat())
    }

    fn add(&self, who: &str, key: &Path, arguments: &[&str]) -> Result<Output> {
        self.trust(&["add", who, text(key)?], arguments)?.expect(0)
    }

    fn public(&self, key: usize) -> PathBuf {
        self.keys[key].path().with_extension("pub")
    }
}

#[test]
fn what_is_added_is_told_as_it_stands() -> Result<()> {
    let case = Case::new()?;
    let (first, second) = (case.public(0), case.public(1));
    fs::copy(&second, &case.revoked)?;
    let revoked = ["--revoked", text(&case.revoked)?];
    let said = case.add("anna", &first, &revoked)?;
    assert!(said.stdout.contains("may sign from now on") && said.stderr.is_empty(), "{said:?}");
    let said = case.add("anna", &first, &[])?;
    assert!(said.stdout.contains("could sign already"), "{said:?}");
    assert!(said.stderr.contains("revoked keys were not looked at"), "{said:?}");
    for (who, key, arguments, why) in [
        (
            "berta",
            &first,
            &[][..],
            "is in line 2 now, which does not count: never reached: line 1 has the same key",
        ),
        ("berta", &first, &[], "was in line 2 already, which does not count: never reached"),
        ("carla", &second, &revoked, "is in line 3 now, which does not count: revoked: its key is listed"),
        ("dora", &second, &["--valid-before", "20200101Z"], "expired since 2020-01-01T00:00:00Z"),
        ("emma", &second, &["--valid-after", "20990101Z"], "not before 2099-01-01T00:00:00Z"),
    ] {
        let said = case.add(who, key, arguments)?;
        assert!(said.stdout.contains(why) && !said.stdout.contains("may sign"), "{said:?}");
    }
    let added: Value = case.add("frida", &second, &["--valid-before", "20200101Z", "-o", "json"])?.json()?;
    assert_eq!((&added["line"], &added["counts"]), (&6.into(), &false.into()), "{added}");
    assert_eq!(added["why_not"], "expired since 2020-01-01T00:00:00Z");

    let listed: Value =
        case.trust(&["list"], &[&revoked[..], &["-o", "json"]].concat())?.expect(0)?.json()?;
    let signers = listed["signers"].as_array().context("signers")?;
    let why: Vec<&str> = signers.iter().map(|of| of["why_not"].as_str().unwrap_or("counts")).collect();
    let is_revoked = "revoked: its key is listed";
    assert_eq!(why[0], "counts");
    assert!(why[1].starts_with("never reached: line 1 "), "{why:?}");
    assert_eq!(why[2..], [is_revoked; 4]);
    assert_eq!(listed["revoked"], revoked[1]);
    let shown = case.trust(&["list"], &[])?.expect(0)?;
    for word in ["counts", "never reached: line 1", "expired since 2020", "not before 2099"] {
        assert!(shown.stdout.contains(word), "{word:?} in {}", shown.stdout);
    }
    assert!(shown.stderr.contains("--revoked FILE"), "{}", shown.stderr);
    case.node.stop()
}

#[test]
fn a_principal_with_a_blank_is_refused_and_nothing_is_written() -> Result<()> {
    let case = Case::new()?;
    let refused = case.trust(&["add", "a b", text(&case.public(0))?], &[])?.expect(2)?;
    let sentence = refused.sentence()?;
    assert!(sentence.contains("\"a b\" is no principal: found white space"), "{sentence}");
    assert!(!case.signers.exists());
    case.node.stop()
}

#[test]
fn a_check_says_what_it_looked_at() -> Result<()> {
    let case = Case::new()?;
    case.add("anna", &case.public(0), &[])?;
    let (file, signature) = (case.node.scratch().join("file"), case.node.scratch().join("file.sig"));
    fs::write(&file, "bytes")?;
    case.keys[0].sign("hot-module", &file, &signature)?;
    let check = ["check", text(&file)?];
    let said = case.trust(&check, &[])?.expect(0)?.stdout;
    let by = format!("it counts by {}\n", case.signers.display());
    assert!(said.contains(&by) && said.contains("not judged revoked keys (--revoked FILE); "), "{said}");
    fs::write(&case.revoked, "")?;
    let revoked = ["--revoked", text(&case.revoked)?];
    let said = case.trust(&check, &revoked)?.expect(0)?.stdout;
    let by = format!("it counts by {} and {}\n", case.signers.display(), case.revoked.display());
    assert!(said.contains(&by) && said.contains("not judged which principals"), "{said}");
    let checked: Value = case.trust(&check, &["-o", "json"])?.expect(0)?.json()?;
    assert_eq!((&checked["counts"], &checked["revoked"]), (&true.into(), &Value::Null));
    assert_eq!(checked["not_judged"].as_array().map(Vec::len), Some(2), "{checked}");
    fs::copy(case.public(0), &case.revoked)?;
    case.trust(&check, &revoked)?.expect(4)?;
    case.node.stop()
}
