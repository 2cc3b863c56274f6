//! One client's connection: who it is, and how long it has kept us waiting.
//!
//! No timer is set per request or connection: each notes when it last got anywhere, and the thread looks at all of
//! them a few times a second.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::config::GatewayConfig;

/// A client, as its requests and its thread see it.
#[derive(Debug)]
pub(super) struct Client {
    ip: IpAddr,
    ip_text: String,
    peer: String,
    trusted: bool,
    may_pin: bool,
    /// Requests that are being answered.
    busy: Cell<usize>,
    /// When it became idle: from then it may take its time for the next request.
    idle_since: Cell<Instant>,
    /// When the first byte of a head came that is not whole yet.
    head_since: Cell<Option<Instant>>,
    /// Since when it has accepted nothing of what is there for it.
    blocked_since: Cell<Option<Instant>>,
    closed: Cell<bool>,
    task: RefCell<Option<Waker>>,
}

impl Client {
    pub(super) fn new(peer: SocketAddr, config: &GatewayConfig) -> Rc<Self> {
        let ip = peer.ip().to_canonical();
        Rc::new(Self {
            ip,
            ip_text: ip.to_string(),
            peer: SocketAddr::new(ip, peer.port()).to_string(),
            trusted: config.forwarded_from.contain(ip),
            may_pin: config.pin_from.contain(ip),
            busy: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            head_since: Cell::new(None),
            blocked_since: Cell::new(None),
            closed: Cell::new(false),
            task: RefCell::new(None),
        })
    }

    /// Its address, without the port.
    pub(super) fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Its address as text, without the port.
    pub(super) fn ip_text(&self) -> &str {
        &self.ip_text
    }

    /// Its address as text, with the port.
    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    /// What it says of where a request came from is kept.
    pub(super) fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// It may choose the release that answers.
    pub(super) fn may_pin(&self) -> bool {
        self.may_pin
    }

    /// A request has come whole with its head. It is being answered until what this gives is dropped.
    pub(super) fn begin(self: &Rc<Self>) -> Busy {
        self.busy.set(self.busy.get() + 1);
        self.head_since.set(None);
        Busy { client: Rc::clone(self) }
    }

    /// Remembers which task to wake, and says whether it is to end.
    pub(super) fn begin_turn(&self, cx: &Context<'_>) -> bool {
        let mut task = self.task.borrow_mut();
        if task.as_ref().is_none_or(|task| !task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
        self.closed.get()
    }

    pub(super) fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    /// Ends the connection if the client has taken too long over anything.
    pub(super) fn sweep(&self, now: Instant, config: &GatewayConfig) {
        let waited = |since: Instant| now.saturating_duration_since(since);
        let blocked = self.blocked_since.get().is_some_and(|since| waited(since) >= config.stall_timeout);
        let idle = self.busy.get() == 0 && self.blocked_since.get().is_none();
        let late = idle
            && match self.head_since.get() {
                Some(since) => waited(since) >= config.header_timeout,
                None => waited(self.idle_since.get()) >= config.idle_timeout,
            };
        if blocked || late {
            self.closed.set(true);
            self.wake();
        }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Busy {
    client: Rc<Client>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.client.busy.set(self.client.busy.get() - 1);
        self.client.idle_since.set(Instant::now());
    }
}

/// The client's socket, watched.
#[derive(Debug)]
pub(super) struct ClientIo {
    socket: TokioIo<TcpStream>,
    client: Rc<Client>,
}

impl ClientIo {
    pub(super) fn new(socket: TcpStream, client: Rc<Client>) -> Self {
        Self { socket: TokioIo::new(socket), client }
    }

    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        let since = &self.client.blocked_since;
        match result {
            Poll::Pending => since.set(since.get().or_else(|| Some(Instant::now()))),
            Poll::Ready(_) => since.set(None),
        }
    }
}

impl Read for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.socket).poll_read(cx, buffer);
        let client = &self.client;
        if result.is_ready() && client.busy.get() == 0 && client.head_since.get().is_none() {
            client.head_since.set(Some(Instant::now()));
        }
        result
    }
}

impl Write for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.wrote(&result);
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write_vectored(cx, buffers);
        self.wrote(&result);
        result
    }
}
