//! Two `hotd`, each with a data folder of its own, that are told the same hot-spawn.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;
use hot_tests::{Binaries, Follow, Key, Module, Service, WAIT, get, text};
use rustix::process::Signal;

/// The second `hotd`.
fn second(service: &Service) -> Result<Command> {
    let config = service.scratch().join("etc/second.toml");
    let first = fs::read_to_string(service.config())?;
    let second = first.replace("/data\"", "/second\"").replace("/hotd.sock\"", "/second.sock\"");
    assert_ne!(first, second);
    fs::write(&config, second)?;
    let mut command = Command::new(Binaries::locate()?.hotd());
    command.env("NO_COLOR", "1").arg("--config").arg(config);
    Ok(command)
}

/// What is said of a hot-spawn that serves this one.
fn serves(service: &Service, pid: impl std::fmt::Display) -> String {
    let socket = service.scratch().join("run/spawn.sock");
    format!(
        "hot-spawn at {} serves another hotd (pid {pid}); stop that one, or give this one a hot-spawn (and a `[spawn] \
         socket`) of its own",
        socket.display()
    )
}

/// A service whose `probe` serves.
fn service() -> Result<Service> {
    let folder = tempfile::tempdir()?;
    let key = Key::generate(folder.path().join("ada"))?;
    let service = Service::start(&key.signer("ada@example.com")?, "")?;
    let file = Module::new("good").build()?;
    service.hotctl(&["push", text(&file)?, "--key", text(key.path())?])?.expect(0)?;
    Ok(service)
}

#[test]
fn a_second_hotd_does_not_start_and_the_first_goes_on() -> Result<()> {
    let service = service()?;
    let hosts = service.hosts()?;
    let first = service.daemon()?;
    // Whether it stands still or not: it lives.
    for stopped in [false, true] {
        if stopped {
            first.signal(Signal::STOP)?;
        }
        let refused = hot_tests::run(second(&service)?);
        first.signal(Signal::CONT)?;
        let refused = refused?.expect(1)?;
        assert!(refused.stderr.contains(&serves(&service, first.pid())), "{refused:?}");
    }
    assert_eq!(service.hosts()?, hosts);
    assert_eq!(get(service.http(), "/probe")?.body().as_ref(), b"probe 1.0.0\n");
    assert!(service.status()?.problem("spawn.lost").is_none());
    service.stop()
}

#[test]
fn a_hotd_that_lost_hot_spawn_to_another_says_so_and_waits_for_its_end() -> Result<()> {
    let mut service = service()?;
    let first = service.daemon()?;
    first.signal(Signal::STOP)?;
    service.lose_spawn()?;
    service.start_spawn()?;
    let mut other = Follow::start(second(&service)?)?;
    let ready = other.wait(WAIT, |line| line.starts_with("ready ").then_some(()));
    first.signal(Signal::CONT)?;
    ready?;
    let says = serves(&service, other.pid());
    let deadline = Instant::now() + WAIT;
    while !service.status()?.problem("spawn.lost").is_some_and(|problem| problem.text.contains(&says)) {
        assert!(Instant::now() < deadline, "{:?}", service.status()?);
    }

    drop(other);
    service.wait_module("probe", |module| module.instances().any(|instance| instance.state == "ready"))?;
    assert_eq!(get(service.http(), "/probe")?.body().as_ref(), b"probe 1.0.0\n");
    service.stop()
}
