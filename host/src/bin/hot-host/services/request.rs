//! What the module asks about a request, and how it reads its body.

use super::borrow::{Outcome, borrow, give, give_two};
use super::find;
use crate::engine::Engine;
use crate::exchange::{Exchange, Refusal};
use crate::head;
use hot_module::abi::{self, Header, NONBLOCK, Slice, Status};
use std::time::{Duration, Instant};

pub(super) unsafe extern "C" fn method(handle: abi::Exchange, out: *mut Slice) -> Status {
    // SAFETY: the module gives a place for one slice, or null.
    unsafe { give(find(handle), out, |(_, x)| Ok(Slice::of(x.request().method()))) }
}

pub(super) unsafe extern "C" fn target(handle: abi::Exchange, out: *mut Slice) -> Status {
    // SAFETY: as in `method`.
    unsafe { give(find(handle), out, |(_, x)| Ok(Slice::of(x.request().target()))) }
}

pub(super) unsafe extern "C" fn peer(handle: abi::Exchange, out: *mut Slice) -> Status {
    // SAFETY: as in `method`.
    unsafe { give(find(handle), out, |(_, x)| Ok(Slice::of(x.request().peer()))) }
}

pub(super) unsafe extern "C" fn headers(
    handle: abi::Exchange,
    out: *mut *const Header,
    count: *mut usize,
) -> Status {
    // SAFETY: the module gives places for one pointer and one count, or null.
    unsafe { give_two(find(handle), out, count, |(_, x)| Ok((x.headers().as_ptr(), x.headers().len()))) }
}

pub(super) unsafe extern "C" fn header(handle: abi::Exchange, name: Slice, out: *mut Slice) -> Status {
    let find_in = |exchange: &Exchange| {
        // SAFETY: the module lends the name for this call.
        let name = unsafe { borrow(name) }?;
        head::find(&exchange.request().fields, name).map(Slice::of).ok_or(Refusal::NotFound)
    };
    // SAFETY: as in `method`.
    unsafe { give(find(handle), out, |(_, x)| find_in(&x)) }
}

pub(super) unsafe extern "C" fn time_left(handle: abi::Exchange, out: *mut u64) -> Status {
    let left_of = |exchange: &Exchange| {
        let at = exchange.deadline();
        let left = at.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        Ok(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX))
    };
    // SAFETY: the module gives a place for one `u64`, or null.
    unsafe { give(find(handle), out, |(_, x)| left_of(&x)) }
}

pub(super) unsafe extern "C" fn body_read(handle: abi::Exchange, flags: u32, out: *mut Slice) -> Status {
    let may_wait = check_flags(flags);
    // SAFETY: as in `method`.
    unsafe { give(find(handle), out, |(engine, x)| wait(engine, &x, may_wait?, Exchange::read)) }
}

pub(super) unsafe extern "C" fn body_all(handle: abi::Exchange, limit: usize, out: *mut Slice) -> Status {
    // SAFETY: as in `method`.
    unsafe { give(find(handle), out, |(engine, x)| wait(engine, &x, true, |x| x.read_all(limit))) }
}

pub(super) unsafe extern "C" fn request_trailers(
    handle: abi::Exchange,
    out: *mut *const Header,
    count: *mut usize,
) -> Status {
    // SAFETY: as in `headers`.
    unsafe { give_two(find(handle), out, count, |(_, x)| x.trailers()) }
}

/// Whether a call with these flags may wait.
pub(super) fn check_flags(flags: u32) -> Outcome<bool> {
    if flags & !NONBLOCK == 0 { Ok(flags == 0) } else { Err(Refusal::Invalid) }
}

/// Does `call`, and if it would have to wait, waits for it if it may. A turn is given away first.
fn wait<T>(
    engine: &'static Engine,
    exchange: &Exchange,
    may_wait: bool,
    call: impl Fn(&Exchange) -> Outcome<T>,
) -> Outcome<T> {
    let mut outcome = call(exchange);
    if outcome.as_ref().is_err_and(|refusal| *refusal == Refusal::WouldBlock) {
        if !may_wait {
            exchange.expire()?;
            return outcome;
        }
        engine.yield_turn();
        engine.flush(exchange.link());
        outcome = exchange.wait_for(|| {
            let outcome = call(exchange);
            // A window that it granted must reach the gateway before it waits again.
            engine.flush(exchange.link());
            outcome
        });
    }
    engine.flush(exchange.link());
    outcome
}
