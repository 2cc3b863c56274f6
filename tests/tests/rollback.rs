//! The way back by hand: at once, without a lost request, and always to where one would expect.

use std::time::Duration;

use anyhow::{Context, Result};
use hot_tests::{Load, LoadOptions, Module, Node, Rollback, WAIT};
use serde_json::Value;

/// By hotd's clock, from the command's arrival to the last pick of the release that is left.
const LAST_PICK_US: u64 = 10_000;

/// A node that serves `probe 1.1.0`, with 1.0.0 as standby.
fn promoted() -> Result<Node> {
    let node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    let next = Module::new("good").version("1.1.0").build()?;
    node.push(&next, &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
    Ok(node)
}

#[test]
fn a_rollback_under_load_is_instant_and_costs_nothing() -> Result<()> {
    let node = promoted()?;
    let load = Load::start(LoadOptions::closed(node.http(), "/probe", 64))?;
    let before = load.begin_window();
    load.wait_requests(before, 2000, WAIT)?;

    let output = node.hotctl(&["rollback", "probe", "-o", "json"])?.expect(0)?;
    let after = load.begin_window();
    let rollback: Rollback = output.json()?;
    load.wait_requests(after, 2000, WAIT)?;
    let after = load.end_window(after)?;
    assert_eq!(after.of("1.0.0"), after.requests, "traffic has moved when the command returns: {after}");
    let total = load.stop()?;
    assert_eq!((total.failed(), total.closed), (0, 0), "{total}");

    assert!(!rollback.aborted);
    let [from, to] =
        [rollback.from, rollback.to].map(|release| release.map(|release| (release.release, release.version)));
    assert_eq!(
        (from, to),
        (Some((2, "1.1.0".to_owned())), Some((1, "1.0.0".to_owned()))),
        "the same release number"
    );
    let flip = rollback.flip_us.context("the flip's time")?;
    assert!(flip <= LAST_PICK_US, "the flip took {flip} us");
    // None: no request was picked for it after the command arrived.
    let last = rollback.last_pick_us.unwrap_or_default();
    assert!(last <= LAST_PICK_US, "the last pick was {last} us after the command's arrival");

    let module = node.module("probe")?;
    assert_eq!((module.stable_version(), module.candidate.is_none()), ("1.0.0", true));
    node.stop()
}

#[test]
fn a_rollback_of_a_running_rollout_aborts_it() -> Result<()> {
    let node = promoted()?;
    let next = Module::new("good").version("1.2.0").build()?;
    let next = next.to_str().context("UTF-8")?;
    let mut push = node.ctl().follow(&["push", next, "--canary", "10%", "--bake", "10m"])?;
    node.wait_module("probe", WAIT, |module| module.phase == "baking")?;
    let output = node.hotctl(&["rollback", "probe", "-o", "json"])?.expect(0)?;
    let rollback: Rollback = output.json()?;
    assert!(rollback.aborted);
    assert_eq!(push.wait_end(WAIT)?, 3, "{:?}", push.seen());
    let module = node.module("probe")?;
    assert_eq!((module.stable_version(), module.share), ("1.1.0", 0));
    node.stop()
}

#[test]
fn a_rollback_goes_to_the_release_that_is_named() -> Result<()> {
    let node = promoted()?;
    let third = Module::new("good").version("1.2.0").build()?;
    node.push(&third, &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
    node.hotctl(&["rollback", "probe", "--to", "1.1.0"])?.expect(0)?;
    assert_eq!(hot_tests::get(node.http(), "/probe")?.body().as_ref(), b"probe 1.1.0\n");
    node.hotctl(&["rollback", "probe", "--to", "1"])?.expect(0)?;
    assert_eq!(hot_tests::get(node.http(), "/probe")?.body().as_ref(), b"probe 1.0.0\n");
    // Forward is a push, with its canary; never a rollback.
    let refused = node.hotctl(&["rollback", "probe", "--to", "2"])?.expect(1)?;
    assert!(refused.sentence()?.contains("release 2"), "{}", refused.stderr);
    assert_eq!(hot_tests::get(node.http(), "/probe")?.body().as_ref(), b"probe 1.0.0\n");
    node.stop()
}

#[test]
fn a_rollback_without_a_standby_returns_when_traffic_has_moved() -> Result<()> {
    let node = Node::start()?;
    let slow = Module::new("good").number("START_MS", 500).build()?;
    node.push(&slow, &[])?.expect(0)?;
    for version in ["1.1.0", "1.2.0"] {
        let next = Module::new("good").version(version).build()?;
        node.push(&next, &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
    }
    // The standby is 1.1.0: the host of 1.0.0 has to be started first.
    let rollback = node.hotctl(&["rollback", "probe", "--to", "1.0.0"])?.expect(0)?;
    assert_eq!(
        hot_tests::get(node.http(), "/probe")?.body().as_ref(),
        b"probe 1.0.0\n",
        "after {rollback:?}"
    );
    node.stop()
}

#[test]
fn a_rollback_never_goes_to_one_that_was_taken_back() -> Result<()> {
    let node = promoted()?;
    node.push(&Module::new("start_fails").version("1.2.0").build()?, &[])?.expect(3)?;
    let third = Module::new("good").version("1.3.0").build()?;
    node.push(&third, &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
    node.hotctl(&["rollback", "probe"])?.expect(0)?;
    assert_eq!(hot_tests::get(node.http(), "/probe")?.body().as_ref(), b"probe 1.1.0\n");
    node.stop()
}

#[test]
fn with_nothing_before_it_a_rollback_says_so_and_changes_nothing() -> Result<()> {
    let node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    let output = node.hotctl(&["rollback", "probe"])?.expect(1)?;
    output.sentence()?;
    assert_eq!(hot_tests::get(node.http(), "/probe")?.body().as_ref(), b"probe 1.0.0\n");
    let unknown = node.hotctl(&["rollback", "nobody"])?.expect(1)?;
    assert!(unknown.sentence()?.contains("nobody"), "{}", unknown.stderr);
    assert!(output.took < Duration::from_secs(10) && unknown.took < Duration::from_secs(10));
    node.stop()
}

#[test]
fn the_history_knows_the_end_of_a_way_back_at_once() -> Result<()> {
    let node = promoted()?;
    let latest = || -> Result<(Value, Value)> {
        let history: Value = node.hotctl(&["history", "probe", "-o", "json"])?.expect(0)?.json()?;
        Ok((history["entries"][0]["outcome"].clone(), history["entries"][0]["rollback"].clone()))
    };
    node.hotctl(&["rollback", "probe"])?.expect(0)?;
    assert_eq!(latest()?, ("done".into(), true.into()));
    let next = Module::new("good").version("1.2.0").build()?;
    let next = next.to_str().context("UTF-8")?;
    node.hotctl(&["push", next, "--canary", "10%", "--bake", "10m", "--detach"])?.expect(0)?;
    node.wait_module("probe", WAIT, |module| module.phase == "baking")?;
    node.hotctl(&["abort", "probe"])?.expect(0)?;
    assert_eq!(latest()?, ("aborted".into(), false.into()));
    node.stop()
}
