//! Statuses as errors, and the getters behind [`Exchange`](super::Exchange): the place where borrowed bytes get a
//! lifetime.

use super::exchange::Header;
use super::services::{Services, services};
use crate::abi::{self, GetHeaders, GetSlice, Slice, Status};
use core::fmt;

/// Why the host refused a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// The exchange has ended.
    Ended,
    /// Not now: a second head, a body before the head, trailers before the end of the body.
    State,
    /// A status or header that HTTP does not allow.
    Invalid,
    /// The client is gone or the deadline has passed: nobody will see the answer.
    Cancelled,
    /// Nothing to read yet, or no room to write yet.
    WouldBlock,
    /// More than the limit that the call named or that the host holds.
    TooLarge,
    /// A status that this SDK does not know, or no host at all.
    Other(Status),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the exchange has ended"),
            Self::State => f.write_str("the call is out of order: the head comes first and once"),
            Self::Invalid => f.write_str("a status or header that HTTP does not allow"),
            Self::Cancelled => f.write_str("the client is gone or the deadline has passed"),
            Self::WouldBlock => f.write_str("the call would have to wait"),
            Self::TooLarge => f.write_str("larger than the limit"),
            Self::Other(status) => write!(f, "the host answered status {status}"),
        }
    }
}

impl std::error::Error for CallError {}

/// A status as a result. `NOT_FOUND` is dealt with where it can come.
pub(crate) const fn check(status: Status) -> Result<(), CallError> {
    match status {
        abi::OK => Ok(()),
        abi::ENDED => Err(CallError::Ended),
        abi::STATE => Err(CallError::State),
        abi::INVALID => Err(CallError::Invalid),
        abi::CANCELLED => Err(CallError::Cancelled),
        abi::WOULD_BLOCK => Err(CallError::WouldBlock),
        abi::TOO_LARGE => Err(CallError::TooLarge),
        other => Err(CallError::Other(other)),
    }
}

/// The services, for a call that reports their absence.
pub(super) fn host() -> Result<&'static Services, CallError> {
    services().ok_or(CallError::Other(abi::FAILED))
}

/// The address of bytes that the caller keeps until the call returns.
pub(super) const fn slice(bytes: &[u8]) -> Slice {
    Slice::of(bytes)
}

/// # Safety
/// `slice` came from the host, and its bytes live for `'a` by the rules of `docs/abi.md`.
pub(super) unsafe fn bytes<'a>(slice: Slice) -> &'a [u8] {
    if slice.len == 0 {
        return &[];
    }
    // SAFETY: the host gives a non-null pointer to `len` readable bytes when `len` is not 0, nobody writes to them while
    // they are lent, and the caller vouches for `'a`.
    unsafe { core::slice::from_raw_parts(slice.ptr, slice.len) }
}

/// One of `method`, `target`, `peer`; empty if the host refuses, as it does after the end.
///
/// # Safety
/// The exchange is not ended for `'a`.
pub(super) unsafe fn text<'a>(get: fn(&Services) -> GetSlice, id: abi::Exchange) -> &'a str {
    let mut out = Slice::EMPTY;
    // SAFETY: a getter writes one `Slice` through `out`, which is a local, and may be called with any handle.
    let status = services().map_or(abi::FAILED, |services| unsafe { get(services)(id, &raw mut out) });
    if status != abi::OK {
        return "";
    }
    // SAFETY: the host filled `out`; the bytes live until the exchange ends, which is not before `'a` does (caller).
    let bytes = unsafe { bytes(out) };
    core::str::from_utf8(bytes).unwrap_or_default()
}

/// One of `headers`, `request_trailers`.
///
/// # Safety
/// The exchange is not ended for `'a`.
pub(super) unsafe fn headers<'a>(get: GetHeaders, id: abi::Exchange) -> Result<&'a [Header<'a>], CallError> {
    let (mut first, mut count) = (core::ptr::null(), 0);
    // SAFETY: a getter writes one pointer and one count through its out-pointers, which are locals.
    check(unsafe { get(id, &raw mut first, &raw mut count) })?;
    if count == 0 {
        return Ok(&[]);
    }
    // SAFETY: `Header` is `repr(transparent)` over the ABI's header; the host gave `count` of them at `first`, constant
    // until the exchange ends, which is not before `'a` does (caller).
    Ok(unsafe { core::slice::from_raw_parts(first.cast::<Header<'a>>(), count) })
}

/// The first header of that name.
///
/// # Safety
/// The exchange is not ended for `'a`.
pub(super) unsafe fn header<'a>(id: abi::Exchange, name: &str) -> Option<&'a [u8]> {
    let mut out = Slice::EMPTY;
    let services = services()?;
    // SAFETY: `header` reads `name` during the call and writes one `Slice` to the local `out`.
    let status = unsafe { (services.header)(id, slice(name.as_bytes()), &raw mut out) };
    // SAFETY: on OK the host filled `out` with bytes that live until the exchange ends, not before `'a` (caller).
    (status == abi::OK).then(|| unsafe { bytes(out) })
}

/// The next piece of the request's body; `None` at the end.
///
/// # Safety
/// No other read of this exchange's body happens during `'a`, and the exchange is not ended for `'a`.
pub(super) unsafe fn read<'a>(id: abi::Exchange, flags: u32) -> Result<Option<&'a [u8]>, CallError> {
    let mut out = Slice::EMPTY;
    // SAFETY: `body_read` writes one `Slice` to the local `out`.
    check(unsafe { (host()?.body_read)(id, flags, &raw mut out) })?;
    // SAFETY: on OK the host filled `out` with bytes that live until the next read or the end, neither before `'a` ends
    // (caller).
    let piece = unsafe { bytes(out) };
    Ok((!piece.is_empty()).then_some(piece))
}

/// What is left of the request's body.
///
/// # Safety
/// No piece that [`read`] gave is in use, and the exchange is not ended for `'a`.
pub(super) unsafe fn read_all<'a>(id: abi::Exchange, limit: usize) -> Result<&'a [u8], CallError> {
    let mut out = Slice::EMPTY;
    // SAFETY: `body_all` writes one `Slice` to the local `out`.
    check(unsafe { (host()?.body_all)(id, limit, &raw mut out) })?;
    // SAFETY: on OK the host filled `out` with bytes that live until the exchange ends, not before `'a` (caller).
    Ok(unsafe { bytes(out) })
}
