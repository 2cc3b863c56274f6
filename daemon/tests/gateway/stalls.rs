//! Whoever stands still, on either side: it is let go in time, and until then it costs no more than its part.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use hot_wire::data::{CancelReason, FromGateway, INITIAL_WINDOW};
use hotd::gateway::{GatewayConfig, ModuleTable, Table};

use crate::client::Client;
use crate::host::{Host, Inbox, Reply};
use crate::rig::{A, B, PATIENCE, Rig, module, stable};

/// How long a client may stand still.
const STALL: Duration = Duration::from_millis(300);

/// The module's deadline: nothing here waits for that.
const DEADLINE: Duration = Duration::from_secs(600);

fn rig() -> (Rig, Host, Inbox) {
    rig_with(STALL)
}

fn rig_with(stall_timeout: Duration) -> (Rig, Host, Inbox) {
    let config = GatewayConfig { threads: 1, stall_timeout, ..GatewayConfig::default() };
    let rig = Rig::with(config);
    let (host, links, inbox) = Host::watched(1);
    rig.attach(A, links);
    let patient = ModuleTable { deadline: DEADLINE, ..module(vec![stable(A, 10_000)]) };
    rig.gateway.publish(Table { modules: vec![patient] });
    (rig, host, inbox)
}

/// Sends for as long as the gateway takes it, and says how the exchange ended.
fn send_until_cancelled(inbox: &Inbox, reply: &Reply) -> CancelReason {
    reply.body(&vec![b'x'; INITIAL_WINDOW as usize], false);
    loop {
        match inbox.next().message {
            FromGateway::Window(more) => reply.body(&vec![b'x'; more as usize], false),
            FromGateway::Cancel(reason) => return reason,
            FromGateway::Deadline { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_client_that_takes_nothing_of_a_response_is_let_go() {
    let (rig, _host, inbox) = rig();
    let mut client = rig.client();
    client.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
    let (_, reply) = inbox.request();
    reply.respond(200, &[], b"", false);
    assert_eq!(send_until_cancelled(&inbox, &reply), CancelReason::ClientGone);
    let counters = rig.counters_when(A, |counters| counters.in_flight == 0);
    assert_eq!((counters.cancelled, counters.timeouts, counters.errors), (1, 0, 0));
}

/// Its kernel and ours hold megabytes by then: that they are slow to say that there is room is not held against it.
#[test]
fn a_client_that_is_slow_and_never_stands_still_is_not_let_go() {
    const STALL: Duration = Duration::from_secs(2);
    const TURN: Duration = Duration::from_millis(100);
    let (rig, _host, inbox) = rig_with(STALL);
    let mut client = rig.client();
    client.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
    let (_, reply) = inbox.request();
    reply.respond(200, &[], b"", false);
    let cancelled = std::thread::spawn(move || send_until_cancelled(&inbox, &reply));
    // 20 KiB at a time, 200 KiB/s: of the megabytes that are on their way by then no third is taken in the time.
    let mut piece = [0; 20 * 1024];
    let until = Instant::now() + STALL * 4;
    while Instant::now() < until {
        client.socket.get_mut().read_exact(&mut piece).expect("it is not cut off");
        std::thread::sleep(TURN);
    }
    assert!(!cancelled.is_finished());
    drop(client);
    assert_eq!(cancelled.join().expect("the host goes on"), CancelReason::ClientGone);
}

#[test]
fn a_client_that_takes_nothing_of_an_upgraded_connection_is_let_go() {
    let (rig, _host, inbox) = rig();
    let mut client = rig.client();
    client.write("GET /x HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n");
    let (_, reply) = inbox.request();
    reply.respond(101, &[], b"", false);
    assert_eq!(client.head().status, 101);
    assert_eq!(send_until_cancelled(&inbox, &reply), CancelReason::ClientGone);
    rig.counters_when(A, |counters| counters.streams == 0);
}

#[test]
fn a_client_that_does_not_go_on_with_its_body_is_told_so() {
    let (rig, _host, inbox) = rig();
    let mut client = rig.client();
    client.write("POST /x HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nhalf");
    assert_eq!(client.response(false).status, 408);
    let (_, _reply) = inbox.request();
    let counters = rig.counters_when(A, |counters| counters.in_flight == 0);
    assert_eq!((counters.cancelled, counters.timeouts, counters.errors), (1, 0, 0));
}

/// A host that does not read its link: what is queued for it has a bound, from which on it counts as not ready. Another
/// module is served all the while, and once the host reads, whoever waited is answered.
#[test]
fn a_host_that_reads_nothing_is_soon_sent_no_more() {
    const CLIENTS: usize = 100;
    let config = GatewayConfig { threads: 1, max_wait: STALL, ..GatewayConfig::default() };
    let rig = Rig::with(config);
    let (_fast, links) = Host::answering(1, "fast");
    rig.attach(A, links);
    let (theirs, ours) = std::os::unix::net::UnixStream::pair().expect("a socket pair");
    rig.attach(B, vec![theirs]);
    let mut backend = stable(B, 10_000);
    backend.routes = vec!["/deaf".to_owned()];
    let deaf = ModuleTable { module: "deaf".to_owned(), deadline: DEADLINE, ..module(vec![backend]) };
    rig.gateway.publish(Table { modules: vec![module(vec![stable(A, 10_000)]), deaf] });

    // Heads of 60 KiB: some seventy are the bound and what the kernel takes. They come at once, and each is either with the
    // host or refused, in the end.
    let large = format!("GET /deaf HTTP/1.1\r\nhost: test\r\nx-large: {}\r\n\r\n", "x".repeat(60 * 1024));
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.write(&large);
        client.socket.get_ref().set_nonblocking(true).expect("it can be set");
    }
    let is_answered = |client: &Client| client.socket.get_ref().peek(&mut [0]).is_ok();
    let until = Instant::now() + PATIENCE;
    let taken = loop {
        let taken = usize::try_from(rig.gateway.counters(B).in_flight).expect("some");
        let refused = clients.iter().filter(|client| is_answered(client)).count();
        if taken + refused == CLIENTS {
            break taken;
        }
        assert!(Instant::now() < until, "{taken} were taken and {refused} refused");
        std::thread::yield_now();
    };
    assert!((20..CLIENTS).contains(&taken), "{taken} heads were queued for a host that does not read");
    assert_eq!(rig.get("/x").text(), "fast");

    let _deaf = Host::over(ours, |came| {
        if let FromGateway::Request(_) = came.message {
            came.reply.respond(200, &[], b"heard", true);
        }
    });
    let mut answers = clients.iter_mut().map(|client| {
        client.socket.get_ref().set_nonblocking(false).expect("it can be set");
        client.response(false).text().to_owned()
    });
    let refusal = "module deaf has no instance that is ready; try again\n";
    assert!(answers.all(|text| text == "heard" || text == refusal));
    assert_eq!(rig.counters_when(B, |counters| counters.in_flight == 0).finished, taken as u64);
}

/// Who is asked for a body will send it: so nobody is, before an instance can take it.
#[test]
fn a_body_is_asked_for_once_somebody_can_take_it() {
    let rig = Rig::with(GatewayConfig { threads: 1, max_wait: PATIENCE, ..GatewayConfig::default() });
    rig.serve(vec![stable(A, 10_000)]);
    let mut client = rig.client();
    client.write("POST /x HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n");
    client.socket.get_ref().set_read_timeout(Some(STALL)).expect("a time-out can be set");
    assert!(client.socket.get_ref().peek(&mut [0]).is_err(), "the body was asked for");
    client.socket.get_ref().set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    let (_host, links) = Host::answering(1, "a");
    rig.attach(A, links);
    assert_eq!(client.head().status, 100);
    client.socket.get_mut().write_all(b"hi").expect("the gateway reads");
    assert_eq!(client.response(false).text(), "a");
}
