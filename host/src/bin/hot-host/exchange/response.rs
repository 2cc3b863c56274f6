//! The response: head, body within its credit, trailers, and the end.

use super::{Exchange, Locked, Refusal, check};
use bytes::Bytes;
use hot_module::abi::{self, SWITCHING_PROTOCOLS};
use hot_wire::data::{self, AbortCode, HeadError, INITIAL_WINDOW, SendCredit};

/// A header as a module sends it.
pub(crate) type Field<'a> = (&'a [u8], &'a [u8]);

/// A trailer, kept until the end.
type OwnedField = (Box<[u8]>, Box<[u8]>);

/// The response.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) phase: Phase,
    credit: SendCredit,
    trailers: Option<Vec<OwnedField>>,
    /// The head had status 101: what follows are bytes of the connection.
    pub(super) is_connection: bool,
    /// The rest of an answer that was given whole, for which there was no credit yet. It has ended for the module.
    rest: Bytes,
}

/// The same field, for less long.
fn shorter<'s, 'l: 's>(field: Field<'l>) -> Field<'s> {
    field
}

/// Whether an answer with this head lasts as long as both sides like.
fn is_stream<'a>(status: u16, mut fields: impl Iterator<Item = Field<'a>>) -> bool {
    let content_type = fields.find(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE));
    abi::is_long_stream(status, content_type.map(|(_, value)| value))
}

const CONTENT_LENGTH: &[u8] = b"content-length";
const CONTENT_TYPE: &[u8] = b"content-type";

/// The longest answer that is taken whole whatever the credit is, in bytes: who answers many small clients with it must
/// not wait for the slowest of them.
const TAKEN_WHOLE: usize = INITIAL_WINDOW as usize;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// No head yet.
    #[default]
    Waiting,
    /// The head is under way.
    Body,
    Ended,
}

impl Outgoing {
    /// One that may send so many bytes of body before the first window frame.
    pub(super) fn within(window: u32) -> Self {
        Self { credit: SendCredit::within(window), ..Self::default() }
    }

    /// Nobody waits for what is left.
    pub(super) fn give_up(&mut self) {
        self.rest.clear();
    }

    /// Whether a write would not wait, if the link has room. That is asked for only if all else is there. Before the head
    /// a write is refused, which is no wait.
    pub(super) fn can_write(&self, has_room: impl FnOnce() -> bool) -> bool {
        self.phase != Phase::Body || (self.credit.available() > 0 && has_room())
    }
}

impl Exchange {
    /// Credit for the response's body.
    pub(crate) fn credit_came(&self, credit: u32) {
        let mut state = self.state();
        if state.outgoing.credit.grant(credit).is_err() {
            return self.break_off(state);
        }
        if state.outgoing.rest.is_empty() {
            return self.tell(&mut state);
        }
        let outgoing = &mut state.outgoing;
        let taken = outgoing.credit.take(outgoing.rest.len());
        let piece = outgoing.rest.split_to(taken);
        let end = outgoing.rest.is_empty();
        self.link.append(|out| data::body(out, self.number, &piece, end));
        drop(state);
        if end {
            self.link.forget(self.number);
        }
    }

    /// Whether something is left of an answer that has ended for the module.
    pub(crate) fn has_rest(&self) -> bool {
        !self.lock().outgoing.rest.is_empty()
    }

    /// The head of the answer, and as much of the body as there is credit for: how much that was. With `whole`, the
    /// answer ends if that was all, or if it is not too long to be kept until there is credit for the rest; its length is
    /// said then, as the gateway says it of an answer that comes in one piece.
    pub(crate) fn respond<'a>(
        &self,
        status: u16,
        fields: impl Iterator<Item = Field<'a>> + Clone,
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
        let is_kept = whole && !end && body.len() <= TAKEN_WHOLE;
        let mut names = fields.clone().map(|(name, _)| name);
        // Most answers are whole at once, and nothing of this is asked of them.
        let length = (is_kept && !names.any(|name| name.eq_ignore_ascii_case(CONTENT_LENGTH)))
            .then(|| body.len().to_string());
        let is_stream = !end && is_stream(status, fields.clone());
        let said = length.iter().map(|length| (CONTENT_LENGTH, length.as_bytes()));
        let fields = fields.map(shorter).chain(said);
        let sent =
            self.link.append(|out| data::response(out, self.number, status, fields, &body[..taken], end));
        if let Err(HeadError::TooManyFields | HeadError::TooLarge) = sent {
            outgoing.credit = before;
            return Err(Refusal::TooLarge);
        }
        outgoing.phase = Phase::Body;
        if status == SWITCHING_PROTOCOLS {
            outgoing.is_connection = true;
            state.incoming.begin_anew();
        }
        if is_stream {
            // The gateway sees that too: it lasts as long as both sides like.
            state.deadline.at = None;
        }
        if is_kept {
            state.outgoing.rest = Bytes::copy_from_slice(&body[taken..]);
        }
        if end || is_kept {
            self.end(&mut state);
            return Ok(body.len());
        }
        Ok(taken)
    }

    /// As much of `body` as there is credit for, but something: how much that was. `WouldBlock` without credit, or while
    /// too much waits for the gateway to read.
    pub(crate) fn write(&self, body: &[u8]) -> Result<usize, Refusal> {
        let mut state = self.state();
        check(&state)?;
        if state.outgoing.phase != Phase::Body {
            return Err(Refusal::State);
        }
        if body.is_empty() {
            return Ok(0);
        }
        if !state.outgoing.can_write(|| !self.link.await_room(self.number)) {
            return Err(Refusal::WouldBlock);
        }
        let taken = state.outgoing.credit.take(body.len());
        self.link.append(|out| data::body(out, self.number, &body[..taken], false));
        Ok(taken)
    }

    /// Trailers, to go with the end. They are as many and as large as a frame may have.
    pub(crate) fn add_trailers<'a>(&self, fields: impl Iterator<Item = Field<'a>>) -> Result<(), Refusal> {
        let mut state = self.state();
        check(&state)?;
        let outgoing = &mut state.outgoing;
        if outgoing.phase != Phase::Body || outgoing.trailers.is_some() || outgoing.is_connection {
            return Err(Refusal::State);
        }
        outgoing.trailers = Some(fields.map(|(name, value)| (name.into(), value.into())).collect());
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
                // Their size was checked before they came here; were it wrong, the answer is not complete.
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

    /// Others of the module may wait for it.
    fn end(&self, locked: &mut Locked<'_>) {
        locked.outgoing.phase = Phase::Ended;
        self.tell(locked);
    }

    pub(super) fn append_abort(&self, code: AbortCode, why: &str) {
        self.link.append(|out| data::abort(out, self.number, code, why));
    }
}
