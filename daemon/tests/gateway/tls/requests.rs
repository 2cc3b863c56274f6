//! Requests and their bodies, by way of TLS.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hot_wire::data::{AbortCode, CancelReason, FromGateway, INITIAL_WINDOW, SendCredit};
use hotd::gateway::{GatewayConfig, Sources};
use rustix::net::sockopt::set_socket_recv_buffer_size;

use super::rig::{NAME, Secure};
use crate::flow::{kernels_most, pattern, stopped_at};
use crate::h2::client::get;
use crate::host::{Came, Inbox, Reply, fields};
use crate::rig::A;

const GET: &str = "GET /x HTTP/1.1\r\nhost: test.example\r\n\r\n";

/// More than all windows and buffers of the kernel hold.
const TOTAL: usize = 48 * 1024 * 1024;
const PIECE: usize = 50_000;

#[test]
fn the_host_is_told_that_the_client_came_by_tls() {
    let secure = Secure::new(GatewayConfig::default());
    let mut client = secure.client();
    // What it says itself counts for nothing, here neither.
    client.write("GET /x HTTP/1.1\r\nhost: test.example\r\nx-forwarded-proto: http\r\n\r\n");
    let (request, reply) = secure.inbox.request();
    assert_eq!(fields(&request)["x-forwarded-proto"], "https");
    reply.respond(200, &[], b"one", true);
    assert_eq!(client.response(false).text(), "one");
    for target in ["https://test.example/x", "http://test.example/x"] {
        client.write(format!("GET {target} HTTP/1.1\r\nhost: test.example\r\n\r\n"));
        let (request, reply) = secure.inbox.request();
        assert_eq!((request.target(), &*fields(&request)["x-forwarded-proto"]), (&b"/x"[..], "https"));
        reply.respond(200, &[], b"absolute", true);
        assert_eq!(client.response(false).text(), "absolute");
    }
    let mut h2 = secure.h2();
    let mut request = get("/x");
    *request.uri_mut() = "https://test.example/x".parse().expect("a URL");
    let coming = h2.send(request);
    let (request, reply) = secure.inbox.request();
    assert_eq!(fields(&request)["x-forwarded-proto"], "https");
    reply.respond(200, &[], b"two", true);
    assert_eq!(h2.whole(coming).text(), "two");
}

/// TLS says of its end that it is one, so it must not say so here.
#[test]
fn a_response_that_was_cut_off_has_no_end() {
    let secure = Secure::new(GatewayConfig::default());
    for version in ["1.0", "1.1"] {
        let mut client = secure.client();
        client.write(format!("GET /x HTTP/{version}\r\nhost: {NAME}\r\n\r\n"));
        let (_, reply) = secure.inbox.request();
        reply.respond(200, &[], b"the first part", false);
        assert_eq!(client.head().status, 200);
        reply.abort(AbortCode::Failed);
        let end = client.socket.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
        assert!(
            matches!(end, Err(ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof)),
            "HTTP/{version}: {end:?}"
        );
    }
}

#[test]
fn a_trusted_front_is_believed_here_as_well() {
    let secure = Secure::new(GatewayConfig { forwarded_from: Sources::All, ..GatewayConfig::default() });
    let mut client = secure.client();
    client.write("GET /x HTTP/1.1\r\nhost: test.example\r\nx-forwarded-proto: http\r\n\r\n");
    assert_eq!(fields(&secure.inbox.request().0)["x-forwarded-proto"], "http");
}

/// Sends so much as the host of a request, as fast as it may; `sent` has how far it is.
fn send(inbox: &Inbox, reply: &Reply, sent: &AtomicUsize) {
    let (mut credit, mut at) = (SendCredit::default(), 0);
    while at < TOTAL {
        let len = credit.take(PIECE.min(TOTAL - at));
        if len > 0 {
            reply.body(&pattern(at, len), false);
            at += len;
            sent.store(at, Ordering::SeqCst);
            continue;
        }
        match inbox.next().message {
            FromGateway::Window(more) => credit.grant(more).expect("what was consumed"),
            FromGateway::Deadline { .. } => {}
            other => panic!("no credit but {other:?}"),
        }
    }
    reply.body(b"", true);
}

