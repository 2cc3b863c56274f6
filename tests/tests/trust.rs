//! Trust that changes while a node runs, at every entry: upload, boot, rollback, promote.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use hot_proto::v1::StartResponse;
use hot_tests::{Key, Module, Node, Output, WAIT, text};
use serde_json::Value;

/// A node that trusts a second key, by `hotctl trust add`.
struct Case {
    node: Node,
    key: Key,
}

impl Case {
    fn new() -> Result<Self> {
        let node = Node::start()?;
        let key = Key::generate(node.scratch().join("second"))?;
        let case = Self { node, key };
        case.trust("add", &["carla", text(&case.public())?])?.expect(0)?;
        Ok(case)
    }

    fn public(&self) -> PathBuf {
        self.key.path().with_extension("pub")
    }

    fn trust(&self, command: &str, arguments: &[&str]) -> Result<Output> {
        let mut all = vec!["trust", command, "-o", "json"];
        all.extend(arguments);
        self.node.hotctl(&all)
    }

    /// Pushes a version that the second key signed.
    fn push(&self, version: &str) -> Result<Output> {
        self.push_with(&self.key, version, &[])
    }

    /// Pushes a version that a key signed.
    fn push_with(&self, key: &Key, version: &str, arguments: &[&str]) -> Result<Output> {
        let file = Module::new("good").version(version).build()?;
        self.node.push(&file, &[&["--key", text(key.path())?], arguments].concat())
    }

    /// A version that the second key signed serves, and one that it did not sign is tried beside it, or the other way
    /// round.
    fn canary(&self, stable: &Key, candidate: &Key) -> Result<()> {
        self.push_with(stable, "1.0.0", &[])?.expect(0)?;
        let canary = ["--canary", "10%", "--bake", "10m", "--detach"];
        self.push_with(candidate, "1.1.0", &canary)?.expect(0)?;
        self.node.wait_module("probe", WAIT, |module| module.phase == "baking")?;
        Ok(())
    }

