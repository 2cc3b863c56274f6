//! The host's table of services, as the ABI has it.

use super::exchange::{End, Exchange, Field, Notice, Outcome, State};
use super::journal;
use crate::abi::{self, Header, Host, Slice, Status};
use core::cell::Cell;
use core::ffi::c_void;
use std::borrow::ToOwned;
use std::collections::BTreeMap;
use std::string::String;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};
use std::vec::Vec;

/// Most headers or trailers, and most bytes of them with what each header and the head itself cost, as in hot-host.
const MAX_HEADERS: usize = 128;
const MAX_HEAD: usize = 64 * 1024;
const HEAD_COST: usize = 8;
const FIELD_COST: usize = 4;

/// Most bytes of a line of the log, as in hot-host.
const MAX_LINE: usize = 3800;

/// Headers about the connection, which is the gateway's.
const OF_THE_CONNECTION: [&str; 6] =
    ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];

#[expect(clippy::cast_possible_truncation, reason = "the table's size is asserted in `abi`, and small")]
const SIZE: u32 = size_of::<Host>() as u32;

/// The table that modules get.
pub(super) static HOST: Host = Host {
    abi: crate::ABI,
    size: SIZE,
    log: Some(log),
    now: Some(now),
    config: Some(config),
    method: Some(method),
    target: Some(target),
    peer: Some(peer),
    headers: Some(headers),
    header: Some(header),
    time_left: Some(time_left),
    body_read: Some(body_read),
    body_all: Some(body_all),
    request_trailers: Some(request_trailers),
    reply: Some(reply),
    respond: Some(respond),
    body_write: Some(body_write),
    trailers: Some(trailers),
    finish: Some(finish),
    abort: Some(abort),
    metric: Some(metric),
    notify: Some(notify),
};

/// The exchanges that have not ended, by handle.
static OPEN: Mutex<BTreeMap<u64, Arc<Exchange>>> = Mutex::new(BTreeMap::new());
/// Told when one is added to or removed from [`OPEN`].
static CHANGED: Condvar = Condvar::new();

std::thread_local! {
    /// Whether this thread is within a `wake`, which may call no service.
    static IN_WAKE: Cell<bool> = const { Cell::new(false) };
}

pub(super) fn open() -> MutexGuard<'static, BTreeMap<u64, Arc<Exchange>>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens an exchange.
pub(super) fn add(handle: u64, exchange: &Arc<Exchange>) {
    open().insert(handle, Arc::clone(exchange));
    CHANGED.notify_all();
}

/// Waits until `done` says so of the open exchanges, at most until `until`.
pub(super) fn wait_open(
    until: Option<Instant>,
    done: impl Fn(&BTreeMap<u64, Arc<Exchange>>) -> bool,
) -> bool {
    let mut open = open();
    while !done(&open) {
        let now = Instant::now();
        open = match until {
            None => CHANGED.wait(open).unwrap_or_else(PoisonError::into_inner),
            Some(until) if until <= now => return false,
            Some(until) => CHANGED.wait_timeout(open, until - now).unwrap_or_else(PoisonError::into_inner).0,
        };
    }
    true
}

/// Tells those that [`wait_open`] of something else that their condition looks at.
pub(super) fn tell() {
    drop(open());
    CHANGED.notify_all();
}

/// Calls a `wake` that is due.
pub(super) fn wake(notice: Notice) {
    let before = IN_WAKE.replace(true);
    // SAFETY: the module handed both over for one call, on any thread; the notice is consumed, so it is the only one.
    unsafe { (notice.wake)(notice.context) };
    IN_WAKE.set(before);
}

fn find(handle: abi::Exchange) -> Outcome<Arc<Exchange>> {
    if IN_WAKE.get() {
        journal::error("a wake called a service of the host, which the contract forbids");
        return Err(abi::STATE);
    }
    open().get(&handle).cloned().ok_or(abi::ENDED)
}

/// After a call that may have ended it.
fn conclude(handle: abi::Exchange, exchange: &Exchange, outcome: Outcome) -> Status {
    let cancelled = outcome == Err(abi::CANCELLED);
    let ended = exchange.with(|state| {
        if cancelled {
            state.outgoing.end.get_or_insert_with(|| End::Aborted("cancelled".to_owned()));
        }
        state.outgoing.end.is_some()
    });
    if ended {
        open().remove(&handle);
        CHANGED.notify_all();
    }
    status(outcome)
}

fn status(outcome: Outcome) -> Status {
    outcome.err().unwrap_or(abi::OK)
}