/// Between host and client there is no more than without TLS, but for two records.
#[test]
fn a_slow_reader_stops_the_sender_and_loses_nothing() {
    let Secure { rig, host: _host, inbox, authority, .. } = Secure::new(GatewayConfig::default());
    let socket = crate::client::connect(rig.address);
    // The kernel would give it more and more room.
    set_socket_recv_buffer_size(&socket, 64 * 1024).expect("it can be set");
    let stream = super::rig::secure(socket, authority.client(&[b"http/1.1"]));
    let mut client = crate::client::Client::over(stream);
    client.write(GET);
    let (_, reply) = inbox.request();
    reply.respond(200, &[], b"", false);
    let sent = Arc::new(AtomicUsize::new(0));
    let sender = {
        let sent = Arc::clone(&sent);
        std::thread::spawn(move || send(&inbox, &reply, &sent))
    };
    let last = stopped_at(&sent);
    assert!(
        last < kernels_most() + 2 * 1024 * 1024,
        "{last} bytes were taken for a client that read nothing"
    );
    let response = client.response(false);
    sender.join().expect("all is sent");
    assert!(!response.cut_off);
    assert!(response.body == pattern(0, TOTAL), "the body differs");
    assert_eq!(rig.counters_when(A, |counters| counters.in_flight == 0).finished, 1);
}

#[test]
fn a_client_that_takes_nothing_is_let_go() {
    let stall_timeout = Duration::from_millis(300);
    let secure = Secure::new(GatewayConfig { stall_timeout, ..GatewayConfig::default() });
    let mut client = secure.client();
    client.write(GET);
    let (_, reply) = secure.inbox.request();
    reply.respond(200, &[], b"", false);
    reply.body(&vec![b'x'; INITIAL_WINDOW as usize], false);
    let reason = loop {
        match secure.inbox.next().message {
            FromGateway::Window(more) => reply.body(&vec![b'x'; more as usize], false),
            FromGateway::Cancel(reason) => break reason,
            FromGateway::Deadline { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reason, CancelReason::ClientGone);
}

#[test]
fn a_large_body_comes_whole_at_the_pace_of_the_host() {
    const LEN: usize = 8 * 1024 * 1024;
    let Secure { rig, host: _host, inbox, authority, .. } = Secure::new(GatewayConfig::default());
    let stream = super::rig::secure(crate::client::connect(rig.address), authority.client(&[b"http/1.1"]));
    let mut client = crate::client::Client::over(stream);
    let writer = std::thread::spawn(move || {
        client.write(format!("POST /x HTTP/1.1\r\nhost: test.example\r\ncontent-length: {LEN}\r\n\r\n"));
        client.write(pattern(0, LEN));
        client
    });
    let (_, reply) = inbox.request();
    let (mut body, mut granted) = (Vec::new(), INITIAL_WINDOW as usize);
    while body.len() < LEN {
        let FromGateway::Body { data, .. } = inbox.next().message else { panic!("no body") };
        body.extend_from_slice(&data);
        assert!(body.len() <= granted, "{} bytes came with leave for {granted}", body.len());
        if body.len() == granted {
            granted += INITIAL_WINDOW as usize;
            reply.grant(INITIAL_WINDOW);
        }
    }
    assert!(body == pattern(0, LEN), "the body differs");
    let mut client = writer.join().expect("all is written");
    reply.respond(201, &[], b"", true);
    assert_eq!(client.response(false).status, 201);
}

#[test]
fn requests_of_http_2_go_beside_one_another_with_large_bodies() {
    const LEN: usize = 1024 * 1024;
    let secure = Secure::new(GatewayConfig::default());
    let mut h2 = secure.h2();
    let coming: Vec<_> = (0..3).map(|_| h2.post("/x", LEN)).collect();
    let answer = pattern(0, INITIAL_WINDOW as usize);
    let (mut begun, mut came) = (0, BTreeMap::new());
    while came.values().filter(|len| **len == LEN).count() < coming.len() {
        let Came { message, reply } = secure.inbox.next();
        match message {
            FromGateway::Request(_) => begun += 1,
            FromGateway::Body { data, end } => {
                let len: &mut usize = came.entry(reply.exchange()).or_default();
                *len += data.len();
                if end {
                    assert_eq!(begun, coming.len(), "none waits for another");
                    reply.respond(200, &[], &answer, true);
                } else {
                    reply.grant(u32::try_from(data.len()).expect("small"));
                }
            }
            FromGateway::Window(_) | FromGateway::Deadline { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    for coming in coming {
        let whole = h2.whole(coming);
        assert!(whole.status() == 200 && whole.body == answer, "the body differs");
    }
}

#[test]
fn pipelined_requests_in_one_record_are_answered_in_order() {
    let secure = Secure::new(GatewayConfig::default());
    let mut client = secure.client();
    client.write(GET.repeat(3));
    for text in ["a", "b", "c"] {
        secure.inbox.request().1.respond(200, &[], text.as_bytes(), true);
    }
    for text in ["a", "b", "c"] {
        assert_eq!(client.response(false).text(), text);
    }
}
