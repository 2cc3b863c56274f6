//! The request's body and trailers: what has come and was not read, and what is lent to the module.

use super::{Exchange, Refusal, check};
use crate::head;
use bytes::Bytes;
use hot_module::abi;
use hot_wire::data::{self, CreditExceeded, Fields, ReceiveCredit};
use std::collections::VecDeque;

/// Pieces from here on are kept as the share of the read buffer that they are: such a share keeps at most sixteen times
/// its own size alive. Smaller ones are gathered, so that a body of single bytes costs what its bytes do.
const WORTH_SHARING: usize = 16 * 1024;

/// The request's body.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    pieces: VecDeque<Bytes>,
    /// Small pieces that came behind `pieces`.
    tail: Vec<u8>,
    is_whole: bool,
    /// Whether the module was told of the end.
    is_read: bool,
    credit: ReceiveCredit,
    /// The piece that `body_read` lent last.
    lent: Bytes,
    /// What `body_all` has gathered while it waits.
    gathered: Vec<u8>,
    /// What `body_all` has lent, for as long as the exchange lives.
    kept: Vec<Bytes>,
    trailers: Option<(Fields, Box<[abi::Header]>)>,
}

impl Incoming {
    /// Takes a piece on, within the credit.
    pub(super) fn receive(&mut self, data: &Bytes, end: bool) -> Result<(), CreditExceeded> {
        self.credit.received(data.len())?;
        if data.len() >= WORTH_SHARING {
            self.end_tail();
            self.pieces.push_back(data.clone());
        } else {
            self.tail.extend_from_slice(data);
            if self.tail.len() >= WORTH_SHARING {
                self.end_tail();
            }
        }
        self.is_whole |= end;
        Ok(())
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.tail).into());
        }
    }

    /// The next piece, if one has come.
    fn take(&mut self) -> Option<Bytes> {
        if self.pieces.is_empty() {
            self.end_tail();
        }
        self.pieces.pop_front()
    }

    /// From here on bytes of the connection come: nothing more has been read than that the request had no body.
    pub(super) fn begin_anew(&mut self) {
        self.is_whole = false;
        self.is_read = false;
    }

    /// Whether a read would not wait.
    pub(super) fn can_read(&self) -> bool {
        self.is_whole || !self.pieces.is_empty() || !self.tail.is_empty() || !self.gathered.is_empty()
    }

    fn unread(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum::<usize>() + self.tail.len()
    }

    /// Keeps `bytes` and gives their address. `Bytes` does not move what it holds when it is moved itself.
    fn lend(&mut self, bytes: Bytes) -> abi::Slice {
        let slice = abi::Slice::of(&bytes);
        self.kept.push(bytes);
        slice
    }
}

impl Exchange {
    /// More of the request's body, whose last piece has `end`.
    pub(crate) fn body_came(&self, data: &Bytes, end: bool) {
        let mut state = self.state();
        if state.incoming.is_whole || state.incoming.receive(data, end).is_err() {
            return self.break_off(state);
        }
        self.tell(&mut state);
    }

    /// The request's trailers, which end it.
    pub(crate) fn trailers_came(&self, fields: &Fields) {
        let mut state = self.state();
        if state.incoming.is_whole {
            return self.break_off(state);
        }
        let trailers = fields.detached();
        let view = head::view(&trailers);
        state.incoming.trailers = Some((trailers, view));
        state.incoming.is_whole = true;
        self.tell(&mut state);
    }

    /// The next piece of the body, lent until the next read: address and length, of length 0 at the end.
    pub(crate) fn read(&self) -> Result<abi::Slice, Refusal> {
        let mut state = self.state();
        check(&state)?;
        let incoming = &mut state.incoming;
        if !incoming.gathered.is_empty() {
            // What a `body_all` that was refused has left: its credit was granted then.
            incoming.lent = std::mem::take(&mut incoming.gathered).into();
            return Ok(abi::Slice::of(&incoming.lent));
        }
        let Some(piece) = incoming.take() else {
            incoming.is_read = incoming.is_whole;
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
        let unread = incoming.unread();
        if incoming.gathered.len().saturating_add(unread) > limit {
            return Err(Refusal::TooLarge);
        }
        while let Some(piece) = incoming.take() {
            if incoming.is_whole && incoming.gathered.is_empty() && piece.len() == unread {
                // The usual case: one piece, lent as it came.
                incoming.is_read = true;
                return Ok(incoming.lend(piece));
            }
            incoming.gathered.extend_from_slice(&piece);
            self.grant(incoming, piece.len());
        }
        if !incoming.is_whole {
            return Err(Refusal::WouldBlock);
        }
        incoming.is_read = true;
        let all = std::mem::take(&mut incoming.gathered);
        Ok(incoming.lend(all.into()))
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
        if !state.incoming.is_read || state.outgoing.is_connection {
            return Err(Refusal::State);
        }
        let view = state.incoming.trailers.as_ref().map_or(&[][..], |(_, view)| view);
        Ok((view.as_ptr(), view.len()))
    }
}
