//! A stable release that can't start: nobody is told that it serves, but why it does not and what is next.

use std::fs;

use anyhow::{Context, Result};
use hot_tests::{Key, Module, Node, Rollback, WAIT, text};

/// What is said of it, whoever asks.
const UNSERVED: &str = "stable release 1 has no instance that serves: ";

/// A node that started anew after the key was revoked by which its stable release 1 is signed.
fn revoked() -> Result<Node> {
    let mut node = Node::start()?;
    let key = Key::generate(node.scratch().join("second"))?;
    let public = key.path().with_extension("pub");
    node.hotctl(&["trust", "add", "carla", text(&public)?])?.expect(0)?;
    node.push(&Module::new("good").build()?, &["--key", text(key.path())?])?.expect(0)?;
    node.kill_all()?;
    fs::copy(public, node.data_dir().join("revoked_keys")).context("revoking the key")?;
    node.start_again()?;
    let down = node.wait_module("probe", WAIT, |module| module.waiting_on.contains("revoked"))?;
    assert!(down.waiting_on.starts_with(UNSERVED), "{down:?}");
    Ok(node)
}

#[test]
fn an_abort_says_that_nothing_serves_and_why() -> Result<()> {
    let node = revoked()?;
    let problem = node.status()?;
    let problem = problem.problem("trust.stable").context("the problem")?;
    assert!(
        problem.text.contains("release 1 of probe does not serve, and is refused each time"),
        "{problem:?}"
    );

    let candidate = Module::new("good").version("1.1.0").build()?;
    let canary = ["--canary", "10%", "--bake", "10m", "--detach"];
    node.push(&candidate, &canary)?.expect(0)?;
    let abort = node.hotctl(&["abort", "probe"])?.expect(5)?;
    assert!(abort.stdout.contains(&format!("aborted; {UNSERVED}")), "{}", abort.stdout);
    assert!(abort.stdout.contains("revoked") && !abort.stdout.contains("moved in"), "{}", abort.stdout);
    node.stop()
}

#[test]
fn a_stable_whose_artifact_is_gone_says_so() -> Result<()> {
    let mut node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    let stable = node.module("probe")?.stable.context("a stable release")?;
    node.kill_all()?;
    fs::write(node.data_dir().join(format!("artifacts/{}.so", stable.digest)), "cut").context("damage")?;
    node.start_again()?;
    let down =
        node.wait_module("probe", WAIT, |module| module.waiting_on.contains("; it is tried again in"))?;
    assert!(down.waiting_on.starts_with(UNSERVED) && down.waiting_on.contains(&stable.digest), "{down:?}");
    let restart = node.hotctl(&["restart", "probe"])?.expect(1)?;
    let sentence = restart.sentence()?;
    assert!(sentence.contains("no other one serves"), "{sentence}");
    assert!(!sentence.contains("was not ready within"), "it was known before: {sentence}");
    node.stop()
}

#[test]
fn a_rollback_that_aborts_says_that_nothing_serves_and_why() -> Result<()> {
    let node = revoked()?;
    let canary = ["--canary", "10%", "--bake", "10m", "--detach"];
    let again = Module::new("good").version("1.2.0").build()?;
    node.push(&again, &canary)?.expect(0)?;
    let back = node.hotctl(&["rollback", "probe"])?.expect(5)?;
    assert!(back.stdout.contains(&format!("was aborted); {UNSERVED}")), "{}", back.stdout);
    node.wait_module("probe", WAIT, |module| module.phase == "rolled_back")?;

    let third = Module::new("good").version("1.3.0").build()?;
    node.push(&third, &canary)?.expect(0)?;
    let back = node.hotctl(&["abort", "probe", "-o", "json"])?.expect(5)?;
    let back: Rollback = back.json()?;
    let modules = back.rollout.as_ref().map(|rollout| &rollout.modules);
    let said = modules.is_some_and(|modules| modules.iter().all(|of| of.unserved.starts_with(UNSERVED)));
    assert!(back.aborted && said, "{back:?}");
    node.stop()
}

#[test]
fn a_push_that_is_taken_back_says_that_nothing_serves_and_why() -> Result<()> {
    let node = revoked()?;
    let candidate = Module::new("start_fails").version("1.1.0").build()?;
    let push = node.push(&candidate, &[])?.expect(3)?;
    let end = push.stdout.lines().last().context("a line")?;
    assert!(end.contains("was taken back") && end.contains(&format!("; probe: {UNSERVED}")), "{end}");
    assert!(!end.contains("(release 1) serves"), "{end}");
    // A good one ends that.
    let good = Module::new("good").version("1.2.0").build()?;
    node.push(&good, &["--steps", "100%", "--bake", "0s"])?.expect(0)?;
    let module = node.module("probe")?;
    assert_eq!((module.stable_version(), module.waiting_on.as_str()), ("1.2.0", ""));
    node.stop()
}

/// Neither serves: the stable release is damaged, and the one before it is signed by a key that was revoked.
#[test]
fn a_rollback_to_a_release_that_is_refused_ends_although_stable_is_down() -> Result<()> {
    let mut node = Node::start()?;
    let key = Key::generate(node.scratch().join("second"))?;
    let public = key.path().with_extension("pub");
    node.hotctl(&["trust", "add", "carla", text(&public)?])?.expect(0)?;
    node.push(&Module::new("good").build()?, &["--key", text(key.path())?])?.expect(0)?;
    let second = Module::new("good").version("1.1.0").build()?;
    node.push(&second, &["--steps", "100%", "--bake", "0s"])?.expect(0)?;
    let stable = node.module("probe")?.stable.context("a stable release")?;
    node.kill_all()?;
    fs::write(node.data_dir().join(format!("artifacts/{}.so", stable.digest)), "cut").context("damage")?;
    fs::copy(public, node.data_dir().join("revoked_keys")).context("revoking the key")?;
    node.start_again()?;
    node.wait_module("probe", WAIT, |module| module.waiting_on.contains("stable release 2 has no instance"))?;

    // Not 5: it ended, and was not given up waiting for.
    let rollback = node.hotctl(&["rollback", "probe"])?.expect(1)?;
    let sentence = rollback.sentence()?;
    assert!(sentence.contains("did not go back to release 1") && sentence.contains("revoked"), "{sentence}");
    assert!(sentence.contains("stable release 2 has no instance that serves"), "{sentence}");
    assert_eq!(node.module("probe")?.stable_version(), "1.1.0");
    node.stop()
}
