//! The request line: methods, targets, versions.

use super::{Bench, Case, Closes, HangsUp, Lives};

const METHODS_AND_VERSIONS: &[Case<'_>] = &[
    ("GET", b"GET /x HTTP/1.1\r\nhost: t\r\n\r\n", &[200], Lives, &["GET /x t "]),
    ("a method of one's own", b"PURGE /x HTTP/1.1\r\nhost: t\r\n\r\n", &[200], Lives, &["PURGE /x t "]),
    ("methods are case-sensitive", b"get /x HTTP/1.1\r\nhost: t\r\n\r\n", &[200], Lives, &["get /x t "]),
    ("a method that is no token", b"GE(T /x HTTP/1.1\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("no method", b" /x HTTP/1.1\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("an empty line in front", b"\r\nGET /x HTTP/1.1\r\nhost: t\r\n\r\n", &[200], Lives, &["GET /x t "]),
    ("a space in front", b"  GET /x HTTP/1.1\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("HTTP/1.0", b"GET /x HTTP/1.0\r\n\r\n", &[200], Closes, &["GET /x - "]),
    ("HTTP/1.0, kept", b"GET /x HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", &[200], Lives, &["GET /x - "]),
    ("HTTP/1.2", b"GET /x HTTP/1.2\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("HTTP/2.0 in text", b"GET /x HTTP/2.0\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("HTTP/0.9", b"GET /x\r\n\r\n", &[400], Closes, &[]),
    ("no version", b"GET /x \r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("a version in lower case", b"GET /x http/1.1\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("a long version", b"GET /x HTTP/1.10\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("another protocol", b"GET /x RTSP/1.0\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[400], Closes, &[]),
    ("a space too many", b"GET  /x HTTP/1.1\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("a space behind", b"GET /x HTTP/1.1 \r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("a tab for a space", b"GET\t/x HTTP/1.1\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("a bare CR in the line", b"GET /x\r HTTP/1.1\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("a NUL in the line", b"GET /\0x HTTP/1.1\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("a line that does not end", b"GET /x HTTP/1.1", &[], HangsUp, &[]),
    ("nothing", b"", &[], HangsUp, &[]),
];

const TARGETS: &[Case<'_>] = &[
    ("a URL", b"GET http://u/x?y HTTP/1.1\r\nhost: u\r\n\r\n", &[200], Lives, &["GET /x?y u "]),
    ("a URL without a path", b"GET http://u HTTP/1.1\r\nhost: u\r\n\r\n", &[200], Lives, &["GET / u "]),
    ("a URL overrules Host", b"GET http://u/x HTTP/1.1\r\nhost: t\r\n\r\n", &[200], Lives, &["GET /x u "]),
    ("a URL with a query alone", b"GET http://u?y HTTP/1.1\r\nhost: u\r\n\r\n", &[400], Closes, &[]),
    ("a URL of another scheme", b"GET ftp://u/x HTTP/1.1\r\nhost: u\r\n\r\n", &[400], Closes, &[]),
    ("a URL with a user", b"GET http://u@t/x HTTP/1.1\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("a URL without a host", b"GET http:///x HTTP/1.1\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("an authority", b"GET u:80 HTTP/1.1\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("a word", b"GET x HTTP/1.1\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("a query alone", b"GET ?x HTTP/1.1\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("the server as a whole", b"OPTIONS * HTTP/1.1\r\nhost: t\r\n\r\n", &[204], Lives, &[]),
    ("* for something else", b"GET * HTTP/1.1\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("CONNECT", b"CONNECT u:443 HTTP/1.1\r\nhost: u:443\r\n\r\n", &[405], Closes, &[]),
    (
        "CONNECT, with what is meant for the far end",
        b"CONNECT u:443 HTTP/1.1\r\nhost: u:443\r\n\r\nGET /x HTTP/1.1\r\nhost: t\r\n\r\n",
        &[405],
        Closes,
        &[],
    ),
    ("CONNECT with a path", b"CONNECT /x HTTP/1.1\r\nhost: t\r\n\r\n", &[405], Closes, &[]),
    ("UTF-8", "GET /ä HTTP/1.1\r\nhost: t\r\n\r\n".as_bytes(), &[400], Closes, &[]),
    ("Latin-1", b"GET /\xe4 HTTP/1.1\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    ("DEL", b"GET /\x7f HTTP/1.1\r\nhost: t\r\n\r\n", &[400], Closes, &[]),
    // What is encoded, doubled or relative goes on as it came: nobody between the client and the module changes it.
    ("//", b"GET //x//y HTTP/1.1\r\nhost: t\r\n\r\n", &[200], Lives, &["GET //x//y t "]),
    ("..", b"GET /x/../y HTTP/1.1\r\nhost: t\r\n\r\n", &[200], Lives, &["GET /x/../y t "]),
    ("%2f and %00", b"GET /x%2fy%00 HTTP/1.1\r\nhost: t\r\n\r\n", &[200], Lives, &["GET /x%2fy%00 t "]),
    ("a broken escape", b"GET /%zz%1 HTTP/1.1\r\nhost: t\r\n\r\n", &[200], Lives, &["GET /%zz%1 t "]),
    ("\\ and ;", b"GET /x\\y;z HTTP/1.1\r\nhost: t\r\n\r\n", &[200], Lives, &["GET /x\\y;z t "]),
    // A client keeps it to itself; nobody is told of it.
    ("a fragment", b"GET /x#y HTTP/1.1\r\nhost: t\r\n\r\n", &[200], Lives, &["GET /x t "]),
];

#[test]
fn methods_and_versions() {
    Bench::new().run(METHODS_AND_VERSIONS);
}

#[test]
fn targets() {
    Bench::new().run(TARGETS);
}

#[test]
fn a_long_target_is_passed_on_and_one_longer_than_a_head_is_not() {
    let bench = Bench::new();
    let long = "x".repeat(60_000);
    let seen = format!("GET /{long} t ");
    let request = format!("GET /{long} HTTP/1.1\r\nhost: t\r\n\r\n");
    let too_long = format!("GET /{} HTTP/1.1\r\nhost: t\r\n\r\n", "x".repeat(66_000));
    bench.run(&[
        ("long", request.as_bytes(), &[200], Lives, &[&seen]),
        ("too long", too_long.as_bytes(), &[431], Closes, &[]),
    ]);
}
