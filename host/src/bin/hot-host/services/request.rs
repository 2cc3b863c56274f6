//! What the module asks about a request, and how it reads its body.

use super::borrow::{Outcome, borrow, give, give_two};
use super::find;
use crate::exchange::{Exchange, Refusal};
use hot_module::abi::{self, Header, NONBLOCK, Slice, Status};
use std::time::{Duration, Instant};

pub(super) unsafe extern "C" fn method(handle: abi::Exchange, out: *mut Slice) -> Status {
    // SAFETY: the module gives a place for one slice, or null.
    unsafe { give(out, find(handle).map(|(_, x)| Slice::of(x.head().method()))) }
}

pub(super) unsafe extern "C" fn target(handle: abi::Exchange, out: *mut Slice) -> Status {
    // SAFETY: as in `method`.
    unsafe { give(out, find(handle).map(|(_, x)| Slice::of(x.head().target()))) }
}

pub(super) unsafe extern "C" fn peer(handle: abi::Exchange, out: *mut Slice) -> Status {
    // SAFETY: as in `method`.
    unsafe { give(out, find(handle).map(|(_, x)| Slice::of(x.head().peer()))) }
}

pub(super) unsafe extern "C" fn headers(
    handle: abi::Exchange,
    out: *mut *const Header,
    count: *mut usize,
) -> Status {
    let found = find(handle).map(|(_, x)| (x.headers().as_ptr(), x.headers().len()));
    // SAFETY: the module gives places for one pointer and one count, or null.
    unsafe { give_two(out, count, found) }
}

pub(super) unsafe extern "C" fn header(handle: abi::Exchange, name: Slice, out: *mut Slice) -> Status {
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

pub(super) unsafe extern "C" fn time_left(handle: abi::Exchange, out: *mut u64) -> Status {
    let left = find(handle).map(|(_, x)| {
        let left = x.deadline().map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)
    });
    // SAFETY: the module gives a place for one `u64`, or null.
    unsafe { give(out, left) }
}

pub(super) unsafe extern "C" fn body_read(handle: abi::Exchange, flags: u32, out: *mut Slice) -> Status {
    // SAFETY: as in `method`.
    unsafe { give(out, wait(handle, flags, Exchange::read)) }
}

pub(super) unsafe extern "C" fn body_all(handle: abi::Exchange, limit: usize, out: *mut Slice) -> Status {
    // SAFETY: as in `method`.
    unsafe { give(out, wait(handle, 0, |exchange| exchange.read_all(limit))) }
}

pub(super) unsafe extern "C" fn request_trailers(
    handle: abi::Exchange,
    out: *mut *const Header,
    count: *mut usize,
) -> Status {
    // SAFETY: as in `headers`.
    unsafe { give_two(out, count, find(handle).and_then(|(_, x)| x.trailers())) }
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
