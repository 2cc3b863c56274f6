//! Bodies both ways: whole, and with no more held than the windows.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hot_wire::data::{FromGateway, INITIAL_WINDOW, SendCredit};
use hotd::gateway::{GatewayConfig, ModuleTable, Table};
use rustix::net::sockopt::set_socket_recv_buffer_size;

use crate::flow::{kernels_most, pattern, stopped_at};
use crate::host::{Came, Host, Inbox};
use crate::rig::{A, Rig, module, stable};

const PIECE: usize = 50_000;

fn rig() -> (Rig, Host, Inbox) {
    let rig = Rig::with(GatewayConfig { threads: 1, ..GatewayConfig::default() });
    let (host, links, inbox) = Host::watched(1);
    rig.attach(A, links);
    rig.serve(vec![stable(A, 10_000)]);
    (rig, host, inbox)
}

/// A client that reads nothing stops the host within its window and what kernel buffers take; when it reads, it gets
/// all of it.
#[test]
fn a_slow_reader_stops_the_sender_and_loses_nothing() {
    const TOTAL: usize = 64 * 1024 * 1024;
    let (rig, _host, inbox) = rig();
    let mut client = rig.client();
    // The kernel would give it more and more room.
    set_socket_recv_buffer_size(client.socket.get_ref(), 64 * 1024).expect("it can be set");
    client.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
    let (_, reply) = inbox.request();
    reply.respond(200, &[], b"", false);
    let sent = Arc::new(AtomicUsize::new(0));
    let sender = {
        let sent = Arc::clone(&sent);
        std::thread::spawn(move || {
            let mut credit = SendCredit::default();
            let mut at = 0;
            while at < TOTAL {
                let len = credit.take(PIECE.min(TOTAL - at));
                if len > 0 {
                    reply.body(&pattern(at, len), false);
                    at += len;
                    sent.store(at, Ordering::SeqCst);
                    continue;
                }
                let Came { message: FromGateway::Window(more), .. } = inbox.next() else {
                    panic!("no credit")
                };
                credit.grant(more).expect("the gateway grants what was consumed");
            }
            reply.body(b"", true);
        })
    };
    let last = stopped_at(&sent);
    assert!(
        last < kernels_most() + 2 * 1024 * 1024,
        "{last} bytes were taken from the host for a client that read nothing"
    );
    let response = client.response(false);
    sender.join().expect("all is sent");
    assert!(!response.cut_off);
    assert!(response.body == pattern(0, TOTAL), "the body differs");
    assert_eq!(rig.counters_when(A, |counters| counters.in_flight == 0).finished, 1);
}

/// What is left then is between the gateway and the client: it must not keep others from the module.
#[test]
fn a_slow_reader_gives_its_place_back_once_the_host_is_done() {
    let (rig, _host, inbox) = rig();
    let one = ModuleTable { max_in_flight: 1, ..module(vec![stable(A, 10_000)]) };
    rig.gateway.publish(Table { modules: vec![one] });
    let mut slow = rig.client();
    slow.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
    let (_, reply) = inbox.request();
    reply.respond(200, &[], b"", false);
    let mut credit = SendCredit::default();
    let mut sent = 0;
    loop {
        let len = credit.take(PIECE);
        if len > 0 {
            reply.body(&pattern(sent, len), false);
            sent += len;
            continue;
        }
        // Stopped too early, all of it might be with the client: that would be no test, and no error either.
        let Some(came) = inbox.within(Duration::from_millis(200)) else { break };
        let FromGateway::Window(more) = came.message else { panic!("no credit") };
        credit.grant(more).expect("the gateway grants what was consumed");
    }
    assert!(sent > PIECE, "{sent} bytes are too few to tell");
    reply.body(b"", true);
    let mut second = rig.client();
    second.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
    let reply = loop {
        let came = inbox.next();
        if let FromGateway::Request(_) = came.message {
            break came.reply;
        }
    };
    reply.respond(200, &[], b"second", true);
    assert_eq!(second.response(false).text(), "second");
    let response = slow.response(false);
    assert!(!response.cut_off && response.body == pattern(0, sent), "{} of {sent}", response.body.len());
}

/// The host grants nothing: the gateway sends one window and stops reading from the client.
#[test]
fn a_host_that_reads_nothing_is_sent_one_window() {
    const TOTAL: usize = 8 * 1024 * 1024;
    let (rig, _host, inbox) = rig();
    let mut client = rig.client();
    client.write(format!("POST /x HTTP/1.1\r\nhost: test\r\ncontent-length: {TOTAL}\r\n\r\n"));
    let writer = {
        let socket = client.socket.get_ref().try_clone().expect("a duplicate");
        std::thread::spawn(move || std::io::Write::write_all(&mut &socket, &pattern(0, TOTAL)))
    };
    let (_, reply) = inbox.request();
    let mut body = Vec::new();
    let mut granted = INITIAL_WINDOW as usize;
    while body.len() < TOTAL {
        let FromGateway::Body { data, end } = inbox.next().message else { panic!("no body") };
        body.extend_from_slice(&data);
        assert!(body.len() <= granted, "{} bytes came with leave for {granted}", body.len());
        assert_eq!(end, body.len() == TOTAL);
        if body.len() == granted {
            granted += INITIAL_WINDOW as usize;
            reply.grant(INITIAL_WINDOW);
        }
    }
    writer.join().expect("the writer ends").expect("all is written");
    assert!(body == pattern(0, TOTAL), "the body differs");
    reply.respond(201, &[], b"", true);
    let response = client.response(false);
    assert_eq!((response.status, response.header("content-length")), (201, Some("0")));
}

