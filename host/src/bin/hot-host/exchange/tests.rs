//! An exchange and the table without a process, a module or a gateway: what crosses the link is read back.

use super::{Exchange, Refusal};
use crate::link::Link;
use crate::table::{InsertError, Table};
use bytes::Bytes;
use hot_module::abi;
use hot_wire::data::{self, AbortCode, Decoder, FromGateway, FromHost, INITIAL_WINDOW, Request, RequestHead};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

fn request(body: &[u8], end: bool) -> Request {
    request_within(0, body, end)
}

fn request_within(deadline_ms: u32, body: &[u8], end: bool) -> Request {
    request_with(deadline_ms, INITIAL_WINDOW, body, end)
}

fn request_with(deadline_ms: u32, window: u32, body: &[u8], end: bool) -> Request {
    let mut decoder = Decoder::<FromGateway>::new();
    let head = RequestHead { method: b"PUT", target: b"/", peer: b"", deadline_ms, window };
    let mut frame = Vec::new();
    data::request(&mut frame, 7, &head, [], body, end).unwrap();
    decoder.read_buf().extend_from_slice(&frame);
    match decoder.next_frame().unwrap().unwrap().message {
        FromGateway::Request(request) => request,
        other => panic!("{other:?}"),
    }
}

/// An exchange of a link whose other end is given too.
pub(super) fn exchange(body: &[u8], end: bool) -> (Exchange, UnixStream) {
    exchange_within(0, body, end)
}

/// One that has a deadline, if that is not 0.
pub(super) fn exchange_within(deadline_ms: u32, body: &[u8], end: bool) -> (Exchange, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let link = Arc::new(Link::new(1, ours.into()));
    (Exchange::new(1, 7, &link, request_within(deadline_ms, body, end), Instant::now()), theirs)
}

/// The frames that the exchange has appended, after its link is done.
fn sent(exchange: Exchange, mut other: UnixStream) -> Vec<FromHost> {
    // Read while it is sent: it may be more than the socket holds.
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        other.read_to_end(&mut bytes).unwrap();
        bytes
    });
    exchange.link().drain();
    drop(exchange);
    let bytes = reader.join().unwrap();
    let mut decoder = Decoder::<FromHost>::new();
    decoder.read_buf().extend_from_slice(&bytes);
    std::iter::from_fn(|| decoder.next_frame().unwrap()).map(|frame| frame.message).collect()
}

fn text(slice: abi::Slice) -> Vec<u8> {
    if slice.len == 0 {
        return Vec::new();
    }
    // SAFETY: the exchange lends the bytes until its next read, and they are copied here.
    unsafe { std::slice::from_raw_parts(slice.ptr, slice.len) }.to_vec()
}

#[test]
fn single_bytes_are_gathered_and_large_pieces_are_not_copied() {
    let (exchange, _other) = exchange(b"a", false);
    for _ in 0..1000 {
        exchange.body_came(&Bytes::from_static(b"b"), false);
    }
    let large = Bytes::from(vec![b'c'; 20_000]);
    exchange.body_came(&large, false);
    exchange.body_came(&Bytes::from_static(b"d"), true);
    assert_eq!(text(exchange.read().unwrap()).len(), 1001);
    assert_eq!(exchange.read().unwrap().ptr, large.as_ptr());
    assert_eq!(text(exchange.read().unwrap()), b"d");
    assert_eq!(exchange.read().unwrap().len, 0);
}

#[test]
fn a_whole_body_is_bounded_and_can_be_asked_for_again() {
    let (exchange, _other) = exchange(b"12345", false);
    assert_eq!(exchange.read_all(4).unwrap_err(), Refusal::TooLarge);
    assert_eq!(exchange.read_all(5).unwrap_err(), Refusal::WouldBlock);
    exchange.body_came(&Bytes::from_static(b"6"), true);
    assert_eq!(exchange.read_all(5).unwrap_err(), Refusal::TooLarge);
    assert_eq!(text(exchange.read().unwrap()), b"12345", "what was gathered before is not lost");
}

