//! The bytes of a version signed once more: a signature that counts takes the place of the stored one, and `plan` and `push`
//! agree about it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hot_tests::{Key, Module, Node, Output, WAIT, text};
use serde_json::Value;

/// A node that trusts the key of Carla, and two versions that it does not know yet.
struct Case {
    node: Node,
    carla: Key,
    stable: PathBuf,
    next: PathBuf,
}

impl Case {
    fn new() -> Result<Self> {
        let node = Node::start()?;
        let carla = Key::generate(node.scratch().join("carla"))?;
        node.hotctl(&["trust", "add", "carla", text(&carla.path().with_extension("pub"))?])?.expect(0)?;
        let (stable, next) = (Module::new("good").build()?, Module::new("good").version("1.1.0").build()?);
        Ok(Self { node, carla, stable, next })
    }

    /// `plan` and `push` with these arguments end alike: refused, or well.
    fn agree(&self, file: &Path, arguments: &[&str], refused: bool) -> Result<Output> {
        let planned = self.node.hotctl(&[&["plan", text(file)?], arguments].concat())?;
        assert_eq!(planned.code == 4, refused, "{planned:?}");
        let at_once = ["--steps", "100%", "--bake", "1s"];
        let has_steps = arguments.contains(&"--canary");
        let pushed =
            self.node.push(file, &[arguments, if has_steps { &[] } else { &at_once[..] }].concat())?;
        pushed.expect(if refused { 4 } else { 0 })
    }

    fn revoke_carla(&self) -> Result<()> {
        let fresh = self.node.scratch().join("revoked");
        fs::copy(self.carla.path().with_extension("pub"), &fresh)?;
        fs::rename(fresh, self.node.data_dir().join("revoked_keys")).context("revoking the key")
    }

    fn versions(&self) -> Result<Value> {
        self.node.hotctl(&["versions", "probe", "-o", "json"])?.expect(0)?.json()
    }

    /// Who signed `version`, as the node says.
    fn principal(&self, version: &str) -> Result<String> {
        let versions = self.versions()?;
        let mut all = versions["versions"].as_array().context("versions")?.iter();
        let of =
            all.find(|of| of["version"] == version).with_context(|| format!("{version} in {versions}"))?;
        Ok(of["principal"].as_str().context("a principal")?.to_owned())
    }

    /// The record of the only artifact, as it is on disk.
    fn record(&self) -> Result<String> {
        let mut records = Vec::new();
        for entry in fs::read_dir(self.node.data_dir().join("artifacts"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "json") {
                records.push(fs::read_to_string(path)?);
            }
        }
        assert_eq!(records.len(), 1);
        records.pop().context("one")
    }

    fn serves(&self, version: &str) -> Result<()> {
        let reply = hot_tests::get(self.node.http(), "/probe")?;
        assert_eq!(String::from_utf8_lossy(reply.body()), format!("probe {version}\n"));
        Ok(())
    }
}

#[test]
fn a_stable_of_a_revoked_key_starts_again_once_a_key_that_counts_signed_it() -> Result<()> {
    let mut case = Case::new()?;
    let key = text(case.carla.path())?.to_owned();
    case.agree(&case.stable, &["--key", &key], false)?;
    assert_eq!(case.principal("1.0.0")?, "carla");
    case.revoke_carla()?;
    for arguments in [&["--key", &key][..], &["--no-sign"]] {
        let refused = case.agree(&case.stable, arguments, true)?;
        assert!(refused.sentence()?.contains("revoked"), "{}", refused.stderr);
    }
    let status: Value = case.node.hotctl(&["status", "-o", "json"])?.expect(0)?.json()?;
    assert_eq!(status["problems"][0]["code"], "trust.stable", "{status}");

    let mut events = case.node.events()?;
    let pushed = case.agree(&case.stable, &[], false)?;
    assert!(pushed.stdout.contains("the node has it already, signed by dev"), "{}", pushed.stdout);
    let event = events.wait(WAIT, |event| event.kind == "artifact.signed")?;
    assert!(event.text.contains("by dev; the signature before was by carla"), "{}", event.text);
    assert_eq!(case.principal("1.0.0")?, "dev");
    let status: Value = case.node.hotctl(&["status", "-o", "json"])?.expect(0)?.json()?;
    assert_eq!(status["problems"], Value::Array(Vec::new()), "{status}");
    // It was on disk when the push was answered.
    case.node.kill_all()?;
    case.node.start_again()?;
    case.serves("1.0.0")?;
    assert_eq!(case.principal("1.0.0")?, "dev");
    // What the node has needs no signature, as long as that one counts.
    case.agree(&case.stable, &["--no-sign"], false)?;
    case.node.stop()
}

#[test]
fn a_stable_that_did_not_start_for_its_signer_serves_once_it_is_signed_again() -> Result<()> {
    let mut case = Case::new()?;
    let key = text(case.carla.path())?.to_owned();
    case.agree(&case.stable, &["--key", &key], false)?;
    case.revoke_carla()?;
    case.node.kill_all()?;
    case.node.start_again()?;
    assert!(case.node.hosts()?.is_empty(), "a host of a revoked release was started at boot");
    case.agree(&case.stable, &[], false)?;
    case.serves("1.0.0")?;
    case.node.stop()
}

#[test]
fn a_candidate_that_went_back_for_its_signer_is_tried_again_once_it_is_signed_again() -> Result<()> {
    let case = Case::new()?;
    case.agree(&case.stable, &[], false)?;
    let canary = ["--key", text(case.carla.path())?, "--canary", "10%", "--bake", "10m", "--detach"];
    case.agree(&case.next, &canary, false)?;
    case.node.wait_module("probe", WAIT, |module| module.phase == "baking")?;
    case.revoke_carla()?;
    case.node.wait_module("probe", WAIT, |module| module.phase == "rolled_back")?;
    case.agree(&case.next, &[], false)?;
    case.serves("1.1.0")?;
    case.node.stop()
}

#[test]
fn a_signature_that_does_not_count_takes_no_place_and_the_same_one_changes_nothing() -> Result<()> {
    let case = Case::new()?;
    case.agree(&case.stable, &[], false)?;
    let first = case.record()?;
    case.agree(&case.stable, &[], false)?;
    assert_eq!(case.record()?, first, "the same signature is no other one");

    let foreign = Key::generate(case.node.scratch().join("foreign"))?;
    case.agree(&case.stable, &["--key", text(foreign.path())?], true)?;
    let signature = case.node.scratch().join("signature");
    case.node.key().sign("hot-module", &case.next, &signature)?;
    case.agree(&case.stable, &["--signature", text(&signature)?], true)?;
    // Past hotctl, which asks for a plan first.
    let refused =
        hot_tests::upload_refused(case.node.door()?, &fs::read(&case.stable)?, &fs::read(&signature)?)?;
    assert_eq!(refused.code, "signature.other_bytes", "{refused:?}");
    assert_eq!(case.record()?, first);

    // The key is changed before the old one is revoked.
    case.agree(&case.stable, &["--key", text(case.carla.path())?], false)?;
    assert_eq!(case.principal("1.0.0")?, "carla");
    // Other bytes under this version are no signature's matter.
    let other = Module::new("errors").build()?;
    case.agree(&other, &[], true)?;
    assert_eq!(case.principal("1.0.0")?, "carla");
    case.serves("1.0.0")?;
    case.node.stop()
}
