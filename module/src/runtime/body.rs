//! The body of a request or of a response, as `http_body` has it.

use super::link::Link;
use super::pipe::{BodyWriter, Pipe};
use crate::{CallError, Error, OrStatus, StatusError};
use bytes::{Buf, Bytes, BytesMut};
use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use http_body::{Body as _, Frame, SizeHint};
use std::boxed::Box;
use std::format;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

/// A body: of a request, as it comes from the client, or of a response that is to be sent.
///
/// Either way nothing is gathered: a body that is not read makes the client wait, and one that is sent is asked for its next
/// frame when the client has room.
pub struct Body {
    kind: Kind,
}

enum Kind {
    Whole(Option<Bytes>),
    Incoming(Incoming),
    Other(Pin<Box<dyn Other + Send>>),
}

/// The body of an exchange's request.
struct Incoming {
    link: Arc<Link>,
    /// What is still to come, if the client has said.
    left: Option<u64>,
    phase: Phase,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Data,
    Trailers,
    Done,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("size_hint", &self.size_hint()).finish_non_exhaustive()
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl Body {
    /// No bytes.
    #[must_use]
    pub const fn empty() -> Self {
        Self { kind: Kind::Whole(None) }
    }

    /// Any other body, for example one of `http-body-util`.
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Error: Into<Error>> + Send + 'static,
    {
        Self { kind: Kind::Other(Box::pin(body)) }
    }

    /// A body that `write` writes piece by piece, at the speed of the client; what it takes is dropped when the client goes
    /// away. An error cuts the connection, so that the client sees that the body is not whole.
    ///
    /// It begins when the head has been sent. So in an answer with the status 101 the request's body, which `write` takes
    /// along unread, gives the connection's bytes, and what it writes are those that the client gets.
    ///
    /// ```
    /// # use hot_module::Body;
    /// let body = Body::stream(|mut writer| async move {
    ///     for row in 0..1_000_000 {
    ///         writer.write(format!("{row}\n")).await?;
    ///     }
    ///     Ok(())
    /// });
    /// # drop(body);
    /// ```
    pub fn stream<F>(write: impl FnOnce(BodyWriter) -> F) -> Self
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        Self { kind: Kind::Other(Box::pin(Pipe::new(write))) }
    }

    /// A value as JSON. The content type is yours to set.
    ///
    /// # Errors
    /// If it can't be written as JSON.
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        Ok(serde_json::to_vec(value)?.into())
    }

    pub(super) const fn incoming(link: Arc<Link>, left: Option<u64>) -> Self {
        Self { kind: Kind::Incoming(Incoming { link, left, phase: Phase::Data }) }
    }

    /// The next piece; `None` at the end. Trailers are passed over: poll the frames to see them.
    ///
    /// # Errors
    /// If the client is gone or the deadline has passed.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            let frame = core::future::poll_fn(|task| Pin::new(&mut *self).poll_frame(task)).await?;
            match frame.map(Frame::into_data) {
                Ok(Ok(piece)) => return Some(Ok(piece)),
                Ok(Err(_trailers)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// A [`StatusError`] with 413 beyond `limit` bytes; as [`next`](Self::next).
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, Error> {
        let too_large =
            || StatusError::new(413, format!("the body is larger than the {limit} bytes that are allowed"));
        let mut all = BytesMut::new();
        while let Some(piece) = self.next().await {
            let piece = piece?;
            if piece.len() > limit - all.len() {
                return Err(too_large().into());
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// All of it, as text.
    ///
    /// # Errors
    /// A [`StatusError`] with 400 if it is not UTF-8, and as [`bytes`](Self::bytes).
    pub async fn text(self, limit: usize) -> Result<String, Error> {
        Ok(String::from_utf8(Vec::from(self.bytes(limit).await?)).or_status(400, "the body is not UTF-8")?)
    }

    /// All of it, as a type. Its content type is not looked at.
    ///
    /// # Errors
    /// A [`StatusError`] with 400 that says what was found and expected and where, and as [`bytes`](Self::bytes).
    #[cfg(feature = "json")]
    pub async fn to_json<T: serde::de::DeserializeOwned>(self, limit: usize) -> Result<T, Error> {
        let bytes = self.bytes(limit).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            StatusError::new(400, format!("the body is not the JSON that was expected: {error}")).into()
        })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.kind {
            Kind::Whole(whole) => Poll::Ready(whole.take().map(|whole| Ok(Frame::data(whole)))),
            Kind::Incoming(incoming) => incoming.poll_frame(task),
            Kind::Other(other) => other.as_mut().poll(task),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(whole) => whole.is_none(),
            Kind::Incoming(incoming) => incoming.phase == Phase::Done,
            Kind::Other(other) => other.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(whole) => SizeHint::with_exact(
                whole.as_ref().map_or(0, |whole| u64::try_from(whole.len()).unwrap_or(0)),
            ),
            Kind::Incoming(incoming) => incoming.left.map_or_else(SizeHint::new, SizeHint::with_exact),
            Kind::Other(other) => other.hint(),
        }
    }
}

impl Incoming {
    fn poll_frame(&mut self, task: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.phase == Phase::Data {
            match ready!(self.link.poll_read(task)) {
                Ok(Some(piece)) => {
                    let len = u64::try_from(piece.len()).unwrap_or(u64::MAX);
                    self.left = self.left.map(|left| left.saturating_sub(len));
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Ok(None) => self.phase = Phase::Trailers,
                Err(error) => {
                    self.phase = Phase::Done;
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
        if self.phase == Phase::Done {
            return Poll::Ready(None);
        }
        self.phase = Phase::Done;
        self.left = Some(0);
        Poll::Ready(match self.link.request_trailers() {
            Ok(trailers) if trailers.is_empty() => None,
            Ok(trailers) => Some(Ok(Frame::trailers(trailers))),
            // A connection after a 101 has none.
            Err(CallError::State) => None,
            Err(error) => Some(Err(error.into())),
        })
    }
}

/// Any body, with our data and error types.
trait Other {
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>>;
    fn is_end(&self) -> bool;
    fn hint(&self) -> SizeHint;
}

impl<B: http_body::Body<Error: Into<Error>>> Other for B {
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(self.poll_frame(task));
        Poll::Ready(frame.map(|frame| match frame {
            Ok(frame) => Ok(frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))),
            Err(error) => Err(error.into()),
        }))
    }

    fn is_end(&self) -> bool {
        self.is_end_stream()
    }

    fn hint(&self) -> SizeHint {
        self.size_hint()
    }
}

macro_rules! from_whole {
    ($($whole:ty),*) => {$(
        impl From<$whole> for Body {
            fn from(whole: $whole) -> Self {
                let whole = Bytes::from(whole);
                Self { kind: Kind::Whole((!whole.is_empty()).then_some(whole)) }
            }
        }
    )*};
}

from_whole!(Bytes, Vec<u8>, String, &'static str, &'static [u8]);
