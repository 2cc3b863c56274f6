//! One client's connection: who it is, and how long it has kept us waiting.
//!
//! No timer is set per request or connection, but as one ends: each notes when it last got anywhere, and the thread
//! looks at all of them a few times a second.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle};
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::config::GatewayConfig;
use super::h2::{Finding, GOODBYE, Streams};
use super::tunnel::Tunnel;

/// Up to so many bytes the head and the body of a response leave as one buffer: for the kernel a list of buffers is
/// more work than it is for us to copy so few bytes. The bodies of large responses are never copied.
const JOINED_UP_TO: usize = 4096;

thread_local! {
    /// Where they are joined.
    static JOINED: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(JOINED_UP_TO));
}

/// A client that is silent for so long is asked by the kernel whether it is there.
const SILENT_FOR: Duration = Duration::from_secs(60);

/// One that goes on talking although nothing more is said to it is read for as many times as long as one that is silent. By
/// then it has what was on its way to it, or it is too slow.
const PARTED: u32 = 10;

/// What is read and dropped of a client at most, of a body that was refused as well as in the end; and how much at a time.
pub(super) const UNWANTED_AT_MOST: usize = 64 * 1024 * 1024;
const UNWANTED: usize = 4096;

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
    /// The first byte of a head came, and it is not whole yet.
    head_begun: Cell<bool>,
    /// It accepts nothing of what is there for it.
    blocked: Cell<bool>,
    /// Counts whatever it got on with. No clock is read for that: the sweep sees whether it changed.
    steps: Cell<u32>,
    /// The steps that the sweep saw, and when it saw them first.
    seen: Cell<(u32, Instant)>,
    stay: Cell<Stay>,
    /// An answer has told it that the connection ends with it.
    told: Cell<bool>,
    /// What goes on on its streams, if it speaks HTTP/2.
    streams: OnceCell<Rc<Streams>>,
    /// Bytes of bodies that were given to be sent, and are not known to have left.
    unsent: Cell<usize>,
    /// Who waits for them to leave.
    sated: RefCell<Vec<Waker>>,
    /// What is to become of the connection once the response that is being sent has left.
    tunnel: RefCell<Option<Tunnel>>,
    task: RefCell<Option<Waker>>,
}

