//! What a link knows of an exchange: what came from the host and was not taken yet, and how it ends.
//!
//! Pure: what time it is, and what the host says, is told by whoever has it. Who takes and sends is `exchange`.

use std::task::Waker;
use std::time::{Duration, Instant};

use hot_wire::data::{AbortCode, CancelReason, FromHost, ReceiveCredit, Response, SendCredit};
use http::HeaderMap;

use super::pieces::Pieces;
use super::spares::Spares;
use super::term::Term;
use crate::gateway::counters::{Account, Age, Outcome};
use crate::gateway::request::Progress;
use crate::gateway::request::forward::{self, Head};
use crate::gateway::routing::Permit;

/// Why an exchange did not end with a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Failure {
    /// The link broke, after this much.
    Lost(Progress),
    /// The host did not take it. What that means, for the numbers too, depends on whether it was told to stop.
    Refused,
    /// The module gave it up.
    Aborted,
    /// The module answered with what is no HTTP.
    Malformed,
    /// The deadline passed.
    TimedOut,
    /// The client broke off or sent too much, or was too slow to send or to read.
    ByClient,
}

/// The host did what no host does; the link is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) struct Violation(pub(in crate::gateway) &'static str);

/// What a link knows of an exchange.
#[derive(Debug)]
pub(in crate::gateway) struct Entry {
    pub(in crate::gateway) generation: u32,
    /// Place of the request's first byte in all that was ever queued on the link.
    pub(in crate::gateway) queued_at: u64,
    pub(in crate::gateway) started: Instant,
    pub(in crate::gateway) term: Term,
    counted: bool,
    accounted: bool,
    /// The request asks to change its connection to another protocol, and may.
    upgrade: bool,
    /// As a stream it may last: the host lets it.
    may_last: bool,
    /// It counts among those that share what may be under way.
    pub(in crate::gateway) is_load: bool,
    /// As what it is counted among those that wait for the instance.
    age: Option<Age>,
    answered: bool,
    head: Option<Head>,
    status: u16,
    /// The response is to a HEAD.
    bodiless: bool,
    /// The response's Content-Length, and the bytes of its body that came.
    announced: Option<u64>,
    received: u64,
    /// Bytes of both bodies that went from one side to the other.
    pub(in crate::gateway) moved: u64,
    pub(in crate::gateway) pieces: Pieces,
    pub(in crate::gateway) trailers: Option<HeaderMap>,
    /// Nothing more comes from the host.
    pub(in crate::gateway) ended: bool,
    /// The request's place among those of the module, once its response has begun.
    place: Option<Permit>,
    pub(in crate::gateway) failure: Option<Failure>,
    pub(in crate::gateway) receive: ReceiveCredit,
    pub(in crate::gateway) send: SendCredit,
    pub(in crate::gateway) request_ended: bool,
    /// Since when the client owes a piece of the request's body.
    pub(in crate::gateway) client_owes: Option<Instant>,
    pub(in crate::gateway) reader: Option<Waker>,
    pub(in crate::gateway) sender: Option<Waker>,
    /// The sender is woken when the link's queue has shrunk.
    pub(in crate::gateway) waits_for_room: bool,
}

/// What a new exchange starts with.
#[derive(Debug, Clone, Copy)]
pub(in crate::gateway) struct Start {
    pub(in crate::gateway) started: Instant,
    pub(in crate::gateway) deadline: Instant,
    /// It was picked by weight and is in the numbers, not pinned.
    pub(in crate::gateway) counted: bool,
    /// The request has no body.
    pub(in crate::gateway) request_ended: bool,
    /// It is a HEAD, so the response has none.
    pub(in crate::gateway) bodiless: bool,
    /// It asks to change its connection to another protocol, and may.
    pub(in crate::gateway) upgrade: bool,
    /// If it becomes a stream, it may last: the host knows that those have no deadline.
    pub(in crate::gateway) may_last: bool,
    /// What the host may send of the response at first.
    pub(in crate::gateway) window: u32,
}

impl Entry {
    pub(in crate::gateway) fn new(start: Start, generation: u32, queued_at: u64) -> Self {
        Self {
            generation,
            queued_at,
            started: start.started,
            term: Term::new(start.deadline),
            counted: start.counted,
            accounted: false,
            upgrade: start.upgrade,
            may_last: start.may_last,
            is_load: true,
            age: None,
            answered: false,
            head: None,
            status: 0,
            bodiless: start.bodiless,
            announced: None,
            received: 0,
            moved: 0,
            pieces: Pieces::default(),
            trailers: None,
            ended: false,
            place: None,
            failure: None,
            receive: ReceiveCredit::within(start.window),
            send: SendCredit::default(),
            request_ended: start.request_ended,
            client_owes: None,
            reader: None,
            sender: None,
            waits_for_room: false,
        }
    }

