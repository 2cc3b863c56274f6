//! Bodies on their way through, in both directions, each as fast as the slower side takes it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;

use super::forward;
use crate::gateway::access::Pending;
use crate::gateway::client::Busy;
use crate::gateway::hop::{BodySender, Exchange, Failure, Over, Piece};

/// A response's body.
#[derive(Debug)]
pub(in crate::gateway) enum ResponseBody {
    /// None, or all that is left of it.
    Whole(Bytes),
    /// One that is still coming.
    Stream(Stream),
}

/// The response ended before it was whole; the client must learn that by the connection's end.
#[derive(Debug, Error)]
#[error("the response was cut off: {0:?}")]
pub(in crate::gateway) struct CutOff(Failure);

/// A response whose rest comes from a host. Taking a piece gives the host leave to send another, so what is held here
/// is bounded by the window.
#[derive(Debug)]
pub(in crate::gateway) struct Stream {
    exchange: Exchange,
    /// Bytes that are left, if the response announced how many there are.
    left: Option<u64>,
    /// Its line of the access log, if there is one.
    line: Option<Box<Pending>>,
    /// The connection's account, until all is through.
    busy: Busy,
}

impl Stream {
    pub(in crate::gateway) fn new(
        exchange: Exchange,
        length: Option<u64>,
        line: Option<Box<Pending>>,
        busy: Busy,
    ) -> Self {
        Self { exchange, left: length, line, busy }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(stream) => stream.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Stream(stream) => stream.exchange.is_drained(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(stream) => stream.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl Stream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        ready!(self.busy.client().poll_hungry(self.exchange.share(), cx));
        let Some(piece) = ready!(self.exchange.poll_piece(cx)) else {
            self.end_line();
            return Poll::Ready(None);
        };
        Poll::Ready(Some(match piece {
            Ok(Piece::Data(data)) => {
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                self.busy.client().give(data.len());
                if let Some(line) = &mut self.line {
                    line.sent(data.len());
                }
                if self.exchange.is_drained() {
                    self.end_line();
                }
                Ok(Frame::data(data))
            }
            Ok(Piece::Trailers(trailers)) => {
                self.end_line();
                Ok(Frame::trailers(trailers))
            }
            Err(failure) => Err(CutOff(failure)),
        }))
    }

    /// All of it was given to be sent.
    fn end_line(&mut self) {
        if let Some(line) = &mut self.line {
            line.complete();
        }
    }
}

/// How an upload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum UploadEnd {
    /// The host has all of it.
    Whole,
    /// It is larger than allowed.
    TooLarge,
    /// The client broke off.
    ClientGone,
    /// The exchange is over before the body was.
    Over,
}

/// A request's body on its way to a host.
#[derive(Debug)]
pub(in crate::gateway) struct Upload {
    body: Incoming,
    /// Read from the client and waiting for credit.
    piece: Bytes,
    last: bool,
    left: u64,
    taken: bool,
}

impl Upload {
    /// `limit`: the most bytes that may come.
    pub(in crate::gateway) fn new(body: Incoming, limit: u64) -> Self {
        Self { body, piece: Bytes::new(), last: false, left: limit, taken: false }
    }

    /// Whether part of it was read, so that it can't be sent to another host.
    pub(in crate::gateway) fn is_taken(&self) -> bool {
        self.taken
    }

    /// The rest of the body.
    pub(in crate::gateway) fn into_body(self) -> Incoming {
        self.body
    }

    /// Moves what can be moved.
    pub(in crate::gateway) fn poll(&mut self, sender: &BodySender, cx: &mut Context<'_>) -> Poll<UploadEnd> {
        loop {
            if !self.piece.is_empty() {
                match ready!(sender.poll_credit(cx)) {
                    Err(Over) => return Poll::Ready(UploadEnd::Over),
                    Ok(()) if sender.send(&mut self.piece, self.last) => {
                        return Poll::Ready(UploadEnd::Whole);
                    }
                    Ok(()) => continue,
                }
            }
            if let Some(end) = ready!(self.poll_client(sender, cx)) {
                return Poll::Ready(end);
            }
        }
    }

    /// Takes the next piece from the client.
    fn poll_client(&mut self, sender: &BodySender, cx: &mut Context<'_>) -> Poll<Option<UploadEnd>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            sender.client_owes(true);
            return sender.poll_over(cx).map(|Over| Some(UploadEnd::Over));
        };
        sender.client_owes(false);
        let Some(frame) = frame else {
            sender.finish(None);
            return Poll::Ready(Some(UploadEnd::Whole));
        };
        let Ok(frame) = frame else { return Poll::Ready(Some(UploadEnd::ClientGone)) };
        self.taken = true;
        match frame.into_data() {
            Ok(data) => {
                let Some(left) = self.left.checked_sub(data.len() as u64) else {
                    return Poll::Ready(Some(UploadEnd::TooLarge));
                };
                self.left = left;
                self.piece = data;
                self.last = self.body.is_end_stream();
                Poll::Ready(None)
            }
            Err(frame) => {
                let trailers: Option<HeaderMap> = frame.into_trailers().ok().map(forward::only_trailers);
                sender.finish(trailers.as_ref());
                Poll::Ready(Some(UploadEnd::Whole))
            }
        }
    }
}

/// Goes on with an upload whose response has begun, until either is over.
pub(in crate::gateway) fn rest_of(mut upload: Upload, sender: BodySender) -> impl Future<Output = ()> {
    std::future::poll_fn(move |cx| {
        upload.poll(&sender, cx).map(|end| match end {
            UploadEnd::Whole | UploadEnd::Over => {}
            UploadEnd::TooLarge | UploadEnd::ClientGone => sender.break_off(),
        })
    })
}

/// Reads and drops what the client is still sending, within bounds, so that it gets to read the refusal that it was
/// sent: closing a socket with unread data resets the connection, and the response with it.
pub(in crate::gateway) async fn discard(mut body: Incoming, mut most: usize, patience: std::time::Duration) {
    let reading = async {
        while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let len = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = most.checked_sub(len) else { break };
            most = rest;
        }
    };
    // Either way there is nothing more to do for this client.
    drop(tokio::time::timeout(patience, reading).await);
}
