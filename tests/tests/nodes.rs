//! What people do with the nodes of a fleet: keep one out of rollouts, drain it, take it out for good.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use hot_tests::{Fleet, Key, Load, LoadOptions, Module, Service, WAIT, get, text};

const QUICK: [&str; 4] = ["--steps", "50%,100%", "--bake", "1s"];

fn good(version: &str) -> Result<PathBuf> {
    Module::new("good").version(version).build()
}

fn load(node: &Service) -> Result<Load> {
    Load::start(LoadOptions::closed(node.http(), "/probe", 4).at(100))
}

/// Waits until this node serves the version.
fn serves(fleet: &Fleet, node: usize, version: &str) -> Result<()> {
    let expected = format!("probe {version}");
    fleet.wait(&format!("{version} on node {node}"), || Ok(fleet.serves(node)?.trim() == expected))
}

/// Waits until a node that is asked says that the rollout is done.
fn ends(fleet: &Fleet, node: usize) -> Result<()> {
    fleet.wait("the rollout to be done", || {
        let module = fleet.nodes()[node].module("probe")?;
        ensure!(module.phase == "done", "{module:?}");
        Ok(true)
    })
}

/// The status of `/-/ready` and `/-/live`.
fn health(node: &Service) -> Result<[u16; 2]> {
    let status = |path| Ok::<_, anyhow::Error>(get(node.http(), path)?.status().as_u16());
    Ok([status("/-/ready")?, status("/-/live")?])
}

#[test]
fn a_cordoned_node_is_left_out_of_the_rollout_that_runs_and_catches_up() -> Result<()> {
    let fleet = Fleet::start(3)?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    (0..3).try_for_each(|node| serves(&fleet, node, "1.0.0"))?;
    let loads = fleet.nodes().iter().map(load).collect::<Result<Vec<_>>>()?;
    let slow = ["--steps", "50%,100%", "--bake", "4s", "--spread", "--detach"];
    fleet.push(0, &good("1.1.0")?, &slow)?.expect(0)?;
    fleet.nodes()[0].wait_module("probe", |module| module.phase == "baking")?;

    let [n1, _, n3] = fleet.nodes() else { anyhow::bail!("three nodes") };
    let said = n1.hotctl(&["cordon", "n3", "--message", "its disk is old"])?.expect(0)?.stdout;
    assert!(said.contains("n3 is cordoned"), "{said}");
    // Its candidate is gone while the rollout still runs, and the others go on.
    let module = n3.wait_module("probe", |module| {
        let here = module.nodes.iter().find(|of| of.node == "n3");
        here.is_some_and(|of| of.instances.iter().all(|run| run.release == 1 || !run.runs()))
    })?;
    assert_eq!(module.phase, "baking", "{module:?}");
    ends(&fleet, 0)?;
    (0..2).try_for_each(|node| serves(&fleet, node, "1.1.0"))?;
    assert_eq!(fleet.serves(2)?.trim(), "probe 1.0.0");
    assert_eq!(health(n3)?, [200, 200], "a cordon is no drain");

    // Everybody says it, whoever is asked, and once more changes nothing.
    for node in fleet.nodes() {
        let nodes = node.hotctl(&["nodes"])?.expect(0)?.stdout;
        assert!(nodes.contains("ready, cordoned") && nodes.contains("its disk is old"), "{nodes}");
        assert!(node.status()?.problem("node.cordoned").is_some(), "{} says", node.name());
    }
    let again = fleet.nodes()[1].hotctl(&["cordon", "n3"])?.expect(0)?.stdout;
    assert!(again.contains("already") && again.contains("its disk is old"), "{again}");
    fleet.push(1, &good("1.2.0")?, &QUICK)?.expect(0)?;
    assert_eq!(fleet.serves(2)?.trim(), "probe 1.0.0");

    n3.hotctl(&["uncordon", "n3"])?.expect(0)?;
    (0..3).try_for_each(|node| serves(&fleet, node, "1.2.0"))?;
    let nothing = n3.hotctl(&["uncordon", "n3"])?.expect(0)?.stdout;
    assert!(nothing.contains("was not cordoned"), "{nothing}");
    for load in loads {
        let counts = load.stop()?;
        assert_eq!(counts.failed(), 0, "{counts}");
    }
    let leader = &fleet.nodes()[fleet.leader(0)?];
    let events = leader.hotctl(&["events", "--limit", "100"])?.expect(0)?.stdout;
    for kind in ["node.cordoned", "node.uncordoned"] {
        assert!(events.contains(kind), "{kind}: {events}");
    }
    Ok(())
}