/// How long a connection is to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    /// As long as the client likes.
    On,
    /// Until what is in flight has ended.
    Leaving,
    /// No longer.
    CutOff,
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
            head_begun: Cell::new(false),
            blocked: Cell::new(false),
            steps: Cell::new(0),
            seen: Cell::new((0, Instant::now())),
            stay: Cell::new(Stay::On),
            told: Cell::new(false),
            streams: OnceCell::new(),
            unsent: Cell::new(0),
            sated: RefCell::default(),
            tunnel: RefCell::new(None),
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
        self.head_begun.set(false);
        self.step();
        Busy { client: Rc::clone(self) }
    }

    /// Hands the connection over, from the end of the response that comes next.
    pub(super) fn hand_over(&self, tunnel: Tunnel) {
        *self.tunnel.borrow_mut() = Some(tunnel);
    }

    /// Whether the connection is handed over: what is said on it from here on is not HTTP.
    pub(super) fn is_handed_over(&self) -> bool {
        self.tunnel.borrow().is_some()
    }

    /// Whom the connection was handed to.
    pub(super) fn take_tunnel(&self) -> Option<Tunnel> {
        self.tunnel.borrow_mut().take()
    }

    /// Waits until so little of what it was given is unsent that it may be given more.
    pub(super) fn poll_hungry(&self, ahead: usize, cx: &Context<'_>) -> Poll<()> {
        // In HTTP/2 each stream has a bound of its own, and one that is not taken must not be felt by the others.
        if self.unsent.get() < ahead || self.streams.get().is_some() {
            return Poll::Ready(());
        }
        let mut sated = self.sated.borrow_mut();
        if !sated.iter().any(|waker| waker.will_wake(cx.waker())) {
            sated.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// It is given a piece of a body.
    pub(super) fn give(&self, len: usize) {
        self.unsent.set(self.unsent.get() + len);
    }

    /// Bytes have left, of whatever.
    fn left(&self, len: usize) {
        self.now_unsent(self.unsent.get().saturating_sub(len));
    }

    /// This came of writing to it.
    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(len)) = result {
            self.left(*len);
        }
        if self.blocked.replace(result.is_pending()) != result.is_pending() {
            self.step();
        }
    }

    fn now_unsent(&self, len: usize) {
        self.unsent.set(len);
        self.sated.borrow_mut().drain(..).for_each(Waker::wake);
    }

    /// The first bytes of a head are here, and more are needed to tell of what.
    pub(super) fn begin_head(&self) {
        if !self.head_begun.replace(true) {
            self.step();
        }
    }

    /// It speaks HTTP/2.
    pub(super) fn begin_streams(&self) -> &Rc<Streams> {
        self.streams.get_or_init(Streams::new)
    }

    /// Whether it may be asked to leave now. Of a connection that is handed over only its sides know when it is over, and a
    /// head that has begun would be lost.
    pub(super) fn can_leave(&self) -> bool {
        !self.is_handed_over() && (self.streams.get().is_some() || !self.head_begun.get())
    }

    /// An answer tells it that the connection ends with it: whatever it says behind that is no request.
    pub(super) fn tell(&self) {
        self.told.set(true);
    }

    /// Whether an answer has told it that the connection ends with it.
    pub(super) fn is_told(&self) -> bool {
        self.told.get()
    }

    /// It was asked to leave, and has all its time from here on.
    pub(super) fn leave(&self) {
        self.stay.set(Stay::Leaving);
        self.step();
    }

    /// It has just asked for something after all, and stays.
    pub(super) fn stay_on(&self) {
        self.stay.set(Stay::On);
    }

    /// Remembers which task to wake, and says whether the connection is to end.
    pub(super) fn begin_turn(&self, cx: &Context<'_>) -> Stay {
        let mut task = self.task.borrow_mut();
        if task.as_ref().is_none_or(|task| !task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
        self.stay.get()
    }

    pub(super) fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    /// Whether a request of it is being answered, or an answer is on its way to it.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.get() > 0
            || self.blocked.get()
            || self.streams.get().is_some_and(|streams| streams.are_running())
    }

    /// It got on with something.
    pub(super) fn step(&self) {
        self.steps.set(self.steps.get().wrapping_add(1));
    }

    /// Another number whenever it has got on with something.
    pub(super) fn steps(&self) -> u32 {
        self.steps.get()
    }

    /// Whether it has asked for something since it had got that far. Over HTTP/2 it says much else.
    pub(super) fn has_asked_since(&self, steps: u32) -> bool {
        self.streams.get().is_none() && self.steps.get() != steps
    }

    /// Ends the connection if the client has taken too long over anything, or if there is a drain.
    pub(super) fn sweep(&self, now: Instant, config: &GatewayConfig, draining: bool) {
        let (seen, since) = self.seen.get();
        let since = if seen == self.steps.get() { since } else { now };
        self.seen.set((self.steps.get(), since));
        let waited = now.saturating_duration_since(since);
        let stay = match self.streams.get() {
            Some(streams) => self.stay_with(streams.sweep(now, config), waited, config, draining),
            None => self.stay_without(waited, config, draining),
        };
        if stay != self.stay.get() {
            self.stay.set(stay);
            self.wake();
        }
    }

    /// How long a client of HTTP/1 is to stay. Nothing tells it that it is to leave but an answer, so in a drain it has a
    /// while to ask for one.
    fn stay_without(&self, waited: Duration, config: &GatewayConfig, draining: bool) -> Stay {
        let idle = if draining { config.drain_linger.min(config.idle_timeout) } else { config.idle_timeout };
        let (bound, then) = if self.blocked.get() {
            (config.stall_timeout, Stay::CutOff)
        } else if self.busy.get() > 0 {
            return self.stay.get();
        } else if self.head_begun.get() {
            (config.header_timeout, Stay::CutOff)
        } else {
            (idle, Stay::Leaving)
        };
        if waited >= bound { then } else { self.stay.get() }
    }

    /// How long a client of HTTP/2 is to stay. Who has nothing in flight is asked to leave, so that a request that is
    /// under way to us is not lost; whoever does not go then is cut off. A drain asks all, whose requests end in order.
    fn stay_with(&self, finding: Finding, waited: Duration, config: &GatewayConfig, draining: bool) -> Stay {
        let stay = self.stay.get();
        if finding == Finding::Broken || (self.blocked.get() && waited >= config.stall_timeout) {
            Stay::CutOff
        } else if draining && stay == Stay::On {
            Stay::Leaving
        } else if self.is_busy() {
            stay
        } else if stay == Stay::Leaving && waited >= GOODBYE {
            Stay::CutOff
        } else if stay == Stay::On && waited >= config.idle_timeout {
            Stay::Leaving
        } else {
            stay
        }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Busy {
    client: Rc<Client>,
}

impl Busy {
    /// Whose it is.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.client.busy.set(self.client.busy.get() - 1);
        self.client.step();
    }
}

/// The client's socket, watched.
#[derive(Debug)]
pub(super) struct ClientIo {
    socket: TokioIo<TcpStream>,
    client: Rc<Client>,
    /// Bytes that were read and given back. They are read again before what is in the socket.
    given_back: Bytes,
}

impl ClientIo {
    pub(super) fn new(socket: TcpStream, client: Rc<Client>) -> Self {
        Self { socket: TokioIo::new(socket), client, given_back: Bytes::new() }
    }

    /// Whose it is.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Has the kernel find out whether a client is still there: one of a stream may be silent for hours.
    pub(super) fn keep_alive(socket: &TcpStream) {
        let set = set_socket_keepalive(socket, true).and_then(|()| set_tcp_keepidle(socket, SILENT_FOR));
        if let Err(error) = set {
            tracing::debug!(%error, "a client's socket can't be kept alive");
        }
    }