/// # Safety
/// `slice` has an address that is good for its length and stays so for `'a`, or a null one.
unsafe fn borrow<'a>(slice: Slice) -> Outcome<&'a [u8]> {
    match slice.len {
        0 => Ok(&[]),
        len if slice.ptr.is_null() || isize::try_from(len).is_err() => Err(abi::INVALID),
        // SAFETY: the address is not null and the length is one that memory can have; the rest is the caller's word.
        len => Ok(unsafe { core::slice::from_raw_parts(slice.ptr, len) }),
    }
}

/// Makes a call that has one result, and writes that where the module wants it. Without a place for it nothing is done.
///
/// # Safety
/// `out` is null or good for a write of one `T`.
unsafe fn give<T>(handle: abi::Exchange, out: *mut T, call: impl FnOnce(&Exchange) -> Outcome<T>) -> Status {
    let outcome = find(handle).and_then(|x| if out.is_null() { Err(abi::INVALID) } else { call(&x) });
    match outcome {
        Ok(value) => {
            // SAFETY: it is not null, and the rest is the caller's word.
            unsafe { out.write(value) };
            abi::OK
        }
        Err(status) => status,
    }
}

/// An array of the module.
///
/// # Safety
/// `first` is good for reads of `count` headers, of which there are few, and stays so for `'a`; or it is null or misaligned.
unsafe fn borrow_all<'a>(first: *const Header, count: usize) -> Outcome<&'a [Header]> {
    match count {
        0 => Ok(&[]),
        _ if first.is_null() || !first.is_aligned() => Err(abi::INVALID),
        // SAFETY: it is not null, and aligned; the rest is the caller's word.
        count => Ok(unsafe { core::slice::from_raw_parts(first, count) }),
    }
}

/// Copies the fields that a module sends, and checks them as hot-host does; `is_101` is whether they go with that status.
///
/// # Safety
/// `first` is good for reads of `count` headers and their bytes during the call, or null, or misaligned.
unsafe fn copy_fields(first: *const Header, count: usize, is_101: bool) -> Outcome<Vec<Field>> {
    if count > MAX_HEADERS {
        return Err(abi::TOO_LARGE);
    }
    // SAFETY: the count is small; the rest is the caller's word.
    let raw = unsafe { borrow_all(first, count) }?;
    let mut fields = Vec::with_capacity(count);
    for header in raw {
        // SAFETY: the caller's word.
        let name = unsafe { borrow(header.name) }?;
        // SAFETY: as above.
        let value = unsafe { borrow(header.value) }?;
        fields.push((check_field(name, value, is_101)?, value.to_owned()));
    }
    let sizes = fields.iter().map(|(name, value)| FIELD_COST + name.len() + value.len());
    if HEAD_COST + sizes.sum::<usize>() > MAX_HEAD { Err(abi::TOO_LARGE) } else { Ok(fields) }
}

/// The name in lower case, if HTTP and the gateway allow it.
fn check_field(name: &[u8], value: &[u8], is_101: bool) -> Outcome<String> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let is_text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    let name = name.to_ascii_lowercase();
    if name.is_empty() || !name.iter().all(is_token) || !value.iter().all(is_text) {
        return Err(abi::INVALID);
    }
    // With a 101 the module may choose the protocol, and there is no body whose length it could promise.
    let is_refused = |name: &str| match name {
        "upgrade" if is_101 => false,
        "content-length" => is_101,
        name => OF_THE_CONNECTION.contains(&name),
    };
    String::from_utf8(name).ok().filter(|name| !is_refused(name)).ok_or(abi::INVALID)
}

fn check_status(status: u32) -> Outcome<u16> {
    u16::try_from(status).ok().filter(|status| (200..=599).contains(status)).ok_or(abi::INVALID)
}

unsafe extern "C" fn log(level: u32, text: Slice) {
    // SAFETY: the module lends the text for this call.
    let text = unsafe { borrow(text) }.unwrap_or_default();
    let text = &text[..text.len().min(MAX_LINE)];
    journal::log(level, String::from_utf8_lossy(text).into_owned());
}

unsafe extern "C" fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

unsafe extern "C" fn config() -> Slice {
    Slice::of(journal::config())
}

unsafe extern "C" fn method(handle: abi::Exchange, out: *mut Slice) -> Status {
    // SAFETY: the module gives a place for one slice, or null.
    unsafe { give(handle, out, |x| Ok(Slice::of(x.head.method.as_bytes()))) }
}

