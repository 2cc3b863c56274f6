//! Leaders that die, stand still, or are cut off, each in the middle of a good rollout and of a bad one.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use hot_tests::{LEASE, alone};
use rustix::process::Signal;

use crate::rig::{NODES, Rig, WHOLE, bad, good};

/// What befalls the leader, and maybe another node with it, and how that ends. Both are told the nodes, the leader first.
struct Fault {
    strike: fn(&mut Rig, &[usize]) -> Result<()>,
    mend: fn(&mut Rig, &[usize]) -> Result<()>,
    /// How many nodes it befalls.
    unreached: usize,
    /// The leader's clients see it.
    hits: bool,
    /// The leader ends, and does not learn from etcd that it leads no more.
    ends: bool,
}

/// A good rollout goes on to its end, and a bad one back, with a fault in the first step of each.
fn story(fault: &Fault) -> Result<()> {
    let mut rig = Rig::start("")?;
    let mut hit = Vec::new();
    for is_good in [true, false] {
        let leader = rig.leader()?;
        let (other, lost) = ((leader + 1) % NODES, [leader, (leader + 2) % NODES]);
        let lost = &lost[..fault.unreached];
        hit.push(leader);
        let (module, bake) = if is_good { (good("1.1.0"), "4s") } else { (bad("1.2.0"), "60s") };
        rig.push_first_step(other, &module, bake)?;
        let epoch = rig.epoch()?.context("a leader")?;
        let since = Instant::now();
        (fault.strike)(&mut rig, lost)?;
        if is_good {
            rig.allow(WHOLE);
        }
        let took = rig.taken_over(epoch, since)?;
        ensure!(took < 2 * LEASE, "another node led after {took:?}");
        let reached: Vec<usize> = (0..NODES).filter(|node| !lost.contains(node)).collect();
        if is_good {
            // Those that are there go on, and who is not there is named.
            let module = rig.phase(other, "incomplete")?;
            for lost in lost {
                let name = rig.fleet.nodes()[*lost].name();
                ensure!(module.waiting_on.contains(name), "{name} is not in {module:?}");
            }
        } else {
            rig.said(other, "the way back", |module| {
                module.phase == "rolled_back" || module.waiting_on.contains("to confirm the way back")
            })?;
        }
        rig.serve(&reached, "1.1.0")?;
        (fault.mend)(&mut rig, lost)?;
        rig.phase(other, if is_good { "done" } else { "rolled_back" })?;
        rig.all_serve("1.1.0")?;
        if !is_good {
            rig.allow(0);
        }
        if !fault.ends {
            let log = std::fs::read_to_string(rig.fleet.nodes()[leader].log())?;
            let deposed = format!("this node does not lead its fleet any more epoch={epoch}");
            ensure!(log.contains(&deposed), "{deposed:?} is not in:\n{log}");
        }
    }
    rig.end(if fault.hits { &hit } else { &[] })
}

#[test]
fn killed() -> Result<()> {
    alone(|| {
        story(&Fault {
            strike: |rig, lost| rig.fleet.node(lost[0]).kill().map(drop),
            mend: |rig, lost| rig.fleet.node(lost[0]).boot(),
            unreached: 1,
            hits: true,
            ends: true,
        })
    })
}

#[test]
fn cut_off_alone() -> Result<()> {
    alone(|| {
        story(&Fault {
            strike: |rig, lost| rig.hosts.cut_off(lost),
            mend: |rig, _| rig.hosts.mend(),
            unreached: 1,
            hits: false,
            ends: false,
        })
    })
}

#[test]
fn cut_off_with_another_node() -> Result<()> {
    alone(|| {
        story(&Fault {
            strike: |rig, lost| rig.hosts.cut_off(lost),
            mend: |rig, _| rig.hosts.mend(),
            unreached: 2,
            hits: false,
            ends: false,
        })
    })
}

#[test]
fn stopped_past_its_lease_and_continued() -> Result<()> {
    alone(|| {
        story(&Fault {
            strike: |rig, lost| rig.fleet.nodes()[lost[0]].daemon()?.signal(Signal::STOP),
            mend: |rig, lost| rig.fleet.nodes()[lost[0]].daemon()?.signal(Signal::CONT),
            unreached: 1,
            hits: true,
            ends: false,
        })
    })
}
