//! More than one message on a connection: what follows what.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;

use hotd::gateway::GatewayConfig;

use super::{Bench, Case, Closes, HangsUp, Lives};
use crate::host::Host;
use crate::rig::{A, Rig, stable};

const CONNECTIONS: &[Case<'_>] = &[
    (
        "three at once",
        b"GET /a HTTP/1.1\r\nhost: t\r\n\r\nPOST /b HTTP/1.1\r\nhost: t\r\ncontent-length: 3\r\n\r\nabc\
          GET /c HTTP/1.1\r\nhost: t\r\n\r\n",
        &[200, 200, 200],
        Lives,
        &["GET /a t ", "POST /b t abc", "GET /c t "],
    ),
    (
        "behind what is no request",
        b"GET /a HTTP/1.1\r\nhost: t\r\n\r\nGET /b HTTP/9.9\r\n\r\nGET /c HTTP/1.1\r\nhost: t\r\n\r\n",
        &[200, 400],
        Closes,
        &["GET /a t "],
    ),
    (
        "behind one that is refused",
        b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\nhost: t\r\n\r\n",
        &[400],
        Closes,
        &[],
    ),
    (
        "behind a body that is none",
        b"POST /a HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\nx\r\n\r\nGET /b HTTP/1.1\r\nhost: t\r\n\r\n",
        &[400],
        Closes,
        &["POST /a t …"],
    ),
    (
        "behind an answer of the gateway's own",
        b"GET /-/live HTTP/1.1\r\nhost: t\r\n\r\nGET /b HTTP/1.1\r\nhost: t\r\n\r\n",
        &[200, 200],
        Lives,
        &["GET /b t "],
    ),
    (
        "behind a body that nobody read",
        b"POST /-/live HTTP/1.1\r\nhost: t\r\ncontent-length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nhost: t\r\n\r\n",
        &[200, 200],
        Lives,
        &["GET /b t "],
    ),
    (
        "behind close",
        b"GET /a HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\nGET /b HTTP/1.1\r\nhost: t\r\n\r\n",
        &[200],
        Closes,
        &["GET /a t "],
    ),
    ("CLOSE in a list", b"GET /a HTTP/1.1\r\nhost: t\r\nconnection: x, CLOSE\r\n\r\n", &[200], Closes, &["GET /a t "]),
    (
        "close, though keep-alive as well",
        b"GET /a HTTP/1.1\r\nhost: t\r\nconnection: close\r\nconnection: keep-alive\r\n\r\n",
        &[200],
        Closes,
        &["GET /a t "],
    ),
    ("an end behind it: the client is gone", b"GET /a HTTP/1.1\r\nhost: t\r\n\r\n", &[], HangsUp, &["GET /a t "]),
    (
        "an expectation that is none of HTTP's",
        b"POST /a HTTP/1.1\r\nhost: t\r\nexpect: a cup of tea\r\ncontent-length: 3\r\n\r\nabc",
        &[200],
        Lives,
        &["POST /a t abc"],
    ),
    (
        "an upgrade that nobody offers",
        b"GET /a HTTP/1.1\r\nhost: t\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n",
        &[200],
        Lives,
        &["GET /a t "],
    ),
];

#[test]
fn connections() {
    Bench::new().run(CONNECTIONS);
}

/// The answers come in the order of the requests, and no later one is asked for first.
#[test]
fn a_slow_first_holds_up_those_behind_it() {
    let rig = Rig::with(GatewayConfig { threads: 1, ..GatewayConfig::default() });
    let (_host, links, inbox) = Host::watched(1);
    rig.attach(A, links);
    rig.serve(vec![stable(A, 10_000)]);
    let mut client = rig.client();
    for path in ["/a", "/b", "/c"] {
        client.write(format!("GET {path} HTTP/1.1\r\nhost: t\r\n\r\n"));
    }
    for path in ["/a", "/b", "/c"] {
        let (request, reply) = inbox.request();
        assert_eq!(request.target(), path.as_bytes());
        reply.respond(200, &[], path.as_bytes(), true);
        assert_eq!(client.response(false).text(), path);
    }
}

#[test]
fn a_head_says_the_length_and_has_no_body() {
    let bench = Bench::new();
    let mut client = bench.rig.client();
    for _ in 0..2 {
        client.write("HEAD /x HTTP/1.1\r\nhost: t\r\n\r\n");
        let response = client.response(true);
        assert_eq!((response.status, response.header("content-length")), (200, Some("2")));
    }
    // Nothing was left on the connection.
    assert_eq!(client.get("/y").text(), "ok");
}

/// The client is asked for its body once somebody is there to take it, and not if it is refused.
#[test]
fn a_client_is_asked_to_go_on_only_if_its_body_is_wanted() {
    let bench = Bench::with(GatewayConfig { max_body_bytes: 10, ..GatewayConfig::default() });
    let ask = |path: &str, length: u32| {
        let mut client = bench.rig.client();
        client.write(format!(
            "POST {path} HTTP/1.1\r\nhost: t\r\nexpect: 100-Continue\r\ncontent-length: {length}\r\n\r\n"
        ));
        let status = client.head().status;
        (client, status)
    };
    let (mut wanted, status) = ask("/x", 3);
    assert_eq!(status, 100);
    wanted.write("abc");
    assert_eq!(wanted.response(false).text(), "ok");
    assert_eq!(bench.seen(), ["POST /x t abc"]);
    assert_eq!(ask("/x", 11).1, 413);
    assert_eq!(ask("/-/other", 3).1, 404);
    // Without a body there is nothing to ask for.
    let mut client = bench.rig.client();
    client.write("GET /x HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\n\r\n");
    assert_eq!(client.response(false).status, 200);
}

/// Refused, a client may leave out the body or send it. What it sends is no request in either case.
#[test]
fn a_body_that_was_not_asked_for_is_not_taken_for_a_request() {
    let bench = Bench::new();
    for body in ["abc", "GET /y HTTP/1.1\r\nhost: t\r\n\r\n"] {
        let mut client = bench.rig.client();
        let length = body.len();
        client.write(format!(
            "POST /-/other HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        ));
        assert_eq!(client.response(false).status, 404);
        // It may have been closed.
        drop(client.socket.get_mut().write_all(body.as_bytes()));
        drop(client.socket.get_mut().write_all(b"GET /next HTTP/1.1\r\nhost: next\r\n\r\n"));
        drop(client.socket.get_ref().shutdown(Shutdown::Write));
        let mut rest = Vec::new();
        drop(client.socket.read_to_end(&mut rest));
        let seen = bench.seen();
        assert!(seen.is_empty() || seen == ["GET /next next "], "{body}: {seen:?}");
    }
}

#[test]
fn it_does_not_matter_in_which_pieces_a_request_comes() {
    let bench = Bench::new();
    let request =
        b"POST /x HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-a: b\r\n\r\n";
    let mut client = bench.rig.client();
    for byte in request {
        client.write([*byte]);
    }
    assert_eq!(client.response(false).text(), "ok");
    for at in 1..request.len() {
        client.write(&request[..at]);
        client.write(&request[at..]);
        assert_eq!(client.response(false).text(), "ok", "cut at {at}");
    }
    let seen = bench.seen();
    assert!(seen.len() == request.len() && seen.iter().all(|seen| seen == "POST /x t abc+x-a:b"), "{seen:?}");
}
