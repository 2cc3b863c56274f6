//! The host's table of services, as the module calls it: addresses and numbers in, statuses out.
//!
//! A handle that names nothing, a null pointer and a length beyond the address space are refused here; that a pointer
//! which is none of these is good is for the module to keep (docs/abi.md, "Misuse").

mod borrow;

use crate::engine::Engine;
use crate::exchange::{Exchange, Refusal};
use crate::output;
use borrow::{Outcome, borrow, borrow_fields, give, give_two, parts};
use hot_module::ABI;
use hot_module::abi::{self, Header, Host, NONBLOCK, Slice, Status};
use hot_wire::data::AbortCode;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

/// The table that every module gets.
#[expect(clippy::cast_possible_truncation, reason = "the table's size is asserted to be 168 bytes")]
pub(crate) static HOST: Host = Host {
    abi: ABI,
    size: size_of::<Host>() as u32,
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
    metric: None,
    notify: None,
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

unsafe extern "C" fn method(handle: abi::Exchange, out: *mut Slice) -> Status {
    // SAFETY: the module gives a place for one slice, or null.
    unsafe { give(out, find(handle).map(|(_, x)| Slice::of(x.head().method()))) }
}

unsafe extern "C" fn target(handle: abi::Exchange, out: *mut Slice) -> Status {
    // SAFETY: as in `method`.
    unsafe { give(out, find(handle).map(|(_, x)| Slice::of(x.head().target()))) }
}

unsafe extern "C" fn peer(handle: abi::Exchange, out: *mut Slice) -> Status {
    // SAFETY: as in `method`.
    unsafe { give(out, find(handle).map(|(_, x)| Slice::of(x.head().peer()))) }
}

unsafe extern "C" fn headers(handle: abi::Exchange, out: *mut *const Header, count: *mut usize) -> Status {
    let found = find(handle).map(|(_, x)| (x.headers().as_ptr(), x.headers().len()));
    // SAFETY: the module gives places for one pointer and one count, or null.
    unsafe { give_two(out, count, found) }
}

unsafe extern "C" fn header(handle: abi::Exchange, name: Slice, out: *mut Slice) -> Status {
    // SAFETY: the module lends the name for this call.
    let name = unsafe { borrow(name) };
    let found = find(handle).and_then(|(_, x)| Ok(x.head().find(name?).map(Slice::of)));
    match found {
        Ok(None) => abi::NOT_FOUND,
        // SAFETY: as in `method`.
        Ok(Some(value)) => unsafe { give(out, Ok(value)) },
        Err(refusal) => refusal.status(),
    }
}

unsafe extern "C" fn time_left(handle: abi::Exchange, out: *mut u64) -> Status {
    let left = find(handle).map(|(_, x)| {
        let left = x.deadline().map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)
    });
    // SAFETY: the module gives a place for one `u64`, or null.
    unsafe { give(out, left) }
}

unsafe extern "C" fn body_read(handle: abi::Exchange, flags: u32, out: *mut Slice) -> Status {
    // SAFETY: as in `method`.
    unsafe { give(out, wait(handle, flags, Exchange::read)) }
}

unsafe extern "C" fn body_all(handle: abi::Exchange, limit: usize, out: *mut Slice) -> Status {
    // SAFETY: as in `method`.
    unsafe { give(out, wait(handle, 0, |exchange| exchange.read_all(limit))) }
}

unsafe extern "C" fn request_trailers(
    handle: abi::Exchange,
    out: *mut *const Header,
    count: *mut usize,
) -> Status {
    // SAFETY: as in `headers`.
    unsafe { give_two(out, count, find(handle).and_then(|(_, x)| x.trailers())) }
}

unsafe extern "C" fn reply(
    handle: abi::Exchange,
    status: u32,
    first: *const Header,
    count: usize,
    body: Slice,
) -> Status {
    answer(|| {
        let (engine, exchange) = find(handle)?;
        // SAFETY: the module lends `count` headers and the body for this call.
        let fields = unsafe { borrow_fields(first, count) }?;
        // SAFETY: as above.
        let body = unsafe { borrow(body) }?;
        let outcome = send_reply(engine, &exchange, status, fields, body);
        conclude(engine, &exchange, outcome)
    })
}

fn send_reply(
    engine: &'static Engine,
    exchange: &Arc<Exchange>,
    status: u32,
    fields: &[Header],
    body: &[u8],
) -> Outcome {
    let sent = exchange.respond(check_status(status)?, parts(fields), body, true)?;
    if sent < body.len() {
        write_all(engine, exchange, &body[sent..])?;
        exchange.finish()?;
    }
    Ok(())
}

