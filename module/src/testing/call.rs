//! The client's side of an exchange: a request as it is made, a call as it goes, an answer as it came.

use super::exchange::{DEADLINE, End, Exchange, Field, Head, State, WINDOW};
use super::{Host, TIME};
use core::fmt;
use std::borrow::{Cow, ToOwned};
use std::string::{String, ToString};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::vec::Vec;

/// A request that is being made. [`send`](Self::send) sends it whole, [`open`](Self::open) piece by piece.
#[derive(Debug)]
#[must_use = "a request is not sent until it is"]
pub struct RequestBuilder<'a> {
    host: &'a Host,
    head: Head,
    body: Vec<u8>,
    time: Duration,
}

impl<'a> RequestBuilder<'a> {
    pub(super) fn new(host: &'a Host, method: &str, target: &str) -> Self {
        let head = Head {
            method: method.to_owned(),
            target: target.to_owned(),
            peer: "192.0.2.1:50000".to_owned(),
            headers: Vec::new(),
        };
        Self { host, head, body: Vec::new(), time: TIME }
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.head.headers.push((name.to_ascii_lowercase(), value.as_ref().to_owned()));
        self
    }

    /// With this body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// From that address, as in `192.0.2.1:50000`.
    pub fn peer(mut self, peer: &str) -> Self {
        peer.clone_into(&mut self.head.peer);
        self
    }

    /// With that much time until the exchange's deadline instead of 30 seconds. As on a node it is the module's own, and
    /// stands still while the exchange waits for the test, which may stand still as long. A long stream has no deadline;
    /// that much is then what the client waits for one thing, before it goes away.
    pub const fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Sends the request whole and waits for the whole answer.
    #[must_use]
    pub fn send(mut self) -> Answer {
        let body = core::mem::take(&mut self.body);
        let mut call = self.start(|exchange| {
            exchange.with(|state| {
                state.incoming.push(body);
                state.incoming.end(Vec::new());
            });
        });
        call.is_sent = true;
        call.finish()
    }

    /// Sends the head, and the body so far; the rest goes by way of the call.
    pub fn open(mut self) -> Call {
        let body = core::mem::take(&mut self.body);
        self.start(|exchange| exchange.with(|state| state.incoming.push(body)))
    }

    fn start(self, before: impl FnOnce(&Exchange)) -> Call {
        let exchange = Arc::new(Exchange::new(self.head, self.time));
        before(&exchange);
        self.host.handle(&exchange);
        Call { exchange, is_sent: false }
    }
}

/// An exchange that is under way, from the client's side. Dropping it is a client that goes away.
#[derive(Debug)]
pub struct Call {
    exchange: Arc<Exchange>,
    is_sent: bool,
}

impl Call {
    /// Sends a piece of the body; waits while the module does not read. `false` if the module has ended the exchange.
    pub fn write(&mut self, piece: impl Into<Vec<u8>>) -> bool {
        let piece = piece.into();
        let has_room = self.wait(|state| {
            if state.check().is_err() {
                return Some(false);
            }
            (state.incoming.unread() < WINDOW).then_some(true)
        });
        let goes_on = has_room == Some(true);
        if goes_on {
            self.exchange.with(|state| state.incoming.push(piece));
        }
        goes_on
    }

    /// The end of the body.
    pub fn end(&mut self) {
        self.end_with(&[]);
    }

    /// The end of the body, with trailers.
    pub fn end_with(&mut self, trailers: &[(&str, &str)]) {
        self.is_sent = true;
        let owned = |(name, value): &(&str, &str)| (name.to_ascii_lowercase(), value.as_bytes().to_owned());
        self.exchange.with(|state| state.incoming.end(trailers.iter().map(owned).collect()));
    }

    /// Waits for the head of the answer: its status. 500 if the module aborted before it, 504 past the deadline.
    pub fn status(&mut self) -> u16 {
        self.wait_head();
        self.exchange.with(|state| status(state))
    }

    /// Waits for the next piece of the answer's body; `None` at its end, complete or not ([`finish`](Self::finish) says).
    pub fn read(&mut self) -> Option<Vec<u8>> {
        let read = self.wait(|state| match state.outgoing.pop() {
            Some(piece) => Some(Some(piece)),
            None => (state.outgoing.end.is_some() || state.cancelled.is_some()).then_some(None),
        });
        read.flatten()
    }

