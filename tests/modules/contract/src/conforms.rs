//! What may be done, in every order in which it may.

use crate::bell::Bell;
use crate::host::{self, answer, bytes, field, first_of, text};
use crate::report::{self, step, step_count};
use hot_module::abi::{
    self, COUNTER, ENDING, Exchange, GAUGE, HISTOGRAM, NONBLOCK, READABLE, Slice, WRITABLE,
};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;
use std::thread;

/// The config that `start` was given.
static GIVEN: OnceLock<Slice> = OnceLock::new();

fn is_config(slice: Slice) -> bool {
    let config = host::config();
    (slice.ptr, slice.len) == (config.ptr, config.len)
}

pub(crate) fn start(config: Slice) {
    step("start_has_its_config", is_config(*GIVEN.get_or_init(|| config)));
    step("start_counts", host::metric(COUNTER, text("conforms_starts_total"), null(), 0, 1.0));
}

#[expect(clippy::print_stdout, reason = "what the module says when nobody can be answered any more")]
pub(crate) fn stop() {
    let counted = host::metric(COUNTER, text("conforms_stops_total"), null(), 0, 1.0);
    println!("stop: {}", if counted == abi::OK && host::now() > 0 { "ok" } else { "FAILED" });
}

pub(crate) fn handle(path: &str, x: Exchange) {
    match path {
        "report" => report::tell(x),
        "whole?a=b" => whole(x),
        "stream" => stream(x),
        "async" => drop(thread::spawn(move || nonblocking(x))),
        "later" => drop(thread::spawn(move || step("reply_elsewhere", answer(x, b"later")))),
        "abort-waiting" => abort_waiting(x),
        "abort-body" => abort_body(x),
        "abort-trailers" => abort_trailers(x),
        "given-up" => drop(thread::spawn(move || given_up(x))),
        "unread" => drop(thread::spawn(move || unread(x))),
        "unread-waiting" => unread_waiting(x),
        _ => drop(host::reply(x, 404, null(), 0, Slice::EMPTY)),
    }
}

fn count() {
    let label = field("path", "whole");
    let two = [field("b", "2"), field("a", "1")];
    step("metric_counter", host::metric(COUNTER, text("conforms_total"), &raw const label, 1, 1.5));
    step("metric_counter_again", host::metric(COUNTER, text("conforms_total"), &raw const label, 1, 1.0));
    step("metric_gauge", host::metric(GAUGE, text("conforms_level"), two.as_ptr(), 2, -3.0));
    step("metric_histogram", host::metric(HISTOGRAM, text("conforms_seconds"), null(), 0, 0.3));
}

fn whole(x: Exchange) {
    let (mut target, mut body) = (Slice::EMPTY, Slice::EMPTY);
    head_of(x, &mut target);
    for level in abi::LOG_ERROR..=abi::LOG_DEBUG {
        host::log(level, text("conforms"));
    }
    host::log(abi::LOG_INFO, Slice::EMPTY);
    let mut found = Slice::EMPTY;
    step("body_too_large", host::body_all(x, 3, &raw mut body));
    step("body_all", host::body_all(x, 100, &raw mut body));
    step("body_all_says", bytes(body) == b"some body");
    step("body_all_again", host::body_all(x, 0, &raw mut found));
    step_count("body_all_again_is_empty", found.len);
    step("body_read_at_the_end", host::body_read(x, 0, &raw mut found));
    let (mut first, mut none) = (null(), 9);
    step("no_trailers", host::request_trailers(x, &raw mut first, &raw mut none));
    step_count("no_trailers_say", none);
    count();
    let own = [field("content-type", "text/plain"), field("X-Own", "")];
    step("reply", host::reply(x, 201, own.as_ptr(), 2, body));
    let is_lent = bytes(target) == b"/conforms/whole?a=b" && bytes(body) == b"some body";
    step("lent_until_handle_returns", is_lent);
}

