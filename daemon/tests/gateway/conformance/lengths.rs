//! Where a body ends, as the head says.

use super::{Bench, Case, Closes, HangsUp, Lives};

/// A request with these fields and what follows. The host must see one reading of it.
macro_rules! post {
    ($fields:literal, $body:literal) => {
        concat!("POST /x HTTP/1.1\r\nhost: t\r\n", $fields, "\r\n\r\n", $body).as_bytes()
    };
}

const WHOLE: &[&str] = &["POST /x t abc"];

const CONTENT_LENGTH: &[Case<'_>] = &[
    ("a length", post!("content-length: 3", "abc"), &[200], Lives, WHOLE),
    ("0", post!("content-length: 0", ""), &[200], Lives, &["POST /x t "]),
    ("none", post!("x: y", ""), &[200], Lives, &["POST /x t "]),
    ("with zeros in front", post!("content-length: 003", "abc"), &[200], Lives, WHOLE),
    ("with blanks around it", post!("content-length: \t3 \t", "abc"), &[200], Lives, WHOLE),
    ("twice the same", post!("content-length: 3\r\ncontent-length: 3", "abc"), &[200], Lives, WHOLE),
    ("two", post!("content-length: 3\r\ncontent-length: 4", "abcd"), &[400], Closes, &[]),
    ("two, the first is 0", post!("content-length: 0\r\ncontent-length: 3", "abc"), &[400], Closes, &[]),
    ("a list of the same", post!("content-length: 3, 3", "abc"), &[400], Closes, &[]),
    ("a list", post!("content-length: 3,4", "abcd"), &[400], Closes, &[]),
    ("+", post!("content-length: +3", "abc"), &[400], Closes, &[]),
    ("-", post!("content-length: -3", "abc"), &[400], Closes, &[]),
    ("in hexadecimal", post!("content-length: 0x3", "abc"), &[400], Closes, &[]),
    ("a fraction", post!("content-length: 3.0", "abc"), &[400], Closes, &[]),
    ("a blank within", post!("content-length: 1 0", "abcdefghij"), &[400], Closes, &[]),
    ("empty", post!("content-length:", ""), &[400], Closes, &[]),
    ("a word", post!("content-length: three", "abc"), &[400], Closes, &[]),
    ("beyond 64 bits", post!("content-length: 18446744073709551619", "abc"), &[400], Closes, &[]),
    ("all of 64 bits", post!("content-length: 18446744073709551615", "abc"), &[431], Closes, &[]),
    ("more than is accepted", post!("content-length: 99999999999", "abc"), &[413], HangsUp, &[]),
    ("folded", post!("content-length:\r\n 3", "abc"), &[400], Closes, &[]),
    ("less than is sent", post!("content-length: 3", "abcdef\r\n\r\n"), &[200, 400], Closes, WHOLE),
    ("more than is sent", post!("content-length: 4", "abc"), &[400], HangsUp, &["POST /x t abc…"]),
    (
        "of a GET",
        b"GET /x HTTP/1.1\r\nhost: t\r\ncontent-length: 3\r\n\r\nabc",
        &[200],
        Lives,
        &["GET /x t abc"],
    ),
    ("in HTTP/1.0", b"POST /x HTTP/1.0\r\ncontent-length: 3\r\n\r\nabc", &[200], Closes, &["POST /x - abc"]),
    ("of a name that is another", post!("content_length: 3", ""), &[200], Lives, &["POST /x t "]),
];

const ABC: &[&str] = &["POST /x t abc"];

/// With a body in chunks behind it, and behind that a request that only another reading would find.
macro_rules! coded {
    ($fields:literal) => {
        post!($fields, "3\r\nabc\r\n0\r\n\r\n")
    };
}