    /// The gateway asks for an end within that time, as it does when an instance is replaced. That counts for a long
    /// stream, one that the answer has become or becomes: server-sent events, or a connection after a 101.
    pub fn ask_to_end(&mut self, within: Duration) {
        self.exchange.with(|state| state.ask_to_end(Instant::now() + within));
    }

    /// The client goes away.
    pub fn cancel(&mut self) {
        self.exchange.cancel("the client went away");
    }

    /// Waits until the module has ended the exchange, at most until its deadline; it must end a cancelled one too, and has
    /// ten seconds for that. `false` if it does not.
    pub fn wait_end(&mut self) -> bool {
        let is_over = |state: &mut State| state.check().is_err().then_some(());
        self.wait(is_over);
        let until = Instant::now() + super::PATIENCE;
        self.exchange.wait(|_| Some(until), |state| state.outgoing.end.is_some().then_some(())).is_some()
    }

    /// Ends the request's body if that is still open, and waits for the rest of the answer.
    #[must_use]
    pub fn finish(mut self) -> Answer {
        if !self.is_sent {
            self.end();
        }
        self.wait_head();
        let mut body = Vec::new();
        while let Some(piece) = self.read() {
            body.extend(piece);
        }
        let is_head = self.exchange.head.method == "HEAD";
        self.exchange.with(|state| {
            let status = status(state);
            if is_head || matches!(status, 204 | 304) {
                body.clear();
            }
            let (mut headers, trailers) = (Vec::new(), state.outgoing.trailers.clone().unwrap_or_default());
            if let Some((_, sent)) = &state.outgoing.head {
                headers.clone_from(sent);
            }
            let failure = match (&state.outgoing.end, state.cancelled) {
                (Some(End::Finished), _) => None,
                (Some(End::Aborted(why)), None) => Some(why.clone()),
                (_, why) => Some(why.unwrap_or_default().to_string()),
            };
            Answer { status, headers, body, trailers, failure }
        })
    }

    fn wait_head(&self) {
        self.wait(|state| {
            let is_there =
                state.outgoing.head.is_some() || state.outgoing.end.is_some() || state.cancelled.is_some();
            is_there.then_some(())
        });
    }

    /// Waits until the deadline at most, and cancels then, as the gateway does; without one, for as long as the client
    /// waits.
    fn wait<T>(&self, ready: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let patience = Instant::now().checked_add(self.exchange.time);
        let done = self.exchange.wait(|state| state.clock.until().or(patience), ready);
        if done.is_none() {
            let is_late = self.exchange.with(|state| state.is_late());
            self.exchange.cancel(if is_late { DEADLINE } else { "the client has waited long enough" });
        }
        done
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.exchange.cancel("the client went away");
    }
}

/// What the client sees as the status.
fn status(state: &State) -> u16 {
    match (&state.outgoing.head, state.cancelled) {
        (Some((status, _)), _) => *status,
        (None, Some(DEADLINE)) => 504,
        (None, _) => 500,
    }
}

/// An answer as a client got it.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<Field>,
    body: Vec<u8>,
    trailers: Vec<Field>,
    failure: Option<String>,
}

impl Answer {
    /// The status: as the module sent it, 500 if it aborted before it sent one, 504 if the deadline passed before.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The first header of that name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        find(&self.headers, name)
    }

    /// The first trailer of that name, in any case.
    #[must_use]
    pub fn trailer(&self, name: &str) -> Option<Cow<'_, str>> {
        find(&self.trailers, name)
    }

    /// The body, as far as it came.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The body as text; what is not UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The body as a type.
    ///
    /// # Errors
    /// If it is no JSON of that type; the text has the body.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, crate::Error> {
        serde_json::from_slice(&self.body)
            .map_err(|error| std::format!("{error} in {:?}", self.text()).into())
    }

    /// Why the answer is not complete, if it is not: what the module gave for an abort, or that the deadline passed.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.text())
    }
}

fn find<'a>(fields: &'a [Field], name: &str) -> Option<Cow<'a, str>> {
    let found = fields.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
    found.map(|(_, value)| String::from_utf8_lossy(value))
}
