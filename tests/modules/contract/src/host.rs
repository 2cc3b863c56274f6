//! The host's services as functions, and the two shapes of bytes that cross.

use hot_module::abi::{Exchange, Header, Host, Slice, Status, Wake};
use std::ffi::c_void;
use std::ptr::null;
use std::sync::OnceLock;

static HOST: OnceLock<&'static Host> = OnceLock::new();

pub(crate) fn install(host: &'static Host) {
    HOST.get_or_init(|| host);
}

macro_rules! services {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $answer:ty)?;)*) => {$(
        pub(crate) fn $name($($argument: $type),*) $(-> $answer)? {
            let service = HOST.get().and_then(|host| host.$name).expect("a service of this version of the ABI");
            // SAFETY: pointers are good for what they claim, or are such that the contract says they are refused: null,
            // misaligned, with lengths beyond the address space. What is lent lives until the call returns.
            unsafe { service($($argument),*) }
        }
    )*};
}

services! {
    log(level: u32, text: Slice);
    now() -> u64;
    config() -> Slice;
    method(x: Exchange, out: *mut Slice) -> Status;
    target(x: Exchange, out: *mut Slice) -> Status;
    peer(x: Exchange, out: *mut Slice) -> Status;
    headers(x: Exchange, out: *mut *const Header, count: *mut usize) -> Status;
    header(x: Exchange, name: Slice, out: *mut Slice) -> Status;
    time_left(x: Exchange, out: *mut u64) -> Status;
    body_read(x: Exchange, flags: u32, out: *mut Slice) -> Status;
    body_all(x: Exchange, limit: usize, out: *mut Slice) -> Status;
    request_trailers(x: Exchange, out: *mut *const Header, count: *mut usize) -> Status;
    reply(x: Exchange, status: u32, first: *const Header, count: usize, body: Slice) -> Status;
    respond(x: Exchange, status: u32, first: *const Header, count: usize) -> Status;
    body_write(x: Exchange, flags: u32, body: Slice, written: *mut usize) -> Status;
    trailers(x: Exchange, first: *const Header, count: usize) -> Status;
    finish(x: Exchange) -> Status;
    abort(x: Exchange, why: Slice) -> Status;
    metric(kind: u32, name: Slice, labels: *const Header, count: usize, value: f64) -> Status;
    notify(x: Exchange, events: u32, wake: Option<Wake>, context: *mut c_void) -> Status;
}

/// An answer of these bytes and no headers.
pub(crate) fn answer(x: Exchange, body: &[u8]) -> Status {
    reply(x, 200, null(), 0, Slice::of(body))
}

pub(crate) const fn text(text: &str) -> Slice {
    Slice::of(text.as_bytes())
}

pub(crate) const fn field(name: &str, value: &str) -> Header {
    Header { name: text(name), value: text(value) }
}

/// Bytes that the host lends. Each use here is within the time for which they are lent.
pub(crate) fn bytes<'a>(slice: Slice) -> &'a [u8] {
    if slice.len == 0 {
        return &[];
    }
    // SAFETY: every slice that comes here was written by the host and is still lent, so its bytes can be read.
    unsafe { std::slice::from_raw_parts(slice.ptr, slice.len) }
}

/// The first of the headers that the host lends, if there is one.
pub(crate) fn first_of<'a>(headers: *const Header, count: usize) -> Option<&'a Header> {
    // SAFETY: the host wrote the address of `count` headers that are still lent.
    (count > 0).then(|| unsafe { &*headers })
}
