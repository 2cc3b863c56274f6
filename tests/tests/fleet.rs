//! Nodes that share an etcd: one push for all of them, and what becomes of it when something of the fleet dies.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use hot_tests::{Fleet, Instance, Key, LEASE, Load, LoadOptions, Module, Problem, Service, sha256, text};
use rustix::process::Signal;
use serde_json::json;

const QUICK: [&str; 4] = ["--steps", "50%,100%", "--bake", "1s"];

fn good(version: &str) -> Result<std::path::PathBuf> {
    Module::new("good").version(version).build()
}

/// Every node serves this version.
fn all_serve(fleet: &Fleet, version: &str) -> Result<()> {
    let expected = format!("probe {version}");
    for node in 0..fleet.nodes().len() {
        fleet.wait(&format!("{version} on node {node}"), || Ok(fleet.serves(node)?.trim() == expected))?;
    }
    Ok(())
}

/// A hundred requests a second on each node.
fn load_all(fleet: &Fleet) -> Result<Vec<Load>> {
    let load = |node: &Service| Load::start(LoadOptions::closed(node.http(), "/probe", 4).at(100));
    fleet.nodes().iter().map(load).collect()
}

/// Ends the loads, of which only that of the node that was hit may have lost anything: what it had in flight.
fn lost_nothing_but(hit: usize, loads: Vec<Load>) -> Result<()> {
    for (node, load) in loads.into_iter().enumerate() {
        let counts = load.stop()?;
        assert!(node == hit || counts.failed() == 0, "node {node}: {counts}");
    }
    Ok(())
}

/// The rollout is done, as a node says.
fn ends(fleet: &Fleet, node: usize) -> Result<()> {
    fleet.wait("the rollout to be done", || {
        let module = fleet.nodes()[node].module("probe")?;
        ensure!(module.phase == "done", "{module:?}");
        Ok(true)
    })
}

#[test]
fn a_push_by_way_of_any_node_reaches_all() -> Result<()> {
    let fleet = Fleet::start(3)?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    all_serve(&fleet, "1.0.0")?;
    fleet.push(1, &good("1.1.0")?, &QUICK)?.expect(0)?;
    all_serve(&fleet, "1.1.0")?;
    for node in fleet.nodes() {
        let module = node.module("probe")?;
        let names: Vec<&str> = module.nodes.iter().map(|node| node.node.as_str()).collect();
        assert_eq!(names, ["n1", "n2", "n3"], "{} says", node.name());
        assert_eq!(module.phase, "done", "{} says", node.name());
    }
    fleet.nodes()[2].hotctl(&["rollback", "probe"])?.expect(0)?;
    all_serve(&fleet, "1.0.0")
}

#[test]
fn nodes_call_each_other_by_their_certificates() -> Result<()> {
    let fleet = Fleet::start_with_tls(3)?;
    let urls = fleet.etcd.values("hot/v1/fleet/nodes/")?;
    assert!(urls.iter().all(|value| value.contains("\"grpc\":\"https://127.0.0.1:")), "{urls:?}");
    for node in 0..3 {
        let version = format!("1.{node}.0");
        fleet.push(node, &good(&version)?, &QUICK)?.expect(0)?;
        all_serve(&fleet, &version)?;
    }
    let module = fleet.nodes()[1].module("probe")?;
    assert_eq!(module.nodes.len(), 3, "{module:?}");
    // Whoever was asked, it is the caller that the history names, and not the node that sent the call on.
    let history = fleet.nodes()[1].hotctl(&["history", "probe", "-o", "json"])?.expect(0)?.stdout;
    for node in ["n1", "n2", "n3"] {
        assert!(!history.contains(&format!("\"by\":\"{node}\"")), "{history}");
    }
    Ok(())
}

#[test]
fn a_bad_version_is_taken_back_and_costs_nobody_a_request() -> Result<()> {
    let fleet = Fleet::start(3)?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    all_serve(&fleet, "1.0.0")?;
    let loads = load_all(&fleet)?;
    let bad = Module::new("segfaults").number("NTH", 5).version("1.1.0").build()?;
    fleet.push(2, &bad, &["--canary", "10%", "--bake", "5s"])?.expect(3)?;
    for load in loads {
        let counts = load.stop()?;
        assert_eq!(counts.failed(), 0, "{counts}");
    }
    all_serve(&fleet, "1.0.0")?;
    let again = fleet.push(1, &bad, &QUICK)?.expect(4)?;
    assert!(again.stderr.contains("quarantined"), "{}", again.stderr);
    Ok(())
}

