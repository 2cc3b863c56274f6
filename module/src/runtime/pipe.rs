//! A body that a future writes.

use super::link::Link;
use crate::{CallError, Error};
use bytes::Bytes;
use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use http::HeaderMap;
use http_body::{Body, Frame};
use std::boxed::Box;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The future that writes, and the one frame that it has written and nobody has taken.
pub(super) struct Pipe {
    /// `None` once it has ended.
    writes: Option<Pin<Box<Writes>>>,
    /// What it failed with, which comes behind what it had written.
    failed: Option<Error>,
    place: Arc<Mutex<Place>>,
}

type Writes = dyn Future<Output = Result<(), Error>> + Send;

#[derive(Default)]
struct Place {
    frame: Option<Frame<Bytes>>,
    /// Nobody will take another frame.
    is_closed: bool,
    /// Who waits for the place to be free.
    writer: Option<Waker>,
    /// Who waits for a frame.
    reader: Option<Waker>,
    /// The exchange that it answers, from the first time that it was asked for a frame.
    link: Option<Arc<Link>>,
    /// Who waits for that.
    unlinked: Option<Waker>,
}

/// Writes the body of a response: see [`Body::stream`](super::Body::stream).
pub struct BodyWriter {
    place: Arc<Mutex<Place>>,
}

impl fmt::Debug for BodyWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyWriter").finish_non_exhaustive()
    }
}

fn lock(place: &Mutex<Place>) -> MutexGuard<'_, Place> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BodyWriter {
    /// Sends a piece; waits until the one before has gone.
    ///
    /// # Errors
    /// [`CallError::Ended`] if the answer has ended: only a writer that was moved out of its future sees that.
    pub async fn write(&mut self, piece: impl Into<Bytes>) -> Result<(), CallError> {
        let piece = piece.into();
        if piece.is_empty() {
            return Ok(());
        }
        self.put(Frame::data(piece)).await
    }

    /// Sends trailers, which end the body.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn trailers(mut self, trailers: HeaderMap) -> Result<(), CallError> {
        self.put(Frame::trailers(trailers)).await
    }

    /// Waits until the gateway asks for an end, as it asks long streams whose instance is replaced: write what is left, and
    /// return. What is still written when the time is over (10 seconds, unless the gateway is told otherwise) is cut off.
    ///
    /// Only server-sent events (the content type `text/event-stream`) and a connection after a 101 are asked; of any other
    /// answer it waits for ever. It is to be selected on, beside what the body waits for; `docs/modules.md` shows it.
    pub async fn ending(&self) {
        core::future::poll_fn(|task| {
            let mut place = lock(&self.place);
            let Some(link) = &place.link else {
                place.unlinked = Some(task.waker().clone());
                return Poll::Pending;
            };
            let link = Arc::clone(link);
            drop(place);
            link.poll_ending(task)
        })
        .await;
    }

    async fn put(&mut self, frame: Frame<Bytes>) -> Result<(), CallError> {
        let mut frame = Some(frame);
        core::future::poll_fn(|task| {
            let mut place = lock(&self.place);
            if place.is_closed {
                return Poll::Ready(Err(CallError::Ended));
            }
            if place.frame.is_some() {
                place.writer = Some(task.waker().clone());
                return Poll::Pending;
            }
            place.frame = frame.take();
            let reader = place.reader.take();
            drop(place);
            reader.into_iter().for_each(Waker::wake);
            Poll::Ready(Ok(()))
        })
        .await
    }
}

impl Pipe {
    pub(super) fn new<F>(write: impl FnOnce(BodyWriter) -> F) -> Self
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let place = Arc::default();
        let writes = write(BodyWriter { place: Arc::clone(&place) });
        Self { writes: Some(Box::pin(writes)), failed: None, place }
    }

    /// Notes which exchange it answers.
    fn link(&self) {
        let mut place = lock(&self.place);
        if place.link.is_some() {
            return;
        }
        let Some(link) = Link::current() else { return };
        place.link = Some(link);
        let unlinked = place.unlinked.take();
        drop(place);
        unlinked.into_iter().for_each(Waker::wake);
    }

    /// The frame that waits; else `task` is told of the next.
    fn take(&self, task: &Context<'_>) -> Option<Frame<Bytes>> {
        let mut place = lock(&self.place);
        let frame = place.frame.take();
        if frame.is_none() {
            place.reader = Some(task.waker().clone());
        }
        let writer = place.writer.take();
        drop(place);
        writer.into_iter().for_each(Waker::wake);
        frame
    }
}

impl Body for Pipe {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.link();
        if let Some(frame) = self.take(task) {
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(writes) = &mut self.writes
            && let Poll::Ready(ended) = writes.as_mut().poll(task)
        {
            self.writes = None;
            self.failed = ended.err();
        }
        match self.take(task) {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None if self.failed.is_some() => Poll::Ready(self.failed.take().map(Err)),
            // The future may have moved its writer to a task that goes on: the body ends with the last of both.
            None if self.writes.is_none() && Arc::strong_count(&self.place) == 1 => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut place = lock(&self.place);
        place.is_closed = true;
        let writer = place.writer.take();
        drop(place);
        writer.into_iter().for_each(Waker::wake);
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        // If it is on a task of its own, the body may have ended with it. The reader looks at who holds the place, so it is
        // let go first.
        let place = core::mem::take(&mut self.place);
        let reader = lock(&place).reader.take();
        drop(place);
        reader.into_iter().for_each(Waker::wake);
    }
}
