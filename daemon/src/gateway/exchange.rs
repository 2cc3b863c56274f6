//! One request and its response on a link: what came and was not taken yet, and the two handles that take and send.
//!
//! [`Exchange`] is the one owner; when it is dropped the exchange is over, and the host is told if it did not know.
//! [`BodySender`] is for whoever reads the request's body from the client, and finds out at its next step.

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hot_wire::data::{
    self, AbortCode, CancelReason, Decoder, Fields, Frame, FromGateway, FromHost, HeadError, ReceiveCredit,
    Request, RequestHead, Response, SendCredit,
};

use super::counters::{Account, Age, Outcome};
use super::forward::{self, Head};
use super::link::Link;
use super::retry::Progress;

/// Pieces of a response that are shorter are copied when they have to wait: a share would keep the whole buffer that
/// was read, up to 256 KiB, for as long as a slow client likes.
const COPIED_BELOW: usize = 16 * 1024;

/// Why an exchange did not end with a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The link broke, after this much.
    Lost(Progress),
    /// The host takes no more exchanges and the module has not seen this one.
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
pub(super) struct Violation(pub(super) &'static str);

/// What a link knows of an exchange.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) generation: u32,
    /// Place of the request's first byte in all that was ever queued on the link.
    pub(super) queued_at: u64,
    started: Instant,
    deadline: Instant,
    counted: bool,
    accounted: bool,
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
    pieces: VecDeque<Bytes>,
    trailers: Option<Fields>,
    /// Nothing more comes from the host.
    ended: bool,
    failure: Option<Failure>,
    receive: ReceiveCredit,
    send: SendCredit,
    request_ended: bool,
    /// Since when the client owes a piece of the request's body.
    client_owes: Option<Instant>,
    reader: Option<Waker>,
    sender: Option<Waker>,
}

/// What a new exchange starts with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    pub(super) started: Instant,
    pub(super) deadline: Instant,
    /// It was picked by weight and is in the numbers, not pinned.
    pub(super) counted: bool,
    /// The request has no body.
    pub(super) request_ended: bool,
    /// It is a HEAD, so the response has none.
    pub(super) bodiless: bool,
}

impl Entry {
    pub(super) fn new(start: Start, generation: u32, queued_at: u64) -> Self {
        Self {
            generation,
            queued_at,
            started: start.started,
            deadline: start.deadline,
            counted: start.counted,
            accounted: false,
            age: None,
            answered: false,
            head: None,
            status: 0,
            bodiless: start.bodiless,
            announced: None,
            received: 0,
            pieces: VecDeque::new(),
            trailers: None,
            ended: false,
            failure: None,
            receive: ReceiveCredit::default(),
            send: SendCredit::default(),
            request_ended: start.request_ended,
            client_owes: None,
            reader: None,
            sender: None,
        }
    }

    /// Takes what the host said. Answers how the exchange ended for the numbers, if it did.
    pub(super) fn receive(&mut self, message: FromHost, now: Instant) -> Result<Option<Outcome>, Violation> {
        let mut valid = true;
        match message {
            FromHost::Response(response) => valid = self.response(response)?,
            FromHost::Body { data, end } => {
                if !self.answered {
                    return Err(Violation("a body without a response"));
                }
                self.count(data.len())?;
                self.piece(data);
                self.ended = end;
            }
            FromHost::Trailers(fields) => {
                if !self.answered {
                    return Err(Violation("trailers without a response"));
                }
                self.trailers = Some(fields);
                self.ended = true;
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
                return Ok(Some(if refused { Outcome::Cancelled } else { Outcome::Aborted }));
            }
        }
        if !valid || self.has_wrong_length() {
            self.fail(Failure::Malformed);
            return Ok(Some(Outcome::Aborted));
        }
        if let Some(reader) = &self.reader {
            reader.wake_by_ref();
        }
        if !self.ended {
            return Ok(None);
        }
        self.wake_sender();
        let took = now.saturating_duration_since(self.started);
        Ok(Some(Outcome::Finished { status: self.status, took }))
    }

    /// Answers whether it is a valid response.
    fn response(&mut self, response: Response) -> Result<bool, Violation> {
        if self.answered {
            return Err(Violation("a second response"));
        }
        self.answered = true;
        self.ended = response.end;
        self.count(response.body.len())?;
        let Ok(mut head) = forward::head(response) else { return Ok(false) };
        self.status = head.status.as_u16();
        self.announced = head.announced;
        if !self.ended {
            self.piece(std::mem::take(&mut head.body));
        }
        self.head = Some(head);
        Ok(true)
    }

    fn count(&mut self, len: usize) -> Result<(), Violation> {
        self.received += len as u64;
        self.receive.received(len).map_err(|_beyond| Violation("more body than its credit"))
    }

    fn piece(&mut self, data: Bytes) {
        if !data.is_empty() {
            let copied = data.len() < COPIED_BELOW;
            self.pieces.push_back(if copied { Bytes::copy_from_slice(&data) } else { data });
        }
    }