#[test]
fn the_leader_dies_in_the_middle_and_another_one_goes_on() -> Result<()> {
    let mut fleet = Fleet::start(3)?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    let leader = fleet.leader(0)?;
    let other = (leader + 1) % 3;
    let loads = load_all(&fleet)?;
    fleet.push(other, &good("1.1.0")?, &["--steps", "50%,100%", "--bake", "6s", "--detach"])?.expect(0)?;
    fleet.nodes()[other].wait_module("probe", |module| module.phase == "baking")?;
    let killed = fleet.node(leader).kill()?;
    fleet.wait("another leader", || Ok(fleet.leader(other)? != leader))?;
    assert!(killed.elapsed() < 3 * LEASE, "{:?}", killed.elapsed());
    fleet.node(leader).boot()?;
    all_serve(&fleet, "1.1.0")?;
    ends(&fleet, other)?;
    lost_nothing_but(leader, loads)
}

#[test]
fn traffic_goes_on_without_etcd_and_a_node_that_restarts_serves() -> Result<()> {
    let mut fleet = Fleet::start(2)?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    all_serve(&fleet, "1.0.0")?;
    fleet.etcd.kill(0)?;
    let load = Load::start(LoadOptions::closed(fleet.nodes()[0].http(), "/probe", 4).at(100))?;
    fleet.node(1).terminate()?;
    fleet.node(1).boot()?;
    all_serve(&fleet, "1.0.0")?;
    let refused = fleet.push(0, &good("1.1.0")?, &QUICK)?;
    assert_ne!(refused.code, 0, "{refused:?}");
    let counts = load.stop()?;
    assert_eq!(counts.failed(), 0, "{counts}");
    fleet.etcd.restart(0)?;
    fleet.wait("a push to be taken", || Ok(fleet.push(1, &good("1.1.0")?, &QUICK)?.code == 0))?;
    all_serve(&fleet, "1.1.0")
}

#[test]
fn a_rollback_without_etcd_is_of_that_node_alone_and_stands_until_it_is_lifted() -> Result<()> {
    let mut fleet = Fleet::start(3)?;
    for version in ["1.0.0", "1.1.0"] {
        fleet.push(0, &good(version)?, &QUICK)?.expect(0)?;
        all_serve(&fleet, version)?;
    }
    let loads = load_all(&fleet)?;
    fleet.etcd.kill(0)?;
    fleet.wait("n2 to say that it does not hear its fleet", || {
        Ok(fleet.nodes()[1].status()?.problems.iter().any(|problem| problem.code == "fleet.silent"))
    })?;
    let back = fleet.nodes()[1].hotctl(&["rollback", "probe", "-m", "it leaks"])?.expect(5)?;
    ensure!(back.stdout.contains("1.1.0 (2) -> 1.0.0 (1)") && back.stdout.contains("n2 alone"), "{back:?}");
    assert_eq!(fleet.serves(1)?.trim(), "probe 1.0.0");
    // The same again is no error, and a restart changes nothing.
    fleet.nodes()[1].hotctl(&["rollback", "probe"])?.expect(5)?;
    fleet.node(1).terminate()?;
    fleet.node(1).boot()?;
    fleet.wait("n2 to serve what it went back to", || Ok(fleet.serves(1)?.trim() == "probe 1.0.0"))?;
    assert_eq!(fleet.serves(0)?.trim(), "probe 1.1.0");
    fleet.etcd.restart(0)?;
    fleet.wait("the fleet to show it, by way of another node", || {
        let status = fleet.nodes()[0].status()?;
        let shown = |problem: &Problem| problem.code == "rollback.local" && problem.node == "n2";
        Ok(status.problems.iter().any(shown))
    })?;
    // That is shown as n2 says it, and so perhaps before the others hear etcd, without which nothing can be pushed.
    fleet.wait("all to hear the fleet, and one to lead it", || {
        Ok(fleet.nodes()[0].status()?.problem("fleet.silent").is_none() && fleet.leader(0).is_ok())
    })?;
    // What the fleet is given meanwhile passes that node by, which is said by its name.
    let pushed = fleet.push(0, &good("1.2.0")?, &QUICK)?.expect(5)?;
    ensure!(pushed.stdout.contains("n2"), "{pushed:?}");
    assert_eq!(fleet.serves(1)?.trim(), "probe 1.0.0");
    assert_eq!(fleet.serves(2)?.trim(), "probe 1.2.0");
    let lifted = fleet.nodes()[2].hotctl(&["rollback", "probe", "--lift"])?.expect(0)?;
    ensure!(lifted.stdout.contains("n2 follows its fleet again"), "{lifted:?}");
    all_serve(&fleet, "1.2.0")?;
    ends(&fleet, 0)?;
    fleet.wait("nobody to show it any more", || Ok(fleet.nodes()[0].status()?.problems.is_empty()))?;
    fleet.nodes()[2].hotctl(&["rollback", "probe", "--lift"])?.expect(0)?;
    lost_nothing_but(1, loads)
}