/// The node that leads moves its own traffic before anything else, but not where it is kept out.
#[test]
fn a_cordoned_node_that_leads_has_the_others_go_back_and_stays() -> Result<()> {
    let fleet = Fleet::start(2)?;
    for version in ["1.0.0", "1.1.0"] {
        fleet.push(0, &good(version)?, &QUICK)?.expect(0)?;
        (0..2).try_for_each(|node| serves(&fleet, node, version))?;
    }
    let leader = fleet.leader(0)?;
    let [leads, other] = [leader, 1 - leader].map(|node| &fleet.nodes()[node]);
    let loads = [load(leads)?, load(other)?];
    leads.hotctl(&["cordon", leads.name()])?.expect(0)?;
    leads.hotctl(&["rollback", "probe"])?.expect(0)?;
    serves(&fleet, 1 - leader, "1.0.0")?;
    let [kept, went] = loads.map(Load::stop);
    let (kept, went) = (kept?, went?);
    ensure!(kept.versions.keys().eq(["1.1.0"]) && kept.failed() == 0, "the one that leads: {kept}");
    ensure!(went.versions.len() == 2 && went.failed() == 0, "the other one: {went}");
    leads.hotctl(&["uncordon", leads.name()])?.expect(0)?;
    serves(&fleet, leader, "1.0.0")
}

#[test]
fn a_drained_node_sends_load_balancers_away_and_serves_all_the_same() -> Result<()> {
    let mut fleet = Fleet::start(2)?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    (0..2).try_for_each(|node| serves(&fleet, node, "1.0.0"))?;
    assert_eq!(health(&fleet.nodes()[1])?, [200, 200]);
    let busy = load(&fleet.nodes()[1])?;
    let drain = ["drain", "n2", "--timeout", "3s", "--message", "kernel update"];
    let open = fleet.nodes()[0].hotctl(&drain)?.expect(5)?;
    assert!(open.stderr.contains("n2 ") && open.stderr.contains("request"), "{}", open.stderr);
    assert_eq!(health(&fleet.nodes()[1])?, [503, 200]);
    assert_eq!(health(&fleet.nodes()[0])?, [200, 200]);
    let why = String::from_utf8_lossy(get(fleet.nodes()[1].http(), "/-/ready")?.body()).into_owned();
    assert!(why.contains("drained") && why.contains("kernel update"), "{why}");
    let counts = busy.stop()?;
    assert_eq!(counts.failed(), 0, "{counts}");
    // Now nobody asks it for anything.
    let done = fleet.nodes()[0].hotctl(&["drain", "n2"])?.expect(0)?.stdout;
    assert!(done.contains("n2 is drained"), "{done}");

    // A restart keeps it, also where etcd can't be asked.
    fleet.etcd.kill(0)?;
    fleet.node(1).terminate()?;
    fleet.node(1).boot()?;
    serves(&fleet, 1, "1.0.0")?;
    assert_eq!(health(&fleet.nodes()[1])?, [503, 200]);
    fleet.etcd.restart(0)?;
    fleet.wait("the drain to be ended", || Ok(fleet.nodes()[0].hotctl(&["uncordon", "n2"])?.code == 0))?;
    fleet.wait("n2 to be ready", || Ok(health(&fleet.nodes()[1])? == [200, 200]))?;
    fleet.node(1).terminate()?;
    fleet.node(1).boot()?;
    serves(&fleet, 1, "1.0.0")?;
    assert_eq!(health(&fleet.nodes()[1])?, [200, 200]);

    // With a cordon at the same moment, whichever comes first, it is drained.
    fleet.leader(1)?;
    for _ in 0..3 {
        let [n1, n2] = fleet.nodes() else { anyhow::bail!("two nodes") };
        std::thread::scope(|scope| -> Result<()> {
            let drain = scope.spawn(|| n1.hotctl(&["drain", "n2"]));
            n2.hotctl(&["cordon", "n2", "--message", "its disk"])?.expect(0)?;
            drain.join().map_err(|_panicked| anyhow::anyhow!("drain panicked"))??.expect(0)?;
            Ok(())
        })?;
        assert_eq!(health(n2)?, [503, 200]);
        n1.hotctl(&["uncordon", "n2"])?.expect(0)?;
    }
    Ok(())
}

