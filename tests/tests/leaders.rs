//! What a leader takes up that another one left, and what becomes of one that can't.

use anyhow::{Context, Result, ensure};
use hot_tests::{Fleet, Link, Module, WAIT};
use serde_json::{Value, json};

const QUICK: [&str; 4] = ["--steps", "50%,100%", "--bake", "1s"];
const ROLLOUTS: &str = "hot/v1/rollouts/";

fn good(version: &str) -> Result<std::path::PathBuf> {
    Module::new("good").version(version).build()
}

/// The rollouts in etcd that have not ended.
fn running(fleet: &Fleet) -> Result<Vec<Value>> {
    let values = fleet.etcd.values(ROLLOUTS)?;
    let values = values.iter().map(|value| serde_json::from_str(value).context("a rollout"));
    let values: Vec<Value> = values.collect::<Result<_>>()?;
    Ok(values.into_iter().filter(|value| value["ended"] != true).collect())
}

/// The first write of a push was made, and its answer was lost: its caller heard that it did not begin, and pushed again.
#[test]
fn a_rollout_after_which_another_began_is_not_gone_on_with() -> Result<()> {
    let mut fleet = Fleet::start(2)?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    let leader = fleet.leader(0)?;
    let other = 1 - leader;
    fleet.push(other, &good("1.1.0")?, &["--steps", "50%,100%", "--bake", "60s", "--detach"])?.expect(0)?;
    fleet.nodes()[other].wait_module("probe", |module| module.phase == "baking")?;
    let [written] = &running(&fleet)?[..] else { anyhow::bail!("one rollout runs") };
    let id = written["snapshot"]["machine"]["id"].as_str().context("its id")?;
    // By its id the latest, as of a leader whose clock was ahead.
    let unheard = "rfffffffffff000";
    fleet.etcd.put(&format!("{ROLLOUTS}{unheard}"), &written.to_string().replace(id, unheard))?;
    fleet.push(other, &good("1.2.0")?, &QUICK)?.expect(0)?;
    ensure!(running(&fleet)?.len() == 1, "this leader knows nothing of it");
    fleet.node(leader).kill()?;
    fleet.wait("the rollout to be over", || Ok(running(&fleet)?.is_empty()))?;
    let ended = fleet.etcd.values(&format!("{ROLLOUTS}{unheard}"))?;
    ensure!(ended.len() == 1 && ended[0].contains("superseded"), "{ended:?}");
    let assignments = fleet.etcd.values("hot/v1/assignments/")?;
    ensure!(
        assignments.iter().all(|value| !value.contains(unheard)),
        "no node was told anything: {assignments:?}"
    );
    ensure!(fleet.serves(other)?.trim() == "probe 1.2.0");
    Ok(())
}

/// Its line is too narrow to read what there is, and wide enough to keep its lease.
#[test]
fn a_leader_that_can_not_take_over_lets_another_one_lead() -> Result<()> {
    let mut fleet = Fleet::start(2)?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    let etcd = fleet.etcd.endpoints().remove(0);
    let link = Link::to(etcd.strip_prefix("http://").context("an address")?.parse()?)?;
    let door = format!("etcd = [\"http://{}\"]\n", link.address());
    fleet.node(0).configure(&Fleet::config_with(&door))?;
    fleet.node(0).terminate()?;
    fleet.wait("the other node to lead", || Ok(fleet.leader(1)? == 1))?;
    fleet.node(0).boot()?;
    // More than comes by that line in the time in which etcd has to answer.
    let large = format!("{{\"request\":\"\",\"ended\":true,\"snapshot\":\"{}\"}}", "x".repeat(120_000));
    for number in 0..30 {
        fleet.etcd.put(&format!("{ROLLOUTS}r{number:014}"), &large)?;
    }
    link.narrow(256 << 10);
    fleet.node(1).kill()?;
    fleet.wait("the node with the narrow line to lead", || Ok(fleet.leader(0)? == 0))?;
    fleet.node(1).boot()?;
    fleet.wait_for(2 * WAIT, "the node that can to lead", || Ok(fleet.leader(1)? == 1))?;
    let events = fleet.nodes()[0].hotctl(&["events", "--on", "n1"])?.expect(0)?;
    ensure!(events.stdout.contains("could not take over"), "{events:?}");
    fleet.push(1, &good("1.1.0")?, &QUICK)?.expect(0)?;
    ensure!(fleet.leader(1)? == 1, "it leads on");
    Ok(())
}

