//! What HTTP asks of a gateway.

use hotd::gateway::{GatewayConfig, Sources};

use crate::host::{Host, Inbox, fields};
use crate::rig::{A, Rig, stable};

fn rig(forwarded_from: Sources) -> (Rig, Host, Inbox) {
    let rig = Rig::with(GatewayConfig { threads: 1, forwarded_from, ..GatewayConfig::default() });
    let (host, links, inbox) = Host::watched(1);
    rig.attach(A, links);
    rig.serve(vec![stable(A, 10_000)]);
    (rig, host, inbox)
}

const REQUEST: &str = "GET /a%20b?c=d HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\nX-Two: 1\r\nX-Two: 2\r\n\
    Connection: keep-alive, X-Mine, X-Real-IP\r\nX-Mine: here only\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: x\r\n\
    Proxy-Authorization: secret\r\nX-Forwarded-For: 203.0.113.1\r\nX-Forwarded-Proto: https\r\n\
    X-Forwarded-Host: front.example.org\r\nX-Forwarded-Port: 443\r\nX-Real-IP: 203.0.113.1\r\n\
    Forwarded: for=203.0.113.1\r\n\r\n";

#[test]
fn the_host_sees_the_request_without_what_is_for_this_hop() {
    let (rig, _host, inbox) = rig(Sources::None);
    let mut client = rig.client();
    let port = client.socket.get_ref().local_addr().expect("connected").port();
    client.write(REQUEST);
    let (request, _) = inbox.request();
    assert_eq!((request.method(), request.target()), (&b"GET"[..], &b"/a%20b?c=d"[..]));
    assert_eq!(request.peer(), format!("127.0.0.1:{port}").as_bytes());
    assert!(request.end && request.body.is_empty());
    let expected = [
        ("accept", "*/*"),
        ("host", "example.org"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "example.org"),
        ("x-forwarded-proto", "http"),
        ("x-two", "1 | 2"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(fields(&request), expected.into());
}

#[test]
fn a_trusted_front_is_believed_and_named() {
    let (rig, _host, inbox) = rig(Sources::All);
    let mut client = rig.client();
    client.write(REQUEST);
    let fields = fields(&inbox.request().0);
    assert_eq!(fields["x-forwarded-for"], "203.0.113.1, 127.0.0.1");
    assert_eq!(fields["x-forwarded-proto"], "https");
    assert_eq!(fields["x-forwarded-host"], "front.example.org");
    assert_eq!((&*fields["x-forwarded-port"], &*fields["x-real-ip"]), ("443", "203.0.113.1"));
    assert_eq!(fields["forwarded"], "for=203.0.113.1");
}

#[test]
fn the_client_sees_the_response_without_what_is_for_the_other_hop() {
    let (rig, _host, inbox) = rig(Sources::None);
    let mut client = rig.client();
    client.write(REQUEST);
    let said = [
        ("content-type", "text/plain"),
        ("set-cookie", "a=1"),
        ("x-custom", "kept"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("keep-alive", "1"),
    ];
    inbox.request().1.respond(404, &said, b"not here", true);
    let response = client.response(false);
    assert_eq!((response.status, response.text()), (404, "not here"));
    for (name, value) in [
        ("content-length", Some("8")),
        ("content-type", Some("text/plain")),
        ("set-cookie", Some("a=1")),
        ("x-custom", Some("kept")),
        ("connection", None),
        ("transfer-encoding", None),
        ("keep-alive", None),
        ("x-hot-release", None),
    ] {
        assert_eq!(response.header(name), value, "{name}");
    }
    assert!(response.header("date").is_some_and(|date| date.ends_with(" GMT")));
    // The connection is as good as before.
    client.write(REQUEST);
    inbox.request().1.respond(200, &[("date", "Thu, 01 Jan 1970 00:00:00 GMT")], b"", true);
    assert_eq!(client.response(false).header("date"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
}

#[test]
fn responses_without_a_body_have_none() {
    let (rig, _host, inbox) = rig(Sources::None);
    let mut client = rig.client();
    let mut ask = |method: &str, status, fields: &[(&str, &str)], body: &[u8], end| {
        client.write(format!("{method} /x HTTP/1.1\r\nhost: test\r\n\r\n"));
        let request = loop {
            // A body that nobody wants is cancelled.
            let came = inbox.next();
            if let hot_wire::data::FromGateway::Request(_) = came.message {
                break came.reply;
            }
        };
        request.respond(status, fields, body, end);
        let response = client.response(method == "HEAD");
        (response.status, response.header("content-length").map(str::to_owned))
    };
    let length = Some("4".to_owned());
    assert_eq!(ask("HEAD", 200, &[], b"four", true), (200, length.clone()));
    assert_eq!(ask("HEAD", 200, &[("content-length", "4")], b"", true), (200, length.clone()));
    assert_eq!(ask("HEAD", 200, &[("content-length", "4")], b"fo", false), (200, length.clone()));
    assert_eq!(ask("GET", 204, &[], b"", true), (204, None));
    assert_eq!(ask("GET", 304, &[("content-length", "4")], b"", true), (304, None));
    assert_eq!(ask("GET", 200, &[], b"four", true), (200, length));
    let counters = rig.gateway.counters(A);
    assert_eq!((counters.finished, counters.errors, counters.cancelled), (6, 0, 0));
}

#[test]
fn what_is_no_request_for_a_gateway_is_refused_in_a_sentence() {
    let (rig, _host, _inbox) = rig(Sources::None);
    for (request, status) in [
        ("GET /x HTTP/1.1\r\n\r\n", 400),
        ("GET /x HTTP/1.1\r\nhost: a.example\r\nhost: b.example\r\n\r\n", 400),
        ("GET /x HTTP/1.1\r\nhost: a.example\r\nhost: a.example\r\n\r\n", 400),
        ("GET /x HTTP/1.0\r\nhost: a.example\r\nhost: b.example\r\n\r\n", 400),
        ("GET http://a.example/x HTTP/1.1\r\nhost: a.example\r\nhost: b.example\r\n\r\n", 400),
        ("GET /-/live HTTP/1.1\r\nhost: a.example\r\nhost: b.example\r\n\r\n", 400),
        ("CONNECT example.org:443 HTTP/1.1\r\nhost: example.org\r\n\r\n", 405),
        ("nonsense\r\n\r\n", 400),
    ] {
        let mut client = rig.client();
        client.write(request);
        assert_eq!(client.response(false).status, status, "{request}");
    }
}

#[test]
fn an_absolute_target_overrules_the_host_header() {
    let (rig, _host, inbox) = rig(Sources::None);
    let mut client = rig.client();
    client.write("GET http://target.example/p?q HTTP/1.1\r\nHost: other.example\r\n\r\n");
    let (request, _) = inbox.request();
    assert_eq!(request.target(), b"/p?q");
    assert_eq!(fields(&request)["host"], "target.example");
    assert_eq!(fields(&request)["x-forwarded-host"], "target.example");
}

/// The host must see it too, and a client of HTTP/1.0 gets an end of body that it understands.
#[test]
fn http_1_0_is_served() {
    let (rig, _host, inbox) = rig(Sources::None);
    let mut client = rig.client();
    client.write("GET /x HTTP/1.0\r\n\r\n");
    let (_, reply) = inbox.request();
    reply.respond(200, &[], b"part one, ", false);
    reply.body(b"part two", true);
    let response = client.response(false);
    assert_eq!((response.header("transfer-encoding"), response.text()), (None, "part one, part two"));
}

#[test]
fn a_client_that_expects_100_is_asked_to_go_on() {
    let (rig, _host, inbox) = rig(Sources::None);
    let mut client = rig.client();
    client.write("POST /x HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n");
    assert_eq!(client.head().status, 100);
    client.write("body");
    let (request, reply) = inbox.request();
    assert!(!fields(&request).contains_key("expect"));
    assert!(matches!(inbox.next().message, hot_wire::data::FromGateway::Body { end: true, .. }));
    reply.respond(200, &[], b"", true);
    assert_eq!(client.response(false).status, 200);
}