    /// Takes what the host said. Answers how the exchange ended for the numbers, if it did and that is known.
    pub(in crate::gateway) fn receive(
        &mut self,
        message: FromHost,
        now: Instant,
        spares: &mut Spares,
    ) -> Result<Option<Outcome>, Violation> {
        let mut valid = true;
        match message {
            FromHost::Response(response) => valid = self.response(response, spares.take())?,
            FromHost::Body { data, end } => {
                if !self.answered {
                    return Err(Violation("a body without a response"));
                }
                self.count(data.len())?;
                self.pieces.push(data);
                self.ended = end;
            }
            FromHost::Trailers(fields) => {
                if !self.answered {
                    return Err(Violation("trailers without a response"));
                }
                self.ended = true;
                // Copied: they may have to wait for as long as a slow client likes.
                self.trailers = forward::trailers(&fields).ok();
                valid = self.trailers.is_some();
            }
            FromHost::Window(credit) => {
                self.send.grant(credit).map_err(|_beyond| Violation("more credit than a counter holds"))?;
                self.wake_sender();
                return Ok(None);
            }
            FromHost::Abort { code, text: _ } => {
                let refused = code == AbortCode::Refused && !self.answered;
                self.ended = true;
                self.fail(if refused { Failure::Refused } else { Failure::Aborted });
                return Ok((!refused).then_some(Outcome::Aborted));
            }
        }
        if !valid || self.wrong_length().is_some() {
            self.fail(Failure::Malformed);
            return Ok(Some(Outcome::Aborted));
        }
        if let Some(reader) = &self.reader {
            reader.wake_by_ref();
        }
        if self.ended {
            self.place = None;
            self.wake_sender();
        } else if !self.term.is_stream() {
            return Ok(None);
        }
        // Of a stream its beginning counts: how long it lasts is nobody's merit or fault.
        let took = now.saturating_duration_since(self.started);
        Ok(Some(Outcome::Finished { status: self.status, took }))
    }

    /// Answers whether it is a valid response.
    fn response(&mut self, response: Response, spare: HeaderMap) -> Result<bool, Violation> {
        if self.answered {
            return Err(Violation("a second response"));
        }
        self.answered = true;
        self.ended = response.end;
        self.count(response.body.len())?;
        let Ok(mut head) = forward::head(response, self.upgrade, spare) else { return Ok(false) };
        self.status = head.status.as_u16();
        self.announced = head.announced;
        if !self.ended {
            self.pieces.push(std::mem::take(&mut head.body));
            if !self.bodiless && self.may_last && head.is_stream() {
                self.term.begin_stream();
            }
        }
        if head.is_upgrade() {
            self.request_ended = false;
        }
        self.head = Some(head);
        Ok(true)
    }

    fn count(&mut self, len: usize) -> Result<(), Violation> {
        self.received += len as u64;
        self.receive.received(len).map_err(|_beyond| Violation("more body than its credit"))
    }

    /// The Content-Length and the length that the response has, if it is longer or ended before it. One without a body may
    /// announce the length that it would have had.
    pub(in crate::gateway) fn wrong_length(&self) -> Option<(u64, u64)> {
        let without_body = self.bodiless || matches!(self.status, 204 | 304);
        let (announced, received) = (self.announced?, self.received);
        let is_wrong = received > announced || (self.ended && received < announced);
        (!without_body && is_wrong).then_some((announced, received))
    }

    /// The response's head, if it has come, is valid and was not taken before.
    pub(in crate::gateway) fn take_head(&mut self) -> Option<Head> {
        self.head.take().filter(|_| self.failure.is_none())
    }