    /// The response is longer than its Content-Length says, or ended before it. One without a body may announce the
    /// length that it would have had.
    fn has_wrong_length(&self) -> bool {
        let without_body = self.bodiless || matches!(self.status, 204 | 304);
        self.announced.is_some_and(|announced| {
            !without_body && (self.received > announced || (self.ended && self.received < announced))
        })
    }

    /// The response's head, if it has come, is valid and was not taken before.
    pub(super) fn take_head(&mut self) -> Option<Head> {
        self.head.take().filter(|_| self.failure.is_none())
    }

    /// Ends it with a failure, unless it has one or is whole.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        if let Some(reader) = &self.reader {
            reader.wake_by_ref();
        }
        self.wake_sender();
    }

    /// Under way: neither whole nor failed.
    pub(super) fn is_open(&self) -> bool {
        !self.ended && self.failure.is_none()
    }

    /// Fails it if its time is over. Answers for the numbers.
    pub(super) fn expire(&mut self, now: Instant, stall: Duration) -> Option<Outcome> {
        let owed = self.client_owes.map(|since| now.saturating_duration_since(since));
        let by_client = self.waits_for_client();
        if owed.is_some_and(|owed| owed >= stall) || (now >= self.deadline && by_client) {
            self.fail(Failure::ByClient);
            return Some(Outcome::Cancelled);
        }
        if now >= self.deadline {
            self.fail(Failure::TimedOut);
            return Some(Outcome::TimedOut);
        }
        None
    }

    /// It waits for its client to send, or to read what is in `pieces`.
    fn waits_for_client(&self) -> bool {
        self.client_owes.is_some() || !self.pieces.is_empty()
    }

    /// As what it was and is now to be counted among those that wait for the instance, where that has changed.
    pub(super) fn grow_older(&mut self, now: Instant) -> Option<(Option<Age>, Option<Age>)> {
        let waits = self.counted && !self.waits_for_client();
        let age = if waits { Age::of(now.saturating_duration_since(self.started)) } else { None };
        let before = std::mem::replace(&mut self.age, age);
        (before != age).then_some((before, age))
    }

    /// How far it got on a link of which `written` bytes ever left.
    pub(super) fn progress(&self, written: u64) -> Progress {
        if self.answered {
            Progress::Answered
        } else if self.queued_at >= written {
            Progress::Unsent
        } else {
            Progress::Sent
        }
    }

    /// What goes into the numbers with this outcome: the first one does.
    pub(super) fn account(&mut self) -> Option<Account> {
        let age = self.age.take();
        (!std::mem::replace(&mut self.accounted, true)).then_some(Account { counted: self.counted, age })
    }

    fn wake_sender(&self) {
        if let Some(sender) = &self.sender {
            sender.wake_by_ref();
        }
    }
}

/// A piece of a response.
#[derive(Debug)]
pub(super) enum Piece {
    /// Some of the body.
    Data(Bytes),
    /// The end.
    Trailers(Fields),
}

/// The owner of an exchange.
#[derive(Debug)]
pub(super) struct Exchange {
    link: Rc<Link>,
    id: u64,
}

impl Exchange {
    pub(super) fn new(link: Rc<Link>, id: u64) -> Self {
        Self { link, id }
    }

    /// The response's head. If it has `end` set it is all; else the body's first bytes are among the pieces.
    pub(super) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Head, Failure>> {
        self.link.with(self.id, |entry| {
            if let Some(failure) = entry.failure {
                return Poll::Ready(Err(failure));
            }
            match entry.take_head() {
                Some(head) => Poll::Ready(Ok(head)),
                None => wait(&mut entry.reader, cx),
            }
        })
    }

    /// The next piece of the body, `None` at its end. Taking one gives the host credit for another.
    pub(super) fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Failure>>> {
        let mut credit = None;
        let piece = self.link.with(self.id, |entry| {
            if let Some(data) = entry.pieces.pop_front() {
                let consumed = entry.receive.consumed(data.len());
                credit = consumed.filter(|_| entry.is_open());
                return Poll::Ready(Some(Ok(Piece::Data(data))));
            }
            if let Some(failure) = entry.failure {
                return Poll::Ready(Some(Err(failure)));
            }
            if let Some(trailers) = entry.trailers.take() {
                return Poll::Ready(Some(Ok(Piece::Trailers(trailers))));
            }
            if entry.ended {
                return Poll::Ready(None);
            }
            wait(&mut entry.reader, cx)
        });
        if let Some(credit) = credit {
            self.link.grant(self.id, credit);
        }
        piece
    }

    /// Whether all of the response has come and was taken.
    pub(super) fn is_drained(&self) -> bool {
        self.link.with(self.id, |entry| {
            entry.ended && entry.failure.is_none() && entry.pieces.is_empty() && entry.trailers.is_none()
        })
    }

    /// For whoever sends the request's body.
    pub(super) fn sender(&self) -> BodySender {
        BodySender { link: Rc::clone(&self.link), id: self.id }
    }

    /// Ends it now, with what goes into the numbers if it is not there yet, and what the host is told.
    pub(super) fn end(self, outcome: Outcome, reason: CancelReason) {
        self.link.close(self.id, outcome, reason);
    }

