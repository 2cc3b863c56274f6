//! A bad candidate is taken back by itself, with a reason that has the number and the limit, and stable serves on.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use hot_tests::{Counts, Ended, Load, LoadOptions, Module, Node, Pace, WAIT, panics};

/// How a candidate was taken back.
struct TakenBack {
    reason: String,
    /// What clients saw from before the push until it had ended.
    counts: Counts,
}

/// As [`take_back_at`], under as much load as 32 connections make in a closed loop.
fn take_back(candidate: &Path) -> Result<TakenBack> {
    take_back_at(candidate, Pace::Closed)
}

/// Pushes a candidate beside `probe 1.0.0` under load, expects it to be taken back, and checks that all is as before.
fn take_back_at(candidate: &Path, pace: Pace) -> Result<TakenBack> {
    let node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    let mut options = LoadOptions { pace, ..LoadOptions::closed(node.http(), "/probe", 32) };
    options.timeout = Duration::from_secs(90);
    let load = Load::start(options)?;
    let warm = load.begin_window();
    load.wait_requests(warm, 500, WAIT)?;

    let push = node.push(candidate, &["--canary", "10%", "--bake", "20s", "-o", "json"])?.expect(3)?;
    let ended: Ended = push.json()?;
    assert_eq!(
        (ended.outcome.as_deref(), ended.rollout.phase.as_str()),
        (Some("rolled_back"), "rolled_back")
    );
    assert_eq!(ended.rollout.share, 0);

    let after = load.begin_window();
    load.wait_requests(after, 1000, WAIT)?;
    let after = load.end_window(after)?;
    assert_eq!((after.failed(), after.of("1.0.0")), (0, after.requests), "stable serves as before: {after}");
    let module = node.module("probe")?;
    assert_eq!(module.stable_version(), "1.0.0");
    assert!(module.candidate.is_none(), "{module:?}");
    assert_eq!(module.reason, ended.rollout.reason, "status says the same as the push");

    let counts = load.stop()?;
    assert!(counts.of("1.0.0") > 0);
    node.stop()?;
    Ok(TakenBack { reason: ended.rollout.reason, counts })
}

/// The numbers in a sentence, units and all.
fn numbers(text: &str) -> Vec<&str> {
    text.split(|character: char| !(character.is_ascii_digit() || character == '.'))
        .filter(|word| word.contains(|character: char| character.is_ascii_digit()))
        .collect()
}

fn candidate(source: &'static str) -> Module {
    Module::new(source).version("1.1.0")
}

#[test]
fn one_that_returns_errors() -> Result<()> {
    let back = take_back(&candidate("errors").build()?)?;
    assert!(back.reason.contains("error") && numbers(&back.reason).len() >= 2, "{}", back.reason);
    // It may fail its share of the requests, never more.
    assert!(back.counts.failed() * 5 < back.counts.requests, "{}", back.counts);
    Ok(())
}

#[test]
fn one_that_panics() -> Result<()> {
    let back = take_back(&panics()?)?;
    assert!(numbers(&back.reason).len() >= 2, "{}", back.reason);
    Ok(())
}

#[test]
fn one_that_segfaults_costs_readers_nothing() -> Result<()> {
    let back = take_back(&candidate("segfaults").build()?)?;
    assert!(back.reason.contains("signal 11") || back.reason.contains("SIGSEGV"), "{}", back.reason);
    assert!(!numbers(&back.reason).is_empty(), "{}", back.reason);
    assert_eq!((back.counts.failed(), back.counts.closed), (0, 0), "{}", back.counts);
    Ok(())
}

#[test]
fn one_that_aborts_costs_readers_nothing() -> Result<()> {
    let back = take_back(&candidate("aborts").build()?)?;
    assert!(back.reason.contains("signal 6") || back.reason.contains("SIGABRT"), "{}", back.reason);
    assert_eq!((back.counts.failed(), back.counts.closed), (0, 0), "{}", back.counts);
    Ok(())
}

