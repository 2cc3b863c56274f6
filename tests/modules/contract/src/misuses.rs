//! What may not be done: each is refused with the status that docs/abi.md names, never worse.

use crate::host::{self, answer, bytes, field, text};
use crate::report::{self, step, step_count};
use hot_module::abi::{self, COUNTER, Exchange, GAUGE, HISTOGRAM, Header, NONBLOCK, READABLE, Slice};
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const NULL_TEXT: Slice = Slice { ptr: null(), len: 5 };
const ENDLESS: Slice = Slice { ptr: b"x".as_ptr(), len: usize::MAX };

pub(crate) fn start() {
    with_handle("before_the_start", 1);
}

pub(crate) fn handle(path: &str, x: Exchange) {
    match path {
        "all" => {
            handles(x);
            nowhere(x);
            lengths(x);
            heads(x);
            sizes(x);
            metrics();
            metric_bounds();
            orders(x);
            with_handle("after_the_end", x);
            thread::scope(|scope| drop(scope.spawn(|| with_handle("after_the_end_elsewhere", x))));
        }
        "race" => race(x),
        "endless" => endless(x),
        "wild" => drop(answer_wildly(x)),
        "keep" => {}
        _ => report::tell(x),
    }
}

unsafe extern "C" fn never(_context: *mut c_void) {
    step("never_woken", true);
}

unsafe extern "C" fn ignore(_context: *mut c_void) {}

/// Every function that takes an exchange, with one that is none.
fn with_handle(what: &str, x: Exchange) {
    let (mut out, mut first, mut number, mut left) = (Slice::EMPTY, null(), 0, 0);
    let answers = [
        ("method", host::method(x, &raw mut out)),
        ("target", host::target(x, &raw mut out)),
        ("peer", host::peer(x, &raw mut out)),
        ("headers", host::headers(x, &raw mut first, &raw mut number)),
        ("header", host::header(x, text("x-test"), &raw mut out)),
        ("time_left", host::time_left(x, &raw mut left)),
        ("body_read", host::body_read(x, 0, &raw mut out)),
        ("body_read_nonblocking", host::body_read(x, NONBLOCK, &raw mut out)),
        ("body_all", host::body_all(x, 100, &raw mut out)),
        ("request_trailers", host::request_trailers(x, &raw mut first, &raw mut number)),
        ("reply", host::reply(x, 200, null(), 0, Slice::EMPTY)),
        ("respond", host::respond(x, 200, null(), 0)),
        ("body_write", host::body_write(x, 0, text("a"), null_mut())),
        ("body_write_nonblocking", host::body_write(x, NONBLOCK, text("a"), &raw mut number)),
        ("trailers", host::trailers(x, null(), 0)),
        ("finish", host::finish(x)),
        ("abort", host::abort(x, text("no"))),
        ("notify", host::notify(x, 0, Some(never), null_mut())),
    ];
    for (service, status) in answers {
        step(&format!("{what}.{service}"), status);
    }
}

fn handles(x: Exchange) {
    with_handle("handle_0", 0);
    with_handle("handle_1", 1);
    with_handle("handle_most", u64::MAX);
    with_handle("handle_beside", x ^ 1);
    with_handle("handle_of_before", x.wrapping_sub(1 << 32));
    with_handle("handle_to_come", x.wrapping_add(1 << 32));
}

/// No place for the answer; and none of the body is lost by asking.
fn nowhere(x: Exchange) {
    let (mut body, mut first, mut number) = (Slice::EMPTY, null(), 0);
    step("null_method", host::method(x, null_mut()));
    step("null_target", host::target(x, null_mut()));
    step("null_peer", host::peer(x, null_mut()));
    step("null_headers", host::headers(x, null_mut(), &raw mut number));
    step("null_headers_count", host::headers(x, &raw mut first, null_mut()));
    step("null_header", host::header(x, text("x-test"), null_mut()));
    step("null_time_left", host::time_left(x, null_mut()));
    step("null_body_read", host::body_read(x, 0, null_mut()));
    step("null_body_all", host::body_all(x, 100, null_mut()));
    step("null_request_trailers", host::request_trailers(x, null_mut(), null_mut()));
    step("null_wake", host::notify(x, READABLE, None, null_mut()));
    step("trailers_before_the_end", host::request_trailers(x, &raw mut first, &raw mut number));
    step("unknown_event", host::notify(x, 8, Some(never), null_mut()));
    step("unknown_events", host::notify(x, u32::MAX, Some(never), null_mut()));
    step("unknown_read_flag", host::body_read(x, 2, &raw mut body));
    step("nothing_was_lost", host::body_all(x, 100, &raw mut body));
    step("nothing_was_lost_says", bytes(body) == b"some body");
}

