//! Bodies in chunks.

use super::{Bench, Case, Closes, HangsUp, Lives};

macro_rules! chunked {
    ($body:literal) => {
        concat!("POST /x HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n", $body).as_bytes()
    };
}

const ABC: &[&str] = &["POST /x t abc"];
/// The host is told that the rest is not to come.
const CUT: &[&str] = &["POST /x t abc…"];
const NOTHING: &[&str] = &["POST /x t …"];

const CHUNKS: &[Case<'_>] = &[
    ("one", chunked!("3\r\nabc\r\n0\r\n\r\n"), &[200], Lives, ABC),
    ("more", chunked!("1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"), &[200], Lives, ABC),
    ("none", chunked!("0\r\n\r\n"), &[200], Lives, &["POST /x t "]),
    ("a long one", chunked!("A\r\nabcdefghij\r\n0\r\n\r\n"), &[200], Lives, &["POST /x t abcdefghij"]),
    ("zeros in front", chunked!("0003\r\nabc\r\n00\r\n\r\n"), &[200], Lives, ABC),
    ("an extension", chunked!("3;a=b;c=\"d\"\r\nabc\r\n0;e\r\n\r\n"), &[200], Lives, ABC),
    ("blanks behind the size", chunked!("3 \t\r\nabc\r\n0\r\n\r\n"), &[200], Lives, ABC),
    (
        "what looks like the end",
        chunked!("7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n"),
        &[200],
        Lives,
        &["POST /x t \r\n0\r\n\r\n"],
    ),
    ("a bare LF in an extension", chunked!("3;a\nabc\r\n0\r\n\r\n"), &[400], Closes, NOTHING),
    ("a bare CR in an extension", chunked!("3;a\rb\r\nabc\r\n0\r\n\r\n"), &[400], Closes, NOTHING),
    ("a bare LF behind the size", chunked!("3\nabc\r\n0\r\n\r\n"), &[400], Closes, NOTHING),
    ("a bare LF behind the data", chunked!("3\r\nabc\n0\r\n\r\n"), &[400], Closes, CUT),
    ("nothing behind the data", chunked!("3\r\nabc0\r\n\r\n"), &[400], Closes, CUT),
    ("more data than said", chunked!("3\r\nabcd\r\n0\r\n\r\n"), &[400], Closes, CUT),
    ("no size", chunked!("\r\nabc\r\n0\r\n\r\n"), &[400], Closes, NOTHING),
    ("an extension alone", chunked!(";a\r\nabc\r\n0\r\n\r\n"), &[400], Closes, NOTHING),
    ("+", chunked!("+3\r\nabc\r\n0\r\n\r\n"), &[400], Closes, NOTHING),
    ("-", chunked!("-3\r\nabc\r\n0\r\n\r\n"), &[400], Closes, NOTHING),
    ("0x", chunked!("0x3\r\nabc\r\n0\r\n\r\n"), &[400], Closes, NOTHING),
    ("a blank in front", chunked!(" 3\r\nabc\r\n0\r\n\r\n"), &[400], Closes, NOTHING),
    ("a blank within", chunked!("1 0\r\nabc\r\n0\r\n\r\n"), &[400], Closes, NOTHING),
    ("no digit", chunked!("3g\r\nabc\r\n0\r\n\r\n"), &[400], Closes, NOTHING),
    ("beyond 64 bits", chunked!("10000000000000003\r\nabc\r\n0\r\n\r\n"), &[400], Closes, NOTHING),
    ("all of 64 bits", chunked!("ffffffffffffffff\r\nabc"), &[400], HangsUp, CUT),
    ("no end", chunked!("3\r\nabc\r\n"), &[400], HangsUp, CUT),
    ("half an end", chunked!("3\r\nabc\r\n0\r\n"), &[400], HangsUp, CUT),
];

const TRAILERS: &[Case<'_>] = &[
    ("a trailer", chunked!("3\r\nabc\r\n0\r\nx-a: b\r\n\r\n"), &[200], Lives, &["POST /x t abc+x-a:b"]),
    (
        "what would say something else than the head",
        chunked!(
            "3\r\nabc\r\n0\r\nhost: u\r\ncontent-length: 9\r\ntransfer-encoding: x\r\nx-a: b\r\nconnection: close\r\n\
             x-forwarded-for: u\r\nx-forwarded-host: u\r\nx-hot-version: 2\r\nauthorization: a\r\ncookie: c\r\n\r\n"
        ),
        &[200],
        Lives,
        &["POST /x t abc+x-a:b"],
    ),
    ("a name that is no token", chunked!("3\r\nabc\r\n0\r\nx a: b\r\n\r\n"), &[400], Closes, CUT),
    ("no colon", chunked!("3\r\nabc\r\n0\r\nGET /y HTTP/1.1\r\n\r\n"), &[400], Closes, CUT),
    ("folded", chunked!("3\r\nabc\r\n0\r\nx-a: b\r\n c\r\n\r\n"), &[400], Closes, CUT),
    ("a bare CR", chunked!("3\r\nabc\r\n0\r\nx-a: b\rc\r\n\r\n"), &[400], Closes, CUT),
    ("no end", chunked!("3\r\nabc\r\n0\r\nx-a: b\r\n"), &[400], HangsUp, CUT),
];

#[test]
fn chunks() {
    Bench::new().run(CHUNKS);
}

#[test]
fn trailers() {
    Bench::new().run(TRAILERS);
}
