//! HTTP/2, frame by frame.

use super::Bench;
use crate::h2::raw::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, RST_STREAM, Raw, SETTINGS,
    WINDOW_UPDATE, fields, frame, head,
};

const PRIORITY: u8 = 2;
const PUSH_PROMISE: u8 = 5;
const END: u8 = END_STREAM | END_HEADERS;

/// What comes of a case, on the first stream or on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Status(u16),
    Reset(u32),
    Goaway(u32),
}
use Outcome::{Goaway, Reset, Status};

const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const FRAME_SIZE: u32 = 6;
const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;
const CALM: u32 = 11;

type Case = (&'static str, Vec<u8>, Outcome, &'static [&'static str]);

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/x"), (":authority", "t")];

/// A request without a body that has these fields besides.
fn with(more: &[(&str, &str)]) -> Vec<u8> {
    whole(&[&GET, more].concat())
}

/// A request without a body that has these fields and no others.
fn whole(all: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END, 1, &fields(all))
}

/// A request without one field.
fn without(name: &str) -> Vec<u8> {
    let left: Vec<_> = GET.into_iter().filter(|(field, _)| *field != name).collect();
    whole(&left)
}

/// A request in which a field has another value.
fn other(name: &str, value: &'static str) -> Vec<u8> {
    whole(&GET.map(|(field, usual)| (field, if field == name { value } else { usual })))
}

/// A request with a length in its head, and a body.
fn body(length: &str, data: &[u8]) -> Vec<u8> {
    let mut sent =
        frame(HEADERS, END_HEADERS, 1, &fields(&[&GET[..], &[("content-length", length)]].concat()));
    sent.extend_from_slice(&frame(DATA, END_STREAM, 1, data));
    sent
}

const SEEN: &[&str] = &["GET /x t "];

fn heads() -> Vec<Case> {
    vec![
        ("a request", with(&[]), Status(200), SEEN),
        ("a body", body("3", b"abc"), Status(200), &["GET /x t abc"]),
        ("te: trailers", with(&[("te", "trailers")]), Status(200), SEEN),
        (
            "the server as a whole",
            whole(&[(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), (":authority", "t")]),
            Status(204),
            &[],
        ),
        ("* for something else", other(":path", "*"), Status(400), &[]),
        ("a name in capitals", with(&[("X-A", "b")]), Goaway(PROTOCOL), &[]),
        ("connection", with(&[("connection", "close")]), Reset(PROTOCOL), &[]),
        ("keep-alive", with(&[("keep-alive", "1")]), Reset(PROTOCOL), &[]),
        ("upgrade", with(&[("upgrade", "h2c")]), Reset(PROTOCOL), &[]),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")]), Reset(PROTOCOL), &[]),
        ("te", with(&[("te", "gzip")]), Reset(PROTOCOL), &[]),
        ("no method", without(":method"), Reset(PROTOCOL), &[]),
        ("no scheme", without(":scheme"), Reset(PROTOCOL), &[]),
        ("no path", without(":path"), Reset(PROTOCOL), &[]),
        ("an empty path", other(":path", ""), Reset(PROTOCOL), &[]),
        ("a path without /", other(":path", "x"), Reset(PROTOCOL), &[]),
        ("a path with a blank", other(":path", "/x y"), Reset(PROTOCOL), &[]),
        ("a path with a line", other(":path", "/x HTTP/1.1\r\nhost: u\r\n\r\n"), Reset(PROTOCOL), &[]),
        ("a path in UTF-8", other(":path", "/ä"), Status(400), &[]),
        ("a path twice", with(&[(":path", "/y")]), Reset(PROTOCOL), &[]),
        ("a method with a line", other(":method", "GET /y HTTP/1.1\r\n"), Goaway(PROTOCOL), &[]),
        ("a status", with(&[(":status", "200")]), Reset(PROTOCOL), &[]),
        ("a field of the protocol that is none", with(&[(":x", "y")]), Goaway(PROTOCOL), &[]),
        ("one behind the others", whole(&[&[("x", "y")], &GET[..]].concat()), Reset(PROTOCOL), &[]),
        ("a protocol to switch to", with(&[(":protocol", "websocket")]), Reset(PROTOCOL), &[]),
        ("CONNECT", whole(&[(":method", "CONNECT"), (":authority", "u:443")]), Status(405), &[]),
        ("no host", without(":authority"), Status(400), &[]),
        ("Host instead", whole(&[&GET[..3], &[("host", "t")]].concat()), Status(200), SEEN),
        ("Host as well", with(&[("host", "T")]), Status(200), SEEN),
        ("another Host as well", with(&[("host", "u")]), Status(400), &[]),
        ("two of Host", whole(&[&GET[..3], &[("host", "t"), ("host", "t")]].concat()), Status(400), &[]),
        ("a user", other(":authority", "u@t"), Status(400), &[]),
        ("a host with a path", other(":authority", "t/y"), Reset(PROTOCOL), &[]),
        ("a name with a blank", with(&[("x a", "b")]), Goaway(PROTOCOL), &[]),
        ("a name with a colon", with(&[("x:a", "b")]), Goaway(PROTOCOL), &[]),
        ("a name with a line", with(&[("x\r\nhost", "b")]), Goaway(PROTOCOL), &[]),
        ("no name", with(&[("", "b")]), Goaway(PROTOCOL), &[]),
        ("a value with a line", with(&[("x", "b\r\nhost: u")]), Goaway(PROTOCOL), &[]),
        ("a value with a NUL", with(&[("x", "b\0c")]), Goaway(PROTOCOL), &[]),
        ("a length that is more", body("4", b"abc"), Reset(PROTOCOL), &["GET /x t …"]),
        ("a length that is less", body("2", b"abc"), Reset(PROTOCOL), &["GET /x t …"]),
        ("a length, and no body", with(&[("content-length", "3")]), Reset(PROTOCOL), &[]),
        ("+", body("+3", b"abc"), Reset(PROTOCOL), &[]),
        ("a list", body("3, 3", b"abc"), Reset(PROTOCOL), &[]),
        (
            "two lengths that are equal",
            with(&[("content-length", "0"), ("content-length", "0")]),
            Status(400),
            &[],
        ),
        ("two lengths", with(&[("content-length", "0"), ("content-length", "3")]), Reset(PROTOCOL), &[]),
        ("100 fields", with(&[("x", "y"); 100]), Status(200), SEEN),
        ("101 fields", with(&[("x", "y"); 101]), Status(431), &[]),
    ]
}

fn frames() -> Vec<Case> {
    let get = with(&[]);
    let block = fields(&GET);
    let open = frame(HEADERS, END_HEADERS, 1, &block);
    vec![
        (
            "a head in pieces",
            [frame(HEADERS, END_STREAM, 1, &block[..9]), frame(CONTINUATION, END_HEADERS, 1, &block[9..])]
                .concat(),
            Status(200),
            SEEN,
        ),
        ("a frame of no kind", [frame(99, 255, 1, b"abc"), get.clone()].concat(), Status(200), SEEN),
        (
            "another frame within a head",
            [frame(HEADERS, END_STREAM, 1, &block[..9]), frame(PING, 0, 0, &[0; 8])].concat(),
            Goaway(PROTOCOL),
            &[],
        ),
        (
            "another stream within a head",
            [frame(HEADERS, END_STREAM, 1, &block[..9]), frame(CONTINUATION, END_HEADERS, 3, &block[9..])]
                .concat(),
            Goaway(PROTOCOL),
            &[],
        ),
        ("the rest of no head", frame(CONTINUATION, END_HEADERS, 1, &block), Goaway(PROTOCOL), &[]),
        ("a head that is no HPACK", frame(HEADERS, END, 1, &[0xff; 12]), Goaway(PROTOCOL), &[]),
        ("an entry of no table", frame(HEADERS, END, 1, &[0xfe]), Goaway(PROTOCOL), &[]),
        ("the stream of a server", frame(HEADERS, END, 2, &block), Goaway(PROTOCOL), &[]),
        ("a head of no stream", frame(HEADERS, END, 0, &block), Goaway(PROTOCOL), &[]),
        (
            "an earlier stream",
            [frame(HEADERS, END, 5, &block), frame(HEADERS, END, 3, &block)].concat(),
            Goaway(PROTOCOL),
            &[],
        ),
        ("data of no stream", frame(DATA, 0, 0, b"abc"), Goaway(PROTOCOL), &[]),
        ("data of a stream that never was", frame(DATA, 0, 1, b"abc"), Goaway(PROTOCOL), &[]),
        ("data behind the end", [get.clone(), frame(DATA, 0, 1, b"abc")].concat(), Goaway(PROTOCOL), &[]),
        (
            "a second head",
            [open.clone(), frame(HEADERS, END_HEADERS, 1, &block)].concat(),
            Reset(PROTOCOL),
            &["GET /x t …"],
        ),
        ("padding of more than the frame", frame(DATA, 8, 1, &[9, 0]), Goaway(PROTOCOL), &[]),
        (
            "a frame that is too long",
            [open.clone(), frame(DATA, 0, 1, &[0; 16_385])].concat(),
            Goaway(FRAME_SIZE),
            &[],
        ),
        (
            "a promise",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], &block[..]].concat()),
            Goaway(PROTOCOL),
            &[],
        ),
        ("a reset of a stream that never was", frame(RST_STREAM, 0, 1, &[0; 4]), Goaway(PROTOCOL), &[]),
        ("a stream that depends on itself", frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 0]), Reset(PROTOCOL), &[]),
        ("SETTINGS of 5 bytes", frame(SETTINGS, 0, 0, &[0; 5]), Goaway(PROTOCOL), &[]),
        ("SETTINGS of a stream", frame(SETTINGS, 0, 1, &[]), Goaway(PROTOCOL), &[]),
        (
            "a window beyond its bound",
            frame(SETTINGS, 0, 0, &[0, 4, 255, 255, 255, 255]),
            Goaway(PROTOCOL),
            &[],
        ),
        ("a PING of 7 bytes", frame(PING, 0, 0, &[0; 7]), Goaway(PROTOCOL), &[]),
        ("leave to send nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), Goaway(PROTOCOL), &[]),
        (
            "leave beyond its bound",
            [0u32, 0].map(|stream| frame(WINDOW_UPDATE, 0, stream, &[127, 255, 255, 255])).concat(),
            Goaway(FLOW_CONTROL),
            &[],
        ),
        ("text", b"GET /x HTTP/1.1\r\nhost: t\r\n\r\n".to_vec(), Goaway(FRAME_SIZE), &[]),
    ]
}

