//! A `hotd` that may have 64 files open, each client being one: it says so, goes on with what it has, and whoever comes
//! beyond that waits.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hot_tests::{Key, Module, Service, WAIT, get, text, within};

/// Clients, of which only some can be let in.
const CLIENTS: usize = 100;

/// What the two versions answer, from the end of the head on.
const BODIES: [&[u8]; 2] = [b"\r\n\r\nprobe 1.0.0\n", b"\r\n\r\nprobe 1.1.0\n"];

/// Does something while requests come: a step to which few have come waits for more of them.
fn asking_all_the_time<T>(address: SocketAddr, act: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // What comes of it is not what is tested.
                drop(get(address, "/probe"));
            }
        });
        let acted = act();
        done.store(true, Ordering::Relaxed);
        acted
    })
}

/// How long it is looked at while nothing goes.
const LOOK: Duration = Duration::from_secs(2);

/// A connection that has asked, and is kept.
fn ask(address: SocketAddr) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(WAIT))?;
    write!(socket, "GET /probe HTTP/1.1\r\nhost: {address}\r\n\r\n")?;
    Ok(socket)
}

/// Whether the connection gets an answer of either version: the push may be through before the last client is let in.
fn is_answered(socket: &mut TcpStream) -> Result<bool> {
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while !BODIES.iter().any(|body| answer.ends_with(body)) {
        let read = socket.read(&mut piece)?;
        answer.extend_from_slice(&piece[..read]);
        if read == 0 {
            return Ok(false);
        }
    }
    Ok(answer.starts_with(b"HTTP/1.1 200 "))
}

/// A push with all traffic at once.
fn push<'a>(file: &'a Path, key: &'a str) -> Result<[&'a str; 8]> {
    Ok(["push", text(file)?, "--key", key, "--steps", "100%", "--bake", "0s"])
}

/// Waits until the log has this.
fn wait_log(service: &Service, wanted: &str) -> Result<()> {
    let deadline = Instant::now() + WAIT;
    loop {
        let log = fs::read_to_string(service.scratch().join("hotd.log"))?;
        if log.contains(wanted) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "no {wanted:?} in\n{log}");
        thread::yield_now();
    }
}

#[test]
fn a_hotd_with_64_descriptors_serves_whom_it_can_and_neither_ends_nor_spins() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let key = Key::generate(folder.path().join("ada"))?;
    let mut service = Service::start(&key.signer("ada@example.com")?, "")?;
    let (first, second) = (Module::new("good").build()?, Module::new("good").version("1.1.0").build()?);
    let key = text(key.path())?;
    service.hotctl(&push(&first, key)?)?.expect(0)?;
    let hosts = service.hosts()?;
    service.terminate()?;
    service.boot_with(|hotd| {
        let mut prlimit = Command::new("prlimit");
        prlimit.arg("--nofile=64:64");
        Ok(within(prlimit, &hotd))
    })?;
    wait_log(&service, "hotd may have 64 files open")?;
    ensure!(get(service.http(), "/probe")?.body().as_ref() == b"probe 1.0.0\n");
    let hotd = service.daemon()?;

    let mut clients = (0..CLIENTS).map(|_| ask(service.http())).collect::<Result<Vec<_>>>()?;
    wait_log(&service, "accepting connections failed")?;
    // A caller that can't be let in either.
    let second = push(&second, key)?;
    let mut waits = service.ctl().follow(&second)?;
    wait_log(&service, "a caller can't be let in")?;
    let before = hotd.holds()?;
    // What is tested is that nothing goes on: there is nothing to wait for.
    thread::sleep(LOOK);
    let after = hotd.holds()?;
    ensure!(after.descriptors >= 60, "it has room: {after:?}");
    ensure!(after.cpu - before.cpu < LOOK / 4, "it spins: {before:?} became {after:?}");

    // Whoever is let in is served, and once they leave, so are those that waited.
    for mut client in clients.drain(..) {
        ensure!(is_answered(&mut client)?, "a client has no answer");
    }
    let code = asking_all_the_time(service.http(), || waits.wait_end(WAIT))?;
    ensure!(code == 0 || !waits.seen().is_empty(), "it was refused without a word");
    if code != 0 {
        service.hotctl(&second)?.expect(0)?;
    }
    let log = || fs::read_to_string(service.scratch().join("hotd.log")).unwrap_or_default();
    let reply = get(service.http(), "/probe")?;
    ensure!(reply.body().as_ref() == b"probe 1.1.0\n", "{reply:?}; the log says\n{}", log());
    ensure!(hotd.alive() && hosts.iter().all(|host| host.alive()), "one has ended; the log says\n{}", log());
    service.stop()
}
