//! hot-spawn is gone for a while: the node says so, takes nothing new, holds nothing against what it was trying, and goes on
//! as soon as hot-spawn is there again.

use anyhow::{Context, Result};
use hot_tests::{Key, Module, ModuleStatus, Service, WAIT, get, text};
use serde_json::Value;

/// A service that trusts one key.
fn service() -> Result<(Service, Key, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    let key = Key::generate(folder.path().join("ada"))?;
    Ok((Service::start(&key.signer("ada@example.com")?, "")?, key, folder))
}

/// Has a canary of `probe` 1.1.0 bake beside 1.0.0.
fn canary(service: &Service, key: &str) -> Result<()> {
    let first = Module::new("good").build()?;
    service.hotctl(&["push", text(&first)?, "--key", key])?.expect(0)?;
    let second = Module::new("good").version("1.1.0").build()?;
    let canary = ["push", text(&second)?, "--key", key, "--canary", "10%", "--bake", "10m", "--detach"];
    service.hotctl(&canary)?.expect(0)?;
    service.wait_module("probe", |module| module.phase == "baking" && ready(module) == 2)?;
    Ok(())
}

/// How many instances are ready.
fn ready(module: &ModuleStatus) -> usize {
    module.instances().filter(|instance| instance.state == "ready").count()
}

#[test]
fn a_rollout_waits_for_hot_spawn_and_goes_on() -> Result<()> {
    let (mut service, key, _folder) = service()?;
    let key = text(key.path())?;
    canary(&service, key)?;

    let mut events = service.events()?;
    service.lose_spawn()?;
    let lost = events.wait(WAIT, |event| event.kind == "spawn.lost")?;
    assert!(lost.text.contains("2 hosts"), "{}", lost.text);
    let waits = service.wait_module("probe", |module| {
        module.waiting_on.contains("the next one starts when hot-spawn is there again")
            && module.waiting_on.contains("waiting for hot-spawn")
            // One is lost after the other.
            && ready(module) == 0
    })?;
    assert_eq!(waits.phase, "baking", "{waits:?}");

    let status = service.status()?;
    let problem = status.problem("spawn.lost").context("the node's problem")?;
    assert!(problem.text.contains("no module serves") && problem.since.is_some(), "{problem:?}");
    for command in ["status", "nodes"] {
        let shown = service.hotctl(&[command])?.expect(0)?.stdout;
        assert!(shown.contains("web-1: spawn.lost: hot-spawn is lost"), "{command}: {shown}");
    }
    // Refused before anything is sent, so that its version is still free.
    let third = Module::new("good").version("1.2.0").build()?;
    for command in ["push", "plan"] {
        let refused = service.hotctl(&[command, text(&third)?, "--key", key, "-o", "json"]);
        let refused = refused?.expect(1)?;
        let error = if command == "plan" { &refused.stdout } else { &refused.stderr };
        assert!(error.contains("\"spawn.lost\"") && error.contains("hot-spawn is lost"), "{refused:?}");
    }
    let versions: Value = service.hotctl(&["versions", "probe", "-o", "json"])?.expect(0)?.json()?;
    assert_eq!(versions["versions"].as_array().map(Vec::len), Some(2), "{versions}");

    service.start_spawn()?;
    events.wait(WAIT, |event| event.kind == "spawn.back")?;
    let back = service.wait_module("probe", |module| ready(module) == 2 && module.phase == "baking")?;
    assert!(!back.waiting_on.contains("hot-spawn"), "{back:?}");
    assert!(service.status()?.problem("spawn.lost").is_none());
    assert_eq!(get(service.http(), "/probe")?.status(), 200);
    service.hotctl(&["promote", "probe"])?.expect(0)?;
    assert_eq!(get(service.http(), "/probe")?.body().as_ref(), b"probe 1.1.0\n");
    let versions: Value = service.hotctl(&["versions", "probe", "-o", "json"])?.expect(0)?.json()?;
    let held = |version: &Value| version["quarantined"].as_str() != Some("");
    assert!(!versions["versions"].as_array().context("versions")?.iter().any(held), "{versions}");
    service.stop()
}

#[test]
fn what_is_told_to_end_with_hot_spawn_has_not_crashed() -> Result<()> {
    let (mut service, key, _folder) = service()?;
    canary(&service, text(key.path())?)?;
    let mut events = service.events()?;
    service.end_spawn()?;
    events.wait(WAIT, |event| event.kind == "spawn.lost")?;
    service.start_spawn()?;
    events.wait(WAIT, |event| event.kind == "spawn.back")?;
    let back = service.wait_module("probe", |module| ready(module) == 2)?;
    assert_eq!(back.phase, "baking", "{back:?}");
    let reasons: Vec<&str> = back.instances().map(|instance| &*instance.reason).collect();
    assert!(!reasons.iter().any(|reason| reason.contains("SIGTERM")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("hot-spawn")), "{reasons:?}");
    service.stop()
}

#[test]
fn what_is_lost_while_it_starts_is_started_again() -> Result<()> {
    let (mut service, key, _folder) = service()?;
    // It starts for as long as the test wants.
    let first = Module::new("start_loops").build()?;
    let mut push = service.ctl().follow(&["push", text(&first)?, "--key", text(key.path())?])?;
    let starts = |module: &ModuleStatus| {
        module.phase == "starting" && module.instances().any(|instance| instance.pid != 0)
    };
    push.wait(WAIT, |line| line.contains("starting hosts").then_some(()))?;
    service.wait_module("probe", starts)?;
    service.lose_spawn()?;
    push.wait(WAIT, |line| line.contains("waiting for hot-spawn, which is lost").then_some(()))?;
    service.wait_module("probe", |module| !module.instances().any(|instance| instance.pid != 0))?;
    service.start_spawn()?;
    service.wait_module("probe", starts)?;
    service.hotctl(&["abort", "probe"])?.expect(0)?;
    assert_eq!(push.wait_end(WAIT)?, 3, "{:?}", push.seen());
    let versions: Value = service.hotctl(&["versions", "probe", "-o", "json"])?.expect(0)?.json()?;
    assert_eq!(versions["versions"][0]["quarantined"], "", "{versions}");
    service.stop()
}
