//! Names and versions as strangers may say them: they become no paths, and the largest numbers are numbers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hot_tests::{Module, Node};

/// Every file below a folder.
fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.insert(entry.path());
        }
    }
    Ok(found)
}

#[test]
fn names_and_versions_never_become_paths() -> Result<()> {
    let node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    // Where `../../victim` and its like would lead to from a folder of the store.
    let victims = ["victim", "victim.json", "victim.so"].map(|name| node.scratch().join(name));
    for victim in &victims {
        fs::write(victim, "{}")?;
    }
    let before = files(node.scratch())?;
    let absolute = victims[0].to_str().context("UTF-8")?;
    for path in
        ["../../victim", "..", ".", "/", absolute, "probe/../../../victim", "probe\n", "Probe", "%2e%2e"]
    {
        for command in [
            &["rollback", path][..],
            &["promote", path],
            &["pause", path],
            &["resume", path],
            &["abort", path],
            &["restart", path],
            &["status", path],
            &["versions", path],
            &["history", path],
            &["logs", path],
            &["remove", path],
            &["rollback", "probe", "--to", path],
        ] {
            let output = node.hotctl(command)?;
            assert!(output.code == 1 || output.code == 2, "{command:?}: {output:?}");
            assert!(!output.stderr.is_empty(), "{command:?} says nothing");
        }
    }
    // The index and the log grow by themselves; nothing else came or went.
    let own = |path: &&PathBuf| !path.starts_with(node.data_dir().join("index"));
    let after = files(node.scratch())?;
    assert_eq!(after.iter().filter(own).collect::<Vec<_>>(), before.iter().filter(own).collect::<Vec<_>>());
    for victim in &victims {
        assert_eq!(fs::read_to_string(victim)?, "{}", "{}", victim.display());
    }
    assert_eq!(hot_tests::get(node.http(), "/probe")?.body().as_ref(), b"probe 1.0.0\n");
    node.stop()
}

#[test]
fn a_version_of_the_largest_numbers_comes_serves_and_goes() -> Result<()> {
    const LARGEST: &str = "18446744073709551615.18446744073709551615.18446744073709551615";
    let mut node = Node::start()?;
    node.push(&Module::new("good").version(LARGEST).build()?, &[])?.expect(0)?;
    node.push(&Module::new("good").build()?, &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
    node.hotctl(&["rollback", "probe", "--to", LARGEST])?.expect(0)?;
    let serves = |node: &Node| -> Result<()> {
        let reply = hot_tests::get(node.http(), "/probe")?;
        assert_eq!(String::from_utf8_lossy(reply.body()), format!("probe {LARGEST}\n"));
        assert_eq!(node.module("probe")?.stable_version(), LARGEST);
        Ok(())
    };
    serves(&node)?;
    // As the number of a release it is only one that never was.
    for number in ["18446744073709551615", "18446744073709551616", "0"] {
        let refused = node.hotctl(&["rollback", "probe", "--to", number])?;
        assert!(refused.code == 1 || refused.code == 2, "{refused:?}");
        assert!(refused.stderr.lines().next().is_some_and(|line| line.contains(number)), "{refused:?}");
    }
    node.kill_all()?;
    node.start_again()?;
    serves(&node)?;
    node.stop()
}