fn lengths(x: Exchange) {
    let (mut out, mut written) = (Slice::EMPTY, 0);
    let endless = Header { value: ENDLESS, ..field("x-a", "") };
    let null_value = Header { value: NULL_TEXT, ..field("x-a", "") };
    let nameless = Header { name: NULL_TEXT, ..field("", "v") };
    let misaligned = (&raw const endless).cast::<u8>().wrapping_add(1).cast();
    step("endless_name", host::header(x, ENDLESS, &raw mut out));
    step("null_name", host::header(x, NULL_TEXT, &raw mut out));
    step("endless_body", host::reply(x, 200, null(), 0, ENDLESS));
    step("null_body", host::reply(x, 200, null(), 0, NULL_TEXT));
    step("endless_value", host::respond(x, 200, &raw const endless, 1));
    step("null_value", host::respond(x, 200, &raw const null_value, 1));
    step("null_header_name", host::respond(x, 200, &raw const nameless, 1));
    step("null_header_array", host::respond(x, 200, null(), 1));
    step("null_reply_headers", host::reply(x, 200, null(), 7, Slice::EMPTY));
    step("misaligned_headers", host::respond(x, 200, misaligned, 1));
    step("endless_headers", host::respond(x, 200, &raw const endless, usize::MAX));
    step("early_endless_write", host::body_write(x, 0, ENDLESS, &raw mut written));
    step("nowhere_written", host::body_write(x, NONBLOCK, text("a"), null_mut()));
    step("unknown_write_flag", host::body_write(x, 4, text("a"), &raw mut written));
    host::log(abi::LOG_INFO, ENDLESS);
    host::log(99, NULL_TEXT);
}

fn heads(x: Exchange) {
    for status in [0, 100, 101, 199, 600, 65736, u32::MAX] {
        step("bad_status_respond", host::respond(x, status, null(), 0));
        step("bad_status_reply", host::reply(x, status, null(), 0, Slice::EMPTY));
    }
    let upgrade = field("upgrade", "echo/1");
    step("unasked_upgrade_respond", host::respond(x, 101, &raw const upgrade, 1));
    step("unasked_upgrade_reply", host::reply(x, 101, &raw const upgrade, 1, Slice::EMPTY));
    let not_ascii = Header { name: Slice::of(b"x\xc3\xa4"), ..field("", "v") };
    let forbidden = [
        field("Connection", "close"),
        field("keep-alive", "1"),
        field("Proxy-Connection", "a"),
        field("TE", "trailers"),
        field("Transfer-Encoding", "chunked"),
        field("upgrade", "h2c"),
        field("", "v"),
        field("a b", "v"),
        field("a:", "v"),
        field("x-a", "b\r\nc: d"),
        field("x-a", "b\nc"),
        field("x-a", "\0"),
        field("x-a", "\x7f"),
        not_ascii,
    ];
    for header in &forbidden {
        step("forbidden_respond", host::respond(x, 200, header, 1));
        step("forbidden_reply", host::reply(x, 200, header, 1, text("b")));
    }
}

/// A head of 64 KiB, with what each header and the head itself cost, and one of a byte more.
static LARGEST: Header = large(65_536 - 8 - 4 - 3);
static TOO_LARGE: Header = large(65_536 - 8 - 4 - 3 + 1);

const fn large(len: usize) -> Header {
    const BYTES: &[u8] = &[b'v'; 65_536];
    Header { name: text("x-a"), value: Slice::of(BYTES.split_at(len).0) }
}

fn sizes(x: Exchange) {
    let large = "v".repeat(65536);
    let (many, too_long) = ([field("x-a", "v"); 129], field("x-a", &large));
    let two = [field("x-a", &large[..40000]), field("x-b", &large[..40000])];
    step("too_many_headers", host::respond(x, 200, many.as_ptr(), many.len()));
    step("too_long_a_value", host::reply(x, 200, &raw const too_long, 1, Slice::EMPTY));
    step("too_much_in_all", host::reply(x, 200, two.as_ptr(), 2, text("b")));
    step("a_byte_too_much", host::respond(x, 200, &TOO_LARGE, 1));
}

fn orders(x: Exchange) {
    let (mut written, hop, sum) = (0, field("connection", "close"), field("x-sum", "1"));
    step("finish_before_the_head", host::finish(x));
    step("body_before_the_head", host::body_write(x, 0, text("a"), null_mut()));
    step("body_before_the_head_nonblocking", host::body_write(x, NONBLOCK, text("a"), &raw mut written));
    step("empty_body_before_the_head", host::body_write(x, 0, Slice::EMPTY, null_mut()));
    step("trailers_before_the_head", host::trailers(x, &raw const sum, 1));
    step("head", host::respond(x, 200, &LARGEST, 1));
    step("second_head", host::respond(x, 200, null(), 0));
    step("second_head_too_large", host::respond(x, 200, &TOO_LARGE, 1));
    step("second_head_bad_status", host::respond(x, 199, null(), 0));
    step("reply_behind_the_head", host::reply(x, 200, null(), 0, text("a")));
    step("forbidden_trailer", host::trailers(x, &raw const hop, 1));
    step("null_trailers", host::trailers(x, null(), 1));
    step("trailers", host::trailers(x, &raw const sum, 1));
    step("second_trailers", host::trailers(x, &raw const sum, 1));
    step("second_trailers_too_large", host::trailers(x, &TOO_LARGE, 1));
    step("finish", host::finish(x));
}

