//! What lasts: slow clients, event streams, connections that change hands.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use hot_wire::data::{AbortCode, CancelReason, FromGateway, INITIAL_WINDOW, Request, SendCredit};
use hotd::gateway::{GatewayConfig, ModuleTable, Table};
use rustix::net::sockopt::set_socket_linger;

use crate::client::Client;
use crate::host::{Host, Inbox, Reply, fields};
use crate::rig::{A, B, PATIENCE, Rig, module, stable};

/// The deadline of the module, long enough for a host of these tests on a busy machine. What must outlast it does so by far.
const DEADLINE: Duration = Duration::from_secs(3);

fn rig(config: GatewayConfig) -> (Rig, Host, Inbox) {
    let rig = Rig::with(GatewayConfig { threads: 1, ..config });
    let (host, links, inbox) = Host::watched(1);
    rig.attach(A, links);
    serve(&rig, ModuleTable { deadline: DEADLINE, ..module(vec![stable(A, 10_000)]) });
    (rig, host, inbox)
}

fn serve(rig: &Rig, module: ModuleTable) {
    rig.gateway.publish(Table { modules: vec![module] });
}

/// The next frame that is no news of a deadline.
fn next(inbox: &Inbox) -> FromGateway {
    loop {
        match inbox.next().message {
            FromGateway::Deadline { .. } => {}
            message => return message,
        }
    }
}

/// An event stream that has begun: the client has its head.
fn begin_stream(rig: &Rig, inbox: &Inbox) -> (Client, Reply) {
    let mut client = rig.client();
    client.write("GET /events HTTP/1.1\r\nhost: test\r\n\r\n");
    let (_, reply) = inbox.request();
    reply.respond(200, &[("content-type", "text/event-stream; charset=utf-8")], b"", false);
    assert_eq!(client.head().status, 200);
    (client, reply)
}

fn read_event(client: &mut Client, event: &str) {
    let mut chunk = vec![0; format!("{:x}\r\n{event}\r\n", event.len()).len()];
    client.socket.read_exact(&mut chunk).expect("an event");
    assert!(String::from_utf8_lossy(&chunk).contains(event), "{chunk:?}");
}

/// The module's time is not that of its client: who reads in time, however slowly, gets all.
#[test]
fn a_client_that_keeps_reading_outlasts_the_deadline() {
    // More than the kernel's buffers and the windows hold.
    const TOTAL: usize = 32 * 1024 * 1024;
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    let mut client = rig.client();
    client.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
    let (_, reply) = inbox.request();
    reply.respond(200, &[("content-length", &TOTAL.to_string())], b"", false);
    let sender = std::thread::spawn(move || {
        let (mut credit, mut left) = (SendCredit::default(), TOTAL);
        while left > 0 {
            let len = credit.take(left.min(50_000));
            if len > 0 {
                left -= len;
                reply.body(&vec![b'x'; len], left == 0);
                continue;
            }
            match next(&inbox) {
                FromGateway::Window(more) => credit.grant(more).expect("what was consumed"),
                other => panic!("no credit but {other:?}, with {left} bytes left"),
            }
        }
    });
    let head = client.head();
    let begun = Instant::now();
    let mut got = 0;
    let mut piece = vec![0; 64 * 1024];
    while got < TOTAL {
        let read = client.socket.read(&mut piece).expect("it is not cut off");
        assert!(read > 0, "cut off after {got} bytes");
        got += read;
        // Slower than the deadline by far, and never for long.
        std::thread::sleep(
            DEADLINE * 2 * u32::try_from(read).expect("small") / u32::try_from(TOTAL).expect("small"),
        );
    }
    assert!(begun.elapsed() > DEADLINE * 2);
    assert_eq!(head.status, 200);
    sender.join().expect("all is sent");
    assert_eq!(rig.counters_when(A, |counters| counters.in_flight == 0).finished, 1);
}