/// All that can be asked about a request.
fn head_of(x: Exchange, target: &mut Slice) {
    let mut found = Slice::EMPTY;
    step("method", host::method(x, &raw mut found));
    step("method_says", bytes(found) == b"GET");
    step("target", host::target(x, &raw mut *target));
    step("target_says", bytes(*target) == b"/conforms/whole?a=b");
    step("peer", host::peer(x, &raw mut found));
    step("peer_says", !bytes(found).is_empty());
    let (mut first, mut number) = (null(), 0);
    step("headers", host::headers(x, &raw mut first, &raw mut number));
    step("headers_are_lower", first_of(first, number).is_some_and(|header| header.name.len > 0));
    step("header_in_any_case", host::header(x, text("X-TEST"), &raw mut found));
    step("header_says", bytes(found) == b"yes");
    step("header_absent", host::header(x, text("x-none"), &raw mut found));
    let mut left = 0;
    step("time_left", host::time_left(x, &raw mut left));
    step("time_left_says", left > 0);
    step("now", host::now() > 1_600_000_000 * 1_000_000_000);
    step("config", GIVEN.get().is_some_and(|given| is_config(*given)));
}

/// Reads and writes in turns, with trailers both ways.
fn stream(x: Exchange) {
    let (mut piece, mut written) = (Slice::EMPTY, 0);
    let announced = field("trailer", "x-sum");
    step("stream_respond", host::respond(x, 200, &raw const announced, 1));
    step("stream_empty_write", host::body_write(x, 0, Slice::EMPTY, null_mut()));
    let status = loop {
        let read = host::body_read(x, 0, &raw mut piece);
        if read != abi::OK || piece.len == 0 {
            break read;
        }
        let wrote = host::body_write(x, 0, piece, &raw mut written);
        if wrote != abi::OK || written != piece.len {
            break abi::FAILED;
        }
    };
    step("stream_body", status);
    let (mut first, mut number) = (null(), 0);
    step("stream_trailers", host::request_trailers(x, &raw mut first, &raw mut number));
    let trailer = first_of(first, number).map(|trailer| (bytes(trailer.name), bytes(trailer.value)));
    step("stream_trailers_say", number == 1 && trailer == Some((&b"x-came"[..], &b"1"[..])));
    let own = field("x-sum", "6");
    step("stream_own_trailers", host::trailers(x, &raw const own, 1));
    step("stream_write_behind_trailers", host::body_write(x, 0, text("!"), null_mut()));
    step("stream_finish", host::finish(x));
}

/// As an async runtime would: nothing waits but for the bell.
fn nonblocking(x: Exchange) {
    /// More than the kernel keeps for a client that does not read, on the way through a gateway.
    const MUCH: usize = 8_000_000;
    let (readable, writable) = (Bell::default(), Bell::default());
    let (mut piece, mut read) = (Slice::EMPTY, 0);
    step("async_nothing_yet", host::body_read(x, NONBLOCK, &raw mut piece));
    step("async_notify_readable", readable.ask(x, READABLE));
    step("async_notify_early", writable.ask(x, WRITABLE));
    step_count("async_before_the_head_is_writable", writable.times());
    writable.wait();
    step("async_ready", host::respond(x, 200, null(), 0));
    loop {
        readable.wait();
        let status = loop {
            let status = host::body_read(x, NONBLOCK, &raw mut piece);
            if status != abi::OK || piece.len == 0 {
                break status;
            }
            read += piece.len;
        };
        if status != abi::WOULD_BLOCK || readable.ask(x, READABLE) != abi::OK {
            break;
        }
    }
    step_count("async_read", read);
    step("async_wakes_once_each", readable.times() >= 1);
    let bytes = vec![0; MUCH];
    let (mut sent, mut blocked) = (0, 0);
    while sent < MUCH {
        let mut written = 0;
        match host::body_write(x, NONBLOCK, Slice::of(&bytes[sent..]), &raw mut written) {
            abi::OK => sent += written,
            abi::WOULD_BLOCK if writable.ask(x, WRITABLE) == abi::OK => {
                if blocked == 0 {
                    step("async_write_would_block", sent >= 262_144);
                }
                blocked += 1;
                writable.wait();
            }
            _ => break,
        }
    }
    step_count("async_write", sent);
    step("async_wakes_as_often_as_asked", writable.times() == blocked + 1);
    step("async_finish_elsewhere", host::finish(x));
}