    /// 1.0.0, which the second key signed, is the standby of 1.1.0, which it did not sign.
    fn standby(&self) -> Result<()> {
        self.push("1.0.0")?.expect(0)?;
        self.push_with(&self.node.key(), "1.1.0", &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
        assert_eq!(self.node.hosts()?.len(), 2, "stable and its standby");
        Ok(())
    }

    fn revoke(&self) -> Result<()> {
        let fresh = self.node.scratch().join("revoked");
        fs::copy(self.public(), &fresh)?;
        fs::rename(fresh, self.node.data_dir().join("revoked_keys")).context("revoking the key")
    }

    /// The same with a list as OpenSSH makes it.
    fn revoke_by_krl(&self) -> Result<()> {
        let fresh = self.node.scratch().join("revoked");
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-k", "-f"]).arg(&fresh).arg(self.public());
        hot_tests::run(command)?.expect(0)?;
        fs::rename(fresh, self.node.data_dir().join("revoked_keys")).context("revoking the key")
    }

    /// The candidate is gone, for what was found of its signer, and so is its host.
    fn went_back(&self, found: &str) -> Result<()> {
        let module = self.node.wait_module("probe", WAIT, |module| module.phase == "rolled_back")?;
        assert!(module.reason.contains(found), "{}", module.reason);
        self.node
            .wait_module("probe", WAIT, |module| module.instances().filter(|it| it.runs()).count() == 1)?;
        assert_eq!(self.serves()?, "probe 1.0.0\n");
        Ok(())
    }

    /// A rollback to the standby is refused for what was found of its signer; nothing of it runs, and stable goes on.
    fn no_way_back(&self, found: &str) -> Result<()> {
        let mut events = self.node.events()?;
        let refused = self.node.hotctl(&["rollback", "probe"])?.expect(1)?;
        assert!(refused.sentence()?.contains(found), "{}", refused.stderr);
        events.wait(WAIT, |event| event.kind == "standby.dismissed" && event.text.contains(found))?;
        self.node
            .wait_module("probe", WAIT, |module| module.instances().filter(|it| it.runs()).count() == 1)?;
        assert_eq!(self.node.module("probe")?.stable_version(), "1.1.0");
        assert_eq!(self.serves()?, "probe 1.1.0\n");
        Ok(())
    }

    fn serves(&self) -> Result<String> {
        let reply = hot_tests::get(self.node.http(), "/probe")?;
        Ok(String::from_utf8_lossy(reply.body()).into_owned())
    }
}

#[test]
fn a_key_comes_and_goes_by_hotctl_trust() -> Result<()> {
    let case = Case::new()?;
    let listed: Value = case.trust("list", &[])?.expect(0)?.json()?;
    let signers = listed["signers"].as_array().context("signers")?;
    assert_eq!(signers.len(), 2, "{listed}");
    assert_eq!(
        (&signers[1]["principals"][0], &signers[1]["namespaces"]),
        (&"carla".into(), &"hot-module".into())
    );
    case.push("1.0.0")?.expect(0)?;
    let again: Value = case.trust("add", &["carla", text(&case.public())?])?.expect(0)?.json()?;
    assert_eq!(again["added"], false);

    let file = Module::new("good").version("1.1.0").build()?;
    let signature = case.node.scratch().join("signature");
    case.key.sign("hot-module", &file, &signature)?;
    let check = || case.trust("check", &[text(&file)?, "--signature", text(&signature)?]);
    let checked: Value = check()?.expect(0)?.json()?;
    assert_eq!((&checked["counts"], &checked["principals"][0]), (&true.into(), &"carla".into()));

    case.trust("remove", &["carla"])?.expect(0)?;
    let checked: Value = check()?.expect(4)?.json()?;
    assert_eq!(checked["reason"]["code"], "signer.not_allowed", "{checked}");
    let refused = case.push("1.1.0")?.expect(4)?;
    assert!(refused.sentence()?.contains("key"), "{}", refused.stderr);
    case.trust("remove", &["carla"])?.expect(1)?;
    assert_eq!(case.serves()?, "probe 1.0.0\n");
    case.node.stop()
}

#[test]
fn a_revoked_key_is_refused_at_upload_and_its_release_is_not_loaded_again() -> Result<()> {
    let mut case = Case::new()?;
    case.push("1.0.0")?.expect(0)?;
    case.revoke()?;
    let refused = case.push("1.1.0")?.expect(4)?;
    assert!(refused.sentence()?.contains("revoked"), "{}", refused.stderr);
    // What runs already is not stopped by a list; what is loaded is.
    assert_eq!(case.serves()?, "probe 1.0.0\n");
    case.node.kill_all()?;
    case.node.start_again()?;
    assert!(case.node.hosts()?.is_empty(), "a host of a revoked release was started at boot");
    assert_ne!(case.serves()?, "probe 1.0.0\n");
    case.node.stop()
}

#[test]
fn a_key_that_was_taken_away_is_not_loaded_at_boot() -> Result<()> {
    let mut case = Case::new()?;
    case.push("1.0.0")?.expect(0)?;
    case.trust("remove", &["carla"])?.expect(0)?;
    case.node.kill_all()?;
    case.node.start_again()?;
    assert!(case.node.hosts()?.is_empty(), "a host of a release that nobody allows was started at boot");
    case.node.stop()
}

#[test]
fn an_expired_key_blocks_pushes_and_neither_boot_nor_rollback() -> Result<()> {
    let mut case = Case::new()?;
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        let file = Module::new("good").version(version).build()?;
        let key = text(case.key.path())?;
        case.node.push(&file, &["--key", key, "--steps", "100%", "--bake", "1s"])?.expect(0)?;
    }
    case.trust("remove", &["carla"])?.expect(0)?;
    case.trust("add", &["carla", text(&case.public())?, "--valid-before", "20200101Z"])?.expect(0)?;
    let refused = case.push("1.3.0")?.expect(4)?;
    assert!(refused.sentence()?.contains("2020-01-01"), "{}", refused.stderr);
    // Its host has ended long ago: it is loaded again.
    case.node.hotctl(&["rollback", "probe", "--to", "1.0.0"])?.expect(0)?;
    assert_eq!(case.serves()?, "probe 1.0.0\n");
    case.node.kill_all()?;
    case.node.start_again()?;
    assert_eq!(case.serves()?, "probe 1.0.0\n");
    case.node.stop()
}

#[test]
fn a_version_from_before_a_slip_in_the_signers_begins_no_rollout() -> Result<()> {
    let case = Case::new()?;
    case.push("1.0.0")?.expect(0)?;
    let start = |request: &str| hot_tests::start(case.node.door()?, "probe", "1.0.0", request);
    let begun = start("before")?.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    assert!(!begun.already_started);

    let signers = case.node.data_dir().join("allowed_signers");
    let good = fs::read_to_string(&signers)?;
    let replace = |text: &str| -> Result<()> {
        let fresh = case.node.scratch().join("fresh");
        fs::write(&fresh, text)?;
        Ok(fs::rename(fresh, &signers)?)
    };
    replace(&good.replace("namespaces", "namespace"))?;
    let refused = start("after")?.err().context("a rollout has begun while trust is frozen")?;
    assert_eq!((refused.code.as_str(), refused.field.as_str()), ("trust.frozen", "allowed_signers"));
    assert!(refused.found.contains(&format!("{}:", signers.display())), "{refused:?}");
    // What had begun is that caller's all the same.
    let again = start("before")?.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let id = |of: &StartResponse| of.rollout.as_ref().map(|rollout| rollout.id.clone());
    assert!(again.already_started && id(&again).is_some() && id(&again) == id(&begun), "{again:?}");

    replace(&good)?;
    let begun = start("after")?.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    assert!(!begun.already_started);
    case.node.stop()
}

