//! A leader that does not lead any more, and does not know it: etcd refuses what it writes, and it says so.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hot_tests::{Fleet, Link, Load, LoadOptions, Module, check_terms};

const LEADER: &str = "hot/v1/fleet/leader";

fn good(version: &str) -> Result<std::path::PathBuf> {
    Module::new("good").version(version).build()
}

/// Its key is gone in the midst of a rollout, as one finds it that was stopped past its lease, and its own clock tells it
/// nothing. There is no other node, which would take its place before it writes.
#[test]
fn a_write_after_its_term_is_refused_by_etcd_and_told() -> Result<()> {
    let fleet = Fleet::start(1)?;
    let node = &fleet.nodes()[0];
    fleet.push(0, &good("1.0.0")?, &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
    let load = Load::start(LoadOptions::closed(node.http(), "/probe", 4).at(100))?;
    fleet.push(0, &good("1.1.0")?, &["--steps", "50%,100%", "--bake", "3s", "--detach"])?.expect(0)?;
    node.wait_module("probe", |module| module.phase == "baking")?;
    let old = fleet.etcd.created(LEADER)?.context("a leader")?;
    ensure!(!told(&fleet)?.contains("etcd refused"), "nothing was refused so far");
    fleet.etcd.delete(LEADER)?;

    // What the next step would have written was not, and the node says in which term that was to be.
    let refused = format!("does not lead its fleet any more (its epoch was {old}): nothing of it was done");
    fleet.wait("a word that etcd refused a write", || Ok(told(&fleet)?.contains(&refused)))?;
    // It stands once more, and goes on with the rollout in another term.
    fleet.wait("the rollout to be done", || {
        let module = node.module("probe")?;
        ensure!(module.phase == "done", "{module:?}");
        Ok(fleet.serves(0)?.trim() == "probe 1.1.0")
    })?;
    let new = fleet.etcd.created(LEADER)?.context("a leader")?;
    ensure!(new > old, "{old}, then {new}");
    // Between the two terms there is no leader's word in etcd, and none of the old one after it.
    let epochs = check_terms(&fleet.etcd.changes(1)?)?;
    ensure!(epochs == [old, new], "{epochs:?}");
    ensure!(told(&fleet)?.matches("etcd refused").count() == 1, "once for each term: {}", told(&fleet)?);
    let counts = load.stop()?;
    ensure!(counts.failed() == 0, "{counts}");
    Ok(())
}

/// The lease of the one whose way to etcd is held up: the shortest that there is, so that its write, which waits for 5 s, is
/// still on its way when another leads.
const SHORT: Duration = Duration::from_secs(2);

/// What a leader decided while it led is held up on its way until its lease is over and another leads, as where it stands
/// still between decision and write: etcd refuses it when it arrives, and nothing of it is done.
#[test]
fn a_write_that_arrives_after_the_lease_is_refused_by_etcd() -> Result<()> {
    let mut fleet = Fleet::start(2)?;
    let address: SocketAddr =
        fleet.etcd.endpoints()[0].strip_prefix("http://").context("its address")?.parse()?;
    let link = Link::to(address)?;
    let door = format!("etcd = [\"http://{}\"]\n", link.address());
    let config =
        Fleet::config_with(&door).replace("lease = \"3s\"", &format!("lease = \"{}s\"", SHORT.as_secs()));
    fleet.node(0).configure(&config)?;
    fleet.node(0).terminate()?;
    fleet.node(0).boot()?;
    // The other one lets go of the lead, if it has it.
    fleet.node(1).terminate()?;
    ensure!(fleet.leader(0)? == 0, "nobody else is there");
    fleet.node(1).boot()?;
    fleet.push(0, &good("1.0.0")?, &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
    let loads: Vec<Load> = fleet
        .nodes()
        .iter()
        .map(|node| Load::start(LoadOptions::closed(node.http(), "/probe", 2).at(50)))
        .collect::<Result<_>>()?;
    fleet.push(0, &good("1.1.0")?, &["--steps", "50%,100%", "--bake", "8s", "--detach"])?.expect(0)?;
    fleet.nodes()[0].wait_module("probe", |module| module.phase == "baking")?;
    let old = fleet.etcd.created(LEADER)?.context("a leader")?;

    link.stall_at(b"hot/v1/rollouts/");
    let (took, pause) = thread::scope(|scope| -> Result<_> {
        let pause = scope.spawn(|| fleet.nodes()[0].hotctl(&["pause", "probe"]));
        fleet.wait("the write to be under way", || Ok(link.stalls()))?;
        let since = Instant::now();
        fleet.wait("another leader", || Ok(fleet.etcd.created(LEADER)?.is_some_and(|epoch| epoch != old)))?;
        let took = since.elapsed();
        link.mend();
        Ok((took, pause.join().ok().context("the call")??))
    })?;
    ensure!(took < 2 * SHORT, "another node led after {took:?}");
    ensure!(pause.code != 0, "{pause:?}");
    let refused = format!("does not lead its fleet any more (its epoch was {old}): nothing of it was done");
    fleet.wait("a word that etcd refused a write", || Ok(told(&fleet)?.contains(&refused)))?;
    // Nobody paused it, as etcd has it, and the new leader carries it to its end.
    for node in fleet.nodes() {
        node.wait_module("probe", |module| module.phase == "done")?;
    }
    for node in 0..2 {
        fleet.wait("the new version", || Ok(fleet.serves(node)?.trim() == "probe 1.1.0"))?;
    }
    check_terms(&fleet.etcd.changes(1)?)?;
    for load in loads {
        let counts = load.stop()?;
        ensure!(counts.failed() == 0, "{counts}");
    }
    Ok(())
}

fn told(fleet: &Fleet) -> Result<String> {
    let events = fleet.nodes()[0].hotctl(&["events", "-n", "200"])?.expect(0)?.stdout;
    Ok(events.lines().filter(|line| line.contains("fleet.fenced")).collect::<Vec<_>>().join("\n"))
}
