//! What is in effect and can't be written down: the node says so for as long as that is so, and logs it once.

use std::fs;

use anyhow::{Context, Result};
use hot_tests::{Key, Module, Node, Problem, Service, Status, Steps, WAIT, get, text};

#[test]
fn a_way_back_that_is_not_on_disk_is_a_problem_of_the_node_until_it_is() -> Result<()> {
    let mut node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    node.kill_all()?;
    // As on a disk that was full at the start: there is no space in reserve for the way back.
    let reserve = node.data_dir().join("reserve");
    fs::remove_file(&reserve).context("the reserve")?;
    std::os::unix::fs::symlink(node.scratch().join("full/reserve"), &reserve)?;
    node.start_again()?;
    let candidate = Module::new("good").version("1.1.0").build()?;
    node.push(&candidate, &["--canary", "10%", "--bake", "10m", "--detach"])?.expect(0)?;
    node.wait_module("probe", WAIT, |module| module.phase == "baking")?;
    assert!(node.status()?.problem("store.unwritten").is_none());

    let (modules, away) = (node.data_dir().join("modules"), node.scratch().join("away"));
    fs::rename(&modules, &away)?;
    node.hotctl(&["abort", "probe"])?;
    assert_eq!(get(node.http(), "/probe")?.body().as_ref(), b"probe 1.0.0\n", "and yet in effect");
    let mut watch = node.ctl().follow(&["status", "--watch", "-o", "json"])?;
    let problems = |line: &str| Some(serde_json::from_str::<Status>(line).ok()?.problems);
    let changed = |problem: &Problem| problem.text.contains("what this node runs of probe has changed");
    let found = watch.wait(WAIT, |line| problems(line)?.into_iter().find(changed))?;
    assert_eq!(found.code, "store.unwritten");
    assert!(found.text.contains("the disk of this node failed") && found.since.is_some(), "{found:?}");
    let nodes = node.hotctl(&["nodes"])?.expect(0)?.stdout;
    assert!(nodes.contains("store.unwritten"), "{nodes}");

    fs::rename(&away, &modules)?;
    node.wait_module("probe", WAIT, |module| module.phase == "rolled_back")?;
    watch.wait(WAIT, |line| problems(line)?.is_empty().then_some(()))?;
    node.stop()
}

#[test]
fn a_refused_write_that_can_not_be_taken_back_is_a_problem_of_the_node_until_it_is() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let key = Key::generate(folder.path().join("ada"))?;
    let mut service = Service::start(&key.signer("ada@example.com")?, "")?;
    let steps = Steps::on(&service.data_dir(), &service.scratch().join("steps"))?;
    service.terminate()?;
    service.boot_with(|hotd| steps.around(hotd, None))?;
    let file = Module::new("good").build()?;
    let push = || service.hotctl(&["push", text(&file)?, "--key", text(key.path())?]);

    steps.fail(&["fsync modules", "write reserve"])?;
    push()?.expect(1)?;
    let mut watch = service.ctl().follow(&["status", "--watch", "-o", "json"])?;
    let problems = |line: &str| Some(serde_json::from_str::<Status>(line).ok()?.problems);
    let found = watch.wait(WAIT, |line| problems(line)?.into_iter().next())?;
    assert_eq!(found.code, "store.in_doubt");
    let says = "a write of modules/probe.json was refused and may be on the disk all the same";
    assert!(found.text.contains(says) && found.since.is_some(), "{found:?}");
    assert!(service.hotctl(&["nodes"])?.expect(0)?.stdout.contains("store.in_doubt"));
    push()?.expect(1)?;

    steps.fail(&[])?;
    watch.wait(WAIT, |line| problems(line)?.is_empty().then_some(()))?;
    push()?.expect(0)?;
    service.stop()
}
