//! A node as a service: `hot-spawn` and `hotd --config`, each started by somebody else, with keys that the operator
//! trusts.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use anyhow::Result;
use hot_tests::{Binaries, Key, Load, LoadOptions, Module, Process, Service, WAIT, text, within};
use rustix::process::Signal;

/// Two signers, of whom one may sign `probe`.
struct Signers {
    _folder: tempfile::TempDir,
    ada: Key,
    bob: Key,
    text: String,
}

impl Signers {
    const RULES: &'static str =
        "[trust.modules]\n\"pro*\" = [\"ada@example.com\"]\n\"*\" = [\"bob@example.com\"]\n";

    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let ada = Key::generate(folder.path().join("ada"))?;
        let bob = Key::generate(folder.path().join("bob"))?;
        let lines = [ada.signer("ada@example.com")?, bob.signer("bob@example.com")?];
        let text = format!("# who may sign\n{}", lines.concat());
        Ok(Self { _folder: folder, ada, bob, text })
    }
}

fn pids(hosts: &[Process]) -> Vec<i32> {
    hosts.iter().map(Process::pid).collect()
}

/// Runs load until it has so many answers, all good and of `version`.
fn serves(service: &Service, version: &str) -> Result<()> {
    let load = Load::start(LoadOptions::closed(service.http(), "/probe", 8))?;
    let window = load.begin_window();
    load.wait_requests(window, 200, WAIT)?;
    let counts = load.end_window(window)?;
    load.stop()?;
    assert_eq!((counts.failed(), counts.of(version)), (0, counts.requests), "{counts}");
    Ok(())
}

#[test]
fn a_service_takes_canaries_and_its_hosts_outlive_its_daemon() -> Result<()> {
    let signers = Signers::new()?;
    let mut service = Service::start(&signers.text, Signers::RULES)?;
    let check = Command::new(Binaries::locate()?.hotd())
        .arg("--config")
        .arg(service.config())
        .arg("--check")
        .output()?;
    assert!(check.status.success() && check.stderr.is_empty(), "{check:?}");

    // Bob's key is allowed, and not for this module.
    let first = Module::new("good").build()?;
    let refused = service.hotctl(&["push", text(&first)?, "--key", text(signers.bob.path())?])?.expect(4)?;
    assert!(refused.sentence()?.contains("bob@example.com"), "{}", refused.stderr);
    service.hotctl(&["push", text(&first)?, "--key", text(signers.ada.path())?])?.expect(0)?;
    serves(&service, "1.0.0")?;

    let second = Module::new("good").version("1.1.0").build()?;
    let key = text(signers.ada.path())?;
    let canary = ["push", text(&second)?, "--key", key, "--canary", "10%", "--bake", "10m", "--detach"];
    service.hotctl(&canary)?.expect(0)?;
    service.wait_module("probe", |module| module.phase == "baking")?;
    let hosts = service.hosts()?;
    assert_eq!(hosts.len(), 2, "stable and the candidate: {hosts:?}");

    // SIGTERM: as `systemctl restart` does it.
    service.terminate()?;
    assert_eq!(service.hosts()?, hosts, "the hosts live on");
    service.boot()?;
    service.wait_module("probe", |module| {
        module.phase == "baking"
            && module.instances().filter(|instance| instance.state == "ready").count() == 2
    })?;
    assert_eq!(pids(&service.hosts()?), pids(&hosts), "the same processes");

    // SIGKILL: as the kernel does it when memory is out.
    service.kill()?;
    assert_eq!(service.hosts()?, hosts, "the hosts live on");
    service.boot()?;
    service.hotctl(&["promote", "probe"])?.expect(0)?;
    assert_eq!(service.hosts()?, hosts, "the candidate is stable, and the former stable its standby");
    serves(&service, "1.1.0")?;
    assert_eq!(service.module("probe")?.stable_version(), "1.1.0");

    // The way back needs no start: to the process that served at the beginning.
    service.hotctl(&["rollback", "probe"])?.expect(0)?;
    serves(&service, "1.0.0")?;
    assert_eq!(service.hosts()?, hosts);
    service.stop()
}

/// Waits until each load has had so many answers from now on.
fn flows(loads: &[&Load]) -> Result<()> {
    loads.iter().try_for_each(|load| load.wait_requests(load.begin_window(), 100, WAIT))
}

/// How many requests hotd has said that it could not answer, as they came just when their connection was closed.
fn crossed(service: &Service) -> Result<u64> {
    let log = fs::read_to_string(service.scratch().join("hotd.log"))?;
    let counts = log.lines().filter_map(|line| line.split_once("crossed=")?.1.split_whitespace().next());
    Ok(counts.map(str::parse::<u64>).sum::<Result<_, _>>()?)
}

