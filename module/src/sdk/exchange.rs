//! One request and its response as a value: it can be sent to another thread, ends once, and aborts when dropped.

use super::calls::{self, CallError, check, host, slice};
use crate::abi;
use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;
use std::vec::Vec;

/// One request and its response.
///
/// What is borrowed from it (path, headers, pieces of the body) lives as long as the borrow. Ending it consumes it:
/// [`reply`](Self::reply), [`finish`](Self::finish) or [`abort`](Self::abort); a drop is an abort.
pub struct Exchange {
    id: abi::Exchange,
    /// Whether its answer has become a long stream.
    is_long: bool,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A header of a request, or one to send: name and value, borrowed.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Header<'a> {
    raw: abi::Header,
    bytes: PhantomData<&'a [u8]>,
}

const _: () = assert!(size_of::<Header<'_>>() == size_of::<abi::Header>());

impl<'a> Header<'a> {
    /// A header to send. The host checks name and value.
    #[must_use]
    pub const fn new(name: &'a str, value: &'a str) -> Self {
        Self::from_bytes(name.as_bytes(), value.as_bytes())
    }

    /// A header to send whose value need not be UTF-8.
    #[must_use]
    pub const fn from_bytes(name: &'a [u8], value: &'a [u8]) -> Self {
        Self { raw: abi::Header { name: slice(name), value: slice(value) }, bytes: PhantomData }
    }

    /// The name, in lower case when it comes from a request.
    #[must_use]
    pub fn name(&self) -> &'a str {
        // SAFETY: `raw` came from `from_bytes`, whose slices live for `'a`, or from the host with that lifetime
        // (`calls::headers`).
        let name = unsafe { calls::bytes(self.raw.name) };
        core::str::from_utf8(name).unwrap_or_default()
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &'a [u8] {
        // SAFETY: as in `name`.
        unsafe { calls::bytes(self.raw.value) }
    }
}

impl fmt::Debug for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.value().escape_ascii())
    }
}

