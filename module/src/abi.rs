//! The types of the C ABI, member for member those of `include/hot_module.h`.
//!
//! Functions are `Option` because a table from a newer or older side may lack them: a member past `size` is absent, and
//! a null one too. `docs/abi.md` says who may call what from which thread and how long borrowed bytes live.

use core::ffi::c_void;

/// What a call answers: [`OK`] or one of the negative constants here.
pub type Status = i32;
/// It was done.
pub const OK: Status = 0;
/// No such exchange, or it has ended.
pub const ENDED: Status = -1;
/// Not now: a second head, a body before the head, trailers before the end of the body.
pub const STATE: Status = -2;
/// An argument: a null pointer, a status, a header that HTTP does not allow.
pub const INVALID: Status = -3;
/// The client is gone or the deadline has passed.
pub const CANCELLED: Status = -4;
/// Only with [`NONBLOCK`]: nothing to read yet, or no room to write yet.
pub const WOULD_BLOCK: Status = -5;
/// More than the limit that the call named or that the host holds.
pub const TOO_LARGE: Status = -6;
/// No such header.
pub const NOT_FOUND: Status = -7;
/// The module's own failure.
pub const FAILED: Status = -8;

/// Flag of `body_read` and `body_write`: do not wait.
pub const NONBLOCK: u32 = 1;

/// Event of [`Host::notify`]: `body_read` would not answer [`WOULD_BLOCK`].
pub const READABLE: u32 = 1;
/// Event of [`Host::notify`]: `body_write` would not answer [`WOULD_BLOCK`].
pub const WRITABLE: u32 = 2;
/// Event of [`Host::notify`]: the gateway asks for an end, to be reached within [`Host::time_left`].
pub const ENDING: u32 = 4;
/// All events of [`Host::notify`]: other bits are refused.
pub const EVENTS: u32 = READABLE | WRITABLE | ENDING;

/// The status by which a connection becomes the module's.
pub const SWITCHING_PROTOCOLS: u16 = 101;

/// Whether an answer is a long stream, which has no deadline until it is asked to end: a connection after a 101, and
/// server-sent events. `content_type` is the value of that header.
#[must_use]
pub fn is_long_stream(status: u16, content_type: Option<&[u8]>) -> bool {
    let is_events = |value: &[u8]| {
        let kind = value.split(|byte| *byte == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    };
    status == SWITCHING_PROTOCOLS || content_type.is_some_and(is_events)
}

/// Kind of [`Host::metric`]: adds the value, which is not negative.
pub const COUNTER: u32 = 1;
/// Kind of [`Host::metric`]: sets the value.
pub const GAUGE: u32 = 2;
/// Kind of [`Host::metric`]: observes the value.
pub const HISTOGRAM: u32 = 3;

/// Level of [`Host::log`].
pub const LOG_ERROR: u32 = 1;
/// Level of [`Host::log`].
pub const LOG_WARN: u32 = 2;
/// Level of [`Host::log`].
pub const LOG_INFO: u32 = 3;
/// Level of [`Host::log`].
pub const LOG_DEBUG: u32 = 4;

/// Names one exchange. Never 0, and never used again for another exchange of the process.
pub type Exchange = u64;

/// Borrowed bytes. `ptr` may be null if `len` is 0.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Slice {
    /// The first byte.
    pub ptr: *const u8,
    /// How many bytes.
    pub len: usize,
}

// SAFETY: a `Slice` is an address and a length; to read through it takes an unsafe call, whose caller vouches for the
// bytes. Sending or sharing the two numbers between threads touches no memory.
#[expect(unsafe_code, reason = "the pointers are plain data until an unsafe call reads through them")]
unsafe impl Send for Slice {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "the pointers are plain data until an unsafe call reads through them")]
unsafe impl Sync for Slice {}

impl Slice {
    /// No bytes.
    pub const EMPTY: Self = Self { ptr: core::ptr::null(), len: 0 };

    /// The address and length of `bytes`; the lifetime is from here on for the caller to keep.
    #[must_use]
    pub const fn of(bytes: &[u8]) -> Self {
        Self { ptr: bytes.as_ptr(), len: bytes.len() }
    }
}

/// One header or trailer. Names that come from the host are in lower case.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// The name.
    pub name: Slice,
    /// The value.
    pub value: Slice,
}