#[test]
fn a_rollback_of_all_takes_the_place_of_one_that_stood_alone() -> Result<()> {
    let mut fleet = Fleet::start(2)?;
    for version in ["1.0.0", "1.1.0"] {
        fleet.push(0, &good(version)?, &QUICK)?.expect(0)?;
        all_serve(&fleet, version)?;
    }
    fleet.etcd.kill(0)?;
    fleet.wait("both to go back alone", || {
        let alone = |node: &Service| Ok::<_, anyhow::Error>(node.hotctl(&["rollback", "probe"])?.code == 5);
        Ok(alone(&fleet.nodes()[0])? && alone(&fleet.nodes()[1])?)
    })?;
    all_serve(&fleet, "1.0.0")?;
    fleet.etcd.restart(0)?;
    fleet.wait("the fleet to go back", || Ok(fleet.nodes()[0].hotctl(&["rollback", "probe"])?.code == 0))?;
    fleet.wait("nothing to stand alone", || Ok(fleet.nodes()[1].status()?.problems.is_empty()))?;
    all_serve(&fleet, "1.0.0")?;
    fleet.push(1, &good("1.2.0")?, &QUICK)?.expect(0)?;
    all_serve(&fleet, "1.2.0")
}

#[test]
fn a_candidate_that_is_aborted_without_etcd_sends_all_back_when_it_can() -> Result<()> {
    let fleet = Fleet::start(3)?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    all_serve(&fleet, "1.0.0")?;
    fleet.push(0, &good("1.1.0")?, &["--steps", "100%", "--bake", "30s", "--detach"])?.expect(0)?;
    for node in fleet.nodes() {
        node.wait_module("probe", |module| module.phase == "baking")?;
    }
    all_serve(&fleet, "1.1.0")?;
    fleet.etcd.freeze(0)?;
    let aborted = fleet.nodes()[1].hotctl(&["abort", "probe"])?.expect(5)?;
    ensure!(aborted.stdout.contains("n2 alone"), "{aborted:?}");
    assert_eq!(fleet.serves(1)?.trim(), "probe 1.0.0");
    fleet.etcd.thaw(0)?;
    all_serve(&fleet, "1.0.0")?;
    fleet.wait("the rollout to end", || {
        let module = fleet.nodes()[0].module("probe")?;
        Ok(module.phase == "rolled_back")
    })
}

