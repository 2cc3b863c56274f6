//! The two handles of an exchange, one request and its response on a link: they take and send.
//!
//! [`Exchange`] is the one owner; when it is dropped the exchange is over, and the host is told if it did not know.
//! [`BodySender`] is for whoever reads the request's body from the client, and finds out at its next step. What the link
//! knows of an exchange meanwhile is its [`Entry`].

use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use hot_wire::data::{self, CancelReason, Decoder, Frame, FromGateway, HeadError, Request, RequestHead};
use http::HeaderMap;

use super::entry::{Entry, Failure};
use super::link::Link;
use crate::gateway::counters::Outcome;
use crate::gateway::request::Head;
use crate::gateway::routing::Permit;

/// A piece of a response.
#[derive(Debug)]
pub(in crate::gateway) enum Piece {
    /// Some of the body.
    Data(Bytes),
    /// The end.
    Trailers(HeaderMap),
}

/// The owner of an exchange.
#[derive(Debug)]
pub(in crate::gateway) struct Exchange {
    link: Rc<Link>,
    id: u64,
}

impl Exchange {
    pub(in crate::gateway) fn new(link: Rc<Link>, id: u64) -> Self {
        Self { link, id }
    }

    /// The response's head. If it has `end` set it is all; else the body's first bytes are among the pieces.
    pub(in crate::gateway) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Head, Failure>> {
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

    /// Keeps the request's place among those of the module for as long as the host is at it.
    pub(in crate::gateway) fn keep(&self, place: Permit) {
        self.link.with(self.id, |entry| entry.keep(place));
    }

    /// The next piece of the body, `None` at its end. Taking one gives the host credit for another.
    pub(in crate::gateway) fn poll_piece(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Piece, Failure>>> {
        let mut credit = None;
        let piece = self.link.with(self.id, |entry| {
            if let Some(data) = entry.pieces.pop() {
                entry.moved += data.len() as u64;
                // A client that has taken all keeps up: there may be more under way to it, within its part. That part
                // becomes smaller as others come.
                let (share, keeps_up) = (self.link.window(), entry.pieces.is_empty());
                credit = entry
                    .receive
                    .consumed(data.len())
                    .map(|credit| entry.receive.resize(share, keeps_up, credit))
                    .filter(|credit| *credit > 0 && entry.is_open());
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

    /// What of its response the client may be given before it has been sent.
    pub(in crate::gateway) fn share(&self) -> usize {
        usize::try_from(self.link.share()).unwrap_or(usize::MAX)
    }

    /// Whether it lasts as long as both sides like.
    pub(in crate::gateway) fn is_stream(&self) -> bool {
        self.link.with(self.id, |entry| entry.term.is_stream())
    }

    /// Whether all of the response has come and was taken.
    pub(in crate::gateway) fn is_drained(&self) -> bool {
        self.link.with(self.id, |entry| {
            entry.ended && entry.failure.is_none() && entry.pieces.is_empty() && entry.trailers.is_none()
        })
    }

    /// The length that the response announced and the one that it had, where that is what is wrong with it.
    pub(in crate::gateway) fn wrong_length(&self) -> Option<(u64, u64)> {
        self.link.with(self.id, |entry| entry.wrong_length())
    }

    /// For whoever sends the request's body.
    pub(in crate::gateway) fn sender(&self) -> BodySender {
        BodySender { link: Rc::clone(&self.link), id: self.id }
    }

    /// Ends it now, with what goes into the numbers if it is not there yet, and what the host is told.
    pub(in crate::gateway) fn end(self, outcome: Outcome, reason: CancelReason) {
        self.link.close(self.id, outcome, reason);
    }

    /// Ends it as answered with this status, though the rest of the response is of no use: that to a HEAD.
    pub(in crate::gateway) fn end_answered(self, status: u16) {
        let started = self.link.with(self.id, |entry| entry.started);
        self.end(Outcome::Finished { status, took: started.elapsed() }, CancelReason::ClientGone);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.link.close(self.id, Outcome::Cancelled, CancelReason::ClientGone);
    }
}

/// A request as it was sent, to send it once more: a copy in one piece, so that the connection's buffer, of which the
/// parsed request is made, is free for the next read.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Kept(Vec<u8>);

impl Kept {
    pub(in crate::gateway) fn new(frame: &[u8]) -> Self {
        Self(frame.to_vec())
    }

    /// A request that can't be sent yet.
    pub(in crate::gateway) fn encode<'f>(
        head: &RequestHead<'_>,
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
    ) -> Result<Self, HeadError> {
        let mut frame = Vec::new();
        data::request(&mut frame, 0, head, fields, &[], false)?;
        Ok(Self(frame))
    }

    /// The request as it is written to a host.
    pub(in crate::gateway) fn into_frame(self) -> Vec<u8> {
        self.0
    }

    /// The request's head.
    pub(in crate::gateway) fn request(&self) -> Request {
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
pub(in crate::gateway) struct Over;

/// Sends the request's body.
#[derive(Debug)]
pub(in crate::gateway) struct BodySender {
    link: Rc<Link>,
    id: u64,
}

impl BodySender {
    /// Waits until body may be sent: the host has given credit and the link is not full.
    pub(in crate::gateway) fn poll_credit(&self, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        let has_room = self.link.has_room_for(self.id);
        let credit = self.link.find(self.id, |entry| {
            if !entry.is_open() {
                return Poll::Ready(Err(Over));
            }
            // Kept even if there is credit: the end of the exchange must wake who waits for the client.
            let waiting = wait(&mut entry.sender, cx);
            if has_room && entry.send.available() > 0 { Poll::Ready(Ok(())) } else { waiting }
        });
        credit.unwrap_or(Poll::Ready(Err(Over)))
    }

    /// Sends as much of `data` as there is credit for, and takes that off it. `last`: nothing comes after it.
    /// Answers whether the body is whole with it.
    pub(in crate::gateway) fn send(&self, data: &mut Bytes, last: bool) -> bool {
        let taken = self.link.find(self.id, |entry| {
            let taken = entry.send.take(data.len());
            entry.moved += taken as u64;
            entry.request_ended = last && taken == data.len();
            taken
        });
        let piece = data.split_to(taken.unwrap_or(0));
        let end = last && data.is_empty();
        self.link.body(self.id, &piece, end);
        end
    }

    /// Ends the exchange for a fault of the client's.
    pub(in crate::gateway) fn break_off(&self) {
        self.link.fail(self.id, Failure::ByClient, Outcome::Cancelled);
    }

    /// Registers whoever waits for the client, who must learn when the exchange is over.
    pub(in crate::gateway) fn poll_over(&self, cx: &Context<'_>) -> Poll<Over> {
        let over = self.link.find(self.id, |entry| {
            if entry.is_open() { wait(&mut entry.sender, cx) } else { Poll::Ready(Over) }
        });
        over.unwrap_or(Poll::Ready(Over))
    }

    /// Says that the body is whole, with trailers if there are some.
    pub(in crate::gateway) fn finish(&self, trailers: Option<&HeaderMap>) {
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
    pub(in crate::gateway) fn client_owes(&self, owes: bool) {
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
