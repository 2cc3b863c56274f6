//! The host's table of services, as the module calls it: addresses and numbers in, statuses out.
//!
//! A handle that names nothing, a null pointer and a length beyond the address space are refused here; that a pointer
//! which is none of these is good is for the module to keep (docs/abi.md, "Misuse").

mod borrow;
mod request;
mod response;

use crate::engine::Engine;
use crate::exchange::{Exchange, Notice, Refusal};
use crate::metrics::{Kind, METRICS};
use crate::output;
use borrow::{Outcome, borrow, borrow_labels, parts};
use hot_module::ABI;
use hot_module::abi::{self, Header, Host, Slice, Status, Wake};
use std::ffi::c_void;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

/// The table that every module gets.
#[expect(clippy::cast_possible_truncation, reason = "the table's size is asserted to be 168 bytes")]
pub(crate) static HOST: Host = Host {
    abi: ABI,
    size: size_of::<Host>() as u32,
    log: Some(log),
    now: Some(now),
    config: Some(config),
    method: Some(request::method),
    target: Some(request::target),
    peer: Some(request::peer),
    headers: Some(request::headers),
    header: Some(request::header),
    time_left: Some(request::time_left),
    body_read: Some(request::body_read),
    body_all: Some(request::body_all),
    request_trailers: Some(request::request_trailers),
    reply: Some(response::reply),
    respond: Some(response::respond),
    body_write: Some(response::body_write),
    trailers: Some(response::trailers),
    finish: Some(response::finish),
    abort: Some(response::abort),
    metric: Some(metric),
    notify: Some(notify),
};

/// The release's config, for [`config`].
static CONFIG: OnceLock<&'static [u8]> = OnceLock::new();

/// Keeps the config for the life of the process, and gives it.
pub(crate) fn install_config(bytes: Vec<u8>) -> &'static [u8] {
    CONFIG.get_or_init(|| bytes.leak())
}

unsafe extern "C" fn log(level: u32, text: Slice) {
    let prefix = match level {
        abi::LOG_ERROR => "error: ",
        abi::LOG_WARN => "warn: ",
        abi::LOG_DEBUG => "debug: ",
        _ => "info: ",
    };
    // SAFETY: the module lends the text for this call.
    if let Ok(text) = unsafe { borrow(text) } {
        output::line(prefix, text);
    }
}

unsafe extern "C" fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

unsafe extern "C" fn config() -> Slice {
    CONFIG.get().map_or(Slice::EMPTY, |config| Slice::of(config))
}

unsafe extern "C" fn metric(
    kind: u32,
    name: Slice,
    first: *const Header,
    count: usize,
    value: f64,
) -> Status {
    let record = || {
        let kind = Kind::of(kind).ok_or(Refusal::Invalid)?;
        // SAFETY: the module lends the name for this call.
        let name = unsafe { borrow(name) }?;
        // SAFETY: the module lends `count` labels for this call.
        let labels = unsafe { borrow_labels(first, count) }?;
        METRICS.record(kind, name, parts(labels), value)
    };
    record().map_or_else(Refusal::status, |()| abi::OK)
}

unsafe extern "C" fn notify(
    handle: abi::Exchange,
    events: u32,
    wake: Option<Wake>,
    context: *mut c_void,
) -> Status {
    let outcome = find(handle).and_then(|(engine, exchange)| {
        let wake = wake.ok_or(Refusal::Invalid)?;
        // SAFETY: the module hands over `wake` for one call with this context on any thread.
        let notice = unsafe { Notice::new(wake, context) };
        exchange.notify(events, notice, |deadline| engine.alarm().set(engine, deadline, handle))
    });
    outcome.map_or_else(Refusal::status, |()| abi::OK)
}

/// The open exchange of a handle.
fn find(handle: abi::Exchange) -> Outcome<(&'static Engine, Arc<Exchange>)> {
    let engine = Engine::get().ok_or(Refusal::Ended)?;
    engine
        .find(handle)
        .filter(|exchange| !exchange.has_ended())
        .map(|exchange| (engine, exchange))
        .ok_or(Refusal::Ended)
}