unsafe extern "C" fn target(handle: abi::Exchange, out: *mut Slice) -> Status {
    // SAFETY: as in `method`.
    unsafe { give(handle, out, |x| Ok(Slice::of(x.head.target.as_bytes()))) }
}

unsafe extern "C" fn peer(handle: abi::Exchange, out: *mut Slice) -> Status {
    // SAFETY: as in `method`.
    unsafe { give(handle, out, |x| Ok(Slice::of(x.head.peer.as_bytes()))) }
}

unsafe extern "C" fn headers(handle: abi::Exchange, out: *mut *const Header, count: *mut usize) -> Status {
    // SAFETY: the module gives places for one pointer and one count, or null.
    unsafe { give_two(handle, out, count, |x| Ok((x.view.as_ptr(), x.view.len()))) }
}

/// As [`give`], for an address and a count.
///
/// # Safety
/// Each of `out` and `count` is null or good for a write of one value.
unsafe fn give_two(
    handle: abi::Exchange,
    out: *mut *const Header,
    count: *mut usize,
    call: impl FnOnce(&Exchange) -> Outcome<(*const Header, usize)>,
) -> Status {
    let has_place = !out.is_null() && !count.is_null();
    match find(handle).and_then(|x| if has_place { call(&x) } else { Err(abi::INVALID) }) {
        Ok((first, number)) => {
            // SAFETY: it is not null, and the rest is the caller's word.
            unsafe { out.write(first) };
            // SAFETY: as above.
            unsafe { count.write(number) };
            abi::OK
        }
        Err(status) => status,
    }
}

unsafe extern "C" fn header(handle: abi::Exchange, name: Slice, out: *mut Slice) -> Status {
    let find_in = |x: &Exchange| {
        // SAFETY: the module lends the name for this call.
        let name = String::from_utf8_lossy(unsafe { borrow(name) }?).to_ascii_lowercase();
        let value =
            x.head.headers.iter().find(|(found, _)| *found == name).map(|(_, value)| Slice::of(value));
        value.ok_or(abi::NOT_FOUND)
    };
    // SAFETY: as in `method`.
    unsafe { give(handle, out, find_in) }
}

unsafe extern "C" fn time_left(handle: abi::Exchange, out: *mut u64) -> Status {
    let left_of = |x: &Exchange| {
        let left = x.with(|state| state.clock.left(Instant::now()));
        Ok(left.and_then(|left| u64::try_from(left.as_nanos()).ok()).unwrap_or(u64::MAX))
    };
    // SAFETY: the module gives a place for one number, or null.
    unsafe { give(handle, out, left_of) }
}

unsafe extern "C" fn body_read(handle: abi::Exchange, flags: u32, out: *mut Slice) -> Status {
    let read = |x: &Exchange| {
        check_flags(flags)?;
        x.attempt(flags, State::read)
    };
    // SAFETY: as in `method`.
    unsafe { give(handle, out, read) }
}

unsafe extern "C" fn body_all(handle: abi::Exchange, limit: usize, out: *mut Slice) -> Status {
    // SAFETY: as in `method`.
    unsafe { give(handle, out, |x| x.attempt(0, |state| state.read_all(limit))) }
}

unsafe extern "C" fn request_trailers(
    handle: abi::Exchange,
    out: *mut *const Header,
    count: *mut usize,
) -> Status {
    // SAFETY: as in `headers`.
    unsafe { give_two(handle, out, count, |x| x.with(|state| state.request_trailers())) }
}

unsafe extern "C" fn reply(
    handle: abi::Exchange,
    code: u32,
    first: *const Header,
    count: usize,
    body: Slice,
) -> Status {
    let Ok(exchange) = find(handle) else { return abi::ENDED };
    let outcome = (|| {
        let code = check_status(code)?;
        // SAFETY: the module lends `count` headers for this call.
        let fields = unsafe { copy_fields(first, count, false) }?;
        // SAFETY: the module lends the body for this call.
        let body = unsafe { borrow(body) }?;
        exchange.with(|state| state.respond(code, fields))?;
        write_all(&exchange, body)?;
        exchange.with(State::finish)
    })();
    conclude(handle, &exchange, outcome)
}

