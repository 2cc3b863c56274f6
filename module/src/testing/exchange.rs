//! One exchange of the host within the test: the rules of `docs/abi.md`, without a network.

use super::clock::Clock;
use crate::abi::{self, Slice, Status, Wake};
use core::ffi::c_void;
use std::boxed::Box;
use std::collections::VecDeque;
use std::string::String;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::vec::Vec;

/// What each direction holds before it makes the other side wait, as in hot-host.
pub(super) const WINDOW: usize = 256 * 1024;

/// A header with its bytes.
pub(super) type Field = (String, Vec<u8>);

/// A call's outcome: its value, or the status that refuses it.
pub(super) type Outcome<T = ()> = Result<T, Status>;

/// The request's head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) peer: String,
    /// Names in lower case.
    pub(super) headers: Vec<Field>,
}

#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) head: Head,
    /// The headers as the ABI lends them: addresses into `head`, which never changes.
    pub(super) view: Box<[abi::Header]>,
    /// How long it has until its deadline, and how long its client waits for one thing while there is none.
    pub(super) time: Duration,
    /// Whether the request asks to upgrade its connection.
    pub(super) is_upgrade: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    /// Why nobody waits for the answer any more.
    pub(super) cancelled: Option<&'static str>,
    pub(super) clock: Clock,
    is_long: bool,
    /// Until when the exchange is to have ended, if it is a long stream.
    asked: Option<Instant>,
    connection: Connection,
    /// One for each value of `events`.
    notices: [Option<Notice>; NOTICES],
}

/// How many values `events` has.
const NOTICES: usize = abi::EVENTS as usize + 1;

/// Whose the connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    /// The gateway's.
    Http,
    /// The gateway's, until a 101. What the client sends is for later: the request has no body.
    Asked,
    /// The module's.
    Upgraded,
}

/// Why an exchange is cancelled whose time is over.
pub(super) const DEADLINE: &str = "the deadline passed";

#[derive(Debug, Default)]
pub(super) struct Incoming {
    pieces: VecDeque<Vec<u8>>,
    /// Whether the client has sent something, since the clock was told.
    has_come: bool,
    is_whole: bool,
    /// Whether the module was told of the end.
    is_read: bool,
    /// What `body_read` lent last.
    lent: Vec<u8>,
    /// What `body_all` lent, for as long as the exchange lives.
    kept: Vec<Vec<u8>>,
    trailers: Vec<Field>,
    trailers_view: Box<[abi::Header]>,
}

#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) head: Option<(u16, Vec<Field>)>,
    pieces: VecDeque<Vec<u8>>,
    /// Whether the client has taken something, since the clock was told.
    was_taken: bool,
    pub(super) trailers: Option<Vec<Field>>,
    pub(super) end: Option<End>,
}

/// How the module ended it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    Aborted(String),
}

/// A `wake` that is owed.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) wake: Wake,
    pub(super) context: *mut c_void,
}

// SAFETY: the contract of `notify` lets the host call `wake` with its context on any thread.
unsafe impl Send for Notice {}

