//! How a step goes over the nodes of a fleet: over its zones, so many at a time, and how many of them may fail.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use hot_tests::{Change, Fleet, Load, LoadOptions, Module, Process, WAIT};
use rustix::process::Signal;
use serde_json::Value;

const QUICK: [&str; 4] = ["--steps", "100%", "--bake", "1s"];

fn good(version: &str) -> Result<PathBuf> {
    Module::new("good").version(version).build()
}

/// Loads on all nodes, so that every step has something to compare.
fn load_all(fleet: &Fleet) -> Result<Vec<Load>> {
    let load = |node: &hot_tests::Service| Load::start(LoadOptions::closed(node.http(), "/probe", 2).at(60));
    fleet.nodes().iter().map(load).collect()
}

/// What the nodes of a rollout did with its candidate, as etcd has it: who was told to run it and who was ready, in their
/// order.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Told(String),
    Ready(String),
}

fn seen(changes: &[Change], release: u64) -> Vec<Seen> {
    let (mut told, mut ready, mut all) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for change in changes {
        let value = change.value.as_deref().and_then(|value| serde_json::from_str::<Value>(value).ok());
        let Some(value) = value else { continue };
        if let Some(node) =
            change.key.strip_prefix("hot/v1/assignments/").and_then(|of| of.strip_suffix("/probe"))
        {
            let candidate = &value["given"]["assignment"]["candidate"]["release"];
            if *candidate == release && told.insert(node.to_owned()) {
                all.push(Seen::Told(node.to_owned()));
            }
        }
        if let Some(node) = change.key.strip_prefix("hot/v1/reports/probe/") {
            let states = value["states"].as_array().map(Vec::as_slice).unwrap_or_default();
            let is_ready = |state: &Value| {
                state["instance"]["release"] == release && state["instance"]["state"] == "ready"
            };
            if states.iter().any(is_ready) && ready.insert(node.to_owned()) {
                all.push(Seen::Ready(node.to_owned()));
            }
        }
    }
    all
}

#[test]
fn a_step_goes_over_the_zones_and_one_node_at_a_time() -> Result<()> {
    let fleet = Fleet::start_in_zones(&["a", "a", "b", "b"])?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    let loads = load_all(&fleet)?;
    // A quarter of the traffic is on half of the nodes.
    let waves = ["--steps", "25%,100%", "--bake", "2s", "--spread-over", "zone", "--max-parallel", "1"];
    fleet.push(1, &good("1.1.0")?, &waves)?.expect(0)?;
    let all = seen(&fleet.etcd.changes(1)?, 2);
    let [Seen::Told(first), Seen::Ready(one), Seen::Told(second), Seen::Ready(other), ..] = &all[..] else {
        anyhow::bail!("one after the other: {all:?}")
    };
    ensure!((first, second) == (one, other), "one after the other: {all:?}");
    let of_zone = |node: &str| if matches!(node, "n1" | "n2") { "a" } else { "b" };
    ensure!(of_zone(first) != of_zone(second), "one in each zone: {all:?}");
    for of in all.chunks(2) {
        let [Seen::Told(told), Seen::Ready(ready)] = of else { anyhow::bail!("one at a time: {all:?}") };
        ensure!(told == ready, "one at a time: {all:?}");
    }
    ensure!(all.len() == 8, "all four in the end: {all:?}");
    for load in loads {
        let counts = load.stop()?;
        ensure!(counts.failed() == 0, "{counts}");
    }
    Ok(())
}

/// Kills the candidate's host on a node, as a crash that only this machine brings about.
fn crash(fleet: &Fleet, node: usize, release: u64) -> Result<()> {
    let node = &fleet.nodes()[node];
    let is_candidate = |run: &&hot_tests::Instance| run.release == release && run.pid > 0;
    let mut pid = None;
    fleet.wait("a candidate to run", || {
        let module = node.module("probe")?;
        let here = module.nodes.iter().find(|of| of.node == node.name()).context("this node")?;
        pid = here.instances.iter().find(is_candidate).map(|run| run.pid);
        Ok(pid.is_some())
    })?;
    let host = Process::of(pid.context("a candidate")?).context("its host")?;
    host.signal(Signal::KILL)?;
    host.wait_gone(WAIT)
}

#[test]
fn one_node_may_fail_alone_and_one_more_takes_all_back() -> Result<()> {
    let fleet = Fleet::start(4)?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    let slow = ["--steps", "50%,100%", "--bake", "10m", "--max-failing", "1", "--detach"];
    fleet.push(0, &good("1.1.0")?, &slow)?.expect(0)?;
    let asked = &fleet.nodes()[3];
    asked.wait_module("probe", |module| module.phase == "baking")?;
    crash(&fleet, 1, 2)?;
    let events = || Ok::<_, anyhow::Error>(asked.hotctl(&["events", "--limit", "200"])?.expect(0)?.stdout);
    fleet.wait("a word that it failed alone", || Ok(events()?.contains("rollout.node_failed")))?;
    fleet.wait("the node to serve stable alone", || {
        let module = fleet.nodes()[1].module("probe")?;
        ensure!(module.phase == "baking", "the others go on: {module:?}");
        let here = module.nodes.iter().find(|of| of.node == "n2").context("this node")?;
        Ok(here.instances.iter().all(|run| run.release == 1 || !run.runs()))
    })?;
    let module = fleet.nodes()[0].module("probe")?;
    let here = module.nodes.iter().find(|of| of.node == "n1").context("the first node")?;
    ensure!(
        here.instances.iter().any(|run| run.release == 2 && run.weight > 0),
        "the others go on: {module:?}"
    );

    crash(&fleet, 2, 2)?;
    let back = asked.wait_module("probe", |module| module.phase == "rolled_back")?;
    ensure!(back.reason.contains("n3"), "{back:?}");
    for node in 0..4 {
        fleet.wait("stable everywhere", || Ok(fleet.serves(node)?.trim() == "probe 1.0.0"))?;
    }
    Ok(())
}
