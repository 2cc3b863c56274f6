//! One client's connection: who it is, and how long it has kept us waiting.
//!
//! No timer is set per request or connection, but as one ends: each notes when it last got anywhere, and the thread
//! looks at all of them a few times a second.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::h2::{Finding, GOODBYE, Streams};
use super::tunnel::Tunnel;
use crate::gateway::config::GatewayConfig;

/// A client, as its requests and its thread see it.
#[derive(Debug)]
pub(in crate::gateway) struct Client {
    ip: IpAddr,
    ip_text: String,
    peer: String,
    trusted: bool,
    may_pin: bool,
    /// It comes by way of TLS.
    is_secure: bool,
    /// It has not yet agreed on how.
    shakes_hands: Cell<bool>,
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
    /// It speaks HTTP/1.0.
    is_old: Cell<bool>,
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
pub(in crate::gateway) enum Stay {
    /// As long as the client likes.
    On,
    /// Until what is in flight has ended.
    Leaving,
    /// No longer.
    CutOff,
}

impl Client {
    /// `is_secure`: it comes by way of TLS, on which it has to agree first.
    pub(in crate::gateway) fn new(peer: SocketAddr, is_secure: bool, config: &GatewayConfig) -> Rc<Self> {
        let ip = peer.ip().to_canonical();
        Rc::new(Self {
            ip,
            ip_text: ip.to_string(),
            peer: SocketAddr::new(ip, peer.port()).to_string(),
            trusted: config.forwarded_from.contain(ip),
            may_pin: config.pin_from.contain(ip),
            is_secure,
            shakes_hands: Cell::new(is_secure),
            busy: Cell::new(0),
            head_begun: Cell::new(false),
            blocked: Cell::new(false),
            steps: Cell::new(0),
            seen: Cell::new((0, Instant::now())),
            stay: Cell::new(Stay::On),
            told: Cell::new(false),
            is_old: Cell::new(false),
            streams: OnceCell::new(),
            unsent: Cell::new(0),
            sated: RefCell::default(),
            tunnel: RefCell::new(None),
            task: RefCell::new(None),
        })
    }

    /// Its address, without the port.
    pub(in crate::gateway) fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Its address as text, without the port.
    pub(in crate::gateway) fn ip_text(&self) -> &str {
        &self.ip_text
    }

    /// Its address as text, with the port.
    pub(in crate::gateway) fn peer(&self) -> &str {
        &self.peer
    }

    /// What it says of where a request came from is kept.
    pub(in crate::gateway) fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// It may choose the release that answers.
    pub(in crate::gateway) fn may_pin(&self) -> bool {
        self.may_pin
    }

    /// By what scheme it comes.
    pub(in crate::gateway) fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }

    /// It has agreed on how TLS is spoken.
    pub(in crate::gateway) fn shook_hands(&self) {
        self.shakes_hands.set(false);
        self.step();
    }

    /// A request has come whole with its head. It is being answered until what this gives is dropped.
    pub(in crate::gateway) fn begin(self: &Rc<Self>) -> Busy {
        self.busy.set(self.busy.get() + 1);
        self.head_begun.set(false);
        self.step();
        Busy { client: Rc::clone(self) }
    }

    /// Hands the connection over, from the end of the response that comes next.
    pub(in crate::gateway) fn hand_over(&self, tunnel: Tunnel) {
        *self.tunnel.borrow_mut() = Some(tunnel);
    }

    /// Whether the connection is handed over: what is said on it from here on is not HTTP.
    pub(in crate::gateway) fn is_handed_over(&self) -> bool {
        self.tunnel.borrow().is_some()
    }

    /// Whom the connection was handed to.
    pub(in crate::gateway) fn take_tunnel(&self) -> Option<Tunnel> {
        self.tunnel.borrow_mut().take()
    }

