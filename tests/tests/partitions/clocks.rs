//! Nodes whose clocks differ by an hour: what is decided about one of them by what another says must not depend on it.

use anyhow::{Context, Result, ensure};
use hot_tests::{alone, clock_ahead};

use crate::rig::{FIRST_STEP, NODES, Rig, WHOLE, good};

/// Seconds.
const HOUR: i64 = 60 * 60;
/// The nodes that are an hour ahead.
const AHEAD: [usize; 2] = [0, 1];

/// Kills whoever is on the leader's side, so that a node of the other clock leads, and gives those that were killed.
fn change_sides(rig: &mut Rig) -> Result<Vec<usize>> {
    let is_ahead = AHEAD.contains(&rig.leader()?);
    let epoch = rig.epoch()?.context("a leader")?;
    let side: Vec<usize> = (0..NODES).filter(|node| AHEAD.contains(node) == is_ahead).collect();
    for &node in &side {
        rig.fleet.node(node).kill()?;
    }
    rig.taken_over(epoch, std::time::Instant::now())?;
    ensure!(AHEAD.contains(&rig.leader()?) != is_ahead, "the other side leads");
    Ok(side)
}

fn boot(rig: &mut Rig, node: usize) -> Result<()> {
    let ahead = if AHEAD.contains(&node) { HOUR } else { 0 };
    rig.fleet.node(node).boot_with(|command| clock_ahead(command, ahead))
}

#[test]
fn that_differ_by_an_hour() -> Result<()> {
    alone(|| {
        let mut rig = Rig::start("")?;
        for node in AHEAD {
            rig.fleet.node(node).terminate()?;
            boot(&mut rig, node)?;
        }
        // Under a leader of each clock, which hands over to one of the other in the first step.
        for version in ["1.1.0", "1.2.0"] {
            let leader = rig.leader()?;
            rig.push_first_step(leader, &good(version), "5s")?;
            let side = change_sides(&mut rig)?;
            let other = rig.leader()?;
            let module = rig.fleet.nodes()[other].module("probe")?;
            ensure!(module.share <= FIRST_STEP, "an hour has not passed: {module:?}");
            rig.allow(WHOLE);
            for node in side {
                boot(&mut rig, node)?;
            }
            rig.phase(other, "done")?;
            rig.all_serve(version)?;
        }
        let leader = rig.leader()?;
        rig.takes_back(leader, "1.3.0", "1.2.0")?;
        rig.end(&(0..NODES).collect::<Vec<_>>())
    })
}