unsafe extern "C" fn respond(handle: abi::Exchange, code: u32, first: *const Header, count: usize) -> Status {
    let outcome = find(handle).and_then(|x| {
        let is_101 = code == u32::from(abi::SWITCHING_PROTOCOLS) && x.is_upgrade;
        let code = if is_101 { abi::SWITCHING_PROTOCOLS } else { check_status(code)? };
        // SAFETY: the module lends `count` headers for this call.
        let mut fields = unsafe { copy_fields(first, count, is_101) }?;
        if is_101 && !fields.iter().any(|(name, _)| name == "upgrade") {
            // The gateway says it to the client: what was asked for.
            fields.extend(x.head.headers.iter().filter(|(name, _)| name == "upgrade").cloned());
        }
        x.with(|state| state.respond(code, fields))
    });
    status(outcome)
}

fn write_all(exchange: &Exchange, mut body: &[u8]) -> Outcome {
    loop {
        let taken = exchange.attempt(0, |state| state.write(body))?;
        body = &body[taken..];
        if body.is_empty() {
            return Ok(());
        }
    }
}

unsafe extern "C" fn body_write(
    handle: abi::Exchange,
    flags: u32,
    body: Slice,
    written: *mut usize,
) -> Status {
    let outcome = find(handle).and_then(|x| {
        // SAFETY: the module lends the body for this call.
        let body = unsafe { borrow(body) }?;
        check_flags(flags)?;
        if flags & abi::NONBLOCK == 0 {
            return write_all(&x, body).map(|()| body.len());
        }
        if written.is_null() {
            return Err(abi::INVALID);
        }
        x.attempt(flags, |state| state.write(body))
    });
    match outcome {
        Ok(_) if written.is_null() => abi::OK,
        Ok(taken) => {
            // SAFETY: not null, so the module gives a place for one count.
            unsafe { written.write(taken) };
            abi::OK
        }
        Err(status) => status,
    }
}

const fn check_flags(flags: u32) -> Outcome {
    if flags & !abi::NONBLOCK == 0 { Ok(()) } else { Err(abi::INVALID) }
}

unsafe extern "C" fn trailers(handle: abi::Exchange, first: *const Header, count: usize) -> Status {
    let outcome = find(handle).and_then(|x| {
        // SAFETY: the module lends `count` trailers for this call.
        let fields = unsafe { copy_fields(first, count, false) }?;
        x.with(|state| state.trailers(fields))
    });
    status(outcome)
}

unsafe extern "C" fn finish(handle: abi::Exchange) -> Status {
    let Ok(exchange) = find(handle) else { return abi::ENDED };
    let outcome = exchange.with(State::finish);
    conclude(handle, &exchange, outcome)
}

unsafe extern "C" fn abort(handle: abi::Exchange, why: Slice) -> Status {
    let Ok(exchange) = find(handle) else { return abi::ENDED };
    // SAFETY: the module lends the text for this call.
    let why = String::from_utf8_lossy(unsafe { borrow(why) }.unwrap_or_default()).into_owned();
    let outcome = exchange.with(|state| state.abort(why));
    conclude(handle, &exchange, outcome)
}

unsafe extern "C" fn metric(
    kind: u32,
    name: Slice,
    labels: *const Header,
    count: usize,
    value: f64,
) -> Status {
    // SAFETY: the module lends the name for this call.
    let name = unsafe { borrow(name) };
    if count > journal::MAX_LABELS {
        return abi::INVALID;
    }
    let outcome = (|| {
        let text = |bytes: &[u8]| core::str::from_utf8(bytes).map(ToOwned::to_owned).or(Err(abi::INVALID));
        // SAFETY: the module lends `count` labels for this call, which are few.
        let raw = unsafe { borrow_all(labels, count) }?;
        let mut labels = Vec::with_capacity(raw.len());
        for label in raw {
            // SAFETY: the module lends the labels' bytes for this call.
            let name = unsafe { borrow(label.name) }?;
            // SAFETY: as above.
            let value = unsafe { borrow(label.value) }?;
            labels.push((text(name)?, text(value)?));
        }
        journal::metric(kind, text(name?)?, labels, value)
    })();
    status(outcome)
}

unsafe extern "C" fn notify(
    handle: abi::Exchange,
    events: u32,
    wake: Option<abi::Wake>,
    context: *mut c_void,
) -> Status {
    let outcome = find(handle).and_then(|x| {
        let Some(wake) = wake.filter(|_| events <= abi::EVENTS) else { return Err(abi::INVALID) };
        // `with` calls the new one at once if its event is so already.
        x.with(|state| state.notify(events, Notice { wake, context }))
    });
    match outcome {
        Ok(replaced) => {
            replaced.into_iter().for_each(self::wake);
            abi::OK
        }
        Err(status) => status,
    }
}
