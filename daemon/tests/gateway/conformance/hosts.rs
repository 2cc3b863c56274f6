//! Whom a request is for.

use super::{Bench, Case, Closes, Lives};

const HOSTS: &[Case<'_>] = &[
    ("none", b"GET /x HTTP/1.1\r\n\r\n", &[400], Closes, &[]),
    ("none, but in the target", b"GET http://u/x HTTP/1.1\r\n\r\n", &[200], Lives, &["GET /x u "]),
    ("an empty one", b"GET /x HTTP/1.1\r\nhost:\r\n\r\n", &[200], Lives, &["GET /x  "]),
    ("with a port", b"GET /x HTTP/1.1\r\nhost: t:8080\r\n\r\n", &[200], Lives, &["GET /x t:8080 "]),
    ("an address", b"GET /x HTTP/1.1\r\nhost: [::1]:80\r\n\r\n", &[200], Lives, &["GET /x [::1]:80 "]),
    ("with a colon, and no port", b"GET /x HTTP/1.1\r\nhost: t:\r\n\r\n", &[200], Lives, &["GET /x t: "]),
    ("with two ports", b"GET /x HTTP/1.1\r\nhost: t:80:90\r\n\r\n", &[400], Closes, &[]),
    (
        "with two ports in the target",
        b"GET http://t:80:90/x HTTP/1.1\r\nhost: t\r\n\r\n",
        &[400],
        Closes,
        &[],
    ),
    ("with a port that is none", b"GET /x HTTP/1.1\r\nhost: t:8o\r\n\r\n", &[400], Closes, &[]),
    ("with a port beyond the last", b"GET /x HTTP/1.1\r\nhost: t:65536\r\n\r\n", &[400], Closes, &[]),
    ("an address without brackets", b"GET /x HTTP/1.1\r\nhost: ::1\r\n\r\n", &[400], Closes, &[]),
    ("brackets that do not close", b"GET /x HTTP/1.1\r\nhost: [::1\r\n\r\n", &[400], Closes, &[]),
    ("a name in brackets", b"GET /x HTTP/1.1\r\nhost: [t]\r\n\r\n", &[400], Closes, &[]),
    ("any case of the name", b"GET /x HTTP/1.1\r\nHoSt: T\r\n\r\n", &[200], Lives, &["GET /x T "]),
    ("blanks around it", b"GET /x HTTP/1.1\r\nhost:\t t \t\r\n\r\n", &[200], Lives, &["GET /x t "]),
    ("two", b"GET /x HTTP/1.1\r\nhost: t\r\nhost: u\r\n\r\n", &[400], Closes, &[]),
    ("two that are equal", b"GET /x HTTP/1.1\r\nhost: t\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("two in one", b"GET /x HTTP/1.1\r\nhost: t, u\r\n\r\n", &[400], Closes, &[]),
    ("two in HTTP/1.0", b"GET /x HTTP/1.0\r\nhost: t\r\nhost: u\r\n\r\n", &[400], Closes, &[]),
    ("two beside a URL", b"GET http://t/ HTTP/1.1\r\nhost: t\r\nhost: u\r\n\r\n", &[400], Closes, &[]),
    ("a bad one beside a URL", b"GET http://t/ HTTP/1.1\r\nhost: a b\r\n\r\n", &[400], Closes, &[]),
    ("with a user", b"GET /x HTTP/1.1\r\nhost: u@t\r\n\r\n", &[400], Closes, &[]),
    ("with a path", b"GET /x HTTP/1.1\r\nhost: t/y\r\n\r\n", &[400], Closes, &[]),
    ("with a query", b"GET /x HTTP/1.1\r\nhost: t?y\r\n\r\n", &[400], Closes, &[]),
    ("with a \\", b"GET /x HTTP/1.1\r\nhost: t\\u\r\n\r\n", &[400], Closes, &[]),
    ("with a blank", b"GET /x HTTP/1.1\r\nhost: t u\r\n\r\n", &[400], Closes, &[]),
    ("with a byte of Latin-1", b"GET /x HTTP/1.1\r\nhost: t\xe4\r\n\r\n", &[400], Closes, &[]),
    ("behind a blank", b"GET /x HTTP/1.1\r\n host: t\r\n\r\n", &[400], Closes, &[]),
    ("in front of a blank", b"GET /x HTTP/1.1\r\nhost : t\r\n\r\n", &[400], Closes, &[]),
    ("folded", b"GET /x HTTP/1.1\r\nhost: t\r\n u\r\n\r\n", &[400], Closes, &[]),
    ("with a bare CR", b"GET /x HTTP/1.1\r\nhost: t\ru\r\n\r\n", &[400], Closes, &[]),
    ("two in one, without a blank", b"GET /x HTTP/1.1\r\nhost: t,u\r\n\r\n", &[400], Closes, &[]),
    (
        "named by Connection",
        b"GET /x HTTP/1.1\r\nhost: t\r\nconnection: host\r\n\r\n",
        &[200],
        Lives,
        &["GET /x t "],
    ),
    (
        "what X-Forwarded-Host says is no host",
        b"GET /x HTTP/1.1\r\nhost: t\r\nx-forwarded-host: u\r\n\r\n",
        &[200],
        Lives,
        &["GET /x t "],
    ),
];

#[test]
fn hosts() {
    Bench::new().run(HOSTS);
}
