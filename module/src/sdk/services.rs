//! The host's table as the SDK uses it: checked once at the start, then every member is there.

use super::calls::slice;
use crate::ABI;
use crate::abi::{Exchange, GetHeaders, GetSlice, Header, Host, Slice, Status};
use core::mem::offset_of;
use std::sync::OnceLock;

/// How long a table is at least: that of the first hosts ended before `metric`.
const NEEDED: usize = offset_of!(Host, metric);

/// The members that the SDK calls. One process loads one module, so one static holds them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Services {
    pub(super) log: unsafe extern "C" fn(u32, Slice),
    pub(super) now: unsafe extern "C" fn() -> u64,
    pub(super) method: GetSlice,
    pub(super) target: GetSlice,
    pub(super) peer: GetSlice,
    pub(super) headers: GetHeaders,
    pub(super) header: unsafe extern "C" fn(Exchange, Slice, *mut Slice) -> Status,
    pub(super) time_left: unsafe extern "C" fn(Exchange, *mut u64) -> Status,
    pub(super) body_read: unsafe extern "C" fn(Exchange, u32, *mut Slice) -> Status,
    pub(super) body_all: unsafe extern "C" fn(Exchange, usize, *mut Slice) -> Status,
    pub(super) request_trailers: GetHeaders,
    pub(super) reply: unsafe extern "C" fn(Exchange, u32, *const Header, usize, Slice) -> Status,
    pub(super) respond: unsafe extern "C" fn(Exchange, u32, *const Header, usize) -> Status,
    pub(super) body_write: unsafe extern "C" fn(Exchange, u32, Slice, *mut usize) -> Status,
    pub(super) trailers: unsafe extern "C" fn(Exchange, *const Header, usize) -> Status,
    pub(super) finish: unsafe extern "C" fn(Exchange) -> Status,
    pub(super) abort: unsafe extern "C" fn(Exchange, Slice) -> Status,
    pub(super) metric: Option<Metric>,
    #[cfg(feature = "async")]
    pub(crate) notify: Option<Notify>,
}

/// The service `metric`, which the first hosts lack.
pub(super) type Metric = unsafe extern "C" fn(u32, Slice, *const Header, usize, f64) -> Status;

/// The service `notify`, which the first hosts lack.
#[cfg(feature = "async")]
pub(crate) type Notify =
    unsafe extern "C" fn(Exchange, u32, Option<crate::abi::Wake>, *mut core::ffi::c_void) -> Status;

static SERVICES: OnceLock<Services> = OnceLock::new();

impl Services {
    /// Takes what the SDK needs out of the host's table, or says what is missing.
    ///
    /// # Safety
    /// `host` points to a table that is as long as its `size` says.
    pub(super) unsafe fn of(host: *const Host) -> Result<Self, &'static str> {
        // A host older than this module has a shorter table than `Host`, so there must be no reference to it as a whole.
        // SAFETY: a table is at least as long as its first two members (caller).
        let abi = unsafe { (*host).abi };
        // SAFETY: as above.
        let size = unsafe { (*host).size };
        if abi != ABI {
            return Err("the host speaks another ABI than this module was built for (0)");
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size < NEEDED {
            return Err("the host's table of services is shorter than this module was built for");
        }
        macro_rules! take {
            ($($member:ident),*; $($(#[$when:meta])? $later:ident),*) => {
                Self {
                    // SAFETY: these members end before `NEEDED`, which is no more than `size` (caller).
                    $($member: unsafe { (*host).$member }
                        .ok_or(concat!("the host lacks the service ", stringify!($member)))?,)*
                    $($(#[$when])? $later: if size >= offset_of!(Host, $later) + size_of::<Option<fn()>>() {
                        // SAFETY: the member ends within `size` (caller).
                        unsafe { (*host).$later }
                    } else {
                        None
                    },)*
                }
            };
        }
        Ok(take!(
            log,
            now,
            method,
            target,
            peer,
            headers,
            header,
            time_left,
            body_read,
            body_all,
            request_trailers,
            reply,
            respond,
            body_write,
            trailers,
            finish,
            abort;
            metric,
            #[cfg(feature = "async")]
            notify
        ))
    }

    /// Keeps the table for [`services`]. A second start of one process keeps the first's.
    pub(super) fn install(self) {
        SERVICES.get_or_init(|| self);
    }
}

/// The host's services, once `start` has been called; `None` outside a host, as in a module's own unit tests.
pub(crate) fn services() -> Option<&'static Services> {
    SERVICES.get()
}

/// How much a line of the log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something failed that should not.
    Error,
    /// Something is odd and was dealt with.
    Warn,
    /// Something happened that an operator may want to know.
    Info,
    /// For whoever works on the module.
    Debug,
}

/// Writes one line to the module's log. Outside a host it does nothing.
pub fn log(level: Level, text: &str) {
    let level = match level {
        Level::Error => crate::abi::LOG_ERROR,
        Level::Warn => crate::abi::LOG_WARN,
        Level::Info => crate::abi::LOG_INFO,
        Level::Debug => crate::abi::LOG_DEBUG,
    };
    if let Some(services) = services() {
        // SAFETY: `log` may be called from any thread and reads the slice during the call; `text` outlives it.
        unsafe { (services.log)(level, slice(text.as_bytes())) }
    }
}

/// Nanoseconds since 1970-01-01 00:00 UTC by the host's clock, or 0 outside a host.
#[must_use]
pub fn now() -> u64 {
    // SAFETY: `now` takes nothing and may be called from any thread.
    services().map_or(0, |services| unsafe { (services.now)() })
}