#[test]
fn a_node_that_left_keeps_no_rollout_waiting() -> Result<()> {
    let mut fleet = Fleet::start(3)?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    (0..3).try_for_each(|node| serves(&fleet, node, "1.0.0"))?;
    let refused = fleet.nodes()[0].hotctl(&["leave", "n3"])?.expect(4)?;
    assert!(
        refused.stderr.contains("stop its hotd") || refused.stderr.contains("Stop its hotd"),
        "{refused:?}"
    );
    let unknown = fleet.nodes()[0].hotctl(&["leave", "n9"])?;
    assert!(unknown.code == 1 && unknown.stderr.contains("n9"), "{unknown:?}");

    fleet.node(2).kill()?;
    fleet.wait("n3 to be taken for gone", || {
        let nodes = fleet.nodes()[0].hotctl(&["nodes", "-o", "json"])?.expect(0)?.stdout;
        Ok(nodes.contains("its lease in etcd is over") && fleet.leader(0)? != 2)
    })?;
    fleet.push(0, &good("1.1.0")?, &QUICK)?.expect(5)?;
    // Whether it went back alone nobody knows, so it is named.
    let lifted = fleet.nodes()[0].hotctl(&["rollback", "probe", "--lift"])?.expect(5)?.stdout;
    assert!(lifted.contains("n3 does not answer") && !lifted.contains("n2"), "{lifted}");
    let left = fleet.nodes()[1].hotctl(&["leave", "n3", "--message", "sold"])?.expect(0)?.stdout;
    assert!(left.contains("n3 is out of the fleet"), "{left}");
    ends(&fleet, 0)?;
    fleet.push(1, &good("1.2.0")?, &QUICK)?.expect(0)?;
    let nodes = fleet.nodes()[0].hotctl(&["nodes"])?.expect(0)?.stdout;
    assert!(!nodes.contains("n3"), "{nodes}");
    for folder in ["assignments/n3/", "fleet/nodes/n3", "fleet/cordons/n3"] {
        let kept = fleet.etcd.values(&format!("hot/v1/{folder}"))?;
        assert!(kept.is_empty(), "{folder}: {kept:?}");
    }

    // It joins as a new one, and catches up.
    fleet.node(2).boot()?;
    serves(&fleet, 2, "1.2.0")?;
    fleet.push(2, &good("1.3.0")?, &QUICK)?.expect(0)?;
    (0..3).try_for_each(|node| serves(&fleet, node, "1.3.0"))
}

/// Waits until a node does not know the module.
fn does_not_serve(fleet: &Fleet, node: usize) -> Result<()> {
    fleet.wait(&format!("nothing on node {node}"), || {
        Ok(get(fleet.nodes()[node].http(), "/probe")?.status().as_u16() == 404)
    })
}