impl Exchange {
    pub(super) fn new(head: Head, time: Duration) -> Self {
        let view = view(&head.headers);
        let is_upgrade = head.headers.iter().any(|(name, _)| name == "upgrade");
        let state = State {
            incoming: Incoming::default(),
            outgoing: Outgoing::default(),
            cancelled: None,
            clock: Clock::new(time, Instant::now()),
            is_long: false,
            asked: None,
            connection: if is_upgrade { Connection::Asked } else { Connection::Http },
            notices: [const { None }; NOTICES],
        };
        Self { head, view, time, is_upgrade, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads or changes the state; whoever waits for what changed is told.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let done = act(&mut state);
        state.tick();
        let due = state.due();
        drop(state);
        self.changed.notify_all();
        due.into_iter().for_each(super::services::wake);
        done
    }

    /// Waits until `ready` gives something, at most until that `until`, if there is one. Both may change meanwhile.
    pub(super) fn wait<T>(
        &self,
        until: impl Fn(&State) -> Option<Instant>,
        mut ready: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        loop {
            if let Some(done) = self.with(&mut ready) {
                return Some(done);
            }
            let mut state = self.lock();
            // What came between the two locks must not be slept over.
            if let Some(done) = ready(&mut state) {
                drop(state);
                self.with(|_| ());
                return Some(done);
            }
            let Some(until) = until(&state) else {
                drop(self.changed.wait(state).unwrap_or_else(PoisonError::into_inner));
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return None;
            }
            drop(self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Does `call`, and waits while it would block unless the flags say otherwise.
    pub(super) fn attempt<T>(
        &self,
        flags: u32,
        mut call: impl FnMut(&mut State) -> Outcome<T>,
    ) -> Outcome<T> {
        let mut call = |state: &mut State| {
            if state.is_late() {
                state.cancelled.get_or_insert(DEADLINE);
            }
            call(state)
        };
        if flags & abi::NONBLOCK != 0 {
            return self.with(call);
        }
        let until = |state: &State| state.clock.until();
        let done = self.wait(until, |state| match call(state) {
            Err(abi::WOULD_BLOCK) => None,
            done => Some(done),
        });
        done.unwrap_or(Err(abi::CANCELLED))
    }

    pub(super) fn cancel(&self, why: &'static str) {
        self.with(|state| {
            state.cancelled.get_or_insert(why);
        });
    }
}

impl State {
    /// A call may go on: the exchange has neither ended nor been cancelled.
    pub(super) fn check(&self) -> Outcome {
        if self.outgoing.end.is_some() {
            Err(abi::ENDED)
        } else if self.cancelled.is_some() {
            Err(abi::CANCELLED)
        } else {
            Ok(())
        }
    }

    fn is_over(&self) -> bool {
        self.check().is_err()
    }

    pub(super) fn is_late(&self) -> bool {
        self.clock.is_over(Instant::now())
    }

    /// Tells the clock whether the exchange waits for its client: for a body that has not come, or until what was written
    /// is taken. A long stream has no time that could stand still.
    fn tick(&mut self) {
        let waits = (self.incoming.pieces.is_empty() && !self.incoming.is_whole && !self.is_early())
            || !self.outgoing.pieces.is_empty();
        let has_sent = core::mem::take(&mut self.incoming.has_come);
        let has_taken = core::mem::take(&mut self.outgoing.was_taken);
        self.clock.tick(Instant::now(), waits && !self.is_long, has_sent || has_taken);
    }

    /// The client's bytes are not the request's body, and wait for a 101.
    fn is_early(&self) -> bool {
        self.connection == Connection::Asked
    }

    fn is_so(&self, events: u32) -> bool {
        let readable = !self.incoming.pieces.is_empty() || self.incoming.is_whole || self.is_early();
        let writable = self.outgoing.head.is_none() || self.outgoing.unread() < WINDOW;
        let ending = self.is_long && self.asked.is_some();
        self.is_over()
            || (events & abi::READABLE != 0 && readable)
            || (events & abi::WRITABLE != 0 && writable)
            || (events & abi::ENDING != 0 && ending)
    }

    /// Takes the notices out whose event is so.
    fn due(&mut self) -> Vec<Notice> {
        let due = |events: &u32| self.is_so(*events);
        let due: Vec<u32> = (0..=abi::EVENTS).filter(due).collect();
        due.into_iter().filter_map(|events| self.slot(events).take()).collect()
    }

    fn slot(&mut self, events: u32) -> &mut Option<Notice> {
        &mut self.notices[(events & abi::EVENTS) as usize]
    }

    /// Asks for an end by then: a long stream, or what becomes one. Others have a deadline.
    pub(super) fn ask_to_end(&mut self, until: Instant) {
        self.asked = Some(until);
        if self.is_long {
            self.clock.set(self.asked);
        }
    }

    /// Takes a notice on; the one whose place it takes comes back.
    pub(super) fn notify(&mut self, events: u32, notice: Notice) -> Outcome<Option<Notice>> {
        self.check()?;
        if self.is_late() {
            return Err(abi::CANCELLED);
        }
        Ok(self.slot(events).replace(notice))
    }

    /// The next piece, lent until the next read.
    pub(super) fn read(&mut self) -> Outcome<Slice> {
        self.check()?;
        if self.is_early() {
            self.incoming.is_read = true;
            return Ok(Slice::EMPTY);
        }
        let incoming = &mut self.incoming;
        match incoming.pieces.pop_front() {
            Some(piece) => incoming.lent = piece,
            None if incoming.is_whole => {
                incoming.is_read = true;
                return Ok(Slice::EMPTY);
            }
            None => return Err(abi::WOULD_BLOCK),
        }
        Ok(Slice::of(&incoming.lent))
    }

    /// All that is left, lent until the end.
    pub(super) fn read_all(&mut self, limit: usize) -> Outcome<Slice> {
        self.check()?;
        if self.is_early() {
            return self.read();
        }
        let incoming = &mut self.incoming;
        if incoming.unread() > limit {
            return Err(abi::TOO_LARGE);
        }
        if !incoming.is_whole {
            return Err(abi::WOULD_BLOCK);
        }
        incoming.is_read = true;
        let whole: Vec<u8> = incoming.pieces.drain(..).flatten().collect();
        let lent = Slice::of(&whole);
        incoming.kept.push(whole);
        Ok(lent)
    }

    /// The request's trailers, once its body has been read to the end.
    pub(super) fn request_trailers(&self) -> Outcome<(*const abi::Header, usize)> {
        self.check()?;
        let incoming = &self.incoming;
        if !incoming.is_read || self.connection == Connection::Upgraded {
            return Err(abi::STATE);
        }
        Ok((incoming.trailers_view.as_ptr(), incoming.trailers_view.len()))
    }

    pub(super) fn respond(&mut self, status: u16, headers: Vec<Field>) -> Outcome {
        self.check()?;
        if self.outgoing.head.is_some() {
            return Err(abi::STATE);
        }
        self.connection = match status {
            abi::SWITCHING_PROTOCOLS => Connection::Upgraded,
            _ => self.connection,
        };
        let kind = headers.iter().find(|(name, _)| name == "content-type");
        if abi::is_long_stream(status, kind.map(|(_, value)| value.as_slice())) {
            self.is_long = true;
            self.clock.set(self.asked);
        }
        self.outgoing.head = Some((status, headers));
        Ok(())
    }

    /// Takes what there is room for, but something.
    pub(super) fn write(&mut self, body: &[u8]) -> Outcome<usize> {
        self.check()?;
        if self.outgoing.head.is_none() {
            return Err(abi::STATE);
        }
        let taken = body.len().min(WINDOW.saturating_sub(self.outgoing.unread()));
        if taken == 0 && !body.is_empty() {
            return Err(abi::WOULD_BLOCK);
        }
        if taken > 0 {
            self.outgoing.pieces.push_back(body[..taken].into());
        }
        Ok(taken)
    }

    pub(super) fn trailers(&mut self, trailers: Vec<Field>) -> Outcome {
        self.check()?;
        let is_upgraded = self.connection == Connection::Upgraded;
        if self.outgoing.head.is_none() || self.outgoing.trailers.is_some() || is_upgraded {
            return Err(abi::STATE);
        }
        self.outgoing.trailers = Some(trailers);
        Ok(())
    }

    /// The end of a complete answer; of one that nobody waits for too.
    pub(super) fn finish(&mut self) -> Outcome {
        let checked = self.check();
        if checked == Ok(()) && self.outgoing.head.is_none() {
            return Err(abi::STATE);
        }
        if checked != Err(abi::ENDED) {
            self.outgoing.end = Some(End::Finished);
        }
        checked
    }

    pub(super) fn abort(&mut self, why: String) -> Outcome {
        if self.outgoing.end.is_some() {
            return Err(abi::ENDED);
        }
        self.outgoing.end = Some(End::Aborted(why));
        Ok(())
    }
}

impl Incoming {
    pub(super) fn unread(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum()
    }

    /// A piece from the client.
    pub(super) fn push(&mut self, piece: Vec<u8>) {
        if !piece.is_empty() {
            self.has_come = true;
            self.pieces.push_back(piece);
        }
    }

    /// The end of the body. A second is ignored.
    pub(super) fn end(&mut self, trailers: Vec<Field>) {
        if !self.is_whole {
            self.is_whole = true;
            self.trailers = trailers;
            self.trailers_view = view(&self.trailers);
        }
    }
}

impl Outgoing {
    fn unread(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum()
    }

    /// The next piece for the client.
    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        self.was_taken |= !self.pieces.is_empty();
        self.pieces.pop_front()
    }
}

fn view(fields: &[Field]) -> Box<[abi::Header]> {
    let header =
        |(name, value): &Field| abi::Header { name: Slice::of(name.as_bytes()), value: Slice::of(value) };
    fields.iter().map(header).collect()
}