    /// Waits until so little of what it was given is unsent that it may be given more.
    pub(in crate::gateway) fn poll_hungry(&self, ahead: usize, cx: &Context<'_>) -> Poll<()> {
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
    pub(in crate::gateway) fn give(&self, len: usize) {
        self.unsent.set(self.unsent.get() + len);
    }

    /// Bytes have left, of whatever.
    fn left(&self, len: usize) {
        self.now_unsent(self.unsent.get().saturating_sub(len));
    }

    /// This came of writing to it.
    pub(in crate::gateway) fn wrote(&self, result: &Poll<io::Result<usize>>) {
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

    /// Something was read of it: of a head, unless a request is being answered.
    pub(in crate::gateway) fn read(&self) {
        if self.busy.get() == 0 {
            self.begin_head();
        }
    }

    /// All has left that was to leave.
    pub(in crate::gateway) fn flushed(&self) {
        if self.unsent.get() > 0 {
            self.now_unsent(0);
        }
    }

    /// The first bytes of a head are here, and more are needed to tell of what.
    pub(in crate::gateway) fn begin_head(&self) {
        if !self.head_begun.replace(true) {
            self.step();
        }
    }

    /// It speaks HTTP/2.
    pub(in crate::gateway) fn begin_streams(&self) -> &Rc<Streams> {
        self.streams.get_or_init(Streams::new)
    }

    /// Whether it may be asked to leave now. Of a connection that is handed over only its sides know when it is over, and a
    /// head that has begun would be lost.
    pub(in crate::gateway) fn can_leave(&self) -> bool {
        !self.is_handed_over() && (self.streams.get().is_some() || !self.head_begun.get())
    }

    /// An answer tells it that the connection ends with it: whatever it says behind that is no request.
    pub(in crate::gateway) fn tell(&self) {
        self.told.set(true);
    }

    /// Whether an answer has told it that the connection ends with it.
    pub(in crate::gateway) fn is_told(&self) -> bool {
        self.told.get()
    }

    /// It speaks HTTP/1.0.
    pub(in crate::gateway) fn speaks_1_0(&self) {
        self.is_old.set(true);
    }

    /// Whether it may take the end of the connection for the end of a response: in HTTP/1.0 nothing else may say that, and TLS
    /// vouches for it.
    pub(in crate::gateway) fn trusts_the_end(&self) -> bool {
        self.is_secure || self.is_old.get()
    }

    /// It was asked to leave, and has all its time from here on.
    pub(in crate::gateway) fn leave(&self) {
        self.stay.set(Stay::Leaving);
        self.step();
    }

    /// It has just asked for something after all, and stays.
    pub(in crate::gateway) fn stay_on(&self) {
        self.stay.set(Stay::On);
    }

    /// Remembers which task to wake, and says whether the connection is to end.
    pub(in crate::gateway) fn begin_turn(&self, cx: &Context<'_>) -> Stay {
        let mut task = self.task.borrow_mut();
        if task.as_ref().is_none_or(|task| !task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
        self.stay.get()
    }

    pub(in crate::gateway) fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    /// Whether a request of it is being answered, or an answer is on its way to it.
    pub(in crate::gateway) fn is_busy(&self) -> bool {
        self.busy.get() > 0
            || self.blocked.get()
            || self.streams.get().is_some_and(|streams| streams.are_running())
    }

    /// It got on with something.
    pub(in crate::gateway) fn step(&self) {
        self.steps.set(self.steps.get().wrapping_add(1));
    }

    /// Another number whenever it has got on with something.
    pub(in crate::gateway) fn steps(&self) -> u32 {
        self.steps.get()
    }

    /// Whether it has asked for something since it had got that far. Over HTTP/2 it says much else.
    pub(in crate::gateway) fn has_asked_since(&self, steps: u32) -> bool {
        self.streams.get().is_none() && self.steps.get() != steps
    }

    /// Ends the connection if the client has taken too long over anything, or if there is a drain.
    pub(in crate::gateway) fn sweep(&self, now: Instant, config: &GatewayConfig, draining: bool) {
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
        let (bound, then) = if self.shakes_hands.get() {
            // It has asked for nothing yet, so a drain need not wait for it.
            let drained = if draining { config.drain_linger } else { Duration::MAX };
            (config.header_timeout.min(drained), Stay::CutOff)
        } else if self.blocked.get() {
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
pub(in crate::gateway) struct Busy {
    client: Rc<Client>,
}

impl Busy {
    /// Whose it is.
    pub(in crate::gateway) fn client(&self) -> &Client {
        &self.client
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.client.busy.set(self.client.busy.get() - 1);
        self.client.step();
    }
}
