//! The examples with a runtime of their own, through a real daemon: the axum application passes the checks that it passes
//! standing alone (`examples/axum-app/tests/alone.rs`), and clients of the async module wait without holding a thread.

#[path = "../../examples/axum-app/tests/checks/mod.rs"]
mod checks;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hot_tests::{Node, WAIT, built};

/// More than the threads that a host has for handlers that wait.
const WAITING: usize = 300;

#[test]
fn the_axum_application_passes_its_checks_as_a_module() -> Result<()> {
    let node = Node::start()?;
    node.push(&built("libaxum_app.so")?, &[])?.expect(0)?;
    // A push carries no config in this version, so it runs without a token; its own tests try one as a module.
    checks::all(node.http(), false);
    node.stop()
}

#[test]
fn clients_wait_without_holding_a_thread() -> Result<()> {
    let node = Node::start()?;
    node.push(&built("libasync_rust.so")?, &[])?.expect(0)?;
    let mut waiting = Vec::with_capacity(WAITING);
    for _ in 0..WAITING {
        let mut stream = TcpStream::connect(node.http())?;
        stream.set_read_timeout(Some(WAIT))?;
        stream.write_all(b"GET /wait/kitchen HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n")?;
        waiting.push(stream);
    }
    // Each message is heard by those that wait by then.
    let until = Instant::now() + WAIT;
    let mut heard = 0;
    while heard < WAITING {
        ensure!(Instant::now() < until, "{heard} of {WAITING} heard it");
        let request = http::Request::post("/wait/kitchen").header("host", "app");
        let reply = hot_tests::exchange(node.http(), request.body(Bytes::from_static(b"soup").into())?)?;
        let text = String::from_utf8_lossy(reply.body()).into_owned();
        let count = text.strip_suffix(" heard it\n").with_context(|| text.clone())?;
        heard += count.parse::<usize>()?;
    }
    for mut stream in waiting {
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("soup"), "{answer}");
    }
    node.stop()
}