/// The outcome: the first that there is.
fn outcome(raw: &mut Raw) -> Option<(Outcome, u32)> {
    let of = |frame: &Frame| match frame.kind {
        HEADERS => Some(Status(frame.status())),
        RST_STREAM => Some(Reset(frame.code())),
        GOAWAY => Some(Goaway(frame.code())),
        _ => None,
    };
    loop {
        let frame = raw.next()?;
        if let Some(outcome) = of(&frame) {
            return Some((outcome, frame.stream));
        }
    }
}

fn run(cases: Vec<Case>) {
    let bench = Bench::new();
    let number = cases.len();
    let wrong = cases.into_iter().filter_map(|(name, sent, expected, seen)| {
        let mut raw = Raw::open(bench.rig.address);
        raw.write(&sent);
        let got = outcome(&mut raw).map(|(outcome, _)| outcome);
        // What is wrong with a stream has nothing to do with the next one.
        let lives = !matches!(got, None | Some(Goaway(_)));
        if lives {
            raw.frame(HEADERS, END, 99, &head("GET", "/next", &[]));
            while outcome(&mut raw).is_some_and(|(_, stream)| stream != 99) {}
        }
        let mut saw = bench.seen();
        let served = saw.iter().any(|request| request == "GET /next test ");
        saw.retain(|request| request != "GET /next test ");
        (got != Some(expected) || saw != seen || served != lives)
            .then(|| format!("{name}: {got:?}, {served}, {saw:?}"))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{} of {number}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn http_2_heads() {
    run(heads());
}

#[test]
fn http_2_is_told_by_its_first_word() {
    let bench = Bench::new();
    let mut raw = Raw::connect(bench.rig.address);
    raw.write(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    // Not even a GOAWAY: who says that speaks nothing.
    assert_eq!(outcome(&mut raw), None);
    assert_eq!(bench.seen(), [""; 0]);
}

#[test]
fn http_2_frames() {
    run(frames());
}

/// A head in ever more pieces: neither kept nor decoded without end.
#[test]
fn http_2_continuations_without_end() {
    let bench = Bench::new();
    for piece in [fields(&[("x-a", "b")]), Vec::new(), fields(&[("x-a", &"b".repeat(10_000))])] {
        let mut raw = Raw::open(bench.rig.address);
        raw.frame(HEADERS, END_STREAM, 1, &fields(&GET));
        for _ in 0..2000 {
            raw.frame(CONTINUATION, 0, 1, &piece);
        }
        let outcome = outcome(&mut raw).map(|(outcome, _)| outcome);
        assert!(matches!(outcome, None | Some(Goaway(CALM | PROTOCOL | COMPRESSION))), "{outcome:?}");
    }
    assert_eq!(bench.seen(), [""; 0]);
}

#[test]
fn http_2_heads_are_bounded() {
    let bench = Bench::new();
    let mut raw = Raw::open(bench.rig.address);
    let block = [fields(&GET), fields(&[("x-a", &"b".repeat(70_000))])].concat();
    let mut pieces = block.chunks(16_000).peekable();
    raw.frame(HEADERS, END_STREAM, 1, pieces.next().expect("the first piece"));
    while let Some(piece) = pieces.next() {
        raw.frame(CONTINUATION, if pieces.peek().is_none() { END_HEADERS } else { 0 }, 1, piece);
    }
    assert_eq!(outcome(&mut raw), Some((Status(431), 1)));
    assert_eq!(bench.seen(), [""; 0]);
}

/// Streams beyond the bound are refused as untouched, so that the client may send them once more.
#[test]
fn http_2_has_at_most_100_streams_at_once() {
    let bench = Bench::new();
    let mut raw = Raw::open(bench.rig.address);
    let numbers = (1..).step_by(2).take(101);
    for stream in numbers.clone() {
        raw.frame(HEADERS, END_HEADERS, stream, &fields(&GET));
    }
    assert_eq!(outcome(&mut raw), Some((Reset(REFUSED), 201)));
    for stream in numbers.take(100) {
        raw.frame(DATA, END_STREAM, stream, b"");
    }
    for _ in 0..100 {
        assert_eq!(outcome(&mut raw).map(|(outcome, _)| outcome), Some(Status(200)));
    }
    assert_eq!(bench.seen(), ["GET /x t "; 100]);
}

/// Requests that are taken back in the same breath.
#[test]
fn http_2_rapid_resets() {
    let bench = Bench::new();
    let mut raw = Raw::open(bench.rig.address);
    let streams = (1..).step_by(2).take(200);
    let flood = streams.map(|stream| {
        let head = frame(HEADERS, END, stream, &fields(&GET));
        [head, frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
    });
    raw.write(&flood.collect::<Vec<_>>().concat());
    let outcome = std::iter::from_fn(|| outcome(&mut raw)).find(|(outcome, _)| matches!(outcome, Goaway(_)));
    assert_eq!(outcome, Some((Goaway(CALM), 0)));
    assert!(bench.seen().len() < 200);
}
