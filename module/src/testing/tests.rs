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
use std::time::{Duration, Instant};
use std::vec::Vec;

/// An exchange of its own, open until it is ended.
fn open() -> (u64, Arc<Exchange>) {
    open_with(&[])
}

/// One that asks to upgrade its connection.
fn open_upgrade() -> (u64, Arc<Exchange>) {
    open_with(&[("upgrade", "echo/1")])
}

fn open_with(headers: &[(&str, &str)]) -> (u64, Arc<Exchange>) {
    static LAST: AtomicU64 = AtomicU64::new(1 << 40);
    let text = |text: &str| text.to_owned();
    let headers = headers.iter().map(|(name, value)| (text(name), value.as_bytes().to_owned())).collect();
    let head = Head { method: text("GET"), target: text("/"), peer: String::new(), headers };
    let exchange = Arc::new(Exchange::new(head, TIME));
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

fn read(x: u64) -> Result<Vec<u8>, Status> {
    let mut piece = Slice::EMPTY;
    // SAFETY: the place is a local.
    let status = unsafe { HOST.body_read.unwrap()(x, abi::NONBLOCK, &raw mut piece) };
    if status != abi::OK {
        return Err(status);
    }
    // SAFETY: the piece is lent until the next read, and copied before.
    Ok(unsafe { super::text(piece) }.into_bytes())
}

fn request_trailers(x: u64) -> Status {
    let (mut first, mut count) = (null(), 0);
    // SAFETY: the places are locals.
    unsafe { HOST.request_trailers.unwrap()(x, &raw mut first, &raw mut count) }
}

fn finish(x: u64) -> Status {
    // SAFETY: it takes any handle.
    unsafe { HOST.finish.unwrap()(x) }
}

fn time_left(x: u64) -> Duration {
    let mut left = 0;
    // SAFETY: the place is a local.
    assert_eq!(unsafe { HOST.time_left.unwrap()(x, &raw mut left) }, abi::OK);
    if left == u64::MAX { Duration::MAX } else { Duration::from_nanos(left) }
}

/// Counts what it is woken.
fn counted(x: u64, events: u32, count: &'static AtomicU64) -> Status {
    unsafe extern "C" fn wake(context: *mut c_void) {
        // SAFETY: the context is the address of a static.
        unsafe { &*context.cast::<AtomicU64>() }.fetch_add(1, Ordering::SeqCst);
    }
    let context = (&raw const *count).cast_mut().cast();
    // SAFETY: the wake takes this context.
    unsafe { HOST.notify.unwrap()(x, events, Some(wake), context) }
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
    assert_eq!(notify(x, 8, Some(wake)), abi::INVALID);
    assert_eq!(notify(x, 0, None), abi::INVALID);
    assert_eq!(reply(x, 200, &large), abi::TOO_LARGE);
    assert_eq!(notify(x, 0, Some(wake)), abi::CANCELLED);
    assert_eq!(respond(x, 200, null(), 0), abi::CANCELLED);
    assert_eq!(reply(x, 200, &[]), abi::CANCELLED);

    // It has ended by that, which comes before all else.
    // SAFETY: as above.
    assert_eq!(unsafe { HOST.headers.unwrap()(x, null_mut(), null_mut()) }, abi::ENDED);
    assert_eq!(notify(x, 8, None), abi::ENDED);
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

/// Named headers.
const fn named(name: &'static str, value: &'static str) -> Header {
    Header { name: Slice::of(name.as_bytes()), value: Slice::of(value.as_bytes()) }
}

#[test]
fn a_101_is_for_a_request_that_asks_for_it() {
    let (x, _exchange) = open();
    let upgrade = named("Upgrade", "echo/1");
    assert_eq!(respond(x, 101, null(), 0), abi::INVALID);
    assert_eq!(respond(x, 101, &raw const upgrade, 1), abi::INVALID);
    assert_eq!(reply(x, 101, &[]), abi::INVALID);

    let (x, exchange) = open_upgrade();
    assert_eq!(reply(x, 101, &[]), abi::INVALID);
    assert_eq!(reply(x, 200, &[upgrade]), abi::INVALID);
    for refused in [named("content-length", "0"), named("connection", "upgrade"), named("te", "trailers")] {
        assert_eq!(respond(x, 101, &raw const refused, 1), abi::INVALID);
    }
    for status in [100, 102, 199] {
        assert_eq!(respond(x, status, null(), 0), abi::INVALID);
    }
    assert_eq!(respond(x, 101, &raw const upgrade, 1), abi::OK);
    assert_eq!(respond(x, 101, null(), 0), abi::STATE);
    assert_eq!(trailers(x, &[field(b"v")]), abi::STATE);
    assert_eq!(exchange.with(|state| state.outgoing.head.clone()).map(|(status, _)| status), Some(101));
    assert_eq!(finish(x), abi::OK);

    // Without a choice of the module's the client reads of what it asked for.
    let (x, exchange) = open_upgrade();
    assert_eq!(respond(x, 101, null(), 0), abi::OK);
    let (_, fields) = exchange.with(|state| state.outgoing.head.clone()).unwrap();
    assert_eq!(fields, [("upgrade".to_owned(), b"echo/1".to_vec())]);
}

#[test]
fn the_connections_bytes_come_behind_the_101() {
    let (x, exchange) = open_upgrade();
    exchange.with(|state| state.incoming.push(b"early".to_vec()));
    assert_eq!(read(x), Ok(Vec::new()));
    assert_eq!(request_trailers(x), abi::OK);
    assert_eq!(respond(x, 101, null(), 0), abi::OK);
    assert_eq!(read(x), Ok(b"early".to_vec()));
    assert_eq!(read(x), Err(abi::WOULD_BLOCK));
    exchange.with(|state| state.incoming.end(std::vec![]));
    assert_eq!(read(x), Ok(Vec::new()));
    assert_eq!(request_trailers(x), abi::STATE);
    assert_eq!(finish(x), abi::OK);

    // With another answer they are nobody's.
    let (x, exchange) = open_upgrade();
    exchange.with(|state| state.incoming.push(b"early".to_vec()));
    assert_eq!(respond(x, 200, null(), 0), abi::OK);
    assert_eq!(read(x), Ok(Vec::new()));
    assert_eq!(trailers(x, &[field(b"v")]), abi::OK);
}

#[test]
fn the_clock_stands_still_for_the_client() {
    let (x, exchange) = open();
    // For a body that has not come.
    assert_eq!(respond(x, 200, null(), 0), abi::OK);
    assert_eq!(time_left(x), time_left(x));
    exchange.with(|state| state.incoming.end(std::vec![]));
    let before = time_left(x);
    while time_left(x) == before {}
    assert!(time_left(x) < before);
    // Until what was written is taken.
    let piece = Slice::of(b"piece");
    // SAFETY: the piece is lent for the call, and the place may be null.
    assert_eq!(unsafe { HOST.body_write.unwrap()(x, 0, piece, null_mut()) }, abi::OK);
    assert_eq!(time_left(x), time_left(x));
    exchange.with(|state| state.outgoing.pop());
    let before = time_left(x);
    while time_left(x) == before {}
    assert_eq!(finish(x), abi::OK);
}

#[test]
fn a_long_stream_has_no_deadline_until_it_is_asked_to_end() {
    static WOKEN: AtomicU64 = AtomicU64::new(0);
    static EITHER: AtomicU64 = AtomicU64::new(0);
    let kind = named("Content-Type", "Text/Event-Stream ; charset=utf-8");
    let (x, exchange) = open();
    assert!(time_left(x) <= TIME);
    assert_eq!(respond(x, 200, &raw const kind, 1), abi::OK);
    assert_eq!(time_left(x), Duration::MAX);
    assert_eq!(counted(x, abi::ENDING, &WOKEN), abi::OK);
    assert_eq!(counted(x, abi::ENDING | abi::READABLE, &EITHER), abi::OK);
    assert_eq!((WOKEN.load(Ordering::SeqCst), EITHER.load(Ordering::SeqCst)), (0, 0));

    exchange.with(|state| state.ask_to_end(Instant::now() + TIME));
    assert_eq!((WOKEN.load(Ordering::SeqCst), EITHER.load(Ordering::SeqCst)), (1, 1));
    assert!(time_left(x) <= TIME);
    // It is so from now on.
    assert_eq!(counted(x, abi::ENDING, &WOKEN), abi::OK);
    assert_eq!(WOKEN.load(Ordering::SeqCst), 2);
    assert_eq!(finish(x), abi::OK);

    // With the time over it is cancelled, as at any deadline.
    let (x, exchange) = open_upgrade();
    assert_eq!(respond(x, 101, null(), 0), abi::OK);
    exchange.with(|state| state.ask_to_end(Instant::now()));
    assert_eq!(time_left(x), Duration::ZERO);
    assert_eq!(read(x), Err(abi::CANCELLED));
    assert_eq!(notify(x, abi::ENDING, Some(wake)), abi::CANCELLED);
}

#[test]
fn an_answer_with_a_deadline_is_not_asked_to_end() {
    static WOKEN: AtomicU64 = AtomicU64::new(0);
    let (x, exchange) = open();
    exchange.with(|state| state.ask_to_end(Instant::now()));
    assert_eq!(counted(x, abi::ENDING, &WOKEN), abi::OK);
    let kind = named("content-type", "text/event-streams");
    assert_eq!(respond(x, 200, &raw const kind, 1), abi::OK);
    assert!(time_left(x) > Duration::ZERO);
    assert_eq!(WOKEN.load(Ordering::SeqCst), 0);
    // But at its end, as every notice.
    assert_eq!(finish(x), abi::OK);
    assert_eq!(WOKEN.load(Ordering::SeqCst), 1);
}

#[test]
fn a_line_of_the_log_is_cut() {
    let text = std::vec![b'l'; 5000];
    // SAFETY: the text is lent for the call.
    unsafe { HOST.log.unwrap()(abi::LOG_INFO, Slice::of(&text)) };
    let longest = journal::lines().iter().map(|line| line.text.len()).max();
    assert_eq!(longest, Some(3800));
}
