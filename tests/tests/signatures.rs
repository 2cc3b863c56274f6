//! Only signed code gets in, and nothing of a refused file has run. What else a signature may lack is in `refused`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use hot_tests::{Key, Marker, Module, Node, Output, text};

/// A node, a signed module whose constructor leaves a mark, and what hears of it.
struct Case {
    node: Node,
    file: PathBuf,
    constructed: Marker,
}

impl Case {
    fn new() -> Result<Self> {
        let node = Node::start()?;
        // This process's alone, so nobody finds it built.
        let name = format!("signatures-{}", std::process::id());
        let constructed = Marker::new(&name)?;
        let built = Module::new("good").text("CONSTRUCTED", text(&Marker::path(&name))?).build()?;
        let file = node.scratch().join("probe.so");
        fs::copy(&built, &file)?;
        fs::remove_file(built)?;
        Ok(Self { node, file, constructed })
    }

    fn push_by(&self, key: &Key) -> Result<Output> {
        self.node.push(&self.file, &["--key", key.path().to_str().context("UTF-8")?])
    }

    /// Exit code 4, one sentence with these words, and nothing has run or is known of the module.
    fn refused(self, output: Output, words: &[&str]) -> Result<()> {
        let output = output.expect(4)?;
        let sentence = output.sentence()?.to_lowercase();
        for word in words {
            assert!(sentence.contains(word), "expected {word:?} in {sentence:?}");
        }
        assert!(!self.constructed.ran(), "the constructor of a refused file has run");
        assert!(self.node.status()?.module("probe").is_none(), "a refused push left a module");
        assert!(self.node.hosts()?.is_empty(), "a refused push started a host");
        self.node.stop()
    }
}

#[test]
fn a_signature_by_plain_ssh_keygen_is_accepted() -> Result<()> {
    let case = Case::new()?;
    let signature = case.node.scratch().join("probe.sig");
    case.node.key().sign("hot-module", &case.file, &signature)?;
    case.node.push(&case.file, &["--signature", signature.to_str().context("UTF-8")?])?.expect(0)?;
    assert!(case.constructed.ran(), "the constructor says so once the module is loaded");
    assert_eq!(hot_tests::get(case.node.http(), "/probe")?.body().as_ref(), b"probe 1.0.0\n");
    case.node.stop()
}

#[test]
fn a_foreign_key_given_to_hotctl_is_refused() -> Result<()> {
    let case = Case::new()?;
    let foreign = Key::generate(case.node.scratch().join("foreign"))?;
    let output = case.push_by(&foreign)?;
    case.refused(output, &["key"])
}

#[test]
fn a_key_that_is_trusted_no_more_is_refused_at_once() -> Result<()> {
    let case = Case::new()?;
    let signers = case.node.data_dir().join("allowed_signers");
    fs::write(&signers, "")?;
    let output = case.push_by(&case.node.key())?;
    case.refused(output, &["key"])
}
