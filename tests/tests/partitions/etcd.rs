//! An etcd whose members die, that is gone for long, that forgets, or in which there is what nobody of the fleet wrote.

use anyhow::{Context, Result, ensure};
use hot_tests::alone;

use crate::rig::{MEMBERS, NODES, Rig, WHOLE, good};

/// A member dies and comes back, then all do, in the midst of a rollout; another one is down while a bad version is tried.
#[test]
fn restarted() -> Result<()> {
    alone(|| {
        let mut rig = Rig::start("")?;
        rig.push_first_step(0, &good("1.1.0"), "6s")?;
        rig.allow(WHOLE);
        rig.fleet.etcd.kill(0)?;
        rig.fleet.etcd.restart(0)?;
        rig.fleet.etcd.kill_all()?;
        rig.fleet.etcd.restart_all()?;
        rig.phase(0, "done")?;
        rig.all_serve("1.1.0")?;
        rig.fleet.etcd.kill(1)?;
        rig.takes_back(1, "1.2.0", "1.1.0")?;
        rig.fleet.etcd.restart(1)?;
        rig.end(&[])
    })
}

/// Longer than the expiry of a candidate: it ends, stable serves, and each node says since when it hears nothing.
#[test]
fn gone_for_long() -> Result<()> {
    alone(|| {
        let mut rig = Rig::start("[policy]\nexpiry = \"6s\"\n")?;
        rig.push_first_step(0, &good("1.1.0"), "60s")?;
        rig.fleet.etcd.kill_all()?;
        for node in 0..NODES {
            let name = rig.fleet.nodes()[node].name().to_owned();
            rig.said(node, "the candidate's end", |module| {
                let own = module.nodes.iter().filter(|of| of.node == name);
                own.flat_map(|of| &of.instances).all(|run| run.version != "1.1.0" || run.weight == 0)
            })?;
        }
        // Nobody gives it back before the fleet is heard again.
        rig.allow(0);
        rig.all_serve("1.0.0")?;
        for node in rig.fleet.nodes() {
            rig.fleet.wait("a word that the fleet is silent", || {
                let status = node.status()?;
                let silent = status.problem("fleet.silent").context("no fleet.silent")?;
                ensure!(silent.since.is_some(), "{silent:?}");
                Ok(true)
            })?;
        }
        let refused = rig.fleet.push(0, &good("1.2.0").build()?, &["--steps", "100%"])?;
        ensure!(refused.code != 0, "{refused:?}");
        rig.allow(WHOLE);
        rig.fleet.etcd.restart_all()?;
        // It ends, or says what for it waits.
        rig.said(0, "an end, or what is waited for", |module| {
            ["done", "rolled_back"].contains(&module.phase.as_str()) || !module.waiting_on.is_empty()
        })?;
        rig.fleet.nodes()[0].hotctl(&["abort", "probe"])?;
        rig.said(0, "an end", |module| ["done", "rolled_back"].contains(&module.phase.as_str()))?;
        rig.push(1, &good("1.3.0"), &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
        rig.all_serve("1.3.0")?;
        rig.takes_back(2, "1.4.0", "1.3.0")?;
        rig.end(&[])
    })
}

/// One member is cut from the other two, under a good version and then, with another member, under a bad one: a node that
/// spoke to it goes on by way of the others.
#[test]
fn a_member_cut_from_the_others() -> Result<()> {
    alone(|| {
        let mut rig = Rig::start("")?;
        let [first, second, third] = MEMBERS;
        rig.hosts.cut(&[first], &[second, third])?;
        rig.push_first_step(0, &good("1.1.0"), "4s")?;
        rig.allow(WHOLE);
        rig.phase(0, "done")?;
        rig.all_serve("1.1.0")?;
        for node in rig.fleet.nodes() {
            rig.fleet.wait("each node to hear its fleet", || {
                Ok(node.status()?.problem("fleet.silent").is_none())
            })?;
        }
        rig.hosts.mend()?;
        rig.hosts.cut(&[second], &[first, third])?;
        rig.takes_back(1, "1.2.0", "1.1.0")?;
        rig.hosts.mend()?;
        rig.end(&[])
    })
}

/// All members are cut from each other, so that none has a majority, and the nodes from none of them: nothing moves, as
/// nothing can be written; what serves goes on, and the rollout ends once they hear each other.
#[test]
fn members_cut_from_each_other() -> Result<()> {
    alone(|| {
        let mut rig = Rig::start("")?;
        let [first, second, third] = MEMBERS;
        rig.push_first_step(0, &good("1.1.0"), "6s")?;
        rig.hosts.cut(&[first], &[second, third])?;
        rig.hosts.cut(&[second], &[third])?;
        for node in rig.fleet.nodes() {
            rig.fleet.wait("a word that the fleet is silent", || {
                Ok(node.status()?.problem("fleet.silent").is_some())
            })?;
        }
        let refused = rig.fleet.push(1, &good("1.2.0").build()?, &["--steps", "100%"])?;
        ensure!(refused.code != 0, "{refused:?}");
        rig.lose_nothing(100)?;
        rig.allow(WHOLE);
        rig.hosts.mend()?;
        rig.phase(0, "done")?;
        rig.all_serve("1.1.0")?;
        rig.takes_back(1, "1.3.0", "1.1.0")?;
        rig.end(&[])
    })
}

/// What a node missed is forgotten by etcd: it hears all anew, and serves what the others do.
#[test]
fn compacted_while_a_node_was_away() -> Result<()> {
    alone(|| {
        let mut rig = Rig::start("")?;
        let away = (rig.leader()? + 1) % NODES;
        let other = (away + 1) % NODES;
        rig.hosts.cut_off(&[away])?;
        rig.push(other, &good("1.1.0"), &["--steps", "100%", "--bake", "1s"])?.expect(5)?;
        let earlier = rig.fleet.etcd.changes(1)?;
        let from = rig.fleet.etcd.compact()?;
        rig.serve(&[away], "1.0.0")?;
        rig.hosts.mend()?;
        rig.phase(other, "done")?;
        rig.all_serve("1.1.0")?;
        // By way of the one that missed the rollout before.
        rig.takes_back(away, "1.2.0", "1.1.0")?;
        rig.end_after(&[], &earlier, from)
    })
}

/// Rubbish where words of nodes and of the leader are, under a rollout, and then another leader that reads it.
#[test]
fn rubbish() -> Result<()> {
    alone(|| {
        let mut rig = Rig::start("")?;
        let leader = rig.leader()?;
        let other = (leader + 1) % NODES;
        rig.push_first_step(other, &good("1.1.0"), "8s")?;
        let bystander = rig.fleet.nodes()[(leader + 2) % NODES].name().to_owned();
        let places = [
            format!("assignments/{bystander}/probe"),
            format!("reports/probe/{bystander}"),
            "fleet/modules/probe".to_owned(),
            "fleet/nodes/n9".to_owned(),
            "fleet/alive/n9".to_owned(),
            "rollouts/r9".to_owned(),
            "renewals/r9".to_owned(),
        ];
        for place in &places {
            for rubbish in ["{", "[]", "null", "\u{1}"] {
                rig.fleet.etcd.put(&format!("hot/v1/{place}"), rubbish)?;
            }
        }
        rig.allow(WHOLE);
        rig.fleet.node(leader).kill()?;
        rig.phase(other, "incomplete")?;
        rig.fleet.node(leader).boot()?;
        rig.phase(other, "done")?;
        rig.all_serve("1.1.0")?;
        for node in rig.fleet.nodes() {
            ensure!(node.status()?.problem("fleet.wrong").is_some(), "{} says nothing", node.name());
        }
        rig.takes_back(other, "1.2.0", "1.1.0")?;
        rig.end(&[leader])
    })
}