/// It goes back, and its answer does not come: whoever was asked must not go back once more by itself.
#[test]
fn a_rollback_whose_answer_is_lost_is_done_once() -> Result<()> {
    let fleet = Fleet::start_with_links(2, "")?;
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        fleet.push(0, &good(version)?, &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
    }
    let leader = fleet.leader(0)?;
    let other = 1 - leader;
    // Its connection to the leader is made, which takes answers too.
    fleet.nodes()[other].hotctl(&["status"])?.expect(0)?;
    fleet.link(leader).hush();
    let refused = fleet.nodes()[other].hotctl(&["rollback", "probe"])?;
    ensure!(refused.code != 0 && refused.stderr.contains("the fleet may go back already"), "{refused:?}");
    fleet.link(leader).mend();
    for node in [leader, other] {
        fleet.wait("both to serve the one before", || Ok(fleet.serves(node)?.trim() == "probe 1.1.0"))?;
    }
    Ok(())
}

/// The leader dies before it has told a rollout that a node is kept out of it: the next one does not wait for that node.
#[test]
fn who_was_cordoned_under_the_last_leader_keeps_no_rollout_waiting() -> Result<()> {
    let mut fleet = Fleet::start(3)?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    let leader = fleet.leader(0)?;
    let [away, other] = [(leader + 1) % 3, (leader + 2) % 3];
    fleet.node(away).kill()?;
    fleet.push(other, &good("1.1.0")?, &QUICK)?.expect(5)?;
    ensure!(running(&fleet)?.len() == 1, "it waits for the one that is away");
    fleet.node(leader).kill()?;
    let name = fleet.nodes()[away].name();
    fleet.etcd.put(&format!("hot/v1/fleet/cordons/{name}"), r#"{"by":"ada","at":1}"#)?;
    fleet.boot(leader)?;
    fleet.wait("the rollout to be over", || Ok(running(&fleet)?.is_empty()))
}

/// A node is ready before the leader has heard that it was asked, as etcd's answer to the leader comes after the node's: it is
/// not waited for. Here it is one that says so from the beginning.
#[test]
fn who_is_ready_before_the_leader_knows_that_it_asked_is_not_waited_for() -> Result<()> {
    let fleet = Fleet::start(2)?;
    let target = format!("{}-gnu", std::env::consts::ARCH);
    let about =
        json!({ "target": target, "grpc": "https://127.0.0.1:1", "http": "", "hotd": "0.1.0", "since": 1 });
    let report = json!({ "prepared": { "release": 1 } });
    for (key, value) in
        [("reports/probe/n9", report), ("fleet/nodes/n9", about), ("fleet/alive/n9", json!({ "since": 1 }))]
    {
        fleet.etcd.put(&format!("hot/v1/{key}"), &value.to_string())?;
    }
    let leader = fleet.leader(0)?;
    fleet.wait("the leader to hear of the third", || {
        Ok(fleet.nodes()[leader].hotctl(&["nodes"])?.expect(0)?.stdout.contains("n9"))
    })?;
    fleet.push(0, &good("1.0.0")?, &["--steps", "100%", "--detach"])?.expect(0)?;
    fleet.nodes()[leader].wait_module("probe", |module| module.phase == "starting")?;
    fleet.nodes()[leader].hotctl(&["abort", "probe"])?.expect(0)?;
    Ok(())
}

/// Somebody has written the leader's key, or copied it from another etcd: it has no lease, with which it would go when its
/// node does. Nobody leads by that, and the fleet does not wait for ever.
#[test]
fn a_leaders_key_without_a_lease_keeps_nobody_from_leading() -> Result<()> {
    let mut fleet = Fleet::start(2)?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    let leader = fleet.leader(0)?;
    fleet.etcd.put("hot/v1/fleet/leader", &json!({ "node": fleet.nodes()[leader].name() }).to_string())?;
    fleet.wait("a leader", || Ok(fleet.leader(1 - leader).is_ok()))?;
    fleet.push(leader, &good("1.1.0")?, &QUICK)?.expect(0)?;
    fleet.etcd.put("hot/v1/fleet/leader", r#"{"node":"n9"}"#)?;
    fleet.node(leader).terminate()?;
    fleet.wait("the other one to lead", || Ok(fleet.leader(1 - leader)? == 1 - leader))?;
    fleet.node(leader).boot()?;
    fleet.push(1 - leader, &good("1.2.0")?, &QUICK)?.expect(0)?;
    Ok(())
}