    /// Ends it with a failure, unless it has one or is whole.
    pub(in crate::gateway) fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        self.place = None;
        if let Some(reader) = &self.reader {
            reader.wake_by_ref();
        }
        self.wake_sender();
    }

    /// Its owner has gone. Who still sends the request's body learns of it.
    pub(in crate::gateway) fn abandon(&mut self) {
        // The owner is the reader: it would be woken by its own end.
        self.reader = None;
        self.fail(Failure::Aborted);
    }

    /// Keeps the request's place until the host has ended its part: a client that reads slowly takes none from others.
    pub(in crate::gateway) fn keep(&mut self, place: Permit) {
        self.place = Some(place).filter(|_| self.is_open());
    }

    /// Under way: neither whole nor failed.
    pub(in crate::gateway) fn is_open(&self) -> bool {
        !self.ended && self.failure.is_none()
    }

    /// Fails it if its time is over: `passed` of it since the last look. Answers for the numbers.
    pub(in crate::gateway) fn expire(
        &mut self,
        now: Instant,
        passed: Duration,
        stall: Duration,
    ) -> Option<Outcome> {
        let owed = self.client_owes.map(|since| now.saturating_duration_since(since));
        let by_client = self.waits_for_client();
        if by_client {
            self.term.client_waited(passed, self.moved);
        }
        if owed.is_some_and(|owed| owed >= stall) || (self.term.is_over(now) && by_client) {
            self.fail(Failure::ByClient);
            return Some(Outcome::Cancelled);
        }
        if self.term.is_over(now) {
            self.fail(Failure::TimedOut);
            return Some(Outcome::TimedOut);
        }
        None
    }

    /// It waits for its client to send, or to read what is in `pieces`.
    fn waits_for_client(&self) -> bool {
        self.client_owes.is_some() || !self.pieces.is_empty()
    }

    /// It was picked by weight, and nothing new goes there: a stream has to end by then.
    pub(in crate::gateway) fn ask_to_end(&mut self, by: Instant) {
        // A client that chose this release by hand keeps it.
        if self.counted {
            self.term.ask_to_end(by);
        }
    }

    /// A stream that was counted as answered has failed since, by the module or its host. Once it is asked to end, any end
    /// is as good as another.
    pub(in crate::gateway) fn is_failed_stream(&self) -> bool {
        let theirs = matches!(self.failure, Some(Failure::Aborted | Failure::Malformed | Failure::Lost(_)));
        // Else it was counted as an error from its beginning.
        let was_good = self.counted && self.status < 500;
        was_good && theirs && self.term.is_stream() && !self.term.is_asked_to_end()
    }

    /// As what it was and is now to be counted among those that wait for the instance, where that has changed.
    pub(in crate::gateway) fn grow_older(&mut self, now: Instant) -> Option<(Option<Age>, Option<Age>)> {
        let waits = self.counted && !self.accounted && !self.waits_for_client();
        let age = if waits { Age::of(now.saturating_duration_since(self.started)) } else { None };
        let before = std::mem::replace(&mut self.age, age);
        (before != age).then_some((before, age))
    }

    /// How far it got on a link of which `written` bytes ever left.
    pub(in crate::gateway) fn progress(&self, written: u64) -> Progress {
        if self.answered {
            Progress::Answered
        } else if self.queued_at >= written {
            Progress::Unsent
        } else {
            Progress::Sent
        }
    }

    /// What goes into the numbers with this outcome: the first one does.
    pub(in crate::gateway) fn account(&mut self) -> Option<Account> {
        let age = self.age.take();
        (!std::mem::replace(&mut self.accounted, true)).then_some(Account { counted: self.counted, age })
    }

    pub(super) fn wake_sender(&self) {
        if let Some(sender) = &self.sender {
            sender.wake_by_ref();
        }
    }
}

/// What the exchange's end leaves to tell: nothing if both sides had ended, or the host gave it up.
pub(in crate::gateway) fn reason_to_cancel(entry: &Entry, reason: CancelReason) -> Option<CancelReason> {
    match entry.failure {
        Some(Failure::Lost(_) | Failure::Refused | Failure::Aborted) => None,
        Some(Failure::TimedOut | Failure::ByClient) => Some(CancelReason::Deadline),
        Some(Failure::Malformed) => (!entry.ended).then_some(CancelReason::Protocol),
        None => (!entry.ended || !entry.request_ended).then_some(reason),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicBool);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn an_owner_that_goes_does_not_wake_itself() {
        let now = Instant::now();
        let start = Start {
            started: now,
            deadline: now + Duration::from_secs(1),
            counted: true,
            request_ended: false,
            bodiless: false,
            upgrade: false,
            may_last: true,
            window: 1,
        };
        let mut entry = Entry::new(start, 0, 0);
        let (owner, sender) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        entry.reader = Some(Arc::clone(&owner).into());
        entry.sender = Some(Arc::clone(&sender).into());
        entry.abandon();
        assert!(!owner.0.load(Ordering::SeqCst), "it would be run once more for nothing");
        assert!(sender.0.load(Ordering::SeqCst), "who sends the body must learn of it");
    }
}
