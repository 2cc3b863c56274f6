//! The lines of a head.

use super::{Bench, Case, Closes, Lives};

macro_rules! get {
    ($fields:literal) => {
        concat!("GET /x HTTP/1.1\r\nhost: t\r\n", $fields, "\r\n\r\n").as_bytes()
    };
}

const SEEN: &[&str] = &["GET /x t "];

const FIELDS: &[Case<'_>] = &[
    ("a field", get!("x-a: b"), &[200], Lives, SEEN),
    ("an empty value", get!("x-a:"), &[200], Lives, SEEN),
    ("a tab within", get!("x-a: b\tc"), &[200], Lives, SEEN),
    ("all marks that a name may have", get!("!#$%&'*+-.^_`|~: b"), &[200], Lives, SEEN),
    ("a value of Latin-1", b"GET /x HTTP/1.1\r\nhost: t\r\nx-a: \xe4\r\n\r\n", &[200], Lives, SEEN),
    ("lines that end with LF alone", b"GET /x HTTP/1.1\nhost: t\nx-a: b\n\n", &[200], Lives, SEEN),
    ("a blank before the colon", get!("x-a : b"), &[400], Closes, &[]),
    ("a tab before the colon", get!("x-a\t: b"), &[400], Closes, &[]),
    ("a blank in front", get!(" x-a: b"), &[400], Closes, &[]),
    ("a folded value", get!("x-a: b\r\n c"), &[400], Closes, &[]),
    ("no colon", get!("x-a"), &[400], Closes, &[]),
    ("no name", get!(": b"), &[400], Closes, &[]),
    ("a name that is no token", get!("x(a: b"), &[400], Closes, &[]),
    ("a name in UTF-8", get!("x-ä: b"), &[400], Closes, &[]),
    ("a NUL in a name", get!("x\0a: b"), &[400], Closes, &[]),
    ("a NUL in a value", get!("x-a: b\0c"), &[400], Closes, &[]),
    ("a bare CR", get!("x-a: b\rc"), &[400], Closes, &[]),
    ("an escape", get!("x-a: b\x1bc"), &[400], Closes, &[]),
    ("DEL", get!("x-a: b\x7fc"), &[400], Closes, &[]),
    ("CR CR LF", get!("x-a: b\r"), &[400], Closes, &[]),
];

#[test]
fn fields() {
    Bench::new().run(FIELDS);
}

#[test]
fn a_head_has_at_most_100_fields_and_64_kib() {
    let bench = Bench::new();
    let head = |fields: &str| format!("GET /x HTTP/1.1\r\nhost: t\r\n{fields}\r\n").into_bytes();
    let value = |len| head(&format!("x-a: {}\r\n", "b".repeat(len)));
    bench.run(&[
        ("100", &head(&"x-a: b\r\n".repeat(99)), &[200], Lives, SEEN),
        ("101", &head(&"x-a: b\r\n".repeat(100)), &[431], Closes, &[]),
        ("60 KiB", &value(60 * 1024), &[200], Lives, SEEN),
        ("64 KiB", &value(64 * 1024), &[431], Closes, &[]),
    ]);
}
