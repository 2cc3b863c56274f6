//! Connections that change hands, and the end of a node.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hot_wire::data::FromGateway;
use hotd::gateway::{Drained, GatewayConfig};
use rustls::version::TLS12;
use tokio::task::{JoinHandle, block_in_place};

use super::rig::{Secure, Stream, hello, plain, read_out};
use crate::client::Client;
use crate::host::Reply;
use crate::rig::{A, PATIENCE};

const GET: &str = "GET /x HTTP/1.1\r\nhost: test\r\n\r\n";

/// Longer than any test waits: what ends did so because it was told.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// A connection that is the module's.
fn upgraded(secure: &Secure) -> (Client<Stream>, Reply) {
    let mut client = secure.client();
    client.write("GET /x HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    let (_, reply) = secure.inbox.request();
    reply.respond(101, &[("upgrade", "echo")], b"", false);
    assert_eq!(client.head().status, 101);
    (client, reply)
}

/// What goes up, whatever else the host is told, until so much of it is there.
fn up(secure: &Secure, len: usize) -> (Vec<u8>, bool) {
    let (mut came, mut ended) = (Vec::new(), false);
    while came.len() < len && !ended {
        if let FromGateway::Body { data, end } = secure.inbox.next().message {
            came.extend_from_slice(&data);
            ended = end;
        }
    }
    (came, ended)
}

#[test]
fn an_upgraded_connection_goes_both_ways_until_the_module_ends_it() {
    const LARGE: usize = 200_000;
    let secure = Secure::new(GatewayConfig::default());
    let (mut client, reply) = upgraded(&secure);
    for round in 0..20 {
        let text = format!("round {round:02}");
        client.write(&text);
        assert_eq!(up(&secure, text.len()), (text.clone().into_bytes(), false));
        reply.body(text.as_bytes(), false);
        let mut echo = vec![0; text.len()];
        client.socket.read_exact(&mut echo).expect("the echo");
        assert_eq!(echo, text.as_bytes());
    }
    client.write(vec![b'u'; LARGE]);
    assert_eq!(up(&secure, LARGE).0.len(), LARGE);
    reply.body(&vec![b'd'; LARGE], true);
    let mut down = Vec::new();
    // With a word of TLS at its end: a connection that was cut would be an error here.
    client.socket.read_to_end(&mut down).expect("it is ended in order");
    assert_eq!(down.len(), LARGE);
    rig_is_quiet(&secure);
}

#[test]
fn a_client_may_end_its_side_of_an_upgraded_connection_first() {
    let secure = Secure::new(GatewayConfig::default());
    let (mut client, reply) = upgraded(&secure);
    client.write("last");
    let stream = client.socket.get_mut();
    stream.conn.send_close_notify();
    stream.flush().expect("it is sent");
    let (came, ended) = up(&secure, 5);
    assert_eq!((came, ended), (b"last".to_vec(), true));
    reply.body(b"behind it", true);
    let mut down = Vec::new();
    client.socket.read_to_end(&mut down).expect("it is ended in order");
    assert_eq!(down, b"behind it");
    rig_is_quiet(&secure);
}

/// As many clients end: their connection, without a word of TLS. What they said before is the module's all the same.
#[test]
fn what_comes_before_a_bare_end_of_an_upgraded_connection_is_handed_on() {
    let secure = Secure::new(GatewayConfig::default());
    let (mut client, reply) = upgraded(&secure);
    client.write("last");
    client.tcp().shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(up(&secure, 5), (b"last".to_vec(), true));
    reply.body(b"", true);
    rig_is_quiet(&secure);
}

fn rig_is_quiet(secure: &Secure) {
    let counters = secure.rig.counters_when(A, |counters| counters.streams == 0);
    assert_eq!((counters.errors, counters.streams_failed), (0, 0));
}

/// A client that is gone without a word, as one that was killed.
#[test]
fn an_upgraded_connection_that_breaks_is_noticed_though_nothing_is_said() {
    let secure = Secure::new(GatewayConfig::default());
    let (client, _reply) = upgraded(&secure);
    rustix::net::sockopt::set_socket_linger(client.tcp(), Some(Duration::ZERO)).expect("it can be set");
    drop(client);
    secure.rig.counters_when(A, |counters| counters.streams == 0);
}

fn ask(secure: &Secure) -> JoinHandle<Drained> {
    let gateway = secure.rig.gateway.clone();
    tokio::spawn(async move { gateway.drain(Instant::now() + FOR_EVER).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_drain_tells_every_client_and_loses_nothing() {
    let secure = Secure::new(GatewayConfig { drain_linger: FOR_EVER, ..GatewayConfig::default() });
    let (mut idle, mut fresh, mut busy) =
        block_in_place(|| (secure.client(), secure.client(), secure.client()));
    let (answer, coming, h2) = block_in_place(|| {
        assert_eq!(idle.get("/-/live").status, 200);
        busy.write(GET);
        let answer = secure.inbox.request().1;
        let mut h2 = secure.h2();
        let coming = h2.get("/x");
        (answer, (coming, secure.inbox.request().1), h2)
    });
    let drain = ask(&secure);
    block_in_place(|| {
        // Who comes now is let in, until the drain is known to be on.
        while secure.client().get("/-/ready").status != 503 {}
        answer.respond(200, &[], b"last", true);
        let mut last = vec![busy.response(false)];
        for client in [&mut idle, &mut fresh] {
            client.write(GET);
            secure.inbox.request().1.respond(200, &[], b"last", true);
            last.push(client.response(false));
        }
        for response in last {
            assert_eq!((response.text(), response.header("connection")), ("last", Some("close")));
        }
        assert!(busy.is_closed() && idle.is_closed() && fresh.is_closed(), "each in order");
        let (coming, reply) = coming;
        reply.respond(200, &[], b"two", true);
        assert_eq!(h2.whole(coming).text(), "two");
    });
    tokio::task::spawn_blocking(move || h2.end()).await.expect("no panic").expect("it ends in order");
    assert_eq!(drain.await.expect("the drain ends"), Drained::default());
}

/// Its client has asked for nothing, and may come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_drain_does_not_wait_for_a_handshake() {
    let drain_linger = Duration::from_millis(100);
    let secure = Secure::new(GatewayConfig { drain_linger, ..GatewayConfig::default() });
    let hello = hello(&secure.authority);
    let mut half = plain(secure.rig.address);
    half.write_all(&hello[..hello.len() / 2]).expect("the gateway reads");
    // It has been accepted once another one, that came behind it, is served.
    assert_eq!(block_in_place(|| secure.client().get("/-/live")).status, 200);
    let drained =
        tokio::time::timeout(PATIENCE / 4, ask(&secure)).await.expect("within the time of a handshake");
    assert_eq!(drained.expect("no panic"), Drained::default());
    assert_eq!(block_in_place(|| read_out(&mut half)), b"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_that_crosses_the_end_of_its_connection_is_counted() {
    let linger = Duration::from_millis(1);
    let config = GatewayConfig { drain_linger: linger, parting: PATIENCE, ..GatewayConfig::default() };
    let secure = Secure::new(config);
    // With TLS 1.2 nothing comes behind the handshake but what we wait for.
    let client = || secure.by(Arc::new(secure.authority.config(&[b"http/1.1"], &[&TLS12])));
    let (mut asks, mut says_nothing) = block_in_place(|| (client(), client()));
    let drain = ask(&secure);
    block_in_place(|| {
        for client in [&mut asks, &mut says_nothing] {
            client.tcp().peek(&mut [0]).expect("it is closed in order");
        }
        asks.write(GET);
        for client in [&mut asks, &mut says_nothing] {
            assert!(client.is_closed());
            let stream = client.socket.get_mut();
            stream.conn.send_close_notify();
            stream.flush().expect("it is sent");
            stream.sock.shutdown(Shutdown::Write).expect("it can be shut down");
        }
    });
    let drained = drain.await.expect("the drain ends");
    assert_eq!(drained, Drained { cut_off: 0, crossed: 1 }, "a word of TLS is no request");
}
