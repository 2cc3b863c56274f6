//! A node that is cut off in each phase of a rollout: the others go on without it, it is named, it serves on what it was
//! told, and it follows when it is back.

use anyhow::{Context, Result, ensure};
use hot_tests::{Module, ModuleStatus, alone};

use crate::rig::{NODES, Rig, WHOLE, bad, good};

/// A version that takes a while to start, so that the phases in which instances start last.
fn slow(version: &str) -> Module {
    good(version).number("START_MS", 3000)
}

/// The rollout goes on without `away`, which serves `before`, and ends without it; then it is back, and follows.
fn ends_without(rig: &Rig, away: usize, other: usize, version: &str) -> Result<()> {
    let name = rig.fleet.nodes()[away].name();
    let module = rig.phase(other, "incomplete")?;
    ensure!(module.waiting_on.contains(name), "{name} is not in {module:?}");
    let others: Vec<usize> = (0..NODES).filter(|node| *node != away).collect();
    rig.serve(&others, version)?;
    rig.hosts.mend()?;
    rig.phase(other, "done")?;
    rig.all_serve(version)
}

/// A node that runs the candidate and does not lead.
fn carrier(rig: &Rig, module: &ModuleStatus) -> Result<usize> {
    let leader = rig.leader()?;
    let release = module.candidate.as_ref().context("a candidate")?.release;
    let runs = |name: &str| {
        let own = module.nodes.iter().filter(|of| of.node == name);
        own.flat_map(|of| &of.instances).any(|run| run.release == release && run.runs())
    };
    let found = (0..NODES).find(|node| *node != leader && runs(rig.fleet.nodes()[*node].name()));
    found.with_context(|| format!("nobody but the leader tries it: {module:?}"))
}

#[test]
fn while_it_prepares_and_starts() -> Result<()> {
    alone(|| {
        let mut rig = Rig::start("")?;
        let away = (rig.leader()? + 1) % NODES;
        let other = (away + 1) % NODES;
        // It counts as there for the time of its lease, so that the rollout begins with it.
        rig.hosts.cut_off(&[away])?;
        let steps = ["--steps", "20%,100%", "--bake", "2s", "--detach"];
        rig.push(other, &good("1.1.0"), &steps)?.expect(0)?;
        rig.phase(other, "preparing")?;
        rig.allow(WHOLE);
        ends_without(&rig, away, other, "1.1.0")?;

        rig.push(other, &slow("1.2.0"), &steps)?.expect(0)?;
        rig.phase(other, "starting")?;
        let runs = |module: &ModuleStatus| carrier(&rig, module).is_ok();
        let module = rig.said(other, "a node that starts it", runs)?;
        ensure!(module.phase == "starting", "{module:?}");
        let away = carrier(&rig, &module)?;
        rig.hosts.cut_off(&[away])?;
        rig.allow(WHOLE);
        let other = rig.leader()?;
        ends_without(&rig, away, other, "1.2.0")?;
        rig.end(&[])
    })
}

#[test]
fn while_it_bakes_and_promotes() -> Result<()> {
    alone(|| {
        let mut rig = Rig::start("")?;
        let leader = rig.leader()?;
        rig.push_first_step(leader, &good("1.1.0"), "6s")?;
        let module = rig.fleet.nodes()[leader].module("probe")?;
        let away = carrier(&rig, &module)?;
        rig.hosts.cut_off(&[away])?;
        rig.allow(WHOLE);
        ends_without(&rig, away, leader, "1.1.0")?;

        rig.push_first_step(leader, &good("1.2.0"), "60s")?;
        rig.allow(WHOLE);
        rig.fleet.nodes()[leader].door().promote("probe")?;
        let module = rig.phase(leader, "promoting")?;
        let waits = |node: &usize| module.waiting_on.contains(rig.fleet.nodes()[*node].name());
        let away = (0..NODES).filter(|node| *node != leader).find(waits);
        let away = away.with_context(|| format!("nobody is waited for: {module:?}"))?;
        rig.hosts.cut_off(&[away])?;
        // What it said last may have been on its way.
        let over = |module: &ModuleStatus| ["incomplete", "done"].contains(&module.phase.as_str());
        let module = rig.said(leader, "the end without it", over)?;
        let name = rig.fleet.nodes()[away].name();
        ensure!(module.phase == "done" || module.waiting_on.contains(name), "{name} is not in {module:?}");
        rig.all_serve("1.2.0")?;
        rig.hosts.mend()?;
        rig.phase(leader, "done")?;
        rig.end(&[])
    })
}

/// The one that tries a version that does not work is cut off: it takes it back by itself, the others by the leader's word.
#[test]
fn while_it_tries_a_bad_version() -> Result<()> {
    alone(|| {
        let mut rig = Rig::start("")?;
        let leader = rig.leader()?;
        rig.push_first_step(leader, &bad("1.1.0"), "60s")?;
        let module = rig.fleet.nodes()[leader].module("probe")?;
        let away = carrier(&rig, &module)?;
        rig.hosts.cut_off(&[away])?;
        let name = rig.fleet.nodes()[away].name().to_owned();
        // No word reaches it: what it runs no more, it has ended itself.
        rig.said(away, "the candidate's end there", |module| {
            let own = module.nodes.iter().filter(|of| of.node == name);
            own.flat_map(|of| &of.instances).all(|run| run.version != "1.1.0" || !run.runs())
        })?;
        rig.said(leader, "the way back", |module| {
            module.phase == "rolled_back" || module.waiting_on.contains("to confirm the way back")
        })?;
        rig.all_serve("1.0.0")?;
        rig.hosts.mend()?;
        rig.phase(leader, "rolled_back")?;
        rig.allow(0);
        rig.all_serve("1.0.0")?;
        rig.end(&[])
    })
}

/// Not cut off from its fleet alone, but unplugged: its clients don't reach it either, and those of the others see nothing.
#[test]
fn unplugged() -> Result<()> {
    alone(|| {
        let mut rig = Rig::start("")?;
        let away = (rig.leader()? + 1) % NODES;
        let other = (away + 1) % NODES;
        rig.push_first_step(other, &good("1.1.0"), "4s")?;
        rig.hosts.all()[away].unplug()?;
        rig.allow(WHOLE);
        let module = rig.phase(other, "incomplete")?;
        ensure!(module.waiting_on.contains(rig.fleet.nodes()[away].name()), "{module:?}");
        rig.hosts.all()[away].plug()?;
        rig.phase(other, "done")?;
        rig.all_serve("1.1.0")?;
        rig.takes_back(away, "1.2.0", "1.1.0")?;
        rig.end(&[away])
    })
}
