//! How the module answers an exchange, and ends it.

use super::borrow::{Outcome, borrow, borrow_fields, parts};
use super::find;
use super::request::check_flags;
use crate::engine::Engine;
use crate::exchange::{Exchange, Refusal};
use crate::head::{self, TRAILERS};
use crate::output;
use hot_module::abi::{self, Header, SWITCHING_PROTOCOLS, Slice, Status};
use hot_wire::data::AbortCode;
use std::sync::Arc;

pub(super) unsafe extern "C" fn reply(
    handle: abi::Exchange,
    status: u32,
    first: *const Header,
    count: usize,
    body: Slice,
) -> Status {
    answer(|| {
        let (engine, exchange) = find(handle)?;
        let status = check_status(status)?;
        // SAFETY: the module lends `count` headers and the body for this call.
        let fields = unsafe { borrow_fields(first, count, status) }?;
        // SAFETY: as above.
        let body = unsafe { borrow(body) }?;
        let outcome = send_reply(engine, &exchange, status, fields, body);
        conclude(engine, &exchange, outcome)
    })
}

fn send_reply(
    engine: &'static Engine,
    exchange: &Arc<Exchange>,
    status: u16,
    fields: &[Header],
    body: &[u8],
) -> Outcome {
    let sent = exchange.respond(status, parts(fields), body, true)?;
    if sent < body.len() {
        write_all(engine, exchange, &body[sent..])?;
        exchange.finish()?;
    }
    Ok(())
}

pub(super) unsafe extern "C" fn respond(
    handle: abi::Exchange,
    status: u32,
    first: *const Header,
    count: usize,
) -> Status {
    answer(|| {
        let (engine, exchange) = find(handle)?;
        let status = if switches(&exchange, status) { SWITCHING_PROTOCOLS } else { check_status(status)? };
        // SAFETY: the module lends `count` headers for this call.
        let fields = unsafe { borrow_fields(first, count, status) }?;
        exchange.respond(status, parts(fields), &[], false)?;
        engine.flush(exchange.link());
        Ok(())
    })
}

pub(super) unsafe extern "C" fn body_write(
    handle: abi::Exchange,
    flags: u32,
    body: Slice,
    written: *mut usize,
) -> Status {
    let outcome = find(handle).and_then(|(engine, exchange)| {
        // SAFETY: the module lends the body for this call.
        let body = unsafe { borrow(body) }?;
        if check_flags(flags)? {
            write_all(engine, &exchange, body)?;
            return Ok(body.len());
        }
        if written.is_null() {
            return Err(Refusal::Invalid);
        }
        let outcome = exchange.write(body);
        if outcome == Err(Refusal::WouldBlock) {
            exchange.expire()?;
        }
        engine.flush(exchange.link());
        outcome
    });
    match outcome {
        Err(refusal) => refusal.status(),
        Ok(_) if written.is_null() => abi::OK,
        Ok(taken) => {
            // SAFETY: not null, so the module gives a place for one count.
            unsafe { written.write(taken) };
            abi::OK
        }
    }
}

pub(super) unsafe extern "C" fn trailers(
    handle: abi::Exchange,
    first: *const Header,
    count: usize,
) -> Status {
    answer(|| {
        let (_, exchange) = find(handle)?;
        // SAFETY: the module lends `count` trailers for this call.
        let fields = unsafe { borrow_fields(first, count, TRAILERS) }?;
        exchange.add_trailers(parts(fields))
    })
}

pub(super) unsafe extern "C" fn finish(handle: abi::Exchange) -> Status {
    answer(|| {
        let (engine, exchange) = find(handle)?;
        let outcome = exchange.finish();
        conclude(engine, &exchange, outcome)
    })
}

pub(super) unsafe extern "C" fn abort(handle: abi::Exchange, why: Slice) -> Status {
    answer(|| {
        let (engine, exchange) = find(handle)?;
        // SAFETY: the module lends the text for this call. Without one that can be read, it aborts all the same.
        let why = unsafe { borrow(why) }.unwrap_or_default();
        // That an answer which nobody waits for comes to nothing is no news.
        let is_news = !why.is_empty() && !exchange.is_cancelled();
        let outcome = exchange.abort(AbortCode::Failed, &String::from_utf8_lossy(why));
        if is_news && outcome.is_ok() {
            output::line("error: aborted: ", why);
        }
        conclude(engine, &exchange, outcome)
    })
}

/// After a call that ends an exchange: if it did, by success or because nobody will see the answer, it is forgotten.
fn conclude(engine: &'static Engine, exchange: &Arc<Exchange>, outcome: Outcome) -> Outcome {
    if outcome == Err(Refusal::Cancelled) {
        // Ends it without a word to the gateway, which has given it up or will at the same deadline.
        exchange.abort(AbortCode::Unfinished, "cancelled").ok();
    }
    if exchange.has_ended() {
        engine.forget(exchange);
    }
    engine.flush(exchange.link());
    outcome
}

/// Writes all of `body`, waiting for credit and for room.
fn write_all(engine: &'static Engine, exchange: &Arc<Exchange>, mut body: &[u8]) -> Outcome {
    let link = exchange.link();
    loop {
        let written = match exchange.write(body) {
            Err(Refusal::WouldBlock) => {
                engine.yield_turn();
                engine.flush(link);
                exchange.wait_for(|| exchange.write(body))?
            }
            written => written?,
        };
        engine.flush(link);
        body = &body[written..];
        if body.is_empty() {
            return Ok(());
        }
    }
}

/// Whether this hands the connection over. Only a request with `upgrade` asks for that, which the gateway lets through where
/// it can be done.
fn switches(exchange: &Exchange, status: u32) -> bool {
    status == u32::from(SWITCHING_PROTOCOLS) && head::find(&exchange.request().fields, b"upgrade").is_some()
}

fn check_status(status: u32) -> Outcome<u16> {
    u16::try_from(status).ok().filter(|status| (200..=599).contains(status)).ok_or(Refusal::Invalid)
}

fn answer(call: impl FnOnce() -> Outcome) -> Status {
    call().map_or_else(Refusal::status, |()| abi::OK)
}