    /// Ends it as answered with this status, though the rest of the response is of no use: that to a HEAD.
    pub(super) fn end_answered(self, status: u16) {
        let started = self.link.with(self.id, |entry| entry.started);
        self.end(Outcome::Finished { status, took: started.elapsed() }, CancelReason::ClientGone);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.link.close(self.id, Outcome::Cancelled, CancelReason::ClientGone);
    }
}

/// What the exchange's end leaves to tell: nothing if both sides had ended, or the host gave it up.
pub(super) fn reason_to_cancel(entry: &Entry, reason: CancelReason) -> Option<CancelReason> {
    match entry.failure {
        Some(Failure::Lost(_) | Failure::Refused | Failure::Aborted) => None,
        Some(Failure::TimedOut | Failure::ByClient) => Some(CancelReason::Deadline),
        Some(Failure::Malformed) => (!entry.ended).then_some(CancelReason::Protocol),
        None => (!entry.ended || !entry.request_ended).then_some(reason),
    }
}

/// A request as it was sent, to send it once more: a copy in one piece, so that the connection's buffer, of which the
/// parsed request is made, is free for the next read.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<u8>);

impl Kept {
    pub(super) fn new(frame: &[u8]) -> Self {
        Self(frame.to_vec())
    }

    /// A request that can't be sent yet.
    pub(super) fn encode<'f>(
        head: &RequestHead<'_>,
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
    ) -> Result<Self, HeadError> {
        let mut frame = BytesMut::new();
        data::request(&mut frame, 0, head, fields, &[], false)?;
        Ok(Self::new(&frame))
    }

    /// The request as it is written to a host.
    pub(super) fn into_frame(self) -> Vec<u8> {
        self.0
    }

    /// The request's head.
    pub(super) fn request(&self) -> Request {
        let mut decoder = Decoder::<FromGateway>::new();
        decoder.read_buf().extend_from_slice(&self.0);
        match decoder.next_frame() {
            Ok(Some(Frame { message: FromGateway::Request(request), .. })) => request,
            other => unreachable!("what was encoded as a request is one: {other:?}"),
        }
    }
}

/// The exchange is over, or needs no more of the request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Over;

/// Sends the request's body.
#[derive(Debug)]
pub(super) struct BodySender {
    link: Rc<Link>,
    id: u64,
}

impl BodySender {
    /// Waits until body may be sent: the host has given credit and the link is not full.
    pub(super) fn poll_credit(&self, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        if self.link.poll_room(cx).is_pending() {
            return Poll::Pending;
        }
        let credit = self.link.find(self.id, |entry| {
            if !entry.is_open() {
                return Poll::Ready(Err(Over));
            }
            // Kept even if there is credit: the end of the exchange must wake who waits for the client.
            let waiting = wait(&mut entry.sender, cx);
            if entry.send.available() > 0 { Poll::Ready(Ok(())) } else { waiting }
        });
        credit.unwrap_or(Poll::Ready(Err(Over)))
    }

    /// Sends as much of `data` as there is credit for, and takes that off it. `last`: nothing comes after it.
    /// Answers whether the body is whole with it.
    pub(super) fn send(&self, data: &mut Bytes, last: bool) -> bool {
        let taken = self.link.find(self.id, |entry| {
            let taken = entry.send.take(data.len());
            entry.request_ended = last && taken == data.len();
            taken
        });
        let piece = data.split_to(taken.unwrap_or(0));
        let end = last && data.is_empty();
        self.link.body(self.id, &piece, end);
        end
    }

    /// Ends the exchange for a fault of the client's.
    pub(super) fn break_off(&self) {
        self.link.fail(self.id, Failure::ByClient, Outcome::Cancelled);
    }

    /// Registers whoever waits for the client, who must learn when the exchange is over.
    pub(super) fn poll_over(&self, cx: &Context<'_>) -> Poll<Over> {
        let over = self.link.find(self.id, |entry| {
            if entry.is_open() { wait(&mut entry.sender, cx) } else { Poll::Ready(Over) }
        });
        over.unwrap_or(Poll::Ready(Over))
    }

    /// Says that the body is whole, with trailers if there are some.
    pub(super) fn finish(&self, trailers: Option<&http::HeaderMap>) {
        let open = self.link.find(self.id, |entry| {
            entry.request_ended = true;
            entry.client_owes = None;
        });
        if open.is_some() {
            match trailers {
                Some(trailers) => self.link.trailers(self.id, trailers),
                None => self.link.body(self.id, &[], true),
            }
        }
    }

    /// Notes that the client owes the next piece, or that it came.
    pub(super) fn client_owes(&self, owes: bool) {
        let note = |entry: &mut Entry| match (owes, entry.client_owes) {
            (true, None) => entry.client_owes = Some(Instant::now()),
            (false, Some(_)) => entry.client_owes = None,
            _ => {}
        };
        self.link.find(self.id, note);
    }
}

/// Notes who is to be woken.
fn wait<T>(waker: &mut Option<Waker>, cx: &Context<'_>) -> Poll<T> {
    match waker {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *waker = Some(cx.waker().clone()),
    }
    Poll::Pending
}
