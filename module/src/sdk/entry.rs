//! The functions behind a module's table: they turn the ABI's calls into calls of [`RawModule`], and stop panics.

use super::calls::{bytes, slice};
use super::error::{chain, panicked};
use super::services::Services;
use super::{Context, Error, Exchange, Level, RawModule, log};
use crate::ABI;
use crate::abi::{self, Host, Slice, Status, Table};
use core::ffi::c_void;
use std::boxed::Box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::{String, ToString};
use std::sync::{Mutex, PoisonError};

/// What `this` points to.
struct Instance<M> {
    module: M,
    /// What the last call of `health` said, lent to the host until the next.
    health: Mutex<String>,
}

/// The table of a module. [`export!`](crate::export) makes it the symbol `hot_module`.
#[must_use]
pub const fn table<M: RawModule>() -> Table {
    #[expect(clippy::cast_possible_truncation, reason = "the table's size is asserted to be 56 bytes")]
    let size = size_of::<Table>() as u32;
    Table {
        abi: ABI,
        size,
        start: Some(start::<M>),
        handle: Some(handle::<M>),
        health: Some(health::<M>),
        save: None,
        load: None,
        stop: Some(stop::<M>),
    }
}

unsafe extern "C" fn start<M: RawModule>(
    host: *const Host,
    config: Slice,
    this: *mut *mut c_void,
    why: *mut Slice,
) -> Status {
    // SAFETY: the host passes its table, which is as long as its `size` says and lives as long as the process.
    let services = unsafe { Services::of(host) };
    // SAFETY: the host passes the config, which lives as long as the process.
    let config = unsafe { bytes(config) };
    let started = services.map_err(ToString::to_string).and_then(|services| {
        services.install();
        caught(|| M::start(&Context::new(config)))
    });
    match started {
        Ok(module) => {
            let instance = Box::into_raw(Box::new(Instance { module, health: Mutex::default() }));
            // SAFETY: the host passes a place for one pointer.
            unsafe { *this = instance.cast() };
            abi::OK
        }
        Err(text) => {
            // The text must live until the process ends, and after a failed start that is soon.
            let text = slice(Box::leak(text.into_boxed_str()).as_bytes());
            // SAFETY: the host passes a place for one slice.
            unsafe { *why = text };
            abi::FAILED
        }
    }
}

unsafe extern "C" fn handle<M: RawModule>(this: *mut c_void, exchange: abi::Exchange) {
    // SAFETY: `this` is what `start::<M>` made, and lives until `stop`, which comes after the last `handle`.
    let instance = unsafe { &*this.cast::<Instance<M>>() };
    let exchange = Exchange::new(exchange);
    // The exchange moves into the call: a panic drops it, which aborts it.
    if let Err(text) = caught(move || instance.module.handle(exchange)) {
        log(Level::Error, &text);
    }
}

unsafe extern "C" fn health<M: RawModule>(this: *mut c_void, why: *mut Slice) -> Status {
    // SAFETY: as in `handle`.
    let instance = unsafe { &*this.cast::<Instance<M>>() };
    let Err(text) = caught(|| instance.module.health()) else { return abi::OK };
    let mut last = instance.health.lock().unwrap_or_else(PoisonError::into_inner);
    *last = text;
    // SAFETY: the host passes a place for one slice. It reads it before it calls `health` again, the only place where
    // the string changes.
    unsafe { *why = slice(last.as_bytes()) };
    abi::FAILED
}

unsafe extern "C" fn stop<M: RawModule>(this: *mut c_void) {
    // SAFETY: `this` came from `Box::into_raw` in `start::<M>`, and `stop` is the last call and comes once.
    let instance = unsafe { Box::from_raw(this.cast::<Instance<M>>()) };
    let stopped = caught(move || {
        instance.module.stop();
        Ok(())
    });
    if let Err(text) = stopped {
        log(Level::Error, &text);
    }
}

/// Calls the author's code: its value, or the text of its failure or panic. What an error says of itself and how it is
/// dropped are the author's code too.
fn caught<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, String> {
    let say = |error: Error| chain(&*error);
    catch_unwind(AssertUnwindSafe(|| call().map_err(say))).unwrap_or_else(|panic| Err(panicked(panic)))
}
