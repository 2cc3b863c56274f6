//! Only signed code gets in, and nothing of a refused file has run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hot_tests::{Key, Module, Node, Output};

/// A node, a signed module whose constructor makes a file, and that file.
struct Case {
    node: Node,
    file: PathBuf,
    constructed: PathBuf,
}

impl Case {
    fn new() -> Result<Self> {
        let node = Node::start()?;
        let constructed = node.scratch().join("constructed");
        let built =
            Module::new("good").text("CONSTRUCTED", constructed.to_str().context("UTF-8")?).build()?;
        // A copy of its own, for tests that change it.
        let file = node.scratch().join("probe.so");
        fs::copy(&built, &file)?;
        fs::remove_file(built)?;
        Ok(Self { node, file, constructed })
    }

    fn signature(&self) -> PathBuf {
        self.node.scratch().join("probe.sig")
    }

    fn push_with(&self, signature: &Path) -> Result<Output> {
        self.node.push(&self.file, &["--signature", signature.to_str().context("UTF-8")?])
    }

    /// Exit code 4, one sentence with these words, and nothing has run or is known of the module.
    fn refused(self, output: Output, words: &[&str]) -> Result<()> {
        let output = output.expect(4)?;
        let sentence = output.sentence()?.to_lowercase();
        for word in words {
            assert!(sentence.contains(word), "expected {word:?} in {sentence:?}");
        }
        assert!(!self.constructed.exists(), "the constructor of a refused file has run");
        assert!(self.node.status()?.module("probe").is_none(), "a refused push left a module");
        assert!(self.node.hosts()?.is_empty(), "a refused push started a host");
        self.node.stop()
    }
}

#[test]
fn a_signature_by_plain_ssh_keygen_is_accepted() -> Result<()> {
    let case = Case::new()?;
    case.node.key().sign("hot-module", &case.file, &case.signature())?;
    case.push_with(&case.signature())?.expect(0)?;
    assert!(case.constructed.exists(), "the constructor makes its file once the module is loaded");
    assert_eq!(hot_tests::get(case.node.http(), "/probe")?.body().as_ref(), b"probe 1.0.0\n");
    case.node.stop()
}

#[test]
fn no_signature_is_refused() -> Result<()> {
    let case = Case::new()?;
    let output = case.node.push(&case.file, &["--no-sign"])?;
    case.refused(output, &["signature"])
}

#[test]
fn a_foreign_key_is_refused() -> Result<()> {
    let case = Case::new()?;
    let foreign = Key::generate(case.node.scratch().join("foreign"))?;
    foreign.sign("hot-module", &case.file, &case.signature())?;
    let output = case.push_with(&case.signature())?;
    case.refused(output, &["key"])
}

#[test]
fn a_foreign_key_given_to_hotctl_is_refused() -> Result<()> {
    let case = Case::new()?;
    let foreign = Key::generate(case.node.scratch().join("foreign"))?;
    let output = case.node.push(&case.file, &["--key", foreign.path().to_str().context("UTF-8")?])?;
    case.refused(output, &["key"])
}

#[test]
fn a_wrong_namespace_is_refused() -> Result<()> {
    let case = Case::new()?;
    case.node.key().sign("file", &case.file, &case.signature())?;
    let output = case.push_with(&case.signature())?;
    case.refused(output, &["namespace", "hot-module"])
}

#[test]
fn one_flipped_byte_is_refused() -> Result<()> {
    let case = Case::new()?;
    case.node.key().sign("hot-module", &case.file, &case.signature())?;
    let mut bytes = fs::read(&case.file)?;
    // In the text of the answer: the file is as good a module as before, only not the one that was signed.
    let answer = b"probe 1.0.0\n";
    let at = bytes
        .windows(answer.len())
        .position(|window| window == answer)
        .context("the answer is in the file")?;
    bytes[at] ^= 1;
    fs::write(&case.file, bytes)?;
    let output = case.push_with(&case.signature())?;
    case.refused(output, &["signature"])
}

#[test]
fn a_signature_of_another_file_is_refused() -> Result<()> {
    let case = Case::new()?;
    let other = case.node.scratch().join("other.so");
    fs::copy(Module::new("good").version("9.9.9").build()?, &other)?;
    case.node.key().sign("hot-module", &other, &case.signature())?;
    let output = case.push_with(&case.signature())?;
    case.refused(output, &["signature"])
}

#[test]
fn a_signature_that_is_none_is_refused() -> Result<()> {
    let case = Case::new()?;
    fs::write(case.signature(), "not a signature\n")?;
    let output = case.push_with(&case.signature())?;
    case.refused(output, &["signature"])
}

#[test]
fn a_key_that_is_trusted_no_more_is_refused_at_once() -> Result<()> {
    let case = Case::new()?;
    let signers = case.node.data_dir().join("allowed_signers");
    fs::write(&signers, "")?;
    let output = case.node.push(&case.file, &["--key", case.node.key().path().to_str().context("UTF-8")?])?;
    case.refused(output, &["key"])
}
