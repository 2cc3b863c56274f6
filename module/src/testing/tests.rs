//! The host's services called as no module of the SDK would: what hot-host refuses is refused here, in the same order.

use super::exchange::{Exchange, Head};
use super::services::{self, HOST};
use super::{TIME, journal};
use crate::abi::{self, Header, Slice, Status};
use core::ffi::c_void;
use core::ptr::{null, null_mut};
use std::borrow::ToOwned;
use std::string::String;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// An exchange of its own, open until it is ended.
fn open() -> (u64, Arc<Exchange>) {
    static LAST: AtomicU64 = AtomicU64::new(1 << 40);
    let text = |text: &str| text.to_owned();
    let head = Head { method: text("GET"), target: text("/"), peer: String::new(), headers: [].into() };
    let exchange = Arc::new(Exchange::new(head, Instant::now() + TIME));
    let handle = LAST.fetch_add(1, Ordering::SeqCst);
    services::add(handle, &exchange);
    (handle, exchange)
}

const fn field(value: &[u8]) -> Header {
    Header { name: Slice::of(b"x-a"), value: Slice::of(value) }
}

/// An address within `field` that no header can have.
fn misaligned(field: &Header) -> *const Header {
    (&raw const *field).cast::<u8>().wrapping_add(1).cast()
}

fn respond(x: u64, status: u32, first: *const Header, count: usize) -> Status {
    // SAFETY: the tests give good headers, or such as the contract says are refused.
    unsafe { HOST.respond.unwrap()(x, status, first, count) }
}

fn reply(x: u64, status: u32, fields: &[Header]) -> Status {
    // SAFETY: as in `respond`.
    unsafe { HOST.reply.unwrap()(x, status, fields.as_ptr(), fields.len(), Slice::EMPTY) }
}

fn trailers(x: u64, fields: &[Header]) -> Status {
    // SAFETY: as in `respond`.
    unsafe { HOST.trailers.unwrap()(x, fields.as_ptr(), fields.len()) }
}

fn notify(x: u64, events: u32, wake: Option<abi::Wake>) -> Status {
    // SAFETY: the wake of the tests takes any context.
    unsafe { HOST.notify.unwrap()(x, events, wake, null_mut()) }
}

fn gauge(name: &'static str, first: *const Header, count: usize) -> Status {
    // SAFETY: as in `respond`.
    unsafe { HOST.metric.unwrap()(abi::GAUGE, Slice::of(name.as_bytes()), first, count, 1.0) }
}

unsafe extern "C" fn wake(_context: *mut c_void) {}

/// Bytes of a value with which a head has 64 KiB, with what the header and the head itself cost.
const LARGEST: usize = 65_536 - 8 - 4 - 3;

#[test]
fn a_label_has_no_control_characters() {
    for (value, status) in [
        (&b"a\nb"[..], abi::INVALID),
        (b"\x1b[2J", abi::INVALID),
        (b"\x7f", abi::INVALID),
        ("\u{85}".as_bytes(), abi::INVALID),
        ("\u{e9} \u{1f600}".as_bytes(), abi::OK),
    ] {
        let label = Header { name: Slice::of(b"a"), value: Slice::of(value) };
        assert_eq!(gauge("control", &raw const label, 1), status, "{value:?}");
    }
}

#[test]
fn arrays_where_none_can_be_are_refused() {
    let (x, _exchange) = open();
    let fields = [field(b"v"); 2];
    for first in [null(), misaligned(&fields[0])] {
        assert_eq!(respond(x, 200, first, 1), abi::INVALID);
        assert_eq!(gauge("misaligned", first, 1), abi::INVALID);
    }
    // More than there may be, wherever they are.
    assert_eq!(respond(x, 200, null(), 129), abi::TOO_LARGE);
    assert_eq!(respond(x, 200, fields.as_ptr(), 2), abi::OK);
}

#[test]
fn a_head_has_64_kib_with_what_its_headers_cost() {
    let bytes = std::vec![b'v'; LARGEST + 1];
    let (x, _exchange) = open();
    assert_eq!(respond(x, 200, &field(&bytes), 1), abi::TOO_LARGE);
    let (half, rest) = bytes[1..].split_at(LARGEST / 2);
    assert_eq!(reply(x, 200, &[field(half), field(rest)]), abi::TOO_LARGE);
    assert_eq!(respond(x, 200, &field(&bytes[1..]), 1), abi::OK);
    assert_eq!(trailers(x, &[field(&bytes)]), abi::TOO_LARGE);
    assert_eq!(trailers(x, &[field(&bytes[1..])]), abi::OK);
}

#[test]
fn faults_are_looked_for_in_the_contracts_order() {
    let bytes = std::vec![b'v'; LARGEST + 1];
    let (large, many) = ([field(&bytes)], [field(b"v"); 129]);
    let (x, exchange) = open();
    // Arguments, in their own order, come before the order of calls.
    assert_eq!(reply(x, 199, &many), abi::INVALID);
    assert_eq!(respond(x, 199, many.as_ptr(), many.len()), abi::INVALID);
    assert_eq!(respond(x, 200, null(), 0), abi::OK);
    assert_eq!(respond(x, 200, large.as_ptr(), 1), abi::TOO_LARGE);
    assert_eq!(respond(x, 200, null(), 0), abi::STATE);

    exchange.cancel("the client is gone");
    // SAFETY: without a place for the answer the call is refused.
    assert_eq!(unsafe { HOST.body_read.unwrap()(x, 0, null_mut()) }, abi::INVALID);
    assert_eq!(notify(x, 4, Some(wake)), abi::INVALID);
    assert_eq!(notify(x, 0, None), abi::INVALID);
    assert_eq!(reply(x, 200, &large), abi::TOO_LARGE);
    assert_eq!(notify(x, 0, Some(wake)), abi::CANCELLED);
    assert_eq!(respond(x, 200, null(), 0), abi::CANCELLED);
    assert_eq!(reply(x, 200, &[]), abi::CANCELLED);

    // It has ended by that, which comes before all else.
    // SAFETY: as above.
    assert_eq!(unsafe { HOST.headers.unwrap()(x, null_mut(), null_mut()) }, abi::ENDED);
    assert_eq!(notify(x, 4, None), abi::ENDED);
    assert_eq!(reply(x, 199, &large), abi::ENDED);
}

#[test]
fn a_call_without_a_place_for_its_answer_takes_nothing() {
    let (x, exchange) = open();
    exchange.with(|state| {
        state.incoming.push(b"piece".to_vec());
        state.incoming.end(std::vec![]);
    });
    let mut piece = Slice::EMPTY;
    // SAFETY: without a place the call is refused.
    assert_eq!(unsafe { HOST.body_read.unwrap()(x, 0, null_mut()) }, abi::INVALID);
    // SAFETY: as above.
    assert_eq!(unsafe { HOST.body_all.unwrap()(x, 100, null_mut()) }, abi::INVALID);
    // SAFETY: the place is a local.
    assert_eq!(unsafe { HOST.body_read.unwrap()(x, 0, &raw mut piece) }, abi::OK);
    assert_eq!(piece.len, 5);
}

#[test]
fn a_line_of_the_log_is_cut() {
    let text = std::vec![b'l'; 5000];
    // SAFETY: the text is lent for the call.
    unsafe { HOST.log.unwrap()(abi::LOG_INFO, Slice::of(&text)) };
    let longest = journal::lines().iter().map(|line| line.text.len()).max();
    assert_eq!(longest, Some(3800));
}
