//! What all nodes of a fleet tell, by way of any of them: events, lines, metrics, and who does not answer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hot_tests::{Fleet, Module, get};
use serde::Deserialize;
use serde_json::Value;

const QUICK: [&str; 4] = ["--steps", "50%,100%", "--bake", "1s"];
const NAMES: [&str; 3] = ["n1", "n2", "n3"];
/// A lost node is told after its lease, or as soon as its connection breaks; one that is back within some seconds.
const SOON: Duration = Duration::from_secs(30);

/// An event, as far as it is looked at here.
#[derive(Clone, Debug, Deserialize)]
struct Event {
    sequence: u64,
    time: String,
    kind: String,
    node: String,
}

/// It prints a line on each request.
fn prints(version: &str) -> Result<PathBuf> {
    Module::new("prints").version(version).number("NTH", 1_000_000).build()
}

/// A fleet of three that serves 1.0.0 everywhere.
fn fleet() -> Result<Fleet> {
    let fleet = Fleet::start(3)?;
    fleet.push(0, &prints("1.0.0")?, &QUICK)?.expect(0)?;
    for node in 0..3 {
        fleet
            .wait("1.0.0 to be served", || Ok(get(fleet.nodes()[node].http(), "/probe")?.status() == 200))?;
    }
    Ok(fleet)
}

fn json(fleet: &Fleet, node: usize, arguments: &[&str]) -> Result<Vec<Value>> {
    let said = fleet.nodes()[node].hotctl(&[arguments, &["-o", "json"]].concat())?.expect(0)?.stdout;
    said.lines().map(|line| serde_json::from_str(line).context(line.to_owned())).collect()
}

fn events(fleet: &Fleet, node: usize, arguments: &[&str]) -> Result<Vec<Event>> {
    let said = json(fleet, node, &[&["events"], arguments].concat())?;
    said.into_iter().map(|line| Ok(serde_json::from_value(line)?)).collect()
}

/// Those of one node are in its order, whatever else.
fn each_in_order(events: &[Event]) -> Result<()> {
    let mut last = BTreeMap::new();
    for event in events {
        let before = last.insert(&event.node, event.sequence).unwrap_or(0);
        ensure!(before < event.sequence, "{} after {before} of {}", event.sequence, event.node);
    }
    Ok(())
}

fn names(said: &Value) -> BTreeSet<&str> {
    said.as_array().into_iter().flatten().filter_map(|of| of["node"].as_str()).collect()
}

#[test]
fn any_node_tells_what_all_have_to_say() -> Result<()> {
    let fleet = fleet()?;
    let mut told = Vec::new();
    for node in 0..3 {
        let events = events(&fleet, node, &["probe", "-n", "1000"])?;
        each_in_order(&events)?;
        // One machine has one clock.
        assert!(events.is_sorted_by_key(|event| &event.time), "{events:?}");
        told.push(events.iter().map(|event| (event.node.clone(), event.sequence)).collect::<Vec<_>>());
    }
    assert_eq!((&told[0], &told[0]), (&told[1], &told[2]), "whoever is asked");
    let all = events(&fleet, 1, &["-n", "1000"])?;
    assert_eq!(all.iter().map(|event| event.node.as_str()).collect::<BTreeSet<_>>(), NAMES.into());
    // What the rollout decides is told once, by the node that leads.
    let started = all.iter().filter(|event| event.kind == "rollout.started");
    assert_eq!(
        started.map(|event| &event.node).collect::<Vec<_>>(),
        [fleet.nodes()[fleet.leader(0)?].name()]
    );
    // The latest of all, and of one.
    let latest = events(&fleet, 2, &["-n", "4"])?;
    assert_eq!(latest.len(), 4);
    assert!(latest[0].time >= all[all.len().saturating_sub(8)].time, "{latest:?}");
    let of_n2 = events(&fleet, 0, &["--on", "n2"])?;
    assert!(!of_n2.is_empty() && of_n2.iter().all(|event| event.node == "n2"), "{of_n2:?}");
    let unknown = fleet.nodes()[0].hotctl(&["events", "--on", "n9"])?.expect(1)?.stderr;
    assert!(unknown.contains("no node is named `n9`"), "{unknown}");
    // Each line says whose it is, where there are several.
    let text = fleet.nodes()[0].hotctl(&["events"])?.expect(0)?;
    let named = |line: &str| {
        let node = line.split_once("Z  ").map_or("", |(_, rest)| rest);
        NAMES.iter().any(|name| node.starts_with(&format!("{name} "))) || node[1..].starts_with(" nodes  ")
    };
    assert!(text.stdout.lines().all(named), "{}", text.stdout);
    assert_eq!(text.stderr, "");

    // Lines: each node has printed one at least.
    for node in 0..3 {
        let lines = json(&fleet, node, &["logs", "probe"])?;
        let of: BTreeSet<&str> = lines.iter().filter_map(|line| line["node"].as_str()).collect();
        assert_eq!(of, NAMES.into(), "{lines:?}");
        let times: Vec<&str> = lines.iter().filter_map(|line| line["time"].as_str()).collect();
        assert!(times.is_sorted(), "{lines:?}");
        let of_n3 = json(&fleet, node, &["logs", "probe", "--on", "n3"])?;
        assert!(!of_n3.is_empty() && of_n3.iter().all(|line| line["node"] == "n3"), "{of_n3:?}");
    }
    assert_eq!(json(&fleet, 0, &["logs", "probe", "-n", "1"])?.len(), 1, "of all together");
    let metrics = json(&fleet, 0, &["metrics", "probe"])?;
    assert_eq!(names(&metrics[0]["instances"]), NAMES.into(), "{metrics:?}");
    assert_eq!(metrics[0]["silent"], Value::Array(Vec::new()));
    let versions = json(&fleet, 1, &["versions", "probe"])?;
    assert_eq!(versions[0]["versions"][0]["nodes"], serde_json::json!(NAMES), "{versions:?}");
    Ok(())
}

