//! One exchange: what has come of its request ([`request`]), what has gone of its response ([`response`]), and the rules
//! between the two.
//!
//! Every call of the module ends in a method here, from any thread; the lock of the state is held while frames are
//! appended to the link, so an exchange's frames leave in the order of its calls. Nothing here waits for the socket.

mod deadline;
mod notice;
mod request;
mod response;
#[cfg(test)]
mod tests;

use crate::head;
use crate::link::Link;
use deadline::Deadline;
use hot_module::abi;
use hot_wire::data::{AbortCode, Request};
use notice::{Due, Notices, Readiness};
use request::Incoming;
use response::{Outgoing, Phase};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use notice::{Notice, firing};
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
    NotFound,
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
            Self::NotFound => abi::NOT_FOUND,
        }
    }
}

/// An exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    handle: u64,
    number: u64,
    link: Arc<Link>,
    /// Without its body.
    request: Request,
    view: OnceLock<Box<[abi::Header]>>,
    arrived: Instant,
    state: Mutex<State>,
    /// Told when body, credit, trailers, room in the link or a cancellation has come.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    incoming: Incoming,
    outgoing: Outgoing,
    deadline: Deadline,
    is_cancelled: bool,
    /// How often something came from the gateway, or the exchange ended: what a waiting call waits for.
    news: u64,
    /// Threads that wait for news. Only then are they told: a signal is a system call even if nobody hears it.
    waiting: u32,
    notices: Notices,
}

/// The state under its lock. Fields are dropped in this order: what came due is fired when the lock is free, since a
/// `wake` is the module's code.
struct Locked<'a> {
    state: MutexGuard<'a, State>,
    due: Due,
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
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
        let mut incoming = Incoming::default();
        // A first piece is no larger than its frame, and that no larger than the credit of a new exchange.
        let is_cancelled = incoming.receive(&request.body, request.end).is_err();
        let state = State {
            incoming,
            outgoing: Outgoing::within(request.window),
            deadline: Deadline::new(deadline),
            is_cancelled,
            news: 0,
            waiting: 0,
            notices: Notices::default(),
        };
        Self {
            handle,
            number,
            link: Arc::clone(link),
            // A decoded frame is a share of all that was read with it, and a module may keep an exchange for hours.
            request: request.detached(),
            view: OnceLock::new(),
            arrived,
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

    /// The request, without its body.
    pub(crate) const fn request(&self) -> &Request {
        &self.request
    }

    pub(crate) const fn arrived(&self) -> Instant {
        self.arrived
    }

    /// The request's headers as the ABI lends them.
    pub(crate) fn headers(&self) -> &[abi::Header] {
        self.view.get_or_init(|| head::view(&self.request.fields))
    }

    /// Nobody will see an answer: the gateway gave it up, the link is gone, the deadline has passed or the host stops.
    pub(crate) fn cancel(&self) {
        let mut state = self.state();
        state.is_cancelled = true;
        state.outgoing.give_up();
        self.tell(&mut state);
    }

    /// The gateway broke the rules of this exchange.
    fn break_off(&self, mut state: Locked<'_>) {
        if state.outgoing.phase == Phase::Ended {
            return;
        }
        state.is_cancelled = true;
        self.tell(&mut state);
        self.append_abort(AbortCode::Protocol, "the gateway broke the exchange's credit or order");
        drop(state);
        self.link.forget(self.number);
    }

    /// Something changed: whoever waits for that goes on.
    fn tell(&self, locked: &mut Locked<'_>) {
        locked.news += 1;
        if locked.waiting > 0 {
            self.changed.notify_all();
        }
        if !locked.notices.is_empty() {
            let ready = self.readiness(locked);
            locked.state.notices.due(ready, &mut locked.due);
        }
    }

    /// What the exchange is ready for. If all that it lacks is room in the link, the link will tell.
    fn readiness(&self, state: &State) -> Readiness {
        let over = check(state).is_err();
        let has_room = || !state.notices.wants_room() || !self.link.await_room(self.number);
        let writable = over || state.outgoing.can_write(has_room);
        Readiness { readable: state.incoming.can_read(), writable, ending: state.deadline.is_ending, over }
    }

    /// The link has room again.
    pub(crate) fn room_came(&self) {
        let mut state = self.state();
        self.tell(&mut state);
    }

    /// Registers a notice, which fires at once if one of its events is so already. By `alarm` the caller sees to it that
    /// [`Exchange::expire`] is called at the deadline; that is asked for once.
    pub(crate) fn notify(
        &self,
        events: u32,
        notice: Notice,
        alarm: impl FnOnce(Instant),
    ) -> Result<(), Refusal> {
        if !notice::are_known(events) {
            return Err(Refusal::Invalid);
        }
        self.check()?;
        self.expire()?;
        let mut locked = self.state();
        check(&locked)?;
        if let Some(replaced) = locked.notices.put(events, notice) {
            locked.due.push(replaced);
        }
        let ready = self.readiness(&locked);
        let Locked { state, due } = &mut locked;
        state.notices.due(ready, due);
        if !state.notices.is_empty()
            && let Some(deadline) = state.deadline.set_alarm()
        {
            alarm(deadline);
        }
        Ok(())
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
        let mut state = self.lock();
        while state.news == seen {
            let left =
                state.deadline.at.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            if left == Duration::ZERO {
                drop(state);
                return self.expire();
            }
            state.waiting += 1;
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        Ok(())
    }

    fn state(&self) -> Locked<'_> {
        Locked { state: self.lock(), due: Due::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
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