const TRANSFER_ENCODING: &[Case<'_>] = &[
    ("chunked", coded!("transfer-encoding: chunked"), &[200], Lives, ABC),
    ("any case", coded!("TRANSFER-encoding: cHUNKED"), &[200], Lives, ABC),
    ("tabs around it", coded!("transfer-encoding:\tchunked\t"), &[200], Lives, ABC),
    ("no blank", coded!("transfer-encoding:chunked"), &[200], Lives, ABC),
    // Once both are there, nothing that follows can be trusted to be a request (RFC 9112, section 6.1).
    ("CL.TE", coded!("content-length: 3\r\ntransfer-encoding: chunked"), &[200], Closes, ABC),
    ("TE.CL", coded!("transfer-encoding: chunked\r\ncontent-length: 3"), &[200], Closes, ABC),
    (
        "CL.TE with a request behind",
        post!(
            "content-length: 49\r\ntransfer-encoding: chunked",
            "0\r\n\r\nGET /y HTTP/1.1\r\nhost: t\r\nx: y\r\n\r\n"
        ),
        &[200],
        Closes,
        &["POST /x t "],
    ),
    (
        "TE.CL with a request within",
        post!(
            "content-length: 4\r\ntransfer-encoding: chunked",
            "1c\r\nGET /y HTTP/1.1\r\nhost: t\r\n\r\n\r\n0\r\n\r\n"
        ),
        &[200],
        Closes,
        &["POST /x t GET /y HTTP/1.1\r\nhost: t\r\n\r\n"],
    ),
    (
        "CL that is none, and TE",
        coded!("content-length: x\r\ntransfer-encoding: chunked"),
        &[400],
        Closes,
        &[],
    ),
    ("identity", coded!("transfer-encoding: identity"), &[400], Closes, &[]),
    ("xchunked", coded!("transfer-encoding: xchunked"), &[400], Closes, &[]),
    ("chunkedx", coded!("transfer-encoding: chunkedx"), &[400], Closes, &[]),
    ("quoted", coded!("transfer-encoding: \"chunked\""), &[400], Closes, &[]),
    ("with a parameter", coded!("transfer-encoding: chunked;a=b"), &[400], Closes, &[]),
    ("empty", coded!("transfer-encoding:"), &[400], Closes, &[]),
    ("chunked and then another", coded!("transfer-encoding: chunked, gzip"), &[400], Closes, &[]),
    ("chunked and nothing", coded!("transfer-encoding: chunked,"), &[400], Closes, &[]),
    ("nothing and chunked", coded!("transfer-encoding: ,chunked"), &[501], Closes, &[]),
    ("twice", coded!("transfer-encoding: chunked, chunked"), &[501], Closes, &[]),
    (
        "twice, in two fields",
        coded!("transfer-encoding: chunked\r\ntransfer-encoding: chunked"),
        &[501],
        Closes,
        &[],
    ),
    ("another before", coded!("transfer-encoding: gzip, chunked"), &[501], Closes, &[]),
    (
        "identity before",
        coded!("transfer-encoding: identity\r\ntransfer-encoding: chunked"),
        &[501],
        Closes,
        &[],
    ),
    (
        "identity behind",
        coded!("transfer-encoding: chunked\r\ntransfer-encoding: identity"),
        &[400],
        Closes,
        &[],
    ),
    (
        "another before, and a length",
        coded!("content-length: 3\r\ntransfer-encoding: x, chunked"),
        &[501],
        Closes,
        &[],
    ),
    ("a blank before the colon", coded!("transfer-encoding : chunked"), &[400], Closes, &[]),
    ("folded", coded!("transfer-encoding:\r\n chunked"), &[400], Closes, &[]),
    ("a vertical tab", coded!("transfer-encoding: \x0bchunked"), &[400], Closes, &[]),
    ("a NUL", coded!("transfer-encoding: chunked\0"), &[400], Closes, &[]),
    ("behind a bare CR", coded!("x: y\rtransfer-encoding: chunked"), &[400], Closes, &[]),
    ("behind a bare LF, which ends a line", coded!("x: y\ntransfer-encoding: chunked"), &[200], Lives, ABC),
    ("in HTTP/1.0", b"POST /x HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", &[400], Closes, &[]),
    // To this server it is a field like any other, and what comes then is no request.
    ("of a name that is another", coded!("transfer_encoding: chunked"), &[200, 400], Closes, &["POST /x t "]),
];

#[test]
fn content_lengths() {
    Bench::new().run(CONTENT_LENGTH);
}

#[test]
fn transfer_encodings() {
    Bench::new().run(TRANSFER_ENCODING);
}