/// The leader hangs, and keeps its connections: a person at another node does not wait for it.
#[test]
fn an_abort_beside_a_leader_that_hangs_moves_traffic_there_at_once() -> Result<()> {
    let fleet = Fleet::start(3)?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    all_serve(&fleet, "1.0.0")?;
    let leader = fleet.leader(0)?;
    let person = (leader + 1) % 3;
    let slow = ["--steps", "50%,100%", "--bake", "60s", "--spread", "--detach"];
    fleet.push(person, &good("1.1.0")?, &slow)?.expect(0)?;
    fleet.nodes()[person].wait_module("probe", |module| module.phase == "baking")?;
    let load = Load::start(LoadOptions::closed(fleet.nodes()[person].http(), "/probe", 4).at(100))?;
    let process = fleet.nodes()[leader].daemon()?;
    process.signal(Signal::STOP)?;
    let asked = Instant::now();
    let (moved, answer) = std::thread::scope(|scope| {
        let abort = scope.spawn(|| fleet.nodes()[person].hotctl(&["abort", "probe"]));
        // Long before the answer: this node needs nobody for that.
        let moved = fleet.wait("the candidate to get nothing here", || {
            (0..20).try_fold(true, |all, _| Ok(all && fleet.serves(person)?.trim() == "probe 1.0.0"))
        });
        (moved.map(|()| asked.elapsed()), abort.join())
    });
    // Within a lease nobody can have taken the leader's place.
    assert!(moved? < LEASE, "traffic waited for the leader");
    let answer = answer.map_err(|_panic| anyhow::anyhow!("the abort"))??;
    assert!(matches!(answer.code, 0 | 5), "{}: {}{}", answer.code, answer.stdout, answer.stderr);
    let counts = load.stop()?;
    assert_eq!(counts.failed(), 0, "{counts}");
    process.signal(Signal::CONT)?;
    all_serve(&fleet, "1.0.0")?;
    fleet.wait("the rollout to end", || {
        let module = fleet.nodes()[person].module("probe")?;
        Ok(module.phase == "rolled_back")
    })
}

#[test]
fn a_node_that_joins_serves_what_is_stable() -> Result<()> {
    let mut fleet = Fleet::start(2)?;
    fleet.node(1).terminate()?;
    fleet.wait("n2 to be taken for gone", || {
        let nodes = fleet.nodes()[0].hotctl(&["nodes", "-o", "json"])?.expect(0)?.stdout;
        Ok(nodes.contains("node.unreachable"))
    })?;
    let pushed = fleet.push(0, &good("1.0.0")?, &QUICK)?;
    assert_eq!(pushed.code, 5, "{pushed:?}");
    fleet.node(1).boot()?;
    all_serve(&fleet, "1.0.0")?;
    ends(&fleet, 0)
}

#[test]
fn a_leader_that_was_stopped_past_its_lease_writes_nothing_when_it_goes_on() -> Result<()> {
    let fleet = Fleet::start(3)?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    let leader = fleet.leader(0)?;
    let other = (leader + 1) % 3;
    let loads = load_all(&fleet)?;
    fleet.push(other, &good("1.1.0")?, &["--steps", "50%,100%", "--bake", "4s", "--detach"])?.expect(0)?;
    fleet.nodes()[other].wait_module("probe", |module| module.phase == "baking")?;
    let process = fleet.nodes()[leader].daemon()?;
    process.signal(Signal::STOP)?;
    let stopped = Instant::now();
    fleet.wait("another leader", || Ok(fleet.leader(other)? != leader))?;
    assert!(stopped.elapsed() < 3 * LEASE, "{:?}", stopped.elapsed());
    let epoch = fleet.etcd.created("hot/v1/fleet/leader")?.expect("a leader");
    process.signal(Signal::CONT)?;
    ends(&fleet, other)?;
    assert_eq!(fleet.etcd.created("hot/v1/fleet/leader")?, Some(epoch), "the new leader leads on");
    let given = fleet.etcd.values("hot/v1/assignments/")?;
    let by_others = given.iter().filter(|value| !value.contains(&format!("\"epoch\":{epoch},")));
    assert_eq!(by_others.count(), 0, "all that counts was written by the new leader: {given:?}");
    lost_nothing_but(leader, loads)?;
    all_serve(&fleet, "1.1.0")
}

