//! An exchange as tasks use it: every call without waiting, and a waker where it would have to.

use super::notice::Notice;
use crate::abi;
use crate::sdk::{Notify, services};
use crate::{CallError, Error, Exchange, Header, Response};
use bytes::{Buf, Bytes};
use core::cell::RefCell;
use core::task::{Context, Poll, ready};
use http::header::UPGRADE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

/// An exchange that the task which answers it shares with the body that its handler reads.
///
/// Whoever ends the exchange takes it out; for the others it has ended then. What the host lends is copied under the lock,
/// so nobody can end the exchange while its bytes are read.
#[derive(Debug)]
pub(super) struct Link {
    id: u64,
    notify: Notify,
    exchange: Mutex<Option<Exchange>>,
    readable: Arc<Notice>,
    writable: Arc<Notice>,
    over: Arc<Notice>,
    ending: Arc<Notice>,
}

std::thread_local! {
    /// The exchange whose answer this thread makes at the moment.
    static CURRENT: RefCell<Option<Arc<Link>>> = const { RefCell::new(None) };
}

impl Link {
    pub(super) fn new(exchange: Exchange, notify: Notify) -> Arc<Self> {
        Arc::new(Self {
            id: exchange.id(),
            notify,
            exchange: Mutex::new(Some(exchange)),
            readable: Arc::default(),
            writable: Arc::default(),
            over: Arc::default(),
            ending: Arc::default(),
        })
    }

    /// Polls what makes the answer: a body that is polled within finds its exchange by [`current`](Self::current), however
    /// many layers of others lie around it.
    pub(super) fn enter<T>(self: &Arc<Self>, poll: impl FnOnce() -> T) -> T {
        struct Leave(Option<Arc<Link>>);
        impl Drop for Leave {
            fn drop(&mut self) {
                let _dropped_unborrowed = CURRENT.replace(self.0.take());
            }
        }
        let _leave = Leave(CURRENT.replace(Some(Arc::clone(self))));
        poll()
    }

    pub(super) fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Exchange>> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the exchange while nobody can end it.
    pub(super) fn with<T>(
        &self,
        act: impl FnOnce(&mut Exchange) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        act(self.lock().as_mut().ok_or(CallError::Ended)?)
    }

    /// Takes the exchange out, to end it.
    pub(super) fn take(&self) -> Option<Exchange> {
        self.lock().take()
    }

    /// Ready when the exchange is over: cancelled, past its deadline, or ended.
    pub(super) fn poll_over(&self, task: &Context<'_>) -> Poll<CallError> {
        self.over.wait(self.notify, self.id, 0, task)
    }

    /// Ready when the gateway asks for an end, or the exchange is over.
    pub(super) fn poll_ending(&self, task: &Context<'_>) -> Poll<()> {
        // No other asks for this event, so that one `wake` tells: to ask again would wake at once, again and again.
        if self.ending.has_rung() {
            return Poll::Ready(());
        }
        match self.ending.wait(self.notify, self.id, abi::ENDING, task) {
            // The host is from before long streams, and asks none to end.
            Poll::Ready(CallError::Invalid) | Poll::Pending => Poll::Pending,
            Poll::Ready(_over) => Poll::Ready(()),
        }
    }

    /// The next piece of the request's body; `None` at its end.
    pub(super) fn poll_read(&self, task: &Context<'_>) -> Poll<Result<Option<Bytes>, CallError>> {
        let read = self.with(|exchange| Ok(exchange.split().0.try_read()?.map(Bytes::copy_from_slice)));
        self.or_wait(read, &self.readable, abi::READABLE, task)
    }

    /// Sends a piece of the answer's body, all of it.
    pub(super) fn poll_write(&self, piece: &mut Bytes, task: &Context<'_>) -> Poll<Result<(), CallError>> {
        while !piece.is_empty() {
            let written = self.with(|exchange| exchange.split().1.try_write(piece));
            piece.advance(ready!(self.or_wait(written, &self.writable, abi::WRITABLE, task))?);
        }
        Poll::Ready(Ok(()))
    }

    fn or_wait<T>(
        &self,
        outcome: Result<T, CallError>,
        notice: &Arc<Notice>,
        events: u32,
        task: &Context<'_>,
    ) -> Poll<Result<T, CallError>> {
        match outcome {
            Err(CallError::WouldBlock) => notice.wait(self.notify, self.id, events, task).map(Err),
            done => Poll::Ready(done),
        }
    }

    /// The request's trailers, after the end of its body.
    pub(super) fn request_trailers(&self) -> Result<HeaderMap, CallError> {
        self.with(|exchange| Ok(to_map(exchange.request_trailers()?)))
    }

    /// The head of the answer.
    pub(super) fn respond(&self, head: &http::response::Parts) -> Result<(), CallError> {
        let upgrade = head.headers.get_all(UPGRADE).into_iter();
        let upgrade = upgrade.filter(|_| head.status == StatusCode::SWITCHING_PROTOCOLS);
        let upgrade =
            upgrade.map(|protocol| Header::from_bytes(UPGRADE.as_str().as_bytes(), protocol.as_bytes()));
        let fields: Vec<_> = to_fields(&head.headers).into_iter().chain(upgrade).collect();
        self.with(|exchange| exchange.respond(head.status.as_u16(), &fields))
    }

    pub(super) fn trailers(&self, trailers: &HeaderMap) -> Result<(), CallError> {
        self.with(|exchange| exchange.split().1.trailers(&to_fields(trailers)))
    }

    pub(super) fn reply(&self, head: &http::response::Parts, body: &[u8]) -> Result<(), CallError> {
        let exchange = self.take().ok_or(CallError::Ended)?;
        exchange.reply(head.status.as_u16(), &to_fields(&head.headers), body)
    }

    pub(super) fn finish(&self) -> Result<(), CallError> {
        self.take().ok_or(CallError::Ended)?.finish()
    }

    pub(super) fn abort(&self, why: &str) {
        if let Some(exchange) = self.take() {
            exchange.abort(why);
        }
    }

    /// Ends it with an error, as a handler's.
    pub(super) fn refuse(&self, error: Error) {
        if let Some(exchange) = self.take() {
            crate::sdk::send(exchange, Err::<Response, _>(error));
        }
    }
}

/// The host's service, or why an async module can't run.
pub(super) fn notify() -> Result<Notify, Error> {
    let notify = services().and_then(|services| services.notify);
    notify
        .ok_or_else(|| "the host lacks the service notify, which an async module needs: it is too old".into())
}

/// Headers of a request. Those that `http` does not take, as it does all that come from the gateway, are left out.
pub(super) fn to_map(headers: &[Header<'_>]) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(headers.len());
    for header in headers {
        let name = HeaderName::from_bytes(header.name().as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(header.value())) {
            map.append(name, value);
        }
    }
    map
}

/// Headers that a service may set for a connection that it thinks is its own, and that the host refuses.
const OF_THE_CONNECTION: [&str; 6] =
    ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];

fn to_fields(map: &HeaderMap) -> Vec<Header<'_>> {
    map.iter()
        .filter(|(name, _)| !OF_THE_CONNECTION.contains(&name.as_str()))
        .map(|(name, value)| Header::from_bytes(name.as_str().as_bytes(), value.as_bytes()))
        .collect()
}
