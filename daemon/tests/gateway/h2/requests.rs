//! Requests and responses on their way through.

use bytes::Bytes;
use hot_wire::data::FromGateway;
use hotd::gateway::GatewayConfig;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio_stream::wrappers::ReceiverStream;

use super::client::{H2, get};
use super::raw::{self, END_HEADERS, END_STREAM, HEADERS, Raw};
use super::rig;
use crate::host::fields;

#[test]
fn the_host_sees_a_request_as_if_it_had_come_in_http_1() {
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    let mut client = H2::connect(rig.address);
    let mut request = get("/a%20b?c=d");
    for (name, value) in [
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("te", "trailers"),
        ("x-two", "1"),
        ("x-two", "2"),
        ("x-forwarded-for", "203.0.113.1"),
    ] {
        request.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let coming = client.send(request);
    let (request, reply) = inbox.request();
    assert_eq!((request.method(), request.target()), (&b"GET"[..], &b"/a%20b?c=d"[..]));
    assert!(request.end && request.body.is_empty());
    let expected = [
        ("cookie", "a=1; b=2"),
        ("host", "test.example"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "test.example"),
        ("x-forwarded-proto", "http"),
        ("x-two", "1 | 2"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(fields(&request), expected.into());
    reply.respond(
        404,
        &[("x-custom", "kept"), ("connection", "close"), ("keep-alive", "1")],
        b"not here",
        true,
    );
    let response = client.whole(coming);
    assert_eq!((response.status(), response.text()), (404, "not here"));
    assert_eq!((response.header("x-custom"), response.header("content-length")), (Some("kept"), Some("8")));
    assert_eq!((response.header("connection"), response.header("keep-alive")), (None, None));
    assert!(response.header("date").is_some_and(|date| date.ends_with(" GMT")));
}

#[test]
fn both_versions_are_spoken_on_one_listener() {
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    let mut h2 = H2::connect(rig.address);
    let coming = h2.get("/two");
    let (_, two) = inbox.request();
    let mut h1 = rig.client();
    // It begins as HTTP/2 does.
    h1.write("PRI");
    h1.write("NT /one HTTP/1.1\r\nhost: test\r\n\r\n");
    let (request, one) = inbox.request();
    assert_eq!((request.method(), request.target()), (&b"PRINT"[..], &b"/one"[..]));
    one.respond(200, &[], b"one", true);
    two.respond(200, &[], b"two", true);
    assert_eq!(h1.response(false).text(), "one");
    assert_eq!(h2.whole(coming).text(), "two");
}

#[test]
fn the_preface_may_come_in_pieces() {
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    let mut raw = Raw::connect(rig.address);
    for byte in raw::PREFACE {
        raw.write(&[*byte]);
    }
    raw.frame(raw::SETTINGS, 0, 0, &[]);
    raw.get(1);
    inbox.request().1.respond(200, &[], b"", true);
    assert_eq!(raw.until(HEADERS).expect("a response").status(), 200);
}

/// The upgrade from HTTP/1.1 is no more: it is a header like any other that is for this hop.
#[test]
fn an_upgrade_to_h2c_is_ignored() {
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    let mut client = rig.client();
    client.write(
        "GET /x HTTP/1.1\r\nhost: test\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\
         http2-settings: AAMAAABkAAQAAP__\r\n\r\n",
    );
    let (request, reply) = inbox.request();
    let fields = fields(&request);
    assert!(!fields.contains_key("upgrade") && !fields.contains_key("http2-settings"));
    reply.respond(200, &[], b"as asked", true);
    assert_eq!(client.response(false).text(), "as asked");
}

#[test]
fn bodies_and_trailers_stream_both_ways() {
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    let mut client = H2::connect(rig.address);
    let (pieces, stream) = tokio::sync::mpsc::channel(1);
    let request = Request::post("http://test/x").body(StreamBody::new(ReceiverStream::new(stream)).boxed());
    let coming = client.send(request.expect("a request"));
    let (request, reply) = inbox.request();
    assert!(!request.end);
    reply.respond(200, &[], b"", false);
    let mut response = client.head(coming);
    for round in 0..20 {
        let text = format!("round {round:02}");
        pieces.blocking_send(Ok(Frame::data(Bytes::from(text.clone())))).expect("the client sends");
        let FromGateway::Body { data, end: false } = inbox.next().message else { panic!("no body") };
        assert_eq!(data, text);
        reply.body(&data, false);
        let frame = client.frame(&mut response).expect("the echo").into_data();
        assert_eq!(frame.expect("data"), text);
    }
    let mut trailers = HeaderMap::new();
    for (name, value) in [("x-end", "yes"), ("host", "other"), ("x-forwarded-for", "203.0.113.1")] {
        trailers.insert(name, HeaderValue::from_static(value));
    }
    pieces.blocking_send(Ok(Frame::trailers(trailers))).expect("the client sends");
    match inbox.next().message {
        FromGateway::Trailers(fields) => {
            let fields: Vec<_> = fields.iter().collect();
            assert_eq!(fields, [(&b"x-end"[..], &b"yes"[..])]);
        }
        other => panic!("no trailers: {other:?}"),
    }
    // Nothing needs to announce them.
    reply.trailers(&[("x-sum", "20"), ("content-length", "5"), ("set-cookie", "a=1")]);
    let response = client.rest(response).expect("the end");
    let trailers = response.trailers.expect("trailers");
    assert_eq!((trailers.len(), trailers.get("x-sum")), (1, Some(&HeaderValue::from_static("20"))));
}

#[test]
fn large_bodies_are_whole_in_both_directions() {
    const TOTAL: usize = 3_000_000;
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    let mut client = H2::connect(rig.address);
    let sent: Vec<u8> = (0..TOTAL).map(|at| u8::try_from(at % 251).expect("below 251")).collect();
    let body = Full::new(Bytes::from(sent.clone())).boxed();
    let coming = client.send(Request::post("http://test/x").body(body).expect("a request"));
    let (request, reply) = inbox.request();
    assert_eq!(fields(&request)["content-length"], TOTAL.to_string());
    let mut got = Vec::new();
    loop {
        let FromGateway::Body { data, end } = inbox.next().message else { panic!("no body") };
        got.extend_from_slice(&data);
        if end {
            break;
        }
        reply.grant(u32::try_from(data.len()).expect("a piece"));
    }
    assert!(got == sent, "the body that the host got differs");
    reply.respond(200, &[], b"", false);
    let body = sent.clone();
    let host = std::thread::spawn(move || {
        let mut credit = hot_wire::data::SendCredit::default();
        let mut at = 0;
        while at < TOTAL {
            let len = credit.take(50_000.min(TOTAL - at));
            if len > 0 {
                reply.body(&body[at..at + len], at + len == TOTAL);
                at += len;
            } else {
                let FromGateway::Window(more) = inbox.next().message else { panic!("no credit") };
                credit.grant(more).expect("the gateway grants what was consumed");
            }
        }
    });
    let response = client.whole(coming);
    host.join().expect("all is sent");
    assert!(response.body == sent, "the body that the client got differs");
}

#[test]
fn responses_without_a_body_have_none() {
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    let mut client = H2::connect(rig.address);
    for (method, status, body, length) in [
        ("HEAD", 200, &b"four"[..], Some("4")),
        ("GET", 204, b"", None),
        ("GET", 304, b"", None),
        ("GET", 200, b"four", Some("4")),
        ("GET", 200, b"", None),
    ] {
        let mut request = get("/x");
        *request.method_mut() = method.parse().expect("a method");
        let coming = client.send(request);
        inbox.request().1.respond(status, &[], body, true);
        let response = client.whole(coming);
        assert_eq!((response.status(), response.header("content-length")), (status, length), "{method}");
        assert_eq!(response.body, if method == "HEAD" { b"" } else { body });
    }
}

/// The client learns that it got a part, though it was answered.
#[test]
fn a_response_that_is_cut_off_ends_its_stream_and_no_other() {
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    let mut client = H2::connect(rig.address);
    let (broken, sound) = (client.get("/x"), client.get("/y"));
    let (first, second) = (inbox.request().1, inbox.request().1);
    first.respond(200, &[], b"a part", false);
    let response = client.head(broken);
    first.abort(hot_wire::data::AbortCode::Failed);
    assert!(client.rest(response).is_err(), "half a response was taken for a whole one");
    second.respond(200, &[], b"whole", true);
    assert_eq!(client.whole(sound).text(), "whole");
}

#[test]
fn a_client_that_resets_its_stream_cancels_its_request_at_the_host() {
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    let mut raw = Raw::open(rig.address);
    raw.frame(HEADERS, END_STREAM | END_HEADERS, 1, &raw::head("GET", "/x", &[]));
    inbox.request();
    raw.frame(raw::RST_STREAM, 0, 1, &8u32.to_be_bytes());
    assert_eq!(inbox.cancellation(), hot_wire::data::CancelReason::ClientGone);
    raw.get(3);
    inbox.request().1.respond(204, &[], b"", true);
    assert_eq!(raw.until(HEADERS).expect("a response").status(), 204);
}