#[test]
fn the_host_learns_that_its_deadline_has_moved() {
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    let mut client = rig.client();
    // A body that comes piece by piece: the module waits for it, and the clock stands still.
    client.write("POST /x HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\n");
    client.write([b'x'; 50_000]);
    let (request, reply) = inbox.request();
    let deadline_ms = u32::try_from(DEADLINE.as_millis()).expect("short");
    assert!((1..=deadline_ms).contains(&request.deadline_ms));
    let left = loop {
        match inbox.next().message {
            FromGateway::Deadline { left_ms, ends: false } => break left_ms,
            FromGateway::Body { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(left >= deadline_ms, "{left} ms");
    std::thread::sleep(DEADLINE * 3 / 2);
    client.write([b'x'; 50_000]);
    reply.respond(200, &[], b"whole", true);
    assert_eq!(client.response(false).text(), "whole");
}

#[test]
fn an_event_stream_has_no_deadline_and_takes_no_place_of_a_request() {
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    let bounded = module(vec![stable(A, 10_000)]);
    serve(&rig, ModuleTable { deadline: DEADLINE, max_in_flight: 1, max_streams: 1, ..bounded });
    let (mut client, reply) = begin_stream(&rig, &inbox);
    // It counts as answered from its beginning on.
    let counters = rig.counters_when(A, |counters| counters.in_flight == 0);
    assert_eq!((counters.finished, counters.open.len(), counters.streams), (1, 0, 1));
    std::thread::sleep(DEADLINE * 3 / 2);
    reply.body(b"data: still here\n\n", false);
    read_event(&mut client, "data: still here\n\n");

    // A request has its place; a second stream has none.
    let mut second = rig.client();
    second.write("GET /events HTTP/1.1\r\nhost: test\r\n\r\n");
    let (_, refused) = inbox.request();
    refused.respond(200, &[("content-type", "text/event-stream")], b"", false);
    let response = second.response(false);
    assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
    assert_eq!(response.text(), "module greeter has too many streams open; try again\n");
    assert!(matches!(inbox.cancellation(), CancelReason::ClientGone));
    reply.abort(AbortCode::Failed);
    assert!(client.is_closed(), "what it gave up is cut off");
    let counters = rig.counters_when(A, |counters| counters.streams == 0);
    assert_eq!((counters.finished, counters.errors, counters.timeouts, counters.aborted), (2, 0, 0, 0));
    assert_eq!(counters.streams_failed, 1);
}

/// The instance gets nothing new any more: its streams have the grace to end.
#[test]
fn streams_of_a_replaced_instance_are_asked_to_end_and_cut_off_if_they_do_not() {
    // Enough for this test to answer in, on a busy machine.
    let grace = Duration::from_secs(3);
    let (rig, _host, inbox) = rig(GatewayConfig { stream_grace: grace, ..GatewayConfig::default() });
    let (mut polite, ends) = begin_stream(&rig, &inbox);
    let (mut stubborn, _never) = begin_stream(&rig, &inbox);
    let (mut hasty, breaks_off) = begin_stream(&rig, &inbox);
    let (_second, links) = Host::answering(1, "second");
    rig.attach(B, links);
    let asked_from = Instant::now();
    rig.serve(vec![stable(B, 10_000)]);
    let mut asked = 0;
    while asked < 3 {
        match inbox.next().message {
            FromGateway::Deadline { left_ms, ends: true } => {
                assert!((1..=3000).contains(&left_ms));
                asked += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    ends.body(b"data: bye\n\n", true);
    assert_eq!(polite.response_chunks(), b"data: bye\n\n");
    breaks_off.abort(AbortCode::Failed);
    assert!(hasty.is_closed());
    assert!(stubborn.is_closed());
    assert!(asked_from.elapsed() >= grace);
    assert!(matches!(inbox.cancellation(), CancelReason::Deadline));
    assert_eq!(polite.get("/x").text(), "second", "the connection is kept");
    let counters = rig.counters_when(A, |counters| counters.in_flight == 0);
    assert_eq!((counters.finished, counters.timeouts), (3, 0));
    assert_eq!(counters.streams_failed, 0, "it was asked for an end, whatever that looks like");
}

#[test]
fn streams_fail_with_their_host_and_not_with_their_client() {
    let (rig, host, inbox) = rig(GatewayConfig::default());
    let (mut lost, _) = begin_stream(&rig, &inbox);
    let (left, _) = begin_stream(&rig, &inbox);
    drop(left);
    assert!(matches!(inbox.cancellation(), CancelReason::ClientGone));
    host.die();
    assert!(lost.is_closed());
    let counters = rig.counters_when(A, |counters| counters.streams == 0);
    assert_eq!((counters.finished, counters.lost, counters.streams_failed), (2, 0, 1));
}

/// A request to upgrade, with what it asks for, and what the host has seen of it.
fn ask_to_upgrade(rig: &Rig, inbox: &Inbox, headers: &str) -> (Client, Request, Reply) {
    let mut client = rig.client();
    client.write(format!("GET /ws HTTP/1.1\r\nhost: test\r\n{headers}\r\n"));
    let (request, reply) = inbox.request();
    (client, request, reply)
}

const ECHO: &str = "connection: keep-alive, Upgrade\r\nupgrade: echo/1\r\n";

#[test]
fn an_upgraded_connection_is_the_modules_until_both_sides_have_ended() {
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    // What the client sends before it has the answer is the module's as well.
    let (mut client, request, reply) = ask_to_upgrade(&rig, &inbox, ECHO);
    assert_eq!(fields(&request).get("upgrade").map(String::as_str), Some("echo/1"));
    assert!(request.end && !fields(&request).contains_key("connection"));
    client.write("early");
    reply.respond(101, &[], b"", false);
    let head = client.head();
    let of = |name| head.header(name);
    assert_eq!((head.status, of("connection"), of("upgrade")), (101, Some("upgrade"), Some("echo/1")));
    assert_eq!((of("content-length"), of("transfer-encoding")), (None, None));
    match next(&inbox) {
        FromGateway::Body { data, end: false } => assert_eq!(data, "early"),
        other => panic!("{other:?}"),
    }
    // It outlasts the deadline.
    std::thread::sleep(DEADLINE * 3 / 2);
    for round in 0..50 {
        let said = format!("round {round}");
        client.write(&said);
        match next(&inbox) {
            FromGateway::Body { data, end: false } => assert_eq!(data, said),
            other => panic!("{other:?}"),
        }
        reply.body(said.as_bytes(), false);
        let mut echo = vec![0; said.len()];
        client.socket.read_exact(&mut echo).expect("the echo");
        assert_eq!(echo, said.as_bytes());
    }
    client.socket.get_ref().shutdown(Shutdown::Write).expect("open until now");
    assert!(matches!(next(&inbox), FromGateway::Body { end: true, .. }));
    reply.body(b"bye", true);
    let mut rest = Vec::new();
    client.socket.read_to_end(&mut rest).expect("an orderly end");
    assert_eq!(rest, b"bye");
    let counters = rig.counters_when(A, |counters| counters.in_flight == 0);
    assert_eq!((counters.finished, counters.cancelled, counters.timeouts), (1, 0, 0));
}

#[test]
fn more_than_a_window_goes_both_ways_through_an_upgraded_connection() {
    const TOTAL: usize = 3 * 1024 * 1024;
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    let (mut client, _, reply) = ask_to_upgrade(&rig, &inbox, ECHO);
    reply.respond(101, &[], b"", false);
    assert_eq!(client.head().status, 101);
    let sent: Vec<u8> = (0..TOTAL).map(|at| u8::try_from(at % 251).expect("below 251")).collect();
    let writer = {
        let (socket, sent) = (client.socket.get_ref().try_clone().expect("a duplicate"), sent.clone());
        std::thread::spawn(move || {
            (&socket).write_all(&sent).expect("the gateway reads");
            socket.shutdown(Shutdown::Write).expect("open until now");
        })
    };
    // An echo that grants what it has read.
    let echo = std::thread::spawn(move || {
        let (mut credit, mut waiting, mut ended) = (SendCredit::default(), Vec::new(), false);
        while !(ended && waiting.is_empty()) {
            let now = credit.take(waiting.len());
            if now > 0 {
                let rest = waiting.split_off(now);
                reply.body(&std::mem::replace(&mut waiting, rest), false);
                continue;
            }
            match next(&inbox) {
                FromGateway::Body { data, end } => {
                    reply.grant(u32::try_from(data.len()).expect("a piece"));
                    waiting.extend_from_slice(&data);
                    ended |= end;
                }
                FromGateway::Window(more) => credit.grant(more).expect("what was consumed"),
                other => panic!("{other:?}"),
            }
        }
        reply.body(b"", true);
    });
    let mut got = Vec::new();
    client.socket.read_to_end(&mut got).expect("an orderly end");
    assert!(got == sent, "{} of {TOTAL} bytes came back", got.len());
    writer.join().expect("all was written");
    echo.join().expect("all was echoed");
}

#[test]
fn an_upgrade_that_the_module_does_not_make_is_a_request_like_any_other() {
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    let (mut client, _, reply) = ask_to_upgrade(&rig, &inbox, ECHO);
    reply.respond(200, &[], b"no", true);
    let response = client.response(false);
    assert_eq!((response.status, response.text(), response.header("upgrade")), (200, "no", None));
    client.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
    inbox.request().1.respond(200, &[], b"again", true);
    assert_eq!(client.response(false).text(), "again");
}

/// h2c in a connection of HTTP/1.1 would get past whatever looks at requests; the others are no request to upgrade.
#[test]
fn what_can_not_be_upgraded_is_not_seen_by_the_module_and_its_101_is_no_response() {
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    for headers in [
        "upgrade: echo/1\r\n",
        "connection: upgrade\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        "connection: upgrade\r\nupgrade: echo/1, H2C\r\n",
        "connection: upgrade\r\nupgrade: TLS/1.2\r\n",
        "connection: upgrade\r\nupgrade: echo/1\r\nupgrade: chat/1\r\n",
        "connection: upgrade\r\nupgrade: echo/1\r\ncontent-length: 1\r\n",
    ] {
        let (mut client, request, reply) = ask_to_upgrade(&rig, &inbox, headers);
        assert_eq!(fields(&request).get("upgrade"), None, "{headers}");
        reply.respond(101, &[], b"", false);
        assert_eq!(client.response(false).status, 502, "{headers}");
        while !matches!(inbox.next().message, FromGateway::Cancel(_)) {}
    }
}

/// Closes the connection as a process does that crashes: with a reset.
fn reset(client: Client) {
    set_socket_linger(client.socket.get_ref(), Some(Duration::ZERO))
        .expect("a socket can be told how to end");
    drop(client);
}

/// Nobody reads the client while the module takes nothing of it, or once it has ended its side.
#[test]
fn the_module_learns_of_a_client_that_is_gone_though_nobody_reads_it() {
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    let (mut blocked, _, reply) = ask_to_upgrade(&rig, &inbox, ECHO);
    reply.respond(101, &[], b"", false);
    assert_eq!(blocked.head().status, 101);
    let window = usize::try_from(INITIAL_WINDOW).expect("it fits");
    blocked.write(vec![b'x'; window + 1]);
    let mut taken = 0;
    while taken < window {
        match next(&inbox) {
            FromGateway::Body { data, end: false } => taken += data.len(),
            other => panic!("{other:?}"),
        }
    }
    reset(blocked);
    assert!(matches!(next(&inbox), FromGateway::Cancel(CancelReason::ClientGone)));

    let (mut ended, _, reply) = ask_to_upgrade(&rig, &inbox, ECHO);
    reply.respond(101, &[], b"", false);
    assert_eq!(ended.head().status, 101);
    ended.socket.get_ref().shutdown(Shutdown::Write).expect("open until now");
    assert!(matches!(next(&inbox), FromGateway::Body { end: true, .. }));
    reset(ended);
    assert!(matches!(next(&inbox), FromGateway::Cancel(CancelReason::ClientGone)));
}

/// The host goes; what was the module's ends, without an answer that could be taken for its bytes.
#[test]
fn an_upgraded_connection_ends_with_its_host() {
    let (rig, host, inbox) = rig(GatewayConfig::default());
    let (mut client, _, reply) = ask_to_upgrade(&rig, &inbox, ECHO);
    reply.respond(101, &[], b"", false);
    assert_eq!(client.head().status, 101);
    host.die();
    assert!(client.is_closed());
}

/// A download beside which others are not taken: they must not be felt. Over HTTP/1 each has a connection of its own.
#[test]
fn a_body_that_hyper_cuts_off_is_not_waited_for() {
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    let mut client = rig.client();
    for _ in 0..40 {
        client.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
        let reply = loop {
            let came = inbox.next();
            if let FromGateway::Request(_) = came.message {
                break came.reply;
            }
        };
        reply.respond(200, &[("content-length", "100000")], &vec![b'x'; 50_000], false);
        reply.body(&vec![b'x'; 50_000], true);
        let response = client.response(false);
        assert_eq!((response.status, response.body.len(), response.cut_off), (200, 100_000, false));
    }
}

/// With many exchanges open each may have little under way: their clients may all be slow.
#[test]
fn the_more_is_in_flight_the_smaller_the_windows() {
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    serve(&rig, ModuleTable { deadline: PATIENCE, ..module(vec![stable(A, 10_000)]) });
    let mut clients = Vec::new();
    let mut windows = Vec::new();
    for _ in 0..300 {
        let mut client = rig.client();
        client.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
        windows.push(inbox.request().0.window);
        clients.push(client);
    }
    assert_eq!((windows[0], windows[299]), (256 * 1024, 16 * 1024));
    assert!(windows.is_sorted_by(|earlier, later| earlier >= later));
}
