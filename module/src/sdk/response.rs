//! A response as a handler makes it, and how it is sent.

use super::error::{Verdict, chain, judge};
use super::exchange::{Exchange, Header, Reader, Writer};
use super::{CallError, Error, Level, log};
use core::fmt;
use std::borrow::Cow;
use std::boxed::Box;
use std::format;
use std::vec::Vec;

/// A response: a status, headers, and a body that is there as a whole or is written piece by piece.
///
/// ```
/// use hot_module::Response;
///
/// let made = Response::text("made\n").status(201).header("location", "/notes/7");
/// let gone = Response::new(303).header("location", "/");
/// let rows = Response::stream(|_, writer| {
///     for row in 0..1_000_000 {
///         writer.write(format!("{row}\n").as_bytes())?; // waits while the client is slow
///     }
///     Ok(())
/// });
/// # let _ = (made, gone, rows);
/// ```
#[must_use = "a response does nothing unless a handler returns it"]
pub struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<Field>,
    pub(crate) body: Payload,
    trailers: Vec<Field>,
}

/// A header to send.
pub(crate) type Field = (Cow<'static, str>, Cow<'static, str>);

/// What writes a body, with the request's body at hand.
type Stream = dyn FnOnce(&mut Reader<'_>, &mut Writer<'_>) -> Result<(), Error> + Send;

pub(crate) enum Payload {
    Whole(Vec<u8>),
    Stream(Box<Stream>),
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = match &self.body {
            Payload::Whole(bytes) => Some(bytes.len()),
            Payload::Stream(_) => None,
        };
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body_len", &body)
            .finish_non_exhaustive()
    }
}

impl Response {
    /// An empty response with that status, 200 to 599.
    pub const fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Payload::Whole(Vec::new()), trailers: Vec::new() }
    }

    /// 200 with a text.
    pub fn text(text: impl Into<Vec<u8>>) -> Self {
        Self::new(200).header("content-type", "text/plain; charset=utf-8").body(text)
    }

    /// 200 with a page.
    pub fn html(page: impl Into<Vec<u8>>) -> Self {
        Self::new(200).header("content-type", "text/html; charset=utf-8").body(page)
    }

    /// 200 with a value as JSON.
    ///
    /// # Errors
    /// If the value can't be written as JSON, as a map whose keys are no strings.
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        Ok(Self::new(200).header("content-type", "application/json").body(serde_json::to_vec(value)?))
    }

    /// 200 with a body that `write` writes after the head has gone. It may read the request's body in turns.
    ///
    /// An error of it is logged and cuts the connection: the client sees that the body is not complete.
    ///
    /// With the content type `text/event-stream` it has no deadline, and looks at [`Writer::is_ending`] from time to time.
    /// With the status 101 both directions are the connection's bytes.
    pub fn stream(
        write: impl FnOnce(&mut Reader<'_>, &mut Writer<'_>) -> Result<(), Error> + Send + 'static,
    ) -> Self {
        Self { body: Payload::Stream(Box::new(write)), ..Self::new(200) }
    }

    /// With another status, 200 to 599; or 101 with a [`stream`](Self::stream), for a request with the header `upgrade`.
    pub const fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// With one more header. The host checks name and value; one that HTTP does not allow makes the answer a 500.
    pub fn header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With this body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Payload::Whole(body.into());
        self
    }

    /// With one more trailer, sent after the body.
    pub fn trailer(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.trailers.push((name.into(), value.into()));
        self
    }
}

/// The answer of an error: what the client may know.
impl From<&super::StatusError> for Response {
    fn from(error: &super::StatusError) -> Self {
        Self::text(format!("{}\n", error.message())).status(error.status())
    }
}

/// Sends what a handler came to, and logs what went wrong.
pub(crate) fn send(exchange: Exchange, outcome: Result<Response, Error>) {
    let sent = match outcome {
        Ok(response) => deliver(exchange, response),
        Err(error) => refuse(exchange, &*error),
    };
    match sent {
        // A client that is gone is no fault of the module's, and it can't be told anything.
        Ok(()) | Err(CallError::Cancelled | CallError::Ended) => {}
        Err(error) => log(Level::Error, &format!("the response could not be sent: {error}")),
    }
}

/// Answers a handler's error.
fn refuse(exchange: Exchange, error: &(dyn std::error::Error + 'static)) -> Result<(), CallError> {
    match judge(error) {
        Verdict::Answer(status, message) => {
            let level = if status >= 500 { Level::Error } else { Level::Debug };
            log(level, &format!("answered {status}: {}", chain(error)));
            deliver(exchange, Response::text(format!("{message}\n")).status(status))
        }
        Verdict::Nobody => {
            exchange.abort("the client is gone");
            Ok(())
        }
    }
}

fn deliver(mut exchange: Exchange, response: Response) -> Result<(), CallError> {
    let headers = fields(&response.headers);
    match response.body {
        Payload::Whole(body) if response.trailers.is_empty() => {
            return exchange.reply(response.status, &headers, body);
        }
        Payload::Whole(body) => {
            exchange.respond(response.status, &headers)?;
            exchange.write(&body)?;
        }
        Payload::Stream(write) => {
            exchange.respond(response.status, &headers)?;
            let (mut reader, mut writer) = exchange.split();
            if let Err(error) = write(&mut reader, &mut writer) {
                break_off(exchange, &*error);
                return Ok(());
            }
        }
    }
    if !response.trailers.is_empty() {
        exchange.split().1.trailers(&fields(&response.trailers))?;
    }
    exchange.finish()
}

/// Ends an answer whose head has gone and whose body failed.
fn break_off(exchange: Exchange, error: &(dyn std::error::Error + 'static)) {
    if judge(error) != Verdict::Nobody {
        log(Level::Error, &format!("the body of an answer broke off: {}", chain(error)));
    }
    exchange.abort("the body broke off");
}

fn fields(fields: &[Field]) -> Vec<Header<'_>> {
    fields.iter().map(|(name, value)| Header::new(name, value)).collect()
}