/// Its requests are evidence long before they run into their deadline of 30 s: not one of them has when it goes back.
#[test]
fn one_that_hangs() -> Result<()> {
    let back = take_back_at(&candidate("hangs").build()?, Pace::Open { per_second: 200 })?;
    assert!(back.reason.contains("not answered yet") && numbers(&back.reason).len() >= 4, "{}", back.reason);
    Ok(())
}

#[test]
fn one_that_never_answers() -> Result<()> {
    let back = take_back(&candidate("hangs").number("GOOD", 0).build()?)?;
    assert!(back.reason.contains("none of") && numbers(&back.reason).len() >= 3, "{}", back.reason);
    Ok(())
}

#[test]
fn one_that_answers_300_ms_later() -> Result<()> {
    let back = take_back(&candidate("slow").build()?)?;
    assert!(back.reason.contains("p99") && numbers(&back.reason).len() >= 2, "{}", back.reason);
    assert_eq!(back.counts.failed(), 0, "slow is not failed: {}", back.counts);
    Ok(())
}

#[test]
fn one_whose_health_fails_while_it_answers() -> Result<()> {
    // So little load that nothing but its health can speak against it.
    let back = take_back_at(&candidate("unhealthy").build()?, Pace::Open { per_second: 200 })?;
    assert!(
        back.reason.contains("the disk feels warm") && numbers(&back.reason).len() >= 2,
        "{}",
        back.reason
    );
    assert_eq!(back.counts.failed(), 0, "{}", back.counts);
    Ok(())
}

#[test]
fn one_whose_start_fails_gets_no_request() -> Result<()> {
    let back = take_back(&candidate("start_fails").build()?)?;
    assert!(back.reason.contains("the moon is in the wrong phase"), "{}", back.reason);
    assert_eq!((back.counts.failed(), back.counts.of("1.1.0")), (0, 0), "{}", back.counts);
    Ok(())
}

#[test]
fn one_with_a_route_and_no_handle_is_refused_at_load() -> Result<()> {
    let back = take_back(&candidate("no_handle").build()?)?;
    assert!(back.reason.contains("failed to load") && back.reason.contains("no `handle`"), "{}", back.reason);
    assert_eq!((back.counts.failed(), back.counts.of("1.1.0")), (0, 0), "{}", back.counts);
    Ok(())
}

#[test]
fn one_that_exits_while_it_is_loaded_gets_no_request() -> Result<()> {
    let back = take_back(&candidate("exits_in_constructor").build()?)?;
    assert_eq!((back.counts.failed(), back.counts.of("1.1.0")), (0, 0), "{}", back.counts);
    Ok(())
}

#[test]
fn one_whose_start_never_returns_gets_no_request() -> Result<()> {
    let back = take_back(&candidate("start_loops").build()?)?;
    assert!(!numbers(&back.reason).is_empty(), "{}", back.reason);
    assert_eq!((back.counts.failed(), back.counts.of("1.1.0")), (0, 0), "{}", back.counts);
    Ok(())
}

#[test]
fn a_first_release_that_fails_has_nothing_to_go_back_to() -> Result<()> {
    let node = Node::start()?;
    let push = node.push(&Module::new("start_fails").build()?, &["-o", "json"])?.expect(1)?;
    let ended: Ended = push.json()?;
    assert_eq!(ended.outcome.as_deref(), Some("failed"));
    assert!(ended.rollout.reason.contains("the moon is in the wrong phase"), "{}", ended.rollout.reason);
    assert!(node.module("probe")?.stable.is_none());
    // And a good one comes in after it.
    node.push(&Module::new("good").version("1.0.1").build()?, &[])?.expect(0)?;
    let reply = hot_tests::get(node.http(), "/probe").context("the second release serves")?;
    assert_eq!(reply.body().as_ref(), b"probe 1.0.1\n");
    node.stop()
}