    /// What was read and nobody has understood yet: `rest` of it was with who read last.
    pub(super) fn unread(&mut self, rest: Bytes) -> Bytes {
        let given_back = std::mem::take(&mut self.given_back);
        if given_back.is_empty() { rest } else { Bytes::from([rest, given_back].concat()) }
    }

    /// Whether there is the beginning of a request: in what is `unread`, or in the socket, of which the executor may not have
    /// told yet. Then it is read next.
    pub(super) fn has_more(&mut self, unread: Bytes) -> bool {
        let mut late = [0; 1024];
        // Where nothing can be read nothing has begun, whatever the reason.
        let (len, _) = recv(self.socket.inner(), &mut late[..], RecvFlags::empty()).unwrap_or_default();
        let more = if len > 0 { Bytes::from([&unread, &late[..len]].concat()) } else { unread };
        // Line ends in front of a request are nothing (RFC 9112, section 2.2).
        let begin = more.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        self.given_back = begin.map_or_else(Bytes::new, |begin| more.slice(begin..));
        !self.given_back.is_empty()
    }

    /// Says nothing more, and reads what the client still sends, until it is silent for so long: closing a socket with unread
    /// bytes resets the connection, and with it what is on its way to the client. Whether anything came.
    pub(super) async fn part(&mut self, silent: Duration) -> bool {
        let mut came = 0;
        let (mut from, to) = self.split();
        // To a client that is gone nothing can be said, and there is nothing more to do for it either way.
        drop(to.end());
        let rest = async {
            while came < UNWANTED_AT_MOST
                && let Ok(read @ 1..) = timeout(silent, poll_fn(|cx| poll_drop(&mut from, cx))).await
            {
                came += read;
            }
        };
        drop(timeout(silent * PARTED, rest).await);
        came > 0
    }

    fn read_again(&mut self, mut buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let len = self.given_back.len().min(buffer.remaining());
        buffer.put_slice(&self.given_back.split_to(len));
        Poll::Ready(Ok(()))
    }

    /// Both ways, each by itself.
    pub(super) fn split(&mut self) -> (ReadHalf<'_>, Giver<'_>) {
        let (from, to) = self.socket.inner_mut().split();
        (from, Giver { socket: to, client: &self.client })
    }
}

/// The way to a client.
#[derive(Debug)]
pub(super) struct Giver<'a> {
    socket: WriteHalf<'a>,
    client: &'a Client,
}

impl Giver<'_> {
    /// Gives the client what it accepts of these bytes.
    pub(super) fn poll_give(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = loop {
            match self.socket.as_ref().poll_write_ready(cx) {
                Poll::Pending => break Poll::Pending,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {}
            }
            match self.socket.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => break Poll::Ready(written),
            }
        };
        self.client.wrote(&result);
        result
    }

    /// Tells the client that nothing more comes.
    pub(super) fn end(&self) -> io::Result<()> {
        Ok(shutdown(self.socket.as_ref(), Shutdown::Write)?)
    }

    /// Returns when the connection is broken, which who neither reads nor writes does not learn.
    pub(super) async fn broken(&self) -> io::Error {
        let error = match self.socket.ready(Interest::ERROR).await {
            Ok(_) => self.socket.as_ref().take_error().unwrap_or_else(Some),
            Err(error) => Some(error),
        };
        error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
    }
}

/// Reads some bytes that nobody wants. How many; none at the end.
fn poll_drop(from: &mut ReadHalf<'_>, cx: &mut Context<'_>) -> Poll<usize> {
    let mut space = [0; UNWANTED];
    let mut buffer = ReadBuf::new(&mut space);
    let read = ready!(Pin::new(from).poll_read(cx, &mut buffer));
    Poll::Ready(read.map_or(0, |()| buffer.filled().len()))
}

impl Read for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let result = if self.given_back.is_empty() {
            Pin::new(&mut self.socket).poll_read(cx, buffer)
        } else {
            self.read_again(buffer)
        };
        let client = &self.client;
        if result.is_ready() && client.busy.get() == 0 && !client.head_begun.replace(true) {
            client.step();
        }
        result
    }
}

impl Write for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.client.wrote(&result);
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        // It is flushed only when all has left that was to leave: what hyper cut off a body is not waited for.
        if flushed.is_ready() && self.client.unsent.get() > 0 {
            self.client.now_unsent(0);
        }
        flushed
    }

    /// That nothing more comes is said by [`ClientIo::part`], once it is known that nothing is left to be answered.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        if len <= JOINED_UP_TO {
            return JOINED.with_borrow_mut(|joined| {
                joined.clear();
                buffers.iter().for_each(|buffer| joined.extend_from_slice(buffer));
                self.poll_write(cx, joined)
            });
        }
        let result = Pin::new(&mut self.socket).poll_write_vectored(cx, buffers);
        self.client.wrote(&result);
        result
    }
}