/// The response begins before the request ends, and both go on.
#[test]
fn both_directions_stream_at_once_with_trailers() {
    let (rig, _host, inbox) = rig();
    let mut client = rig.client();
    client.write("POST /x HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\nte: trailers\r\n\r\n");
    let (request, reply) = inbox.request();
    assert!(!request.end);
    reply.respond(200, &[("trailer", "x-sum")], b"", false);
    assert_eq!(client.head().header("transfer-encoding"), Some("chunked"));
    for round in 0..20 {
        let text = format!("round {round:02}");
        client.write(format!("8\r\n{text}\r\n"));
        let FromGateway::Body { data, end: false } = inbox.next().message else { panic!("no body") };
        assert_eq!(data, text);
        reply.body(&data, false);
        let mut chunk = [0; 13];
        client.socket.read_exact(&mut chunk).expect("the echo");
        assert_eq!(chunk, format!("8\r\n{text}\r\n").as_bytes());
    }
    client.write("0\r\nx-end: yes\r\n\r\n");
    match inbox.next().message {
        FromGateway::Trailers(fields) => assert_eq!(fields.iter().next(), Some((&b"x-end"[..], &b"yes"[..]))),
        other => panic!("no trailers: {other:?}"),
    }
    reply.trailers(&[("x-sum", "20")]);
    let mut end = [0; 16];
    client.socket.read_exact(&mut end).expect("the trailers");
    assert_eq!(&end, b"0\r\nx-sum: 20\r\n\r\n");
}

/// A client of HTTP/1.1 may not know what to do with trailers, and is to know beforehand which will come.
#[test]
fn trailers_reach_a_client_of_http_1_that_asks_for_them_if_they_are_announced() {
    let (rig, _host, inbox) = rig();
    let mut client = rig.client();
    let announced = [("trailer", "X-Sum, x-none")];
    for (asked, announced, expected) in [
        ("te: trailers\r\n", &announced[..], &["x-sum: 20"][..]),
        ("te: gzip, trailers;q=1\r\n", &[], &[]),
        ("te: trailers\r\n", &[], &[]),
        ("", &announced, &[]),
    ] {
        client.write(format!("GET /x HTTP/1.1\r\nhost: test\r\n{asked}\r\n"));
        let (request, reply) = inbox.request();
        assert!(!crate::host::fields(&request).contains_key("te"), "it is for this hop");
        reply.respond(200, announced, b"body", false);
        reply.trailers(&[("x-sum", "20"), ("x-other", "1"), ("content-length", "5")]);
        let response = client.response(false);
        assert_eq!((response.text(), response.cut_off), ("body", false));
        assert_eq!(response.trailers, expected, "{asked:?} {announced:?}");
        assert_eq!(response.header("trailer").is_some(), !announced.is_empty());
    }
    // A length leaves them no place.
    client.write("GET /x HTTP/1.1\r\nhost: test\r\nte: trailers\r\n\r\n");
    let (_, reply) = inbox.request();
    reply.respond(200, &[("trailer", "x-sum"), ("content-length", "4")], b"body", false);
    reply.trailers(&[("x-sum", "20")]);
    assert_eq!(client.response(false).text(), "body");
    assert_eq!(rig.counters_when(A, |counters| counters.in_flight == 0).errors, 0);
}

#[test]
fn a_streamed_response_with_a_length_keeps_it_and_the_connection() {
    let (rig, _host, inbox) = rig();
    let mut client = rig.client();
    for _ in 0..2 {
        client.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
        let (_, reply) = inbox.request();
        reply.respond(200, &[("content-length", "10")], b"12345", false);
        reply.body(b"67890", true);
        let response = client.response(false);
        assert_eq!((response.header("content-length"), response.text()), (Some("10"), "1234567890"));
        assert_eq!(response.header("transfer-encoding"), None);
    }
}

/// The host has answered and is done; what the client still sends is of no use to anybody.
#[test]
fn an_answer_before_the_end_of_the_request_ends_the_exchange() {
    let (rig, _host, inbox) = rig();
    let mut client = rig.client();
    client.write("POST /x HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\nfirst");
    let (_, reply) = inbox.request();
    reply.respond(403, &[], b"no", true);
    let response = client.response(false);
    assert_eq!((response.status, response.text()), (403, "no"));
    let counters = rig.counters_when(A, |counters| counters.in_flight == 0);
    assert_eq!((counters.finished, counters.cancelled), (1, 0));
}