/// The headers or trailers of a request, in the order in which they came.
pub type Headers<'a> = &'a [Header<'a>];

impl Exchange {
    /// Takes on the exchange that the host handed over. The caller has checked that nobody else has.
    pub(super) const fn new(id: abi::Exchange) -> Self {
        Self { id, is_long: false }
    }

    /// The handle: a number that no other exchange of this process has.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// The method, as in `GET`.
    #[must_use]
    pub fn method(&self) -> &str {
        // SAFETY: only functions that consume `self` end the exchange, so it has not ended while `&self` is borrowed.
        unsafe { calls::text(|s| s.method, self.id) }
    }

    /// Path with query, as in `/greet?name=Ada`.
    #[must_use]
    pub fn target(&self) -> &str {
        // SAFETY: as in `method`.
        unsafe { calls::text(|s| s.target, self.id) }
    }

    /// The path, as it was sent (percent signs are not decoded).
    #[must_use]
    pub fn path(&self) -> &str {
        self.target().split_once('?').map_or_else(|| self.target(), |(path, _)| path)
    }

    /// What follows the question mark, if there is one.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.target().split_once('?').map(|(_, query)| query)
    }

    /// The client's address, as in `192.0.2.1:50000`.
    #[must_use]
    pub fn peer(&self) -> &str {
        // SAFETY: as in `method`.
        unsafe { calls::text(|s| s.peer, self.id) }
    }

    /// The request's headers.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        // SAFETY: as in `method`.
        host().and_then(|s| unsafe { calls::headers(s.headers, self.id) }).unwrap_or_default()
    }

    /// The first header of that name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        // SAFETY: as in `method`.
        unsafe { calls::header(self.id, name) }
    }

    /// The time until the deadline, as of now: it stands still while the exchange waits for its client. Zero when it has
    /// passed; [`Duration::MAX`] of a long stream (server-sent events, a connection after a 101) that has not been asked to
    /// end, and wherever else there is no deadline.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        time_left(self.id)
    }

    /// Whether the gateway asks for an end, as it asks long streams whose instance is replaced: write what is left, and
    /// [finish](Self::finish) within [`time_left`](Self::time_left). An answer that has a deadline is never asked.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        is_ending(self.id, self.is_long)
    }

    /// The request's trailers, after the end of its body.
    ///
    /// # Errors
    /// [`CallError::State`] before the end of the body, [`CallError::Cancelled`].
    pub fn request_trailers(&self) -> Result<Headers<'_>, CallError> {
        // SAFETY: as in `method`.
        unsafe { calls::headers(host()?.request_trailers, self.id) }
    }

    /// The two directions apart, to read the request's body and write the answer in turns.
    pub const fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        let id = self.id;
        (Reader { id, exchange: PhantomData }, Writer { id, is_long: &mut self.is_long })
    }

    /// All that is left of the request's body. Waits for it.
    ///
    /// # Errors
    /// [`CallError::TooLarge`] beyond `limit` bytes, [`CallError::Cancelled`].
    pub fn read_all(&self, limit: usize) -> Result<Vec<u8>, CallError> {
        // SAFETY: no piece is lent meanwhile (a `Reader` borrows `&mut`), `&self` keeps the exchange from ending, and the
        // bytes, which the host keeps until then, are copied within this call.
        unsafe { calls::read_all(self.id, limit) }.map(<[u8]>::to_vec)
    }

    /// The whole answer, and the end.
    ///
    /// # Errors
    /// [`CallError::State`] if the head was sent, [`CallError::Invalid`], [`CallError::Cancelled`]. The exchange is
    /// aborted then.
    pub fn reply(self, status: u16, headers: &[Header<'_>], body: impl AsRef<[u8]>) -> Result<(), CallError> {
        let (first, count) = raw(headers);
        // SAFETY: `first` points to `count` headers; they, their slices and the body outlive the call, which copies.
        let status = unsafe { (host()?.reply)(self.id, status.into(), first, count, slice(body.as_ref())) };
        self.ended(status)
    }

    /// The head of the answer, a status of 200 to 599; the body follows with [`Writer::write`]. With 101, which is for a
    /// request that has the header `upgrade`, the connection's bytes follow in both directions.
    ///
    /// # Errors
    /// [`CallError::State`] if it was sent, [`CallError::Invalid`], [`CallError::Cancelled`].
    pub fn respond(&mut self, status: u16, headers: &[Header<'_>]) -> Result<(), CallError> {
        self.split().1.respond(status, headers)
    }

    /// A piece of the answer's body, all of it. Waits while the client is slow.
    ///
    /// # Errors
    /// [`CallError::State`] before the head, [`CallError::Cancelled`].
    pub fn write(&mut self, body: &[u8]) -> Result<(), CallError> {
        self.split().1.write(body)
    }

    /// The end of a complete answer.
    ///
    /// # Errors
    /// [`CallError::State`] before the head, [`CallError::Cancelled`]. The exchange is aborted then.
    pub fn finish(self) -> Result<(), CallError> {
        // SAFETY: `finish` takes any handle and touches no memory of ours.
        let status = unsafe { (host()?.finish)(self.id) };
        self.ended(status)
    }

    /// The end without an answer: 500, or a cut connection if the head is under way. `why` goes to the log.
    pub fn abort(self, why: &str) {
        self.end_without(why);
        core::mem::forget(self);
    }

    /// A call that ends the exchange: on success the handle is spent, else the drop aborts.
    fn ended(self, status: abi::Status) -> Result<(), CallError> {
        check(status)?;
        core::mem::forget(self);
        Ok(())
    }

    fn end_without(&self, why: &str) {
        if let Ok(services) = host() {
            // SAFETY: `abort` takes any handle and reads `why` during the call. Its only refusal is ENDED, which is what
            // is wanted.
            unsafe { (services.abort)(self.id, slice(why.as_bytes())) };
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.end_without(if std::thread::panicking() {
            "the handler panicked"
        } else {
            "the exchange was dropped without an end"
        });
    }
}

/// The request's body, piece by piece.
#[derive(Debug)]
pub struct Reader<'a> {
    id: abi::Exchange,
    exchange: PhantomData<&'a mut Exchange>,
}

impl Reader<'_> {
    /// The next piece, or `None` at the end. Waits for it.
    ///
    /// # Errors
    /// [`CallError::Cancelled`].
    pub fn read(&mut self) -> Result<Option<&[u8]>, CallError> {
        // SAFETY: the piece borrows `&mut self`, the only reader (it borrows the exchange), which `'_` keeps from ending.
        unsafe { calls::read(self.id, 0) }
    }

    /// As [`read`](Self::read), without waiting.
    ///
    /// # Errors
    /// [`CallError::WouldBlock`] if nothing is there yet, [`CallError::Cancelled`].
    pub fn try_read(&mut self) -> Result<Option<&[u8]>, CallError> {
        // SAFETY: as in `read`.
        unsafe { calls::read(self.id, abi::NONBLOCK) }
    }
}

