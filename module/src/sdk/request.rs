//! A request as a handler reads it.

use super::calls::CallError;
use super::error::{OrStatus, StatusError};
use super::exchange::{Exchange, Headers, Reader};
use super::query;
use super::{Error, response};
use core::net::SocketAddr;
use core::time::Duration;
use std::borrow::Cow;
use std::format;
use std::string::String;
use std::vec::Vec;

/// A request: its head is read in place, its body when it is asked for.
///
/// ```
/// use hot_module::{Error, Request, Response, StatusError};
///
/// fn handle(request: &mut Request) -> Result<Response, Error> {
///     match (request.method(), request.path()) {
///         ("GET", "/notes") => {
///             let limit = request.param("limit").unwrap_or("10".into());
///             Ok(Response::text(format!("the last {limit} notes\n")))
///         }
///         ("POST", "/notes") => {
///             let note = request.text(64 * 1024)?;
///             Ok(Response::text(note).status(201).header("location", "/notes/1"))
///         }
///         (_, "/notes") => Err(StatusError::new(405, "a note can be read or posted").into()),
///         _ => Err(StatusError::new(404, "no such page").into()),
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Request {
    exchange: Exchange,
}

impl Request {
    pub(super) const fn new(exchange: Exchange) -> Self {
        Self { exchange }
    }

    /// The exchange, to go on at its own level.
    #[must_use]
    pub(super) fn into_exchange(self) -> Exchange {
        self.exchange
    }

    /// The method, as in `GET`.
    #[must_use]
    pub fn method(&self) -> &str {
        self.exchange.method()
    }

    /// The path, as it was sent (percent signs are not decoded).
    #[must_use]
    pub fn path(&self) -> &str {
        self.exchange.path()
    }

    /// What follows the question mark, if there is one, as it was sent.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.exchange.query()
    }

    /// The first parameter of that name in the query, decoded.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<Cow<'_, str>> {
        self.params().find_map(|(found, value)| (found == name).then_some(value))
    }

    /// The parameters of the query, decoded, in the order in which they came.
    pub fn params(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        query::pairs(self.query().unwrap_or_default())
    }

    /// The first header of that name, in any case, if it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        core::str::from_utf8(self.exchange.header(name)?).ok()
    }

    /// All headers, in the order in which they came.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        self.exchange.headers()
    }

    /// Who sent it: the other end of the connection, which may be a proxy.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.exchange.peer().parse().ok()
    }

    /// As [`Exchange::time_left`].
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.exchange.time_left()
    }

    /// The body, or what was not read of it yet. Waits for it.
    ///
    /// # Errors
    /// A [`StatusError`] with 413 beyond `limit` bytes; [`CallError::Cancelled`] if the client is gone.
    pub fn bytes(&mut self, limit: usize) -> Result<Vec<u8>, Error> {
        match self.exchange.read_all(limit) {
            Err(CallError::TooLarge) => Err(too_large(limit).into()),
            read => Ok(read?),
        }
    }

    /// As [`bytes`](Self::bytes), of a body that is text.
    ///
    /// # Errors
    /// A [`StatusError`] with 400 if it is not UTF-8, and as [`bytes`](Self::bytes).
    pub fn text(&mut self, limit: usize) -> Result<String, Error> {
        Ok(String::from_utf8(self.bytes(limit)?).or_status(400, "the body is not UTF-8")?)
    }

    /// As [`bytes`](Self::bytes), of a body that is JSON. Its content type is not looked at.
    ///
    /// # Errors
    /// A [`StatusError`] with 400 that says what was found and expected and where, and as [`bytes`](Self::bytes).
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&mut self, limit: usize) -> Result<T, Error> {
        let bytes = self.bytes(limit)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            StatusError::new(400, format!("the body is not the JSON that was expected: {error}")).into()
        })
    }

    /// The body piece by piece, without a limit.
    pub const fn reader(&mut self) -> Reader<'_> {
        self.exchange.split().0
    }

    /// The request's trailers, after the end of its body.
    ///
    /// # Errors
    /// [`CallError::State`] before the end of the body, [`CallError::Cancelled`].
    pub fn trailers(&self) -> Result<Headers<'_>, CallError> {
        self.exchange.request_trailers()
    }
}

fn too_large(limit: usize) -> StatusError {
    StatusError::new(413, format!("the body is larger than the {limit} bytes that are allowed"))
}

impl Exchange {
    /// Answers by way of the typed side: as [`Module::handle`](super::Module::handle) does, for a module that works on
    /// [`RawModule`](super::RawModule)'s level and for threads of its own.
    pub fn answer(self, handle: impl FnOnce(&mut Request) -> Result<super::Response, Error>) {
        let mut request = Request::new(self);
        let outcome = handle(&mut request);
        response::send(request.into_exchange(), outcome);
    }
}