fn metrics() {
    let gauge =
        |name: Slice, labels: &[Header]| host::metric(GAUGE, name, labels.as_ptr(), labels.len(), 1.0);
    let (m, label) = (text("m"), field("a", "b"));
    let with_value = |value: Slice| [Header { value, ..label }];
    step("metric_kind_0", host::metric(0, m, null(), 0, 1.0));
    step("metric_kind_4", host::metric(4, m, null(), 0, 1.0));
    step("metric_less", host::metric(COUNTER, m, null(), 0, -1.0));
    step("metric_none", host::metric(GAUGE, m, null(), 0, f64::NAN));
    step("metric_endless", host::metric(HISTOGRAM, m, null(), 0, f64::INFINITY));
    step("metric_nameless", gauge(Slice::EMPTY, &[]));
    step("metric_null_name", gauge(NULL_TEXT, &[]));
    step("metric_endless_name", gauge(ENDLESS, &[]));
    step("metric_bad_name", gauge(text("a-b"), &[]));
    step("metric_null_labels", host::metric(GAUGE, m, null(), 1, 1.0));
    step("metric_endless_labels", host::metric(GAUGE, m, &raw const label, usize::MAX, 1.0));
    step("metric_nine_labels", gauge(m, &[label; 9]));
    step("metric_reserved", gauge(m, &[field("le", "1")]));
    step("metric_null_value", gauge(m, &with_value(NULL_TEXT)));
    step("metric_control", gauge(m, &[field("a", "\x1b[2J")]));
    step("metric_not_utf8", gauge(m, &with_value(Slice::of(b"\xff"))));
    step("metric_twice", gauge(m, &[field("a", "1"), field("a", "2")]));
    step("metric_as_a_gauge", gauge(m, &[]));
    step("metric_other_kind", host::metric(COUNTER, m, &raw const label, 1, 1.0));
}

fn metric_bounds() {
    let answers = (0..300).map(|number| {
        let number = number.to_string();
        let label = field("n", &number);
        host::metric(COUNTER, text("m_many"), &raw const label, 1, 1.0)
    });
    let answers: Vec<_> = answers.collect();
    let times = |wanted| answers.iter().filter(|status| **status == wanted).count();
    step("metric_series_are_bounded", (1..256).contains(&times(abi::OK)));
    step_count("metric_more_is_refused", times(abi::OK) + times(abi::TOO_LARGE));
    step("metric_of_before_goes_on", host::metric(GAUGE, text("m"), null(), 0, 2.0));
}

/// What is wrong in itself is so of a cancelled exchange too, and what comes out of order is cancelled.
fn cancelled(x: Exchange) {
    let (mut first, mut number) = (null(), 0);
    step("cancelled_unknown_event", host::notify(x, 8, Some(never), null_mut()));
    step("cancelled_null_wake", host::notify(x, READABLE, None, null_mut()));
    step("cancelled_null_body_read", host::body_read(x, 0, null_mut()));
    step("cancelled_unknown_flag", host::body_write(x, 4, text("a"), &raw mut number));
    step("cancelled_bad_status", host::respond(x, 199, null(), 0));
    step("cancelled_too_large", host::respond(x, 200, &TOO_LARGE, 1));
    step("cancelled_trailers_too_large", host::trailers(x, &TOO_LARGE, 1));
    step("cancelled_reply_too_large", host::reply(x, 200, &TOO_LARGE, 1, Slice::EMPTY));
    step("cancelled_notify", host::notify(x, 0, Some(never), null_mut()));
    step("cancelled_second_head", host::respond(x, 200, null(), 0));
    step("cancelled_request_trailers", host::request_trailers(x, &raw mut first, &raw mut number));
}

/// Four threads end one exchange: one of them has.
fn race(x: Exchange) {
    let ended = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut out = Slice::EMPTY;
                host::body_read(x, NONBLOCK, &raw mut out);
                host::notify(x, 0, Some(ignore), null_mut());
                ended.fetch_add(usize::from(answer(x, b"one") == abi::OK), Ordering::SeqCst);
            });
        }
    });
    step_count("one_ends_it", ended.into_inner());
}

/// A response that never ends, as far as it is up to the module.
fn endless(x: Exchange) {
    static BYTES: [u8; 65536] = [0; 65536];
    let (mut first, mut number) = (null(), 0);
    step("trailers_of_a_body_that_was_not_read", host::request_trailers(x, &raw mut first, &raw mut number));
    let mut status = host::respond(x, 200, null(), 0);
    while status == abi::OK {
        status = host::body_write(x, 0, Slice::of(&BYTES), null_mut());
    }
    step("endless_is_cancelled", status);
    cancelled(x);
    step("endless_ends", host::abort(x, Slice::EMPTY));
    step("endless_has_ended", host::finish(x));
}

/// Bytes at an address where there are none: what is undefined, and ends the process.
fn answer_wildly(x: Exchange) -> abi::Status {
    let nowhere = std::ptr::without_provenance(8);
    host::reply(x, 200, null(), 0, Slice { ptr: nowhere, len: 10 })
}