#[test]
fn a_whole_body_stays_until_the_end() {
    let (exchange, _other) = exchange(b"12345", false);
    assert_eq!(exchange.read_all(6).unwrap_err(), Refusal::WouldBlock);
    exchange.body_came(&Bytes::from_static(b"6"), true);
    assert!(exchange.trailers().is_err(), "the body was not read to its end");
    let all = exchange.read_all(6).unwrap();
    assert_eq!(exchange.trailers().unwrap().1, 0);
    assert_eq!(exchange.read_all(0).unwrap().len, 0);
    assert_eq!(text(all), b"123456");
}

#[test]
fn more_than_the_credit_breaks_the_exchange_off() {
    let (exchange, other) = exchange(b"", false);
    let window = usize::try_from(INITIAL_WINDOW).unwrap();
    exchange.body_came(&Bytes::from(vec![0; window]), false);
    exchange.body_came(&Bytes::from_static(b"x"), false);
    assert_eq!(exchange.read().unwrap_err(), Refusal::Cancelled);
    assert_eq!(exchange.finish(), Err(Refusal::Cancelled));
    assert_eq!(exchange.finish(), Err(Refusal::Ended));
    let frames = sent(exchange, other);
    assert!(matches!(frames[..], [FromHost::Abort { code: AbortCode::Protocol, .. }]), "{frames:?}");
}

#[test]
fn a_small_answer_is_one_frame() {
    let (exchange, other) = exchange(b"", true);
    assert_eq!(exchange.respond(200, std::iter::empty(), b"body", true), Ok(4));
    assert!(exchange.has_ended());
    let frames = sent(exchange, other);
    assert!(
        matches!(&frames[..], [FromHost::Response(whole)] if whole.end && *whole.body == *b"body"),
        "{frames:?}"
    );
}