/// The answer, piece by piece. [`Exchange::finish`] ends it.
#[derive(Debug)]
pub struct Writer<'a> {
    id: abi::Exchange,
    is_long: &'a mut bool,
}

impl Writer<'_> {
    /// As [`Exchange::respond`].
    ///
    /// # Errors
    /// As [`Exchange::respond`].
    pub fn respond(&mut self, status: u16, headers: &[Header<'_>]) -> Result<(), CallError> {
        let (first, count) = raw(headers);
        // SAFETY: `first` points to `count` headers; they and their slices outlive the call, which copies them.
        check(unsafe { (host()?.respond)(self.id, status.into(), first, count) })?;
        let kind = headers.iter().find(|header| header.name().eq_ignore_ascii_case("content-type"));
        *self.is_long = abi::is_long_stream(status, kind.map(Header::value));
        Ok(())
    }

    /// As [`Exchange::time_left`].
    #[must_use]
    pub fn time_left(&self) -> Duration {
        time_left(self.id)
    }

    /// As [`Exchange::is_ending`].
    #[must_use]
    pub fn is_ending(&self) -> bool {
        is_ending(self.id, *self.is_long)
    }

    /// As [`Exchange::write`].
    ///
    /// # Errors
    /// As [`Exchange::write`].
    pub fn write(&mut self, body: &[u8]) -> Result<(), CallError> {
        // SAFETY: the slice outlives the call; `written` may be null without NONBLOCK.
        check(unsafe { (host()?.body_write)(self.id, 0, slice(body), core::ptr::null_mut()) })
    }

    /// Writes what there is room for, without waiting: how many bytes that was.
    ///
    /// # Errors
    /// [`CallError::WouldBlock`] if there is no room at all, and as [`Exchange::write`].
    pub fn try_write(&mut self, body: &[u8]) -> Result<usize, CallError> {
        let mut written = 0;
        // SAFETY: the slice outlives the call, and `written` is a local.
        check(unsafe { (host()?.body_write)(self.id, abi::NONBLOCK, slice(body), &raw mut written) })?;
        Ok(written)
    }

    /// Trailers, which travel with the end. At most once.
    ///
    /// # Errors
    /// [`CallError::State`] before the head or a second time, [`CallError::Invalid`], [`CallError::Cancelled`].
    pub fn trailers(&mut self, trailers: &[Header<'_>]) -> Result<(), CallError> {
        let (first, count) = raw(trailers);
        // SAFETY: as in `respond`.
        check(unsafe { (host()?.trailers)(self.id, first, count) })
    }
}

fn time_left(id: abi::Exchange) -> Duration {
    let mut nanoseconds = 0;
    // SAFETY: `time_left` writes one `u64` to a local, and leaves it at 0 when it refuses.
    match host().and_then(|s| check(unsafe { (s.time_left)(id, &raw mut nanoseconds) })) {
        Ok(()) if nanoseconds == u64::MAX => Duration::MAX,
        Ok(()) => Duration::from_nanos(nanoseconds),
        Err(_) => Duration::ZERO,
    }
}

/// Only a long stream is asked to end, and by that it gets a deadline.
fn is_ending(id: abi::Exchange, is_long: bool) -> bool {
    is_long && time_left(id) < Duration::MAX
}

/// Headers as the ABI wants them: `Header` is `repr(transparent)` over the ABI's.
const fn raw(headers: &[Header<'_>]) -> (*const abi::Header, usize) {
    (headers.as_ptr().cast(), headers.len())
}