/// The listener outlives hotd, so who comes meanwhile waits; who is there is told to come again before its connection ends.
#[test]
fn restarts_under_load_lose_no_request() -> Result<()> {
    let signers = Signers::new()?;
    let mut service = Service::start(&signers.text, "")?;
    let file = Module::new("good").build()?;
    let key = text(signers.ada.path())?;
    service.hotctl(&["push", text(&file)?, "--key", key, "--steps", "100%", "--bake", "1s"])?.expect(0)?;
    // Some are never idle, and some are most of the time.
    let busy = Load::start(LoadOptions::closed(service.http(), "/probe", 8))?;
    let calm = Load::start(LoadOptions::closed(service.http(), "/probe", 32).at(300))?;
    let (mut lossless, mut lost) = (0, 0);
    for _ in 0..5 {
        flows(&[&busy, &calm])?;
        let before = crossed(&service)?;
        let windows = [&busy, &calm].map(Load::begin_window);
        service.terminate()?;
        service.boot()?;
        flows(&[&busy, &calm])?;
        let [busy, calm] = [busy.end_window(windows[0])?, calm.end_window(windows[1])?];
        let lost_now = busy.failed() + calm.failed();
        lost += lost_now;
        // A client that this machine holds up for longer than hotd waits for it asks as its connection is closed, and hotd
        // says so. Such a restart tells nothing, and any other loss is one.
        assert!(lost_now <= crossed(&service)? - before, "{busy}; {calm}");
        lossless += u32::from(lost_now == 0);
        if lossless == 3 {
            break;
        }
    }
    assert_eq!(lossless, 3, "of so many restarts lost nothing");
    let all = [busy.stop()?, calm.stop()?].map(|counts| counts.failed());
    assert_eq!(all.iter().sum::<u64>(), lost, "and nothing was lost between them");
    service.stop()
}

#[test]
fn a_mistake_in_the_signers_shows_and_lets_nothing_new_in() -> Result<()> {
    let signers = Signers::new()?;
    let mut service = Service::start(&signers.text, "")?;
    let key = text(signers.ada.path())?;
    let push = |service: &Service, version: &str, policy: &[&str]| {
        let file = Module::new("good").version(version).build()?;
        service.hotctl(&[&["push", text(&file)?, "--key", key], policy].concat())
    };
    let at_once = ["--steps", "100%", "--bake", "1s"];
    push(&service, "1.0.0", &at_once)?.expect(0)?;
    push(&service, "1.1.0", &["--canary", "10%", "--bake", "10m", "--detach"])?.expect(0)?;
    service.wait_module("probe", |module| module.phase == "baking")?;

    let mut events = service.events()?;
    // As an editor does it, with a slip in the line of the one who is to lose her key.
    let (fresh, allowed) = (service.scratch().join("fresh"), service.signers());
    let replace = |text: &str| -> Result<()> {
        fs::write(&fresh, text)?;
        Ok(fs::rename(&fresh, &allowed)?)
    };
    let slip = signers.text.replace("ada@example.com namespaces", "ada@example.com namespace");
    replace(&slip)?;
    let place = format!("{}:2: ", service.signers().display());
    let event = events.wait(WAIT, |event| event.kind == "trust.frozen")?;
    assert!(event.text.contains(&place), "{}", event.text);
    for command in ["nodes", "status"] {
        let shown = service.hotctl(&[command])?.expect(0)?.stdout;
        assert!(shown.contains("web-1: trust.frozen: ") && shown.contains(&place), "{command}: {shown}");
    }
    // The file is not to blame: the same push is good once it is mended.
    let refused = push(&service, "1.2.0", &at_once)?.expect(1)?;
    let sentence = refused.sentence()?;
    assert!(sentence.contains("nothing new is let in now: ") && sentence.contains(&place), "{sentence}");
    let json = service.hotctl(&[
        "push",
        text(&Module::new("good").version("1.2.0").build()?)?,
        "--key",
        key,
        "-o",
        "json",
    ])?;
    assert!(json.expect(1)?.stderr.contains("\"code\":\"trust.frozen\""));
    // What was let in before is not touched.
    service.hotctl(&["promote", "probe"])?.expect(0)?;
    serves(&service, "1.1.0")?;
    service.hotctl(&["rollback", "probe"])?.expect(0)?;
    service.hotctl(&["restart", "probe"])?.expect(0)?;
    serves(&service, "1.0.0")?;

    replace(&signers.text)?;
    events.wait(WAIT, |event| event.kind == "trust.restored")?;
    push(&service, "1.2.0", &at_once)?.expect(0)?;
    let shown = service.hotctl(&["nodes"])?.expect(0)?.stdout;
    assert!(!shown.contains("trust.frozen"), "{shown}");

    // A node that starts has nothing to go by until it is mended.
    service.power_off()?;
    fs::write(service.signers(), slip)?;
    let refused = Command::new(Binaries::locate()?.hotd()).arg("--config").arg(service.config()).output()?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains(&place), "{said}");
    fs::write(service.signers(), &signers.text)?;
    service.power_on()?;
    serves(&service, "1.2.0")?;
    service.stop()
}