#[test]
fn a_node_takes_a_bad_candidate_back_with_the_leader_and_etcd_gone() -> Result<()> {
    let mut fleet = Fleet::start(3)?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    let leader = fleet.leader(0)?;
    let others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    let loads = load_all(&fleet)?;
    let bad = Module::new("segfaults").number("NTH", 100).version("1.1.0").build()?;
    fleet.push(others[0], &bad, &["--steps", "50%,100%", "--bake", "60s", "--detach"])?.expect(0)?;
    fleet.nodes()[others[0]].wait_module("probe", |module| module.phase == "baking")?;
    fleet.node(leader).kill()?;
    fleet.etcd.kill(0)?;
    for &node in &others {
        fleet.wait("the candidate to be gone", || {
            let module = fleet.nodes()[node].module("probe")?;
            let here = module.nodes.iter().find(|of| of.node == fleet.nodes()[node].name());
            let runs = here.is_some_and(|of| of.instances.iter().any(|run| run.release == 2 && run.runs()));
            Ok(!runs && fleet.serves(node)?.trim() == "probe 1.0.0")
        })?;
        // By its fast limit, and not as nobody renewed it, which would have taken twice as long as is waited for here.
        let here = &fleet.nodes()[node];
        let events = here.hotctl(&["events", "--limit", "50", "--on", here.name()])?.expect(0)?;
        assert!(events.stdout.contains("SIGSEGV"), "{events:?}");
    }
    // What its clients ask waits for it meanwhile, and they would wait with it.
    fleet.node(leader).boot()?;
    lost_nothing_but(leader, loads)
}

/// Has both nodes told to serve each of these releases, one after the other, in both directions and by huge revisions: by somebody
/// who can write to etcd.
fn give_all(fleet: &Fleet, releases: &[u64]) -> Result<()> {
    for node in ["n1", "n2"] {
        for direction in ["onward", "toward_stable"] {
            for stable in releases {
                let assignment = json!({
                    "module": "probe", "revision": u64::MAX - stable, "rollout": "r6", "stable": stable,
                    "candidate": null, "standby": null,
                });
                let given = json!({ "assignment": assignment, "direction": direction });
                let value = json!({ "epoch": 1, "prepare": stable, "given": given });
                fleet.etcd.put(&format!("hot/v1/assignments/{node}/probe"), &value.to_string())?;
            }
        }
    }
    Ok(())
}

/// Who can write to etcd can have the nodes run no other code, and can't end them.
#[test]
fn what_others_write_to_etcd_makes_nothing_run_and_ends_nobody() -> Result<()> {
    let fleet = Fleet::start(2)?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    all_serve(&fleet, "1.0.0")?;
    let loads = load_all(&fleet)?;
    let (evil, target) = (good("6.6.6")?, format!("{}-gnu", std::env::consts::ARCH));
    let (mallory, signed) =
        (fleet.key_file().with_file_name("mallory"), fleet.key_file().with_file_name("sig"));
    Key::generate(mallory)?.sign("hot-module", &evil, &signed)?;
    let bytes = std::fs::read(&evil)?;
    let version = json!({
        "record": {
            "module": "probe", "version": "6.6.6", "target": target, "digest": sha256(&bytes),
            "size": bytes.len(), "metadata": "", "principal": "ada@example.com",
            "signature": std::fs::read_to_string(signed)?, "at": 1, "by": "mallory",
        },
        "node": "n1",
    });
    let release =
        json!({ "version": "6.6.6", "digests": { &target: sha256(&bytes) }, "at": 1, "by": "mallory" });
    fleet.etcd.put(&format!("hot/v1/fleet/versions/probe/6.6.6/{target}"), &version.to_string())?;
    fleet.etcd.put("hot/v1/fleet/releases/probe/0000000066", &release.to_string())?;
    // What is signed, with a config that nobody has signed.
    let served = fleet.nodes()[0].module("probe")?.stable.context("a stable release")?;
    let configured = json!({
        "version": "1.0.0", "digests": { &target: served.digest }, "config": sha256(b"bad"), "at": 1, "by": "mallory",
    });
    fleet.etcd.put("hot/v1/fleet/releases/probe/0000000067", &configured.to_string())?;
    give_all(&fleet, &[66, 67])?;
    for key in ["fleet/modules/probe", "fleet/nodes/n9", "fleet/alive/n9", "rollouts/r9", "renewals/r9"] {
        for rubbish in ["{", "[]", "null", "\u{1}", &"x".repeat(100_000)] {
            fleet.etcd.put(&format!("hot/v1/{key}"), rubbish)?;
        }
    }
    for node in fleet.nodes() {
        fleet.wait("what is wrong to be told", || {
            let events = node.hotctl(&["events", "--on", node.name(), "-n", "100"])?.expect(0)?.stdout;
            ensure!(events.contains("a value in etcd is left out"), "{events}");
            Ok(true)
        })?;
        assert!(node.daemon()?.alive());
    }
    for load in loads {
        let counts = load.stop()?;
        assert_eq!((counts.failed(), counts.of("1.0.0")), (0, counts.requests), "{counts}");
    }
    all_serve(&fleet, "1.0.0")?;
    // Whatever revisions it had, the word of the leader counts again.
    fleet.push(0, &good("1.1.0")?, &QUICK)?.expect(0)?;
    all_serve(&fleet, "1.1.0")
}

