//! One exchange: what has come of its request ([`request`]), what has gone of its response ([`response`]), and the rules
//! between the two.
//!
//! Every call of the module ends in a method here, from any thread; the lock of the state is held while frames are
//! appended to the link, so an exchange's frames leave in the order of its calls. Nothing here waits for the socket.

mod request;
mod response;
#[cfg(test)]
mod tests;

use crate::head::Head;
use crate::link::Link;
use hot_module::abi;
use hot_wire::data::{AbortCode, Request};
use request::Incoming;
use response::{Outgoing, Phase};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use response::Field;

/// Why a call is refused; each is a status of the ABI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Ended,
    State,
    Invalid,
    Cancelled,
    WouldBlock,
    TooLarge,
}

impl Refusal {
    pub(crate) const fn status(self) -> abi::Status {
        match self {
            Self::Ended => abi::ENDED,
            Self::State => abi::STATE,
            Self::Invalid => abi::INVALID,
            Self::Cancelled => abi::CANCELLED,
            Self::WouldBlock => abi::WOULD_BLOCK,
            Self::TooLarge => abi::TOO_LARGE,
        }
    }
}

/// An exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    handle: u64,
    number: u64,
    link: Arc<Link>,
    head: Head,
    view: OnceLock<Box<[abi::Header]>>,
    arrived: Instant,
    deadline: Option<Instant>,
    state: Mutex<State>,
    /// Told when body, credit, trailers or a cancellation has come.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    incoming: Incoming,
    outgoing: Outgoing,
    is_cancelled: bool,
    /// How often something came from the gateway, or the exchange ended: what a waiting call waits for.
    news: u64,
    /// Threads that wait for news. Only then are they told: a notice is a system call even if nobody hears it.
    waiting: u32,
}

impl Exchange {
    /// The exchange of a request that came over `link`.
    pub(crate) fn new(
        handle: u64,
        number: u64,
        link: &Arc<Link>,
        request: Request,
        arrived: Instant,
    ) -> Self {
        let deadline = (request.deadline_ms > 0)
            .then(|| arrived + Duration::from_millis(u64::from(request.deadline_ms)));
        let head = Head::of(&request);
        let mut incoming = Incoming::default();
        // A first piece is no larger than its frame, and that no larger than the credit of a new exchange.
        let is_cancelled = incoming.receive(&request.body, request.end).is_err();
        let state = State { incoming, outgoing: Outgoing::default(), is_cancelled, news: 0, waiting: 0 };
        Self {
            handle,
            number,
            link: Arc::clone(link),
            head,
            view: OnceLock::new(),
            arrived,
            deadline,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    pub(crate) const fn handle(&self) -> u64 {
        self.handle
    }

    /// The gateway's number of it.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    pub(crate) const fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(crate) const fn head(&self) -> &Head {
        &self.head
    }

    pub(crate) const fn arrived(&self) -> Instant {
        self.arrived
    }

    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The request's headers as the ABI lends them.
    pub(crate) fn headers(&self) -> &[abi::Header] {
        self.view.get_or_init(|| self.head.view())
    }

    /// The gateway gave it up, or the link is gone: nobody will see an answer.
    pub(crate) fn cancel(&self) {
        let mut state = self.state();
        state.is_cancelled = true;
        self.tell(&mut state);
    }

    /// The gateway broke the rules of this exchange.
    fn break_off(&self, mut state: MutexGuard<'_, State>) {
        if state.outgoing.phase == Phase::Ended {
            return;
        }
        state.is_cancelled = true;
        self.tell(&mut state);
        self.append_abort(AbortCode::Protocol, "the gateway broke the exchange's credit or order");
        drop(state);
        self.link.forget(self.number);
    }

    fn tell(&self, state: &mut State) {
        state.news += 1;
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }

    /// Whether a call may go on: the exchange has neither ended nor been cancelled.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        check(&self.state())
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.state().is_cancelled
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.state().outgoing.phase == Phase::Ended
    }

    /// Waits until `ready` gives something else than `WouldBlock`, at most until the deadline.
    pub(crate) fn wait_for<T>(&self, mut ready: impl FnMut() -> Result<T, Refusal>) -> Result<T, Refusal> {
        loop {
            let seen = self.state().news;
            match ready() {
                Err(Refusal::WouldBlock) => self.wait_beyond(seen)?,
                done => return done,
            }
        }
    }

    /// Waits for news since `seen`.
    fn wait_beyond(&self, seen: u64) -> Result<(), Refusal> {
        let mut state = self.state();
        while state.news == seen {
            let left = self.deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            if left == Duration::ZERO {
                return Err(Refusal::Cancelled);
            }
            state.waiting += 1;
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(state: &State) -> Result<(), Refusal> {
    if state.outgoing.phase == Phase::Ended {
        Err(Refusal::Ended)
    } else if state.is_cancelled {
        Err(Refusal::Cancelled)
    } else {
        Ok(())
    }
}