#[test]
fn a_service_starts_with_a_mistake_in_the_signers_that_it_knew_before() -> Result<()> {
    let signers = Signers::new()?;
    let mut service = Service::start(&signers.text, "")?;
    let key = text(signers.ada.path())?.to_owned();
    let push = |service: &Service, version: &str| {
        let file = Module::new("good").version(version).build()?;
        service.hotctl(&["push", text(&file)?, "--key", &key, "--steps", "100%", "--bake", "1s"])
    };
    push(&service, "1.0.0")?.expect(0)?;
    let copy = service.scratch().join("data/trust/allowed_signers");
    assert_eq!(fs::read_to_string(&copy)?, signers.text);

    fs::write(service.signers(), signers.text.replace("namespaces", "namespace"))?;
    let check = Command::new(Binaries::locate()?.hotd())
        .arg("--config")
        .arg(service.config())
        .arg("--check")
        .output()?;
    let place = format!("{}:2: ", service.signers().display());
    assert_eq!(check.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&check.stderr).contains(&place), "{check:?}");

    // As after a power cut: nothing runs that could be taken over.
    service.terminate()?;
    for host in service.hosts()? {
        host.signal(Signal::KILL)?;
        host.wait_gone(WAIT)?;
    }
    service.boot()?;
    let mut events = service.events()?;
    let event = events.wait(WAIT, |event| event.kind == "trust.frozen")?;
    assert!(event.text.contains(&place) && event.text.contains("its copy"), "{}", event.text);
    service.wait_module("probe", |module| module.instances().any(|instance| instance.state == "ready"))?;
    serves(&service, "1.0.0")?;
    let shown = service.hotctl(&["status"])?.expect(0)?.stdout;
    assert!(shown.contains("trust.frozen: ") && shown.contains(&place), "{shown}");
    push(&service, "1.1.0")?.expect(1)?;

    fs::write(service.signers(), &signers.text)?;
    events.wait(WAIT, |event| event.kind == "trust.restored")?;
    push(&service, "1.1.0")?.expect(0)?;
    serves(&service, "1.1.0")?;

    // One that has no such copy does not start.
    service.terminate()?;
    fs::write(service.signers(), signers.text.replace("namespaces", "namespace"))?;
    fs::remove_file(&copy)?;
    let refused = Command::new(Binaries::locate()?.hotd()).arg("--config").arg(service.config()).output()?;
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains(&place), "{refused:?}");
    fs::write(service.signers(), &signers.text)?;
    service.boot()?;
    service.stop()
}

#[test]
fn the_usual_limit_on_open_files_turns_nobody_away() -> Result<()> {
    /// As low as a shell's, so to speak: below what hotd needs for the clients of this test.
    const LIMIT: &str = "--nofile=100:4096";
    const CLIENTS: usize = 150;
    let signers = Signers::new()?;
    let mut service = Service::start(&signers.text, Signers::RULES)?;
    let file = Module::new("good").build()?;
    let [file, key] = [text(&file)?, text(signers.ada.path())?];
    service.hotctl(&["push", file, "--key", key])?.expect(0)?;
    service.terminate()?;
    service.boot_with(|hotd| {
        let mut limited = Command::new("prlimit");
        limited.arg(LIMIT);
        Ok(within(limited, &hotd))
    })?;
    let served: Vec<TcpStream> = (0..CLIENTS)
        .map(|_| {
            let mut client = TcpStream::connect(service.http())?;
            client.set_read_timeout(Some(WAIT))?;
            client.write_all(b"GET /probe HTTP/1.1\r\nhost: a\r\n\r\n")?;
            let mut status = [0; 15];
            client.read_exact(&mut status)?;
            assert_eq!(&status, b"HTTP/1.1 200 OK");
            Ok(client)
        })
        .collect::<Result<_>>()?;
    assert_eq!(served.len(), CLIENTS);
    service.stop()
}
