//! One exchange: what has come of its request, what has gone of its response, and the rules between the two.
//!
//! Every call of the module ends in a method here, from any thread; the lock of the state is held while frames are
//! appended to the link, so an exchange's frames leave in the order of its calls. Nothing here waits for the socket.

use crate::head::{self, Head, Trailers};
use crate::link::Link;
use bytes::Bytes;
use hot_module::abi;
use hot_wire::data::{self, AbortCode, Fields, HeadError, ReceiveCredit, Request, SendCredit};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

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

/// A header as a module sends it.
pub(crate) type Field<'a> = (&'a [u8], &'a [u8]);

/// A trailer, kept until the end.
type OwnedField = (Box<[u8]>, Box<[u8]>);

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

/// The request's body.
#[derive(Debug)]
struct Incoming {
    pieces: VecDeque<Bytes>,
    is_whole: bool,
    credit: ReceiveCredit,
    /// The piece that `body_read` lent last.
    lent: Bytes,
    /// What `body_all` has gathered while it waits.
    gathered: Vec<u8>,
    /// What `body_all` has lent, for as long as the exchange lives.
    kept: Vec<Bytes>,
    trailers: Option<(Trailers, Box<[abi::Header]>)>,
}

/// The response.
#[derive(Debug)]
struct Outgoing {
    phase: Phase,
    credit: SendCredit,
    trailers: Option<Vec<OwnedField>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No head yet.
    Waiting,
    /// The head is under way.
    Body,
    Ended,
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
        let mut credit = ReceiveCredit::default();
        // A first piece is bounded by its frame, which is no larger than the credit of a new exchange.
        let within = credit.received(request.body.len()).is_ok();
        let deadline = (request.deadline_ms > 0)
            .then(|| arrived + Duration::from_millis(u64::from(request.deadline_ms)));
        let head = Head::of(&request);
        let mut pieces = VecDeque::new();
        if !request.body.is_empty() {
            pieces.push_back(head::keep(request.body));
        }
        let incoming = Incoming {
            pieces,
            is_whole: request.end,
            credit,
            lent: Bytes::new(),
            gathered: Vec::new(),
            kept: Vec::new(),
            trailers: None,
        };
        let outgoing = Outgoing { phase: Phase::Waiting, credit: SendCredit::default(), trailers: None };
        Self {
            handle,
            number,
            link: Arc::clone(link),
            head,
            view: OnceLock::new(),
            arrived,
            deadline,
            state: Mutex::new(State { incoming, outgoing, is_cancelled: !within, news: 0, waiting: 0 }),
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

    // What comes from the gateway.

    /// More of the request's body, whose last piece has `end`.
    pub(crate) fn body_came(&self, data: Bytes, end: bool) {
        let mut state = self.state();
        let incoming = &mut state.incoming;
        if incoming.is_whole || incoming.credit.received(data.len()).is_err() {
            return self.break_off(state);
        }
        if !data.is_empty() {
            incoming.pieces.push_back(head::keep(data));
        }
        incoming.is_whole |= end;
        self.tell(&mut state);
    }

    /// The request's trailers, which end it.
    pub(crate) fn trailers_came(&self, fields: &Fields) {
        let mut state = self.state();
        if state.incoming.is_whole {
            return self.break_off(state);
        }
        let trailers = Trailers::of(fields);
        let view = trailers.view();
        state.incoming.trailers = Some((trailers, view));
        state.incoming.is_whole = true;
        self.tell(&mut state);
    }

    /// Credit for the response's body.
    pub(crate) fn credit_came(&self, credit: u32) {
        let mut state = self.state();
        if state.outgoing.credit.grant(credit).is_err() {
            return self.break_off(state);
        }
        self.tell(&mut state);
    }

    /// The gateway gave it up, or the link is gone: nobody will see an answer.
    pub(crate) fn cancel(&self) {
        let mut state = self.state();
        state.is_cancelled = true;
        self.tell(&mut state);
    }

    /// The gateway broke the rules of this exchange.
    fn break_off(&self, mut state: MutexGuard<'_, State>) {
        state.is_cancelled = true;
        self.tell(&mut state);
        self.link.append(|out| {
            data::abort(
                out,
                self.number,
                AbortCode::Protocol,
                "the gateway broke the exchange's credit or order",
            );
        });
        drop(state);
        self.link.forget(self.number);
    }

    fn tell(&self, state: &mut State) {
        state.news += 1;
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }

    // What the module asks.

    /// Whether a call may go on: the exchange has neither ended nor been cancelled.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        check(&self.state())
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.state().is_cancelled
    }

    /// The next piece of the body, lent until the next read: address and length, of length 0 at the end.
    pub(crate) fn read(&self) -> Result<abi::Slice, Refusal> {
        let mut state = self.state();
        check(&state)?;
        let incoming = &mut state.incoming;
        let Some(piece) = incoming.pieces.pop_front() else {
            return if incoming.is_whole { Ok(abi::Slice::EMPTY) } else { Err(Refusal::WouldBlock) };
        };
        self.grant(incoming, piece.len());
        incoming.lent = piece;
        Ok(abi::Slice::of(&incoming.lent))
    }

    /// All that is left of the body, lent until the end of the exchange; `WouldBlock` while more is to come.
    pub(crate) fn read_all(&self, limit: usize) -> Result<abi::Slice, Refusal> {
        let mut state = self.state();
        check(&state)?;
        let incoming = &mut state.incoming;
        let waiting: usize = incoming.pieces.iter().map(Bytes::len).sum();
        if incoming.gathered.len() + waiting > limit {
            return Err(Refusal::TooLarge);
        }
        if incoming.is_whole && incoming.gathered.is_empty() && incoming.pieces.len() <= 1 {
            // The usual case: one piece, lent as it came.
            let Some(only) = incoming.pieces.pop_front() else { return Ok(abi::Slice::EMPTY) };
            return Ok(lend(&mut incoming.kept, only));
        }
        while let Some(piece) = incoming.pieces.pop_front() {
            incoming.gathered.extend_from_slice(&piece);
            self.grant(incoming, piece.len());
        }
        if !incoming.is_whole {
            return Err(Refusal::WouldBlock);
        }
        let all = std::mem::take(&mut incoming.gathered);
        Ok(lend(&mut incoming.kept, all.into()))
    }