/// Nor has it what was signed once, and is no longer to run: by a key that was revoked since, or below the floor.
#[test]
fn what_others_write_to_etcd_brings_back_nothing_that_is_revoked_or_below_the_floor() -> Result<()> {
    let mut fleet = Fleet::start(2)?;
    let bea = Key::generate(fleet.key_file().with_file_name("bea"))?;
    for node in fleet.nodes() {
        std::fs::write(node.signers(), fleet.signer()? + &bea.signer("bea@example.com")?)?;
    }
    let releases = [("0.8.0", false), ("1.0.0", true), ("1.1.0", false), ("1.2.0", false)];
    for (version, by_bea) in releases {
        let file = good(version)?;
        let key = if by_bea { bea.path().to_owned() } else { fleet.key_file() };
        let command = [&["push", text(&file)?, "--key", text(&key)?], &QUICK[..]].concat();
        fleet.nodes()[0].hotctl(&command)?.expect(0)?;
        all_serve(&fleet, version)?;
    }
    for node in fleet.nodes() {
        let fresh = node.scratch().join("revoked");
        std::fs::write(&fresh, bea.public()? + "\n")?;
        std::fs::rename(fresh, node.revoked())?;
    }
    // A floor that both nodes have heard of, whoever leads.
    let floor = json!({ "served": [1, 2, 3, 4], "floor": "1.0.0" }).to_string();
    fleet.etcd.put("hot/v1/fleet/modules/probe", &floor)?;
    for node in [0, 1] {
        fleet.node(node).terminate()?;
        fleet.node(node).boot()?;
    }
    all_serve(&fleet, "1.2.0")?;
    let loads = load_all(&fleet)?;

    fleet.etcd.put("hot/v1/fleet/modules/probe", &json!({ "served": [1, 2] }).to_string())?;
    give_all(&fleet, &[1, 2])?;
    // All of it is heard: what was written last is told of.
    fleet.etcd.put("hot/v1/fleet/nodes/n9", "{")?;
    for node in fleet.nodes() {
        fleet.wait("what is wrong to be told", || {
            Ok(node
                .hotctl(&["events", "--limit", "200"])?
                .expect(0)?
                .stdout
                .contains("a value in etcd is left out"))
        })?;
    }
    // A host would start within that time.
    for _ in 0..20 {
        for node in fleet.nodes() {
            let module = node.module("probe")?;
            let here = module.nodes.iter().find(|of| of.node == node.name()).context("this node")?;
            // They are tried again and again, and refused each time before there is a process.
            let no_process =
                |run: &Instance| run.pid == 0 && (run.runs() || run.reason.contains("was refused"));
            assert!(here.instances.iter().all(|run| run.release > 2 || no_process(run)), "{here:?}");
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    for load in loads {
        let counts = load.stop()?;
        assert_eq!((counts.failed(), counts.of("1.2.0")), (0, counts.requests), "{counts}");
    }
    // Such a word is taken where the release may run: it was for these reasons that the others were not.
    let assignment = json!({
        "module": "probe", "revision": 9_999, "rollout": "r6", "stable": 3, "candidate": null, "standby": null,
    });
    let value = json!({ "epoch": 1, "given": { "assignment": assignment, "direction": "onward" } });
    fleet.etcd.put("hot/v1/assignments/n2/probe", &value.to_string())?;
    fleet.wait("1.1.0 on n2", || Ok(fleet.serves(1)?.trim() == "probe 1.1.0"))?;
    // The leader's word counts again, and the floor stands.
    fleet.push(0, &good("1.3.0")?, &QUICK)?.expect(0)?;
    all_serve(&fleet, "1.3.0")?;
    let refused = fleet.push(1, &good("0.9.0")?, &QUICK)?;
    assert!(refused.code != 0 && refused.stderr.contains("floor"), "{}", refused.stderr);
    Ok(())
}