fn abort_waiting(x: Exchange) {
    let mut piece = Slice::EMPTY;
    step("abort_read", host::body_read(x, 0, &raw mut piece));
    step("abort_while_waiting", host::abort(x, text("while waiting")));
}

fn abort_body(x: Exchange) {
    step("abort_respond", host::respond(x, 200, null(), 0));
    step("abort_write", host::body_write(x, 0, text("part"), null_mut()));
    step("abort_in_the_body", host::abort(x, text("in the body")));
}

fn abort_trailers(x: Exchange) {
    step("abort_trailers_respond", host::respond(x, 200, null(), 0));
    step("abort_trailers", host::trailers(x, null(), 0));
    step("abort_behind_trailers", host::abort(x, Slice::EMPTY));
}

/// Waits for the end that others make: the client's going or the deadline.
fn given_up(x: Exchange) {
    let (gone, reader, first) = (Bell::default(), Bell::default(), Bell::default());
    let (ending, any) = (Bell::default(), Bell::default());
    let (mut piece, mut target) = (Slice::EMPTY, Slice::EMPTY);
    step("given_up_notify", gone.ask(x, 0));
    step("given_up_replaced", first.ask(x, READABLE));
    step("given_up_replaces", reader.ask(x, READABLE));
    step("given_up_notify_ending", ending.ask(x, ENDING));
    step("given_up_notify_any", any.ask(x, READABLE | ENDING));
    step_count("given_up_the_replaced_is_woken", first.times());
    step_count("given_up_no_other_is", gone.times() + reader.times() + ending.times() + any.times());
    step("given_up_target", host::target(x, &raw mut target));
    gone.wait();
    reader.wait();
    ending.wait();
    any.wait();
    step("given_up_read", host::body_read(x, NONBLOCK, &raw mut piece));
    step("given_up_write", host::body_write(x, 0, text("late"), null_mut()));
    step("given_up_respond", host::respond(x, 200, null(), 0));
    step("given_up_no_more_notices", gone.ask(x, 0));
    step("given_up_lent_bytes_stay", bytes(target).first() == Some(&b'/'));
    step("given_up_finish", host::finish(x));
    step_count("given_up_woken_once", gone.times() + reader.times() + ending.times() + any.times());
}

/// Answers, without ever waiting in a call, while the gateway reads nothing: many of these at once fill its link. None of
/// them sends as much as its own exchange has room for.
fn unread(x: Exchange) {
    let room = Bell::default();
    let bytes: Vec<u8> = (0..200_000_usize).map(|i| (i * 7 + i / 256).to_le_bytes()[0]).collect();
    let (mut sent, mut has_waited) = (0, false);
    let mut status = host::respond(x, 200, null(), 0);
    step("unread_respond", status);
    while sent < bytes.len() && status == abi::OK {
        let piece = bytes[sent..].chunks(20_000).next().unwrap_or_default();
        let mut written = 0;
        status = host::body_write(x, NONBLOCK, Slice::of(piece), &raw mut written);
        if status == abi::OK {
            sent += written;
            continue;
        }
        if !std::mem::replace(&mut has_waited, true) {
            step("unread_has_no_room", status);
        }
        status = room.ask(x, WRITABLE);
        step("unread_notify", status);
        if status == abi::OK {
            room.wait();
        }
    }
    step_count("unread_write", sent);
    step("unread_finish", host::finish(x));
}

/// Waits in a call for the gateway to read, until it gives the exchange up.
fn unread_waiting(x: Exchange) {
    static BYTES: [u8; 20_000] = [0; 20_000];
    let mut status = host::respond(x, 200, null(), 0);
    step("unread_waiting_respond", status);
    while status == abi::OK {
        status = host::body_write(x, 0, Slice::of(&BYTES), null_mut());
    }
    step("unread_waiting_is_cancelled", status);
    step("unread_waiting_abort", host::abort(x, Slice::EMPTY));
}