    fn grant(&self, incoming: &mut Incoming, consumed: usize) {
        // Of a body that is whole no more will come, so no credit is needed.
        if let Some(credit) = incoming.credit.consumed(consumed).filter(|_| !incoming.is_whole) {
            self.link.append(|out| data::window(out, self.number, credit));
        }
    }

    /// The request's trailers: address and number.
    pub(crate) fn trailers(&self) -> Result<(*const abi::Header, usize), Refusal> {
        let state = self.state();
        check(&state)?;
        if !state.incoming.is_whole || !state.incoming.pieces.is_empty() {
            return Err(Refusal::State);
        }
        let view = state.incoming.trailers.as_ref().map_or(&[][..], |(_, view)| view);
        Ok((view.as_ptr(), view.len()))
    }

    /// The head of the answer, and as much of the body as there is credit for: how much that was. With `whole`, the
    /// answer ends if that was all.
    pub(crate) fn respond<'a>(
        &self,
        status: u16,
        fields: impl Iterator<Item = Field<'a>>,
        body: &[u8],
        whole: bool,
    ) -> Result<usize, Refusal> {
        let mut state = self.state();
        check(&state)?;
        let outgoing = &mut state.outgoing;
        if outgoing.phase != Phase::Waiting {
            return Err(Refusal::State);
        }
        let before = outgoing.credit.clone();
        let taken = outgoing.credit.take(body.len());
        let end = whole && taken == body.len();
        let sent =
            self.link.append(|out| data::response(out, self.number, status, fields, &body[..taken], end));
        if let Err(HeadError::TooManyFields | HeadError::TooLarge) = sent {
            outgoing.credit = before;
            return Err(Refusal::TooLarge);
        }
        outgoing.phase = Phase::Body;
        if end {
            self.end(&mut state);
        }
        Ok(taken)
    }

    /// As much of `body` as there is credit for, but something: how much that was.
    pub(crate) fn write(&self, body: &[u8]) -> Result<usize, Refusal> {
        let mut state = self.state();
        check(&state)?;
        if state.outgoing.phase != Phase::Body {
            return Err(Refusal::State);
        }
        let taken = state.outgoing.credit.take(body.len());
        if taken == 0 && !body.is_empty() {
            return Err(Refusal::WouldBlock);
        }
        self.link.append(|out| data::body(out, self.number, &body[..taken], false));
        Ok(taken)
    }

    /// Trailers, to go with the end.
    pub(crate) fn add_trailers<'a>(&self, fields: impl Iterator<Item = Field<'a>>) -> Result<(), Refusal> {
        let mut state = self.state();
        check(&state)?;
        let outgoing = &mut state.outgoing;
        if outgoing.phase != Phase::Body || outgoing.trailers.is_some() {
            return Err(Refusal::State);
        }
        let owned: Vec<OwnedField> = fields.map(|(name, value)| (name.into(), value.into())).collect();
        let size: usize = owned.iter().map(|(name, value)| 4 + name.len() + value.len()).sum();
        if owned.len() > head::MAX_HEADERS || size + 2 > data::MAX_HEAD {
            return Err(Refusal::TooLarge);
        }
        outgoing.trailers = Some(owned);
        Ok(())
    }

    /// The end of a complete answer. On `Cancelled` the exchange has ended too.
    pub(crate) fn finish(&self) -> Result<(), Refusal> {
        let mut state = self.state();
        match check(&state) {
            Err(Refusal::Cancelled) => {
                self.end(&mut state);
                return Err(Refusal::Cancelled);
            }
            refused => refused?,
        }
        let outgoing = &mut state.outgoing;
        if outgoing.phase != Phase::Body {
            return Err(Refusal::State);
        }
        let trailers = outgoing.trailers.take();
        self.end(&mut state);
        match trailers {
            None => self.link.append(|out| data::body(out, self.number, &[], true)),
            Some(owned) => {
                let fields = owned.iter().map(|(name, value)| (&**name, &**value));
                // Their size was checked when they were taken; were it wrong, the answer is not complete.
                if self.link.append(|out| data::trailers(out, self.number, fields)).is_err() {
                    self.append_abort(AbortCode::Failed, "the trailers are too large");
                }
            }
        }
        Ok(())
    }

    /// The end without one; `Ended` if there was one.
    pub(crate) fn abort(&self, code: AbortCode, why: &str) -> Result<(), Refusal> {
        let mut state = self.state();
        if state.outgoing.phase == Phase::Ended {
            return Err(Refusal::Ended);
        }
        self.end(&mut state);
        if !state.is_cancelled {
            self.append_abort(code, why);
        }
        Ok(())
    }

    /// Other threads of the module may wait in a call for it.
    fn end(&self, state: &mut State) {
        state.outgoing.phase = Phase::Ended;
        self.tell(state);
    }

    fn append_abort(&self, code: AbortCode, why: &str) {
        self.link.append(|out| data::abort(out, self.number, code, why));
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

/// Keeps `bytes` and gives their address. `Bytes` does not move what it holds when it is moved itself.
fn lend(kept: &mut Vec<Bytes>, bytes: Bytes) -> abi::Slice {
    let slice = abi::Slice::of(&bytes);
    kept.push(bytes);
    slice
}