#[test]
fn a_candidate_of_a_revoked_key_goes_back_by_itself() -> Result<()> {
    let case = Case::new()?;
    case.canary(&case.node.key(), &case.key)?;
    case.revoke()?;
    case.went_back("revoked")?;
    case.node.stop()
}

#[test]
fn a_candidate_of_a_revoked_key_is_not_promoted() -> Result<()> {
    let case = Case::new()?;
    case.canary(&case.node.key(), &case.key)?;
    case.revoke_by_krl()?;
    let promote = case.node.hotctl(&["promote", "probe"])?;
    // It may have gone back before the command came.
    assert!(matches!(promote.code, 1 | 3), "{promote:?}");
    case.went_back("revoked")?;
    case.node.stop()
}

#[test]
fn stable_of_a_revoked_key_goes_on_while_a_good_candidate_is_tried() -> Result<()> {
    let case = Case::new()?;
    case.canary(&case.key, &case.node.key())?;
    case.revoke()?;
    // With that the node has looked.
    case.push("1.2.0")?.expect(4)?;
    let status: Value = case.node.hotctl(&["status", "-o", "json"])?.expect(0)?.json()?;
    assert_eq!(status["problems"][0]["code"], "trust.stable", "{status}");
    case.node.hotctl(&["promote", "probe"])?.expect(0)?;
    let status: Value = case.node.hotctl(&["status", "-o", "json"])?.expect(0)?.json()?;
    assert_eq!(status["problems"], Value::Array(Vec::new()), "{status}");
    assert_eq!(case.serves()?, "probe 1.1.0\n");
    // What has just ceased to be stable is no way back.
    case.no_way_back("revoked")?;
    case.node.stop()
}

#[test]
fn stable_of_a_revoked_key_is_no_standby_once_it_was_left() -> Result<()> {
    let case = Case::new()?;
    case.push_with(&case.node.key(), "1.0.0", &[])?.expect(0)?;
    case.push_with(&case.key, "1.1.0", &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
    let mut events = case.node.events()?;
    case.revoke()?;
    case.node.hotctl(&["rollback", "probe"])?.expect(0)?;
    // By itself: nobody asks for anything more.
    events.wait(WAIT, |event| event.kind == "standby.dismissed" && event.text.contains("revoked"))?;
    case.node.wait_module("probe", WAIT, |module| module.instances().filter(|it| it.runs()).count() == 1)?;
    assert_eq!(case.serves()?, "probe 1.0.0\n");
    case.node.stop()
}

#[test]
fn a_rollback_goes_to_no_standby_of_a_revoked_key() -> Result<()> {
    let case = Case::new()?;
    case.standby()?;
    case.revoke()?;
    case.no_way_back("revoked")?;
    case.node.stop()
}

#[test]
fn a_rollback_goes_to_no_standby_of_a_key_on_a_krl() -> Result<()> {
    let case = Case::new()?;
    case.standby()?;
    case.revoke_by_krl()?;
    case.no_way_back("revoked")?;
    case.node.stop()
}

#[test]
fn a_rollback_goes_to_no_standby_of_a_key_that_was_taken_away() -> Result<()> {
    let case = Case::new()?;
    case.standby()?;
    case.trust("remove", &["carla"])?.expect(0)?;
    case.no_way_back("allowed_signers")?;
    case.node.stop()
}

#[test]
fn an_expired_key_leaves_the_standby_and_the_candidate_where_they_are() -> Result<()> {
    let case = Case::new()?;
    case.standby()?;
    let canary = ["--canary", "10%", "--bake", "10m", "--detach"];
    case.push_with(&case.key, "1.2.0", &canary)?.expect(0)?;
    case.node.wait_module("probe", WAIT, |module| module.phase == "baking")?;
    // At once: without the key in between.
    let signers = case.node.data_dir().join("allowed_signers");
    let line = format!("carla namespaces=\"hot-module\" {}", case.key.public()?);
    let expired = line.replacen("hot-module\"", "hot-module\",valid-before=\"20200101Z\"", 1);
    let fresh = case.node.scratch().join("fresh");
    let text = fs::read_to_string(&signers)?;
    assert!(text.contains(&line), "{line}\nis not in\n{text}");
    fs::write(&fresh, text.replace(&line, &expired))?;
    fs::rename(fresh, signers)?;
    assert!(case.push("1.3.0")?.expect(4)?.sentence()?.contains("2020-01-01"));
    case.node.hotctl(&["promote", "probe"])?.expect(0)?;
    case.node.hotctl(&["rollback", "probe", "--to", "1.0.0"])?.expect(0)?;
    assert_eq!(case.serves()?, "probe 1.0.0\n");
    case.node.stop()
}