/// A getter of one slice of an exchange.
pub type GetSlice = unsafe extern "C" fn(Exchange, out: *mut Slice) -> Status;
/// A getter of the headers or trailers of an exchange.
pub type GetHeaders = unsafe extern "C" fn(Exchange, out: *mut *const Header, count: *mut usize) -> Status;
/// What [`Host::notify`] calls, with the context that it was given.
pub type Wake = unsafe extern "C" fn(context: *mut c_void);

/// The host's services: `hot_host` of the header, which says what each does.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "each member is documented in hot_module.h, and would drift from it here")]
pub struct Host {
    pub abi: u32,
    pub size: u32,
    pub log: Option<unsafe extern "C" fn(level: u32, text: Slice)>,
    pub now: Option<unsafe extern "C" fn() -> u64>,
    pub config: Option<unsafe extern "C" fn() -> Slice>,
    pub method: Option<GetSlice>,
    pub target: Option<GetSlice>,
    pub peer: Option<GetSlice>,
    pub headers: Option<GetHeaders>,
    pub header: Option<unsafe extern "C" fn(Exchange, name: Slice, out: *mut Slice) -> Status>,
    pub time_left: Option<unsafe extern "C" fn(Exchange, nanoseconds: *mut u64) -> Status>,
    pub body_read: Option<unsafe extern "C" fn(Exchange, flags: u32, out: *mut Slice) -> Status>,
    pub body_all: Option<unsafe extern "C" fn(Exchange, limit: usize, out: *mut Slice) -> Status>,
    pub request_trailers: Option<GetHeaders>,
    pub reply: Option<
        unsafe extern "C" fn(
            Exchange,
            status: u32,
            headers: *const Header,
            count: usize,
            body: Slice,
        ) -> Status,
    >,
    pub respond:
        Option<unsafe extern "C" fn(Exchange, status: u32, headers: *const Header, count: usize) -> Status>,
    pub body_write:
        Option<unsafe extern "C" fn(Exchange, flags: u32, body: Slice, written: *mut usize) -> Status>,
    pub trailers: Option<unsafe extern "C" fn(Exchange, headers: *const Header, count: usize) -> Status>,
    pub finish: Option<unsafe extern "C" fn(Exchange) -> Status>,
    pub abort: Option<unsafe extern "C" fn(Exchange, why: Slice) -> Status>,
    pub metric: Option<
        unsafe extern "C" fn(
            kind: u32,
            name: Slice,
            labels: *const Header,
            count: usize,
            value: f64,
        ) -> Status,
    >,
    pub notify: Option<
        unsafe extern "C" fn(Exchange, events: u32, wake: Option<Wake>, context: *mut c_void) -> Status,
    >,
}

/// What a module is: `hot_table` of the header, which says what each member does.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "each member is documented in hot_module.h, and would drift from it here")]
pub struct Table {
    pub abi: u32,
    pub size: u32,
    pub start: Option<
        unsafe extern "C" fn(
            host: *const Host,
            config: Slice,
            this: *mut *mut c_void,
            why: *mut Slice,
        ) -> Status,
    >,
    pub handle: Option<unsafe extern "C" fn(this: *mut c_void, exchange: Exchange)>,
    pub health: Option<unsafe extern "C" fn(this: *mut c_void, why: *mut Slice) -> Status>,
    pub save: Option<unsafe extern "C" fn(this: *mut c_void, schema: *mut u32, state: *mut Slice) -> Status>,
    pub load: Option<unsafe extern "C" fn(this: *mut c_void, schema: u32, state: Slice) -> Status>,
    pub stop: Option<unsafe extern "C" fn(this: *mut c_void)>,
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Slice>() == 16 && offset_of!(Slice, len) == 8);
    assert!(size_of::<Header>() == 32 && offset_of!(Header, value) == 16);
    assert!(size_of::<Host>() == 168 && offset_of!(Host, log) == 8 && offset_of!(Host, abort) == 144);
    assert!(offset_of!(Host, metric) == 152 && offset_of!(Host, notify) == 160);
    assert!(size_of::<Table>() == 56 && offset_of!(Table, start) == 8 && offset_of!(Table, stop) == 48);
};
