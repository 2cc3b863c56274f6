//! Frames without end: SETTINGS of HTTP/2, each of which is to be acknowledged. What a flood of them costs, and how it ends.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hot_tests::{Key, Module, Node, Service, WAIT, get, text};

/// The beginning of a connection, and its first SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// SETTINGS with the window that is so anyway.
const SETTINGS: &[u8] = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\xff\xff";

/// KiB that floods may cost, with what the sockets' buffers hold.
const COST: u64 = 24 * 1024;

/// How a flood ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The other side ended the connection.
    Closed,
    /// It took nothing more for as long as the client had patience.
    Blocked,
}

/// Sends SETTINGS until that comes to an end; of what comes back a client reads all, or nothing.
fn flood(address: SocketAddr, reads: bool, patience: Duration) -> Result<(End, u64)> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_write_timeout(Some(patience))?;
    socket.set_read_timeout(Some(WAIT))?;
    socket.write_all(PREFACE)?;
    let mut reader = socket.try_clone()?;
    let reading = reads.then(|| {
        thread::spawn(move || {
            let mut piece = vec![0; 64 * 1024];
            while reader.read(&mut piece).is_ok_and(|read| read > 0) {}
        })
    });
    let (batch, deadline, mut sent) = (SETTINGS.repeat(4096), Instant::now() + WAIT, 0);
    let end = loop {
        // A write that ends within a frame is gone on with there.
        match socket.write_all(&batch) {
            Ok(()) => sent += batch.len() as u64,
            Err(error) => break end(error)?,
        }
        ensure!(Instant::now() < deadline, "it goes on after {sent} bytes");
    };
    drop(socket);
    if let Some(reading) = reading {
        reading.join().ok().context("a reader that does not panic")?;
    }
    Ok((end, sent))
}

fn end(error: std::io::Error) -> Result<End> {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Ok(End::Closed),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Ok(End::Blocked),
        _ => Err(error).context("sending"),
    }
}

#[test]
fn settings_without_end_cost_little_and_end_the_connection() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let key = Key::generate(folder.path().join("ada"))?;
    let service = Service::start(&key.signer("ada@example.com")?, "")?;
    let good = Module::new("good").build()?;
    service.hotctl(&["push", text(&good)?, "--key", text(key.path())?])?.expect(0)?;
    let (address, before) = (service.http(), service.daemon()?.holds()?);
    let floods: Vec<_> = [true, false, true, false]
        .into_iter()
        .map(|reads| thread::spawn(move || flood(address, reads, WAIT)))
        .collect();
    // Others are served meanwhile.
    for _ in 0..20 {
        ensure!(get(address, "/probe")?.body().as_ref() == b"probe 1.0.0\n");
    }
    for flood in floods {
        let (end, sent) = flood.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        ensure!(end == End::Closed, "{end:?} after {sent} bytes");
    }
    let after = service.daemon()?.holds()?;
    ensure!(after.peak < before.peak + COST, "{before:?} became {after:?}");
    service.stop()
}

/// Without idle time-outs there: whoever gets in may keep a connection. But one that reads nothing is not heard any more.
#[test]
fn settings_without_end_at_the_control_port_cost_little_and_block_nobody() -> Result<()> {
    let node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    let before = node.daemon()?.holds()?;
    let address = node.grpc();
    let floods: Vec<_> =
        (0..4).map(|_| thread::spawn(move || flood(address, false, Duration::from_secs(2)))).collect();
    for _ in 0..5 {
        ensure!(node.module("probe")?.stable_version() == "1.0.0");
    }
    for flood in floods {
        let (end, sent) = flood.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        ensure!(sent < 64 << 20, "{sent} bytes were taken of one that reads nothing, until it {end:?}");
    }
    let after = node.daemon()?.holds()?;
    ensure!(after.peak < before.peak + COST, "{before:?} became {after:?}");
    node.stop()
}
