//! Clients that take their time: half of them read a long response and half send a long request, some bytes at a time.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};

use crate::cpu::{self, Side};

/// What each moves in one turn, and how often there is one: 4 KiB/s.
const PIECE: usize = 1024;
const TURN: Duration = Duration::from_millis(250);
/// In so many groups, one after the other, over the time of a turn: who does not know of others does not come with them. All
/// 2,000 in one go would keep the load beside them from its core for a tenth of that time, and that would be measured.
const GROUPS: u32 = 125;

/// Buffers of the sockets, so that the kernel does not take the whole of what is slow.
const SOCKET_BUFFER: usize = 16 * 1024;

/// A crowd that is at it until it is stopped.
#[derive(Debug)]
pub(crate) struct Crowd {
    shared: Arc<Shared>,
    size: usize,
    thread: JoinHandle<Result<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Clients that have moved something.
    at_it: AtomicUsize,
    moved: AtomicU64,
    broken: AtomicUsize,
}

struct Client {
    socket: TcpStream,
    reads: bool,
    moved: u64,
    /// It reads, and its answer has begun well.
    is_answered: bool,
    is_broken: bool,
}

impl Crowd {
    /// So many of each kind, on the load's core.
    pub(crate) fn start(address: SocketAddr, path: &str, each: usize, bytes: u64) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let clients = (0..2 * each)
            .map(|number| Client::connect(address, path, number % 2 == 0, bytes))
            .collect::<Result<Vec<_>>>()?;
        let of_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            cpu::pin(Side::Load)?;
            take_turns(clients, &of_thread);
            Ok(())
        });
        Ok(Self { shared, size: 2 * each, thread })
    }

    /// Waits until every one has moved something.
    pub(crate) fn all_at_it(&self, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            let at_it = self.shared.at_it.load(Ordering::SeqCst);
            if at_it == self.size {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "{at_it} of {} slow clients got anywhere in {patience:?}",
                self.size
            );
            thread::sleep(TURN);
        }
    }

    /// Ends it. Gives the bytes that were moved, and how many were cut off.
    pub(crate) fn stop(self) -> Result<(u64, usize)> {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((self.shared.moved.load(Ordering::SeqCst), self.shared.broken.load(Ordering::SeqCst)))
    }
}

fn take_turns(mut clients: Vec<Client>, shared: &Shared) {
    let group = clients.len().div_ceil(GROUPS as usize).max(1);
    while !shared.stop.load(Ordering::SeqCst) {
        for clients in clients.chunks_mut(group) {
            let next = Instant::now() + TURN / GROUPS;
            clients.iter_mut().filter(|client| !client.is_broken).for_each(|client| client.take_turn(shared));
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}

impl Client {
    fn connect(address: SocketAddr, path: &str, reads: bool, bytes: u64) -> Result<Self> {
        let mut socket = TcpStream::connect(address).context("a slow client")?;
        set_socket_recv_buffer_size(&socket, SOCKET_BUFFER).context("SO_RCVBUF")?;
        set_socket_send_buffer_size(&socket, SOCKET_BUFFER).context("SO_SNDBUF")?;
        let head = if reads {
            format!("GET {path} HTTP/1.1\r\nHost: slow\r\n\r\n")
        } else {
            format!("POST {path} HTTP/1.1\r\nHost: slow\r\nContent-Length: {bytes}\r\n\r\n")
        };
        socket.write_all(head.as_bytes()).context("a slow client")?;
        socket.set_nonblocking(true).context("O_NONBLOCK")?;
        Ok(Self { socket, reads, moved: 0, is_answered: false, is_broken: false })
    }

    fn take_turn(&mut self, shared: &Shared) {
        let before = self.moved;
        if self.turn().is_err() {
            self.is_broken = true;
            shared.broken.fetch_add(1, Ordering::SeqCst);
        }
        shared.moved.fetch_add(self.moved - before, Ordering::SeqCst);
        if before == 0 && self.moved > 0 {
            shared.at_it.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn turn(&mut self) -> std::io::Result<()> {
        let mut piece = [b'x'; PIECE];
        let moved = if self.reads { self.socket.read(&mut piece) } else { self.socket.write(&piece) };
        match moved {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            // A head is shorter than a piece by far, and comes in one.
            Ok(len) if self.reads && !self.is_answered && !piece[..len].starts_with(b"HTTP/1.1 200 ") => {
                Err(ErrorKind::InvalidData.into())
            }
            Ok(len) => {
                self.is_answered = true;
                self.moved += len as u64;
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
