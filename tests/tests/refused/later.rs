//! Where a stored artifact is loaded again: at boot, at a rollback, and when a rollout goes on. The artifact in the
//! store was replaced while `hotd` was down.

use std::fs;

use anyhow::{Context, Result, ensure};
use hot_tests::{Module, Node, StoredArtifact, WAIT};

use crate::{Bench, answers};

/// The artifact of a version of `probe`.
fn stored(node: &Node, version: &str) -> Result<StoredArtifact> {
    let list: serde_json::Value = node.hotctl(&["versions", "probe", "-o", "json"])?.expect(0)?.json()?;
    let versions = list["versions"].as_array().context("a list of versions")?;
    let found = versions.iter().find(|of| of["version"] == version);
    let digest =
        found.and_then(|of| of["digest"].as_str()).with_context(|| format!("{version} in {list}"))?;
    StoredArtifact::find(node.data_dir(), digest)
}

/// Waits until an instance of a version was refused with these words.
fn wait_refused(node: &Node, version: &str, words: &[&str]) -> Result<()> {
    node.wait_module("probe", WAIT, |module| {
        module.instances().any(|instance| {
            let said = words.iter().all(|word| instance.reason.contains(word));
            instance.version == version && instance.state == "ended" && said
        })
    })?;
    Ok(())
}

const OTHER_BYTES: [&str; 3] = ["was refused", "digest: found", "push the version again"];

/// Waits until a module serves again after a boot.
fn wait_ready(node: &Node, module: &str) -> Result<()> {
    node.wait_module(module, WAIT, |module| module.instances().any(|instance| instance.state == "ready"))?;
    Ok(())
}

#[test]
fn at_boot_other_bytes_are_not_loaded() -> Result<()> {
    let mut bench = Bench::start("boot")?;
    let artifact = stored(&bench.node, "0.9.0")?;
    bench.node.kill_all()?;
    // A module as good as the first, but not the bytes that are on record.
    artifact.replace(&fs::read(bench.module("good").version("6.6.6").build()?)?)?;
    bench.node.start_again()?;
    wait_ready(&bench.node, "neighbour")?;
    wait_refused(&bench.node, "0.9.0", &OTHER_BYTES)?;
    bench.stop()
}

#[test]
fn at_boot_forged_records_with_a_good_signature_let_no_bad_file_in() -> Result<()> {
    let mut bench = Bench::start("forged")?;
    for case in crate::cases::all(&bench.marker)? {
        let artifact = stored(&bench.node, "0.9.0")?;
        bench.node.kill_all()?;
        artifact.forge(&case.bytes, &bench.node.key())?;
        bench.node.start_again()?;
        wait_ready(&bench.node, "neighbour")?;
        let module = bench.node.wait_module("probe", WAIT, |module| {
            module.instances().any(|instance| instance.reason.contains("was refused: "))
        })?;
        let reason =
            module.instances().find_map(|it| it.reason.split_once("was refused: ")).context("why")?.1;
        // For what the file is, not for its digest or its signature, which are good.
        ensure!(!reason.contains("digest") && !reason.contains("signature"), "{}: {reason}", case.name);
        bench.unharmed().with_context(|| case.name.to_owned())?;
    }
    bench.stop()
}

#[test]
fn a_rollback_goes_to_no_replaced_artifact() -> Result<()> {
    let mut bench = Bench::start("rollback")?;
    let next = Module::new("good").version("1.0.0").build()?;
    bench.node.push(&next, &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
    let artifact = stored(&bench.node, "0.9.0")?;
    bench.node.kill_all()?;
    artifact.replace(&fs::read(bench.module("good").version("6.6.6").build()?)?)?;
    bench.node.start_again()?;
    wait_ready(&bench.node, "probe")?;
    let output = bench.node.hotctl(&["rollback", "probe"])?.expect(1)?;
    let sentence = output.sentence()?;
    ensure!(OTHER_BYTES.iter().all(|word| sentence.contains(word)), "{sentence}");
    ensure!(bench.node.module("probe")?.stable_version() == "1.0.0", "what can't be loaded is not stable");
    answers(&bench.node, "probe", "1.0.0")?;
    bench.stop()
}

#[test]
fn a_replaced_candidate_is_not_promoted() -> Result<()> {
    let mut bench = Bench::start("promote")?;
    // Neither stable nor the standby that is kept beside it makes a marker when it starts again.
    for version in ["0.9.4", "0.9.5"] {
        let stable = Module::new("good").version(version).build()?;
        bench.node.push(&stable, &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
    }
    let next = bench.module("good").version("1.0.0").build()?;
    let next = next.to_str().context("UTF-8")?;
    bench.node.hotctl(&["push", next, "--canary", "10%", "--bake", "10m", "--detach"])?.expect(0)?;
    bench.node.wait_module("probe", WAIT, |module| module.phase == "baking")?;
    let artifact = stored(&bench.node, "1.0.0")?;
    bench.node.kill_all()?;
    fs::remove_file(&bench.marker).context("the candidate has run")?;
    artifact.replace(&fs::read(bench.module("good").version("6.6.6").build()?)?)?;
    bench.node.start_again()?;
    let output = bench.node.hotctl(&["promote", "probe"])?;
    ensure!(matches!(output.code, 0 | 1 | 3), "{output:?}");
    let module = bench.node.wait_module("probe", WAIT, |module| {
        let serves = module.instances().any(|it| it.version == "0.9.5" && it.state == "ready");
        module.phase == "rolled_back" && serves
    })?;
    ensure!(OTHER_BYTES.iter().all(|word| module.reason.contains(word)), "{module:?}");
    answers(&bench.node, "probe", "0.9.5")?;
    bench.stop()
}
