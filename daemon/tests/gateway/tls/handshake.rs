//! Until a client has agreed on how TLS is spoken.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hotd::gateway::GatewayConfig;
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

use super::rig::{Secure, hello, plain, read_out};
use crate::rig::Rig;

const GET: &str = "GET /-/live HTTP/1.1\r\nhost: test\r\n\r\n";

/// How long a handshake may take here.
const TIMEOUT: Duration = Duration::from_secs(1);

fn impatient() -> Secure {
    Secure::new(GatewayConfig { header_timeout: TIMEOUT, ..GatewayConfig::default() })
}

#[test]
fn both_versions_are_spoken_and_http_1_where_nothing_is_agreed_on() {
    let secure = Secure::new(GatewayConfig::default());
    for version in [&TLS12, &TLS13] {
        for (offered, agreed) in [
            (&[][..], None),
            (&[&b"http/1.1"[..]][..], Some(&b"http/1.1"[..])),
            (&[b"http/1.0"], Some(b"http/1.0")),
            (&[b"spdy/3", b"http/1.1"], Some(b"http/1.1")),
        ] {
            let mut client = secure.by(Arc::new(secure.authority.config(offered, &[version])));
            assert_eq!(client.get("/-/live").status, 200);
            let connection = &client.socket.get_ref().conn;
            assert_eq!(connection.alpn_protocol(), agreed);
            assert_eq!(connection.protocol_version(), Some(version.version));
        }
    }
}

/// It has agreed on HTTP/2 alone: what is not that is not answered as something else.
#[test]
fn what_was_agreed_on_is_what_is_spoken() {
    let secure = Secure::new(GatewayConfig::default());
    let mut client = secure.by(secure.authority.client(&[b"h2", b"http/1.1"]));
    assert_eq!(client.socket.get_ref().conn.alpn_protocol(), Some(&b"h2"[..]));
    client.write(GET);
    let mut said = Vec::new();
    // However it ends.
    drop(std::io::Read::read_to_end(&mut client.socket, &mut said));
    assert!(!said.starts_with(b"HTTP/1"), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn who_comes_back_goes_on_with_a_ticket() {
    let secure = Secure::new(GatewayConfig::default());
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(secure.authority.config(&[b"http/1.1"], &[version]));
        let mut kinds = [(); 2].map(|()| {
            let mut client = secure.by(Arc::clone(&config));
            // With the answer the ticket has come.
            assert_eq!(client.get("/-/live").status, 200);
            client.socket.get_ref().conn.handshake_kind()
        });
        kinds.reverse();
        assert_eq!(kinds, [Some(HandshakeKind::Resumed), Some(HandshakeKind::Full)]);
    }
}

#[test]
fn a_handshake_that_does_not_end_is_cut_off_in_time() {
    let secure = impatient();
    let hello = hello(&secure.authority);
    for said in [&[][..], &hello[..1], &hello[..hello.len() / 2], &hello] {
        let began = Instant::now();
        let mut socket = plain(secure.rig.address);
        socket.write_all(said).expect("the gateway reads");
        read_out(&mut socket);
        assert!(began.elapsed() >= TIMEOUT, "after {} bytes", said.len());
    }
    // Nor is it for who goes on byte by byte.
    let mut socket = plain(secure.rig.address);
    let slow = hello.iter().take_while(|byte| {
        std::thread::sleep(TIMEOUT / 20);
        socket.write_all(&[**byte]).is_ok()
    });
    assert!(slow.count() < hello.len(), "it was cut off in the middle");
}

/// Its time is over with it, and that of a connection without a request begins.
#[test]
fn a_handshake_that_is_over_is_not_cut_off() {
    let secure = impatient();
    let mut client = secure.client();
    std::thread::sleep(TIMEOUT * 2);
    assert_eq!(client.get("/-/live").status, 200);
}

#[test]
fn a_connection_without_a_request_is_let_go_in_order() {
    let idle_timeout = Duration::from_millis(200);
    let secure = Secure::new(GatewayConfig { idle_timeout, ..GatewayConfig::default() });
    let (mut fresh, mut used) = (secure.client(), secure.client());
    assert_eq!(used.get("/-/live").status, 200);
    // With a word of TLS: without one it could be anybody who cut the connection.
    assert!(fresh.is_closed() && used.is_closed());
}

#[test]
fn a_handshake_takes_a_place_among_the_connections() {
    let config = GatewayConfig { max_connections: 1, header_timeout: TIMEOUT, ..GatewayConfig::default() };
    let secure = Secure::new(config);
    let began = Instant::now();
    let silent = plain(secure.rig.address);
    let mut client = secure.client();
    assert_eq!(client.get("/-/live").status, 200);
    assert!(began.elapsed() >= TIMEOUT, "there was room for one");
    drop(silent);
}

#[test]
fn http_without_tls_gets_an_alert_and_nothing_else() {
    const ALERT: u8 = 21;
    let secure = Secure::new(GatewayConfig::default());
    // As much as is read at once, and more, which must not reset the connection.
    for len in [0, 100_000] {
        let mut socket = plain(secure.rig.address);
        socket
            .write_all(format!("GET /{} HTTP/1.1\r\nhost: test\r\n\r\n", "x".repeat(len)).as_bytes())
            .expect("it is read");
        let said = read_out(&mut socket);
        assert_eq!((said.first(), said.len()), (Some(&ALERT), 7), "{}", String::from_utf8_lossy(&said));
    }
    assert!(secure.inbox.within(Duration::ZERO).is_none(), "no host got any of it");
}

#[test]
fn tls_where_there_is_none_is_no_request() {
    let secure = Secure::new(GatewayConfig::default());
    let rig = Rig::new(1);
    let mut client = rig.client();
    client.write(hello(&secure.authority));
    assert_eq!(client.response(false).status, 400);
}
