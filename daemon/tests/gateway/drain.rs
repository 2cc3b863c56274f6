//! The node goes down: every request that came in time has its answer, and the drain takes no longer than it must.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use hot_wire::data::FromGateway;
use hotd::gateway::{Drained, GatewayConfig};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use tokio::task::{JoinHandle, block_in_place};

use crate::client::Client;
use crate::host::{Host, Inbox, Reply};
use crate::rig::{A, PATIENCE, Rig, stable};

const GET: &str = "GET /x HTTP/1.1\r\nhost: test\r\n\r\n";

/// Longer than any test waits: what ends did so because it was told.
const FOR_EVER: Duration = Duration::from_secs(3600);

fn rig(drain_linger: Duration) -> (Rig, Host, Inbox) {
    with(GatewayConfig { drain_linger, ..GatewayConfig::default() })
}

/// The gateway reads on for as long as the client has not ended its side.
fn patient_rig(drain_linger: Duration) -> (Rig, Host, Inbox) {
    with(GatewayConfig { drain_linger, parting: PATIENCE, ..GatewayConfig::default() })
}

fn with(config: GatewayConfig) -> (Rig, Host, Inbox) {
    let rig = Rig::with(GatewayConfig { threads: 1, ..config });
    let (host, links, inbox) = Host::watched(1);
    rig.attach(A, links);
    rig.serve(vec![stable(A, 10_000)]);
    (rig, host, inbox)
}

/// The next request, whatever else the host is told.
fn request(inbox: &Inbox) -> Reply {
    loop {
        let came = inbox.next();
        if let FromGateway::Request(_) = came.message {
            return came.reply;
        }
    }
}

/// A client that has had an answer, and may ask again.
fn idle(rig: &Rig, inbox: &Inbox) -> Client {
    let mut client = rig.client();
    client.write(GET);
    request(inbox).respond(200, &[], b"before", true);
    assert_eq!(client.response(false).header("connection"), None);
    client
}

fn ask(rig: &Rig) -> JoinHandle<Drained> {
    let gateway = rig.gateway.clone();
    tokio::spawn(async move { gateway.drain(Instant::now() + FOR_EVER).await })
}

/// Begins a drain. Returns once the gateway knows of it.
fn begin(rig: &Rig) -> JoinHandle<Drained> {
    let mut probe = rig.client();
    assert_eq!(probe.get("/-/ready").status, 200);
    let drain = ask(rig);
    loop {
        let ready = probe.get("/-/ready");
        if ready.status == 503 {
            assert_eq!(ready.text(), "this node is draining\n");
            assert_eq!(ready.header("connection"), Some("close"));
            assert!(probe.is_closed());
            return drain;
        }
    }
}