#[test]
fn a_release_runs_on_the_nodes_that_have_its_labels() -> Result<()> {
    let mut fleet = Fleet::start_in_zones(&["a", "a", "b"])?;
    let on = |label| [&QUICK[..], &["--on", label]].concat();
    let refused = fleet.push(0, &good("1.0.0")?, &on("zone=c"))?.expect(4)?;
    assert!(refused.stderr.contains("there are zone=a, zone=b"), "{}", refused.stderr);
    fleet.push(2, &good("1.0.0")?, &on("zone=a"))?.expect(0)?;
    (0..2).try_for_each(|node| serves(&fleet, node, "1.0.0"))?;
    does_not_serve(&fleet, 2)?;

    // The next one is for the same nodes, and a node that comes to them gets it.
    let busy = load(&fleet.nodes()[0])?;
    fleet.push(1, &good("1.1.0")?, &QUICK)?.expect(0)?;
    (0..2).try_for_each(|node| serves(&fleet, node, "1.1.0"))?;
    does_not_serve(&fleet, 2)?;
    let shown = fleet.nodes()[2].hotctl(&["status", "probe"])?.expect(0)?.stdout;
    assert!(shown.contains("on zone=a"), "{shown}");
    fleet.move_to_zone(2, "a")?;
    serves(&fleet, 2, "1.1.0")?;
    fleet.move_to_zone(2, "b")?;
    does_not_serve(&fleet, 2)?;

    // For all, for the others, and back.
    fleet.push(0, &good("1.2.0")?, &on("all"))?.expect(0)?;
    (0..3).try_for_each(|node| serves(&fleet, node, "1.2.0"))?;
    let counts = busy.stop()?;
    assert_eq!(counts.failed(), 0, "{counts}");
    let loses = |said: &str| said.contains("n1, n2 serve it now and will not any more");
    let file = good("1.3.0")?;
    let key = fleet.key_file();
    let plan = ["plan", text(&file)?, "--key", text(&key)?, "--on", "zone=b"];
    let planned = fleet.nodes()[0].hotctl(&plan)?.expect(10)?.stdout;
    assert!(loses(&planned), "{planned}");
    let pushed = fleet.push(0, &file, &on("zone=b"))?.expect(0)?;
    assert!(loses(&pushed.stderr), "{pushed:?}");
    serves(&fleet, 2, "1.3.0")?;
    (0..2).try_for_each(|node| does_not_serve(&fleet, node))?;
    fleet.nodes()[1].hotctl(&["rollback", "probe"])?.expect(0)?;
    (0..3).try_for_each(|node| serves(&fleet, node, "1.2.0"))?;
    let history = fleet.nodes()[1].hotctl(&["history", "probe", "-o", "json"])?.expect(0)?.stdout;
    assert!(history.contains(r#""on":{"zone":"b"}"#), "{history}");
    Ok(())
}

/// A rollout for some nodes waits for one that is down, and another one is taken out of it meanwhile.
#[test]
fn a_cordoned_node_keeps_a_module_that_is_for_some_nodes() -> Result<()> {
    let mut fleet = Fleet::start_in_zones(&["a", "a", "a"])?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    (0..3).try_for_each(|node| serves(&fleet, node, "1.0.0"))?;
    let leader = fleet.leader(0)?;
    let (down, cordoned) = ((leader + 1) % 3, (leader + 2) % 3);
    fleet.node(down).kill()?;
    fleet.push(leader, &good("1.1.0")?, &[&QUICK[..], &["--on", "zone=a"]].concat())?.expect(5)?;
    serves(&fleet, cordoned, "1.1.0")?;
    let busy = load(&fleet.nodes()[cordoned])?;
    let name = fleet.nodes()[cordoned].name().to_owned();
    fleet.nodes()[leader].hotctl(&["cordon", &name])?.expect(0)?;
    // The leader looks once a second at who is behind.
    std::thread::sleep(std::time::Duration::from_secs(4));
    let counts = busy.stop()?;
    assert_eq!((counts.failed(), counts.of("1.1.0")), (0, counts.requests), "{counts}");
    // Nor is it told anything by the push that comes next.
    fleet.node(down).boot()?;
    ends(&fleet, leader)?;
    fleet.push(leader, &good("1.2.0")?, &QUICK)?.expect(0)?;
    serves(&fleet, cordoned, "1.1.0")?;
    fleet.nodes()[leader].hotctl(&["uncordon", &name])?.expect(0)?;
    (0..3).try_for_each(|node| serves(&fleet, node, "1.2.0"))
}

#[test]
fn a_push_for_some_nodes_is_for_these_under_the_next_leader_too() -> Result<()> {
    let mut fleet = Fleet::start_in_zones(&["a", "a", "b"])?;
    let on = |steps: &[&'static str], label| [steps, &["--on", label]].concat();
    fleet.push(0, &good("1.0.0")?, &on(&QUICK, "all"))?.expect(0)?;
    (0..3).try_for_each(|node| serves(&fleet, node, "1.0.0"))?;
    let leader = fleet.leader(0)?;
    let other = (leader + 1) % 3;
    let busy = load(&fleet.nodes()[other])?;
    let slow = on(&["--steps", "50%,100%", "--bake", "4s", "--detach"], "zone=a");
    fleet.push(other, &good("1.1.0")?, &slow)?.expect(0)?;
    fleet.nodes()[other].wait_module("probe", |module| module.phase == "baking")?;
    fleet.node(leader).kill()?;
    fleet.wait("another leader", || Ok(fleet.leader(other)? != leader))?;
    fleet.node(leader).boot()?;
    ends(&fleet, other)?;
    (0..2).try_for_each(|node| serves(&fleet, node, "1.1.0"))?;
    does_not_serve(&fleet, 2)?;
    // Nor do those that come later forget for whom it is.
    fleet.push(other, &good("1.2.0")?, &QUICK)?.expect(0)?;
    (0..2).try_for_each(|node| serves(&fleet, node, "1.2.0"))?;
    does_not_serve(&fleet, 2)?;
    // The node that is for nothing of it any more answered until it was told so, and lost nothing by the change of leader.
    let counts = busy.stop()?;
    assert!(other == 2 || counts.failed() == 0, "{counts}");
    Ok(())
}

#[test]
fn a_node_that_is_alone_has_nothing_to_be_kept_out_of() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let key = Key::generate(folder.path().join("ada"))?;
    let node = Service::start(&key.signer("ada@example.com")?, "")?;
    for verb in ["cordon", "uncordon", "drain", "leave"] {
        let refused = node.hotctl(&[verb, node.name()])?.expect(4)?;
        assert!(refused.stderr.contains("is in no fleet"), "{verb}: {}", refused.stderr);
    }
    let (key, file) = (folder.path().join("ada"), good("1.0.0")?);
    let push = ["push", text(&file)?, "--key", text(&key)?, "--on"];
    let refused = node.hotctl(&[&push[..], &["zone=a"]].concat())?.expect(4)?;
    assert!(refused.stderr.contains("zone=a") && refused.stderr.contains("no fleet"), "{}", refused.stderr);
    node.hotctl(&[&push[..], &["all"]].concat())?.expect(0)?;
    node.stop()
}

/// Two machines have one name in their configs: whoever was there goes on, and the other one says what is wrong.
#[test]
fn a_name_that_is_taken_is_told_and_takes_nobody_out_of_the_fleet() -> Result<()> {
    let mut fleet = Fleet::start(2)?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    fleet.node(1).terminate()?;
    let own = std::fs::read_to_string(fleet.nodes()[1].config())?;
    std::fs::write(fleet.nodes()[1].config(), own.replacen("node = \"n2\"", "node = \"n1\"", 1))?;
    fleet.node(1).boot()?;
    let told = |node: &Service| Ok::<_, anyhow::Error>(node.hotctl(&["nodes"])?.expect(0)?.stdout);
    fleet.wait("a word that the name is taken", || {
        Ok(told(&fleet.nodes()[1])?.contains("fleet.name_taken"))
    })?;
    let [first] = &fleet.etcd.values("hot/v1/fleet/alive/")?[..] else { anyhow::bail!("one is there") };
    fleet.push(0, &good("1.1.0")?, &QUICK)?;
    ensure!(fleet.etcd.values("hot/v1/fleet/alive/")?.contains(first), "the first one is there still");
    ensure!(!told(&fleet.nodes()[0])?.contains("fleet.name_taken"), "and nothing is wrong with it");
    // By its own name again it is one of them.
    fleet.node(1).terminate()?;
    std::fs::write(fleet.nodes()[1].config(), own)?;
    fleet.node(1).boot()?;
    serves(&fleet, 1, "1.1.0")
}

/// What is there by a lease may be taken away by hand, or with the data of etcd.
#[test]
fn a_node_that_etcd_has_lost_says_that_it_is_there_and_the_fleet_goes_on() -> Result<()> {
    let mut fleet = Fleet::start(2)?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    fleet.etcd.delete("hot/v1/fleet/alive/n2")?;
    fleet.wait("the node to be there", || Ok(fleet.etcd.values("hot/v1/fleet/alive/")?.len() == 2))?;
    fleet.push(0, &good("1.1.0")?, &QUICK)?.expect(0)?;

    fleet.etcd.lose()?;
    fleet.etcd.restart_all()?;
    fleet.wait("the nodes to be there", || Ok(fleet.etcd.values("hot/v1/fleet/alive/")?.len() == 2))?;
    for node in 0..2 {
        fleet.wait("each node to hear its fleet", || {
            Ok(fleet.nodes()[node].status()?.problem("fleet.silent").is_none())
        })?;
        serves(&fleet, node, "1.1.0")?;
    }
    fleet.leader(0)?;
    fleet.push(1, &good("1.2.0")?, &QUICK)?.expect(0)?;
    (0..2).try_for_each(|node| serves(&fleet, node, "1.2.0"))
}

/// The way back is toward what was good for all: the one that can't go there is named, and keeps nobody from it.
#[test]
fn a_rollback_that_one_node_refuses_is_done_by_the_others() -> Result<()> {
    let fleet = Fleet::start(3)?;
    for version in ["1.0.0", "1.1.0"] {
        fleet.push(0, &good(version)?, &QUICK)?.expect(0)?;
        (0..3).try_for_each(|node| serves(&fleet, node, version))?;
    }
    let refuses = &fleet.nodes()[2];
    let revoked = refuses.scratch().join("revoked");
    std::fs::copy(fleet.key_file().with_extension("pub"), &revoked)?;
    std::fs::rename(revoked, refuses.revoked())?;
    // It may not run there any more, where it was ready to be gone back to.
    fleet.wait("its signer to be revoked there", || {
        let events = refuses.hotctl(&["events", "--limit", "50", "--on", refuses.name()])?.expect(0)?;
        Ok(events.stdout.contains("standby.dismissed"))
    })?;
    let back = fleet.nodes()[0].hotctl(&["rollback", "probe"])?;
    ensure!(back.code == 0, "{back:?} by {}", fleet.leader(0)?);
    (0..2).try_for_each(|node| serves(&fleet, node, "1.0.0"))?;
    // It is not waited for longer than a start may take.
    fleet.wait_for(2 * WAIT, "the one to be named", || {
        let module = fleet.nodes()[0].module("probe")?;
        ensure!(module.stable_version() == "1.0.0", "{module:?}");
        Ok(module.phase == "incomplete")
    })?;
    (0..2).try_for_each(|node| serves(&fleet, node, "1.0.0"))
}