#[test]
fn the_credit_is_kept_and_a_head_that_is_too_large_takes_none_of_it() {
    let (exchange, other) = exchange(b"", true);
    let long = vec![b'v'; 60_000];
    let fields = [(&b"a"[..], &long[..]), (&b"b"[..], &long[..])];
    assert_eq!(exchange.respond(200, fields.into_iter(), b"body", true), Err(Refusal::TooLarge));
    let window = usize::try_from(INITIAL_WINDOW).unwrap();
    let body = vec![b'x'; window + 10];
    assert_eq!(exchange.respond(200, std::iter::empty(), &body, true), Ok(window));
    assert_eq!(exchange.write(b"more"), Err(Refusal::WouldBlock));
    exchange.credit_came(3);
    assert_eq!(exchange.write(b"more"), Ok(3));
    assert_eq!(exchange.finish(), Ok(()));
    let bytes: usize = sent(exchange, other)
        .iter()
        .map(|frame| match frame {
            FromHost::Response(head) => head.body.len(),
            FromHost::Body { data, .. } => data.len(),
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(bytes, window + 3);
}

/// Who answers many small clients must not wait for the slowest of them.
#[test]
fn a_whole_answer_is_taken_and_follows_as_there_is_credit() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let link = Arc::new(Link::new(1, ours.into()));
    let exchange = Exchange::new(1, 7, &link, request_with(0, 10, b"", true), Instant::now());
    drop(link);
    assert_eq!(exchange.respond(200, std::iter::empty(), &[b'x'; 25], true), Ok(25));
    assert!(exchange.has_ended() && exchange.has_rest());
    exchange.credit_came(10);
    assert!(exchange.has_rest());
    exchange.credit_came(10);
    assert!(!exchange.has_rest());
    let frames = sent(exchange, theirs);
    let lengths: Vec<(usize, bool)> = frames
        .iter()
        .map(|frame| match frame {
            FromHost::Response(head) => (head.body.len(), head.end),
            FromHost::Body { data, end } => (data.len(), *end),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lengths, [(10, false), (10, false), (5, true)]);
}

#[test]
fn what_is_left_of_an_answer_goes_with_its_client() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let link = Arc::new(Link::new(1, ours.into()));
    let exchange = Exchange::new(1, 7, &link, request_with(0, 10, b"", true), Instant::now());
    exchange.respond(200, std::iter::empty(), &[b'x'; 25], true).unwrap();
    exchange.cancel();
    assert!(!exchange.has_rest());
}

/// Both directions begin anew with a 101, whatever was said of the request's end.
#[test]
fn after_a_101_the_bytes_are_the_connections() {
    let (exchange, other) = exchange(b"", true);
    assert_eq!(exchange.read().unwrap().len, 0);
    exchange.respond(101, std::iter::empty(), b"", false).unwrap();
    assert_eq!(exchange.read().unwrap_err(), Refusal::WouldBlock);
    exchange.body_came(&Bytes::from_static(b"ping"), false);
    assert_eq!(text(exchange.read().unwrap()), b"ping");
    assert_eq!(exchange.write(b"pong"), Ok(4));
    exchange.body_came(&Bytes::new(), true);
    assert_eq!(exchange.read().unwrap().len, 0);
    assert_eq!(exchange.trailers().unwrap_err(), Refusal::State);
    assert_eq!(exchange.add_trailers(std::iter::empty()), Err(Refusal::State));
    exchange.finish().unwrap();
    assert_eq!(sent(exchange, other).len(), 3);
}

#[test]
fn a_handle_is_never_used_again() {
    let table = Table::new(2);
    let link = Arc::new(Link::new(1, UnixStream::pair().unwrap().0.into()));
    let open = || {
        table.insert(|handle| {
            Arc::new(Exchange::new(handle, handle, &link, request(b"", true), Instant::now()))
        })
    };
    let mut seen = vec![0];
    for _ in 0..100 {
        let (one, two) = (open().unwrap().handle(), open().unwrap().handle());
        assert_eq!(open().unwrap_err(), InsertError::Full, "the table holds two");
        assert!(!seen.contains(&one) && !seen.contains(&two) && one != two);
        seen.extend([one, two]);
        table.remove(one);
        // A second time does nothing, not even to who has the place now.
        let third = open().unwrap().handle();
        table.remove(one);
        assert!(table.get(one).is_none() && table.get(third).is_some() && table.get(two).is_some());
        seen.push(third);
        table.remove(two);
        table.remove(third);
    }
    assert_eq!(table.open().0, 0);
    assert!(table.get(u64::MAX).is_none());
}

#[test]
fn a_closed_table_that_is_empty_stays_so() {
    let table = Table::new(2);
    let link = Arc::new(Link::new(1, UnixStream::pair().unwrap().0.into()));
    let open = || {
        table.insert(|handle| {
            Arc::new(Exchange::new(handle, handle, &link, request(b"", true), Instant::now()))
        })
    };
    let before = open().unwrap();
    table.close();
    assert_eq!(open().unwrap_err(), InsertError::Closed);
    assert!(!table.wait_empty(Instant::now()), "the one that was open is so still");
    assert!(table.get(before.handle()).is_some());
    table.remove(before.handle());
    assert!(table.wait_empty(Instant::now()));
    assert_eq!(open().unwrap_err(), InsertError::Closed);
    assert_eq!(table.open().0, 0);
}

#[test]
fn frames_of_an_exchange_after_its_end_change_nothing() {
    let (exchange, other) = exchange(b"", false);
    exchange.respond(200, std::iter::empty(), b"", true).unwrap();
    exchange.body_came(&Bytes::from_static(b"late"), true);
    exchange.body_came(&Bytes::from_static(b"and wrong"), false);
    exchange.credit_came(u32::MAX);
    exchange.cancel();
    assert_eq!(exchange.abort(AbortCode::Failed, "late"), Err(Refusal::Ended));
    assert_eq!(sent(exchange, other).len(), 1);
}

#[test]
fn a_dead_link_keeps_nothing() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let link = Link::new(1, ours.into());
    drop(theirs);
    link.append(|out: &mut Vec<u8>| out.extend_from_slice(b"for nobody"));
    link.drain();
    link.append(|out: &mut Vec<u8>| {
        assert!(out.is_empty());
        out.resize(4_000_000, 0);
    });
    assert!(!link.await_room(7));
}
