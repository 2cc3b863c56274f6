//! What a person can see of what goes wrong on a node: in `status`, `nodes`, `events` and `logs`.

use std::fs;

use anyhow::{Context, Result};
use hot_tests::{Load, LoadOptions, Module, Node, Status, WAIT, get};
use rustix::process::Signal;
use serde_json::Value;

/// What a command prints with `-o json`, a value a line.
fn json(node: &Node, arguments: &[&str]) -> Result<Vec<Value>> {
    let output = node.hotctl(&[arguments, &["-o", "json"]].concat())?.expect(0)?;
    output.stdout.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// The kinds and texts of all events.
fn events(node: &Node) -> Result<Vec<(String, String)>> {
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let events = json(node, &["events", "-n", "1000"])?;
    Ok(events.iter().map(|event| (text(event, "kind"), text(event, "text"))).collect())
}

#[test]
fn a_stable_that_crashes_is_seen_while_it_is_down_and_when_it_is_back() -> Result<()> {
    let node = Node::start()?;
    let mut follow = node.events()?;
    node.push(&Module::new("aborts").number("NTH", 1).build()?, &[])?.expect(0)?;
    assert!(node.module("probe")?.waiting_on.is_empty());
    // Each request ends an instance, so that it is down for longer and longer.
    let mut options = LoadOptions::closed(node.http(), "/probe", 2);
    options.timeout = WAIT;
    let load = Load::start(options)?;
    let down = node.wait_module("probe", WAIT, |module| {
        module.waiting_on.contains("the last one crashed with SIGABRT")
            && module.waiting_on.contains("the next one starts in")
    })?;
    assert!(down.waiting_on.starts_with("stable release 1 has no instance that serves: "), "{down:?}");
    assert!(down.instances().any(|instance| instance.state == "ended"), "{down:?}");
    let ended = follow.wait(WAIT, |event| event.kind == "instance.ended")?;
    assert!(ended.text.contains("probe 1.0.0 (release 1) ended: it crashed with SIGABRT"), "{}", ended.text);
    follow.wait(WAIT, |event| event.kind == "instance.restarted")?;
    let lacks = || -> Result<Option<String>> {
        let nodes = json(&node, &["nodes"])?;
        let here = nodes.first().map(|nodes| nodes["nodes"][0].clone()).context("this node")?;
        let missing = here["missing"].to_string();
        Ok((here["ready"] == false && missing.contains("probe: stable release 1 has no")).then_some(missing))
    };
    // It is down nearly always, and `hotctl` is a process of its own: a few looks find it so.
    let found = (0..50).find_map(|_| lacks().transpose()).transpose()?;
    assert!(found.is_some(), "nodes calls the node ready while its stable is down");
    load.stop()?;
    node.wait_module("probe", WAIT, |module| module.waiting_on.is_empty())?;
    node.stop()
}

#[test]
fn what_an_ended_instance_printed_is_kept_with_its_times() -> Result<()> {
    let node = Node::start()?;
    let mut follow = node.events()?;
    node.push(&Module::new("prints").build()?, &[])?.expect(0)?;
    for _ in 0..2 {
        get(node.http(), "/probe")?;
    }
    // Sent once more to the next instance, for which it is the first.
    get(node.http(), "/probe")?;
    let ended = follow.wait(WAIT, |event| event.kind == "instance.ended")?;
    let words = ": this is request 3; SIGABRT in +0x";
    assert!(ended.text.contains(words) && ended.text.ends_with(" of the module"), "{}", ended.text);
    follow.wait(WAIT, |event| event.kind == "instance.restarted")?;
    let logs = || json(&node, &["logs", "probe"]);
    let (first, again) = (logs()?, logs()?);
    let of = |text: &str| -> Vec<&Value> { first.iter().filter(|line| line["text"] == text).collect() };
    let (one, three) = (of("this is request 1"), of("this is request 3"));
    assert_eq!((one.len(), three.len()), (2, 1), "{first:?}");
    assert_ne!(one[0]["instance"], one[1]["instance"], "of the one that ended, and of the next: {first:?}");
    assert_eq!(one[0]["instance"], three[0]["instance"]);
    assert_eq!(first, again, "a line keeps the time at which it was read");
    node.stop()
}

#[test]
fn an_instance_keeps_the_time_of_its_start_over_a_restart_of_hotd() -> Result<()> {
    let mut node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    let started = |node: &Node| -> Result<String> {
        let module = node.wait_module("probe", WAIT, |module| {
            module.instances().any(|instance| instance.state == "ready")
        })?;
        module.instances().find_map(|instance| instance.started.clone()).context("an instance that started")
    };
    let before = started(&node)?;
    node.kill_daemon()?;
    node.start_again()?;
    assert_eq!(started(&node)?, before);
    node.stop()
}

#[test]
fn a_module_that_was_removed_is_in_status_no_more() -> Result<()> {
    let node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    node.push(&Module::new("good").name("other").build()?, &[])?.expect(0)?;
    node.hotctl(&["remove", "probe", "--yes"])?.expect(0)?;
    // Its host is told to stop, and it is listed until that is gone.
    let mut watch = node.ctl().follow(&["status", "--watch", "-o", "json"])?;
    watch.wait(WAIT, |line| {
        let status: Status = serde_json::from_str(line).ok()?;
        let names: Vec<&str> = status.modules.iter().map(|module| module.name.as_str()).collect();
        assert!(names.contains(&"other"), "{names:?}");
        (names == ["other"]).then_some(())
    })?;
    assert_eq!(
        json(&node, &["versions", "probe"])?[0]["versions"][0]["removed"],
        true,
        "its tombstone stays"
    );
    node.push(&Module::new("good").version("1.0.1").build()?, &[])?.expect(0)?;
    assert_eq!(node.module("probe")?.stable_version(), "1.0.1");
    node.stop()
}

#[test]
fn hot_spawn_lost_and_there_again_are_events() -> Result<()> {
    let node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    let mut follow = node.events()?;
    node.spawn()?.signal(Signal::KILL)?;
    let lost = follow.wait(WAIT, |event| event.kind == "spawn.lost")?;
    assert!(lost.text.contains("1 hosts"), "{}", lost.text);
    follow.wait(WAIT, |event| event.kind == "spawn.back")?;
    follow.wait(WAIT, |event| event.kind == "instance.restarted")?;
    assert_eq!(get(node.http(), "/probe")?.body().as_ref(), b"probe 1.0.0\n");
    node.stop()
}

#[test]
fn damage_that_is_found_in_the_store_is_an_event() -> Result<()> {
    let mut node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    node.push(&Module::new("good").version("1.0.1").build()?, &["--steps", "100%", "--bake", "0s"])?
        .expect(0)?;
    node.push(&Module::new("good").version("1.0.2").build()?, &["--steps", "100%", "--bake", "0s"])?
        .expect(0)?;
    let module = node.module("probe")?;
    let versions = json(&node, &["versions", "probe"])?;
    let oldest = versions[0]["versions"].as_array().and_then(|all| all.last()).context("three versions")?;
    assert_eq!((oldest["version"].as_str(), module.stable_version()), (Some("1.0.0"), "1.0.2"));
    node.kill_all()?;
    let digest = oldest["digest"].as_str().context("a digest")?;
    fs::write(node.data_dir().join(format!("artifacts/{digest}.so")), "cut").context("an artifact")?;
    node.start_again()?;
    let events = events(&node)?;
    let found: Vec<&String> =
        events.iter().filter(|(kind, _)| kind.starts_with("store.")).map(|(_, text)| text).collect();
    assert!(found.iter().any(|text| text.contains(&digest[..12])), "{events:?}");
    assert_eq!(node.module("probe")?.stable_version(), "1.0.2", "what serves is not touched");
    node.stop()
}