/// The silent nodes, of a line that names them.
fn silent(line: &str) -> Option<Vec<String>> {
    let said: Value = serde_json::from_str(line).ok()?;
    serde_json::from_value(said.get("silent")?.clone()).ok()
}

#[test]
fn following_goes_on_without_a_node_and_with_it_again() -> Result<()> {
    let mut fleet = fleet()?;
    let leader = fleet.leader(0)?;
    let (asked, killed) = ((leader + 1) % 3, (leader + 2) % 3);
    let lost = NAMES[killed];
    let ctl = fleet.nodes()[asked].ctl();
    let mut follow = ctl.follow(&["events", "-f", "-n", "1000", "-o", "json"])?;
    let mut lines = ctl.follow(&["logs", "probe", "-f"])?;
    lines.wait(SOON, |line| line.contains(&format!(" {lost}/")).then_some(()))?;

    // A push's events come from all.
    fleet.push(asked, &prints("1.1.0")?, &QUICK)?.expect(0)?;
    let mut swapped = BTreeSet::new();
    follow.wait(SOON, |line| {
        let event: Event = serde_json::from_str(line).ok()?;
        swapped.extend((event.kind == "swap.done").then_some(event.node));
        (swapped.len() == NAMES.len()).then_some(())
    })?;

    fleet.node(killed).kill()?;
    follow.wait(SOON, |line| (silent(line)? == [lost]).then_some(()))?;
    lines.wait(SOON, |line| line.contains(&format!("{lost} does not answer any more")).then_some(()))?;
    let said = fleet.nodes()[asked].hotctl(&["events", "-n", "5"])?.expect(0)?;
    assert!(!said.stdout.is_empty());
    assert_eq!(said.stderr.trim(), format!("{lost} does not answer: its events are missing"));
    let metrics = json(&fleet, asked, &["metrics", "probe"])?;
    assert_eq!(metrics[0]["silent"], serde_json::json!([lost]));
    // It goes on with the others.
    get(fleet.nodes()[leader].http(), "/probe")?;
    lines.wait(SOON, |line| line.contains(&format!(" {}/", NAMES[leader])).then_some(()))?;

    // What happened to it meanwhile is told when it is back, and nothing twice.
    fleet.boot(killed)?;
    // By two pipes: either may be read first.
    let (mut heard, mut adopted) = (false, false);
    follow.wait(SOON, |line| {
        heard |= silent(line).is_some_and(|nodes| nodes.is_empty());
        let event: Option<Event> = serde_json::from_str(line).ok();
        adopted |= event.is_some_and(|event| event.kind == "instance.adopted" && event.node == lost);
        (heard && adopted).then_some(())
    })?;
    lines.wait(SOON, |line| line.contains(&format!("{lost} answers: its lines come")).then_some(()))?;
    let seen: Vec<Event> = follow.seen().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    each_in_order(&seen)
}