/// Asks once more on a connection: it is answered, told that this was the last time, and closed.
fn last(client: &mut Client, inbox: &Inbox) {
    client.write(GET);
    request(inbox).respond(200, &[], b"last", true);
    let response = client.response(false);
    assert_eq!((response.status, response.text()), (200, "last"));
    assert_eq!(response.header("connection"), Some("close"));
    assert!(client.is_closed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_drain_without_clients_is_over_at_once() {
    let (rig, _host, _inbox) = rig(FOR_EVER);
    let drained = tokio::time::timeout(PATIENCE, rig.gateway.drain(Instant::now() + FOR_EVER)).await;
    assert_eq!(drained, Ok(Drained::default()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_client_is_told_with_an_answer_before_its_connection_ends() {
    let (rig, _host, inbox) = rig(FOR_EVER);
    let mut quiet = idle(&rig, &inbox);
    let mut fresh = rig.client();
    let mut busy = rig.client();
    busy.write(GET);
    let answer = request(&inbox);
    let mut reader = rig.client();
    reader.write(GET);
    let body = request(&inbox);
    body.respond(200, &[("content-length", "10")], b"12345", false);
    assert_eq!(reader.head().header("connection"), None);

    let drain = block_in_place(|| begin(&rig));
    block_in_place(|| {
        answer.respond(200, &[], b"last", true);
        let response = busy.response(false);
        assert_eq!((response.text(), response.header("connection")), ("last", Some("close")));
        assert!(busy.is_closed());
        last(&mut quiet, &inbox);
        last(&mut fresh, &inbox);
        // Who comes now is let in.
        last(&mut rig.client(), &inbox);
        // This one was told something else before, and asks again like any other.
        body.body(b"67890", true);
        let mut whole = [0; 10];
        reader.socket.read_exact(&mut whole).expect("the body");
        assert!(!drain.is_finished());
        last(&mut reader, &inbox);
    });
    assert_eq!(drain.await.expect("the drain ends"), Drained::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_asks_for_nothing_is_let_go_and_who_comes_then_waits_for_the_next_hotd() {
    let linger = Duration::from_millis(500);
    let (rig, host, inbox) = rig(linger);
    let (mut quiet, mut fresh) = (idle(&rig, &inbox), rig.client());
    let mut busy = rig.client();
    busy.write(GET);
    let answer = request(&inbox);
    let began = Instant::now();
    let drain = ask(&rig);
    assert!(block_in_place(|| quiet.is_closed() && fresh.is_closed()));
    assert!(began.elapsed() >= linger);
    drop((quiet, fresh));
    let mut late = rig.client();
    late.write(GET);
    answer.respond(200, &[], b"last", true);
    assert_eq!(block_in_place(|| busy.response(false)).text(), "last");
    drop(busy);
    assert_eq!(drain.await.expect("the drain ends"), Drained::default());

    drop(host);
    let (_next, links) = Host::answering(1, "next");
    let next = rig.followed_by(GatewayConfig { threads: 1, ..GatewayConfig::default() });
    next.attach(A, links);
    next.serve(vec![stable(A, 10_000)]);
    assert_eq!(block_in_place(|| late.response(false)).text(), "next");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_that_crosses_the_end_of_its_connection_is_counted() {
    let (rig, _host, inbox) = patient_rig(Duration::from_millis(1));
    let mut client = idle(&rig, &inbox);
    let drain = ask(&rig);
    block_in_place(|| {
        client.socket.get_ref().peek(&mut [0]).expect("it is closed in order");
        client.write(GET);
        client.socket.get_ref().shutdown(Shutdown::Write).expect("it can be shut down");
        assert!(client.is_closed());
    });
    assert_eq!(drain.await.expect("the drain ends"), Drained { cut_off: 0, crossed: 1 });
}

/// Who reads `Connection: close` knows that nothing behind that request was looked at (RFC 9112, section 9.6).
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_behind_the_last_request_is_not_looked_at() {
    let next = "POST /next HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n";
    let (rig, _host, inbox) = patient_rig(FOR_EVER);
    let mut clients = [0, next.len() / 2, next.len()].map(|len| {
        let mut client = rig.client();
        client.write([GET, &next[..len]].concat());
        (client, request(&inbox), &next[len..])
    });
    let drain = block_in_place(|| begin(&rig));
    block_in_place(|| {
        for (client, reply, rest) in &mut clients {
            reply.respond(200, &[], b"last", true);
            let response = client.response(false);
            assert_eq!((response.text(), response.header("connection")), ("last", Some("close")));
            client.write(rest);
            client.socket.get_ref().shutdown(Shutdown::Write).expect("it can be shut down");
            assert!(client.is_closed());
        }
    });
    assert_eq!(drain.await.expect("the drain ends"), Drained::default(), "each was told");
    let mut more = std::iter::from_fn(|| inbox.within(Duration::ZERO));
    assert!(!more.any(|came| matches!(came.message, FromGateway::Request(_))), "no host got any of it");
}

/// What its client still sends is that body, whatever it looks like.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_refused_body_is_no_request() {
    let config = GatewayConfig { max_body_bytes: 10, parting: PATIENCE, ..GatewayConfig::default() };
    let (rig, _host, inbox) = with(GatewayConfig { drain_linger: Duration::from_millis(1), ..config });
    let mut client = rig.client();
    client.write("POST /x HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\n");
    let refused = client.response(false);
    assert_eq!((refused.status, refused.header("connection")), (413, Some("close")));
    let drain = ask(&rig);
    block_in_place(|| {
        client.write(GET);
        client.socket.get_ref().shutdown(Shutdown::Write).expect("it can be shut down");
        assert!(client.is_closed());
    });
    assert_eq!(drain.await.expect("the drain ends"), Drained::default(), "it was told");
    assert!(inbox.within(Duration::ZERO).is_none(), "no host got any of it");
}

/// Its client was told nothing with the answer before, whose head had left.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_head_that_began_behind_an_answer_is_waited_for() {
    let (rig, _host, inbox) = patient_rig(Duration::from_millis(50));
    let (mut client, mut blank) = (rig.client(), rig.client());
    let (begun, rest) = GET.split_at(GET.len() / 2);
    let mut replies = [(&mut client, begun), (&mut blank, "\r\n")].map(|(client, behind)| {
        client.write([GET, behind].concat());
        let reply = request(&inbox);
        reply.respond(200, &[("content-length", "10")], b"12345", false);
        assert_eq!(client.head().header("connection"), None);
        reply
    });
    let drain = block_in_place(|| begin(&rig));
    block_in_place(|| {
        for (client, reply) in [&mut client, &mut blank].into_iter().zip(&mut replies) {
            reply.body(b"67890", true);
            client.socket.read_exact(&mut [0; 10]).expect("the body");
        }
        // By the time that who asks for nothing is let go, this one has been looked at, too.
        assert!(blank.is_closed(), "an empty line is no request");
        client.write(rest);
        request(&inbox).respond(200, &[], b"last", true);
        let response = client.response(false);
        assert_eq!((response.text(), response.header("connection")), ("last", Some("close")));
        client.write("x");
        client.socket.get_ref().shutdown(Shutdown::Write).expect("it can be shut down");
        assert!(client.is_closed());
    });
    drop(blank);
    assert_eq!(drain.await.expect("the drain ends"), Drained::default(), "it was told");
}

/// More bytes of the client's would reset the connection if nobody read them, and what is on its way would be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_goes_on_talking_gets_its_last_answer_whole() {
    // Within one window.
    const TOTAL: usize = 200_000;
    let (rig, _host, inbox) = patient_rig(FOR_EVER);
    let mut client = rig.client();
    // So that much of the answer is on its way for long.
    set_socket_recv_buffer_size(client.socket.get_ref(), 16 * 1024).expect("a socket has a buffer");
    client.write(GET);
    let reply = request(&inbox);
    let drain = block_in_place(|| begin(&rig));
    block_in_place(|| {
        reply.respond(200, &[("content-length", &TOTAL.to_string())], b"", false);
        (1..=4).for_each(|piece| reply.body(&[b'y'; TOTAL / 4], piece == 4));
        let head = client.head();
        assert_eq!((head.status, head.header("connection")), (200, Some("close")));
        let (mut got, mut piece) = (0, [0; 4096]);
        while got < TOTAL {
            let read = client.socket.read(&mut piece).expect("the body");
            assert!(read > 0, "it ends after {got} of {TOTAL} bytes");
            got += read;
            // It may have been closed, once all is there.
            drop(client.socket.get_mut().write_all(b"x"));
        }
    });
    drop(client);
    assert_eq!(drain.await.expect("the drain ends"), Drained::default());
}

#[tokio::test]
async fn a_drain_cuts_off_what_is_left_at_its_deadline() {
    let (rig, _host, inbox) = rig(FOR_EVER);
    let mut idle = idle(&rig, &inbox);
    let mut client = rig.client();
    client.write(GET);
    request(&inbox);
    let drained = rig.gateway.drain(Instant::now() + Duration::from_millis(100)).await;
    assert_eq!(drained, Drained { cut_off: 1, crossed: 0 }, "nothing is cut off of the one that is idle");
    assert!(client.is_closed() && idle.is_closed());
}
