//! A host that hangs gets nothing more as soon as that is known, whether or not its process is gone.

use anyhow::{Context, Result};
use hot_tests::{Module, Node, Process, WAIT, get};
use rustix::process::Signal;

#[test]
fn a_candidate_that_hangs_is_taken_back_although_it_is_not_gone() -> Result<()> {
    let node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    let next = Module::new("good").version("1.1.0").build()?;
    node.push(&next, &["--canary", "50%", "--bake", "10m", "--detach"])?.expect(0)?;
    let baking = node.wait_module("probe", WAIT, |module| module.phase == "baking")?;
    let candidate = baking.instances().find(|instance| instance.version == "1.1.0");
    let host = Process::of(candidate.context("the candidate's instance")?.pid).context("its host")?;

    // As long as hot-spawn does nothing either, nobody can kill it.
    let spawn = node.spawn()?;
    spawn.signal(Signal::STOP)?;
    host.signal(Signal::STOP)?;
    let back = node.wait_module("probe", WAIT, |module| module.phase == "rolled_back");
    let answers: Result<Vec<_>> = (0..20).map(|_| get(node.http(), "/probe")).collect();
    let is_there = host.alive();
    spawn.signal(Signal::CONT)?;

    let back = back?;
    assert!(is_there, "it went before anybody could see that");
    assert!(back.reason.contains("did not answer"), "{back:?}");
    assert!(answers?.iter().all(|answer| answer.body().as_ref() == b"probe 1.0.0\n"));
    host.wait_gone(WAIT)?;
    node.stop()
}