unsafe extern "C" fn respond(
    handle: abi::Exchange,
    status: u32,
    first: *const Header,
    count: usize,
) -> Status {
    answer(|| {
        let (engine, exchange) = find(handle)?;
        // SAFETY: the module lends `count` headers for this call.
        let fields = unsafe { borrow_fields(first, count) }?;
        exchange.respond(check_status(status)?, parts(fields), &[], false)?;
        engine.flush(exchange.link());
        Ok(())
    })
}

unsafe extern "C" fn body_write(
    handle: abi::Exchange,
    flags: u32,
    body: Slice,
    written: *mut usize,
) -> Status {
    let outcome = find(handle).and_then(|(engine, exchange)| {
        // SAFETY: the module lends the body for this call.
        let body = unsafe { borrow(body) }?;
        if flags & NONBLOCK == 0 {
            write_all(engine, &exchange, body)?;
            return Ok(body.len());
        }
        if written.is_null() {
            return Err(Refusal::Invalid);
        }
        exchange.check()?;
        if exchange.link().is_full() {
            return Err(Refusal::WouldBlock);
        }
        let written = exchange.write(body)?;
        engine.flush(exchange.link());
        Ok(written)
    });
    match outcome {
        Ok(_) if written.is_null() => abi::OK,
        // SAFETY: the module gives a place for one count.
        outcome => unsafe { give(written, outcome) },
    }
}

unsafe extern "C" fn trailers(handle: abi::Exchange, first: *const Header, count: usize) -> Status {
    answer(|| {
        let (_, exchange) = find(handle)?;
        // SAFETY: the module lends `count` trailers for this call.
        let fields = unsafe { borrow_fields(first, count) }?;
        exchange.add_trailers(parts(fields))
    })
}

unsafe extern "C" fn finish(handle: abi::Exchange) -> Status {
    answer(|| {
        let (engine, exchange) = find(handle)?;
        let outcome = exchange.finish();
        conclude(engine, &exchange, outcome)
    })
}

unsafe extern "C" fn abort(handle: abi::Exchange, why: Slice) -> Status {
    answer(|| {
        let (engine, exchange) = find(handle)?;
        // SAFETY: the module lends the text for this call. Without one that can be read, it aborts all the same.
        let why = unsafe { borrow(why) }.unwrap_or_default();
        let outcome = exchange.abort(AbortCode::Failed, &String::from_utf8_lossy(why));
        conclude(engine, &exchange, outcome)
    })
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

/// After a call that ends an exchange: if it did, by success or because nobody will see the answer, it is forgotten.
fn conclude(engine: &'static Engine, exchange: &Arc<Exchange>, outcome: Outcome) -> Outcome {
    if outcome == Err(Refusal::Cancelled) {
        // Ends it without a word to the gateway, which has given it up.
        exchange.abort(AbortCode::Unfinished, "cancelled").ok();
    }
    if exchange.has_ended() {
        engine.forget(exchange);
    }
    engine.flush(exchange.link());
    outcome
}

/// Does `call`, and if it would have to wait, waits for it unless the flags say otherwise. A turn is given away first.
fn wait<T>(handle: abi::Exchange, flags: u32, call: impl Fn(&Exchange) -> Outcome<T>) -> Outcome<T> {
    let (engine, exchange) = find(handle)?;
    let mut outcome = call(&exchange);
    if outcome.as_ref().is_err_and(|refusal| *refusal == Refusal::WouldBlock) && flags & NONBLOCK == 0 {
        engine.yield_turn();
        engine.flush(exchange.link());
        outcome = exchange.wait_for(|| {
            let outcome = call(&exchange);
            // A window that it granted must reach the gateway before it waits again.
            engine.flush(exchange.link());
            outcome
        });
    }
    engine.flush(exchange.link());
    outcome
}

/// Writes all of `body`, waiting for credit and for room.
fn write_all(engine: &'static Engine, exchange: &Arc<Exchange>, mut body: &[u8]) -> Outcome {
    let link = exchange.link();
    exchange.check()?;
    while !body.is_empty() {
        while link.is_full() {
            engine.yield_turn();
            link.flush_all();
            link.wait_room(exchange.deadline());
            if exchange.deadline().is_some_and(|at| Instant::now() >= at) {
                return Err(Refusal::Cancelled);
            }
            exchange.check()?;
        }
        let written = match exchange.write(body) {
            Err(Refusal::WouldBlock) => {
                engine.yield_turn();
                engine.flush(link);
                exchange.wait_for(|| exchange.write(body))?
            }
            written => written?,
        };
        body = &body[written..];
        engine.flush(link);
    }
    Ok(())
}

fn check_status(status: u32) -> Outcome<u16> {
    u16::try_from(status).ok().filter(|status| (200..=599).contains(status)).ok_or(Refusal::Invalid)
}

fn answer(call: impl FnOnce() -> Outcome) -> Status {
    call().map_or_else(Refusal::status, |()| abi::OK)
}
