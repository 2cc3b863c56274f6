//! What a connection may hold, how long, and how it ends.

use std::time::{Duration, Instant};

use hot_wire::data::{CancelReason, FromGateway};
use hotd::gateway::{Drained, GatewayConfig, ModuleTable, Table};

use super::client::H2;
use super::raw::{self, DATA, END_HEADERS, GOAWAY, HEADERS, PING, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE};
use super::rig;
use crate::host::Host;
use crate::rig::{A, B, PATIENCE, Rig, module, stable};

/// Enough for a test to ask in, on a busy machine.
const PATIENT: Duration = Duration::from_secs(2);

/// SETTINGS with which the peer may send so many bytes of each stream.
fn window(bytes: u32) -> Vec<u8> {
    [&[0, 4][..], &bytes.to_be_bytes()].concat()
}

#[test]
fn a_connection_without_a_request_is_asked_to_leave_and_then_cut_off() {
    let (rig, _host, inbox) = rig(GatewayConfig { idle_timeout: PATIENT, ..GatewayConfig::default() });
    let mut polite = H2::connect(rig.address);
    let coming = polite.get("/x");
    let (_, reply) = inbox.request();
    let mut rude = Raw::open(rig.address);
    let goaway = rude.until(GOAWAY).expect("it is asked to leave");
    assert_eq!(goaway.code(), 0);
    // The polite one is not idle.
    reply.respond(200, &[], b"took its time", true);
    assert_eq!(polite.whole(coming).text(), "took its time");
    assert!(polite.end().is_ok());
    // It neither answers the PING that came with that nor leaves.
    assert!(rude.rest().iter().all(|frame| frame.kind != HEADERS));
}

/// A client that sends these frames over and over, and asks for nothing, is asked to leave.
fn is_no_request(frames: &[Vec<u8>]) {
    let (rig, _host, _inbox) = rig(GatewayConfig { idle_timeout: PATIENT, ..GatewayConfig::default() });
    let mut raw = Raw::open(rig.address);
    let began = Instant::now();
    loop {
        raw.write(&frames.concat());
        let Some(frame) = raw.next() else { panic!("it was cut off without a word") };
        if frame.kind == GOAWAY {
            break;
        }
        assert!(began.elapsed() < PATIENCE);
    }
}

#[test]
fn a_ping_is_no_request() {
    is_no_request(&[raw::frame(PING, 0, 0, &[0; 8])]);
}

/// It grants what nobody wants, which is no request either.
#[test]
fn credit_is_no_request() {
    let credit = raw::frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes());
    is_no_request(&[credit, raw::frame(PING, 0, 0, &[0; 8])]);
}

#[test]
fn a_head_that_does_not_end_ends_the_connection() {
    let (rig, _host, inbox) = rig(GatewayConfig { header_timeout: PATIENT, ..GatewayConfig::default() });
    let block = raw::head("GET", "/x", &[]);
    let mut silent = Raw::connect(rig.address);
    silent.write(&raw::PREFACE[..2]);
    let mut no_settings = Raw::connect(rig.address);
    no_settings.write(raw::PREFACE);
    let mut half_frame = Raw::open(rig.address);
    half_frame.write(&raw::frame(HEADERS, END_HEADERS, 1, &block)[..12]);
    let mut no_end = Raw::open(rig.address);
    no_end.get(1);
    // A request that is being answered makes no difference.
    let (_, _reply) = inbox.request();
    no_end.frame(HEADERS, 0, 3, &block);
    for mut connection in [silent, no_settings, half_frame, no_end] {
        connection.rest();
    }
}

/// Streams of which the client takes nothing hold memory; those beside them have nothing to do with it.
#[test]
fn a_stream_that_is_not_taken_is_reset_and_others_go_on() {
    let (rig, _host, inbox) = rig(GatewayConfig { stall_timeout: PATIENT, ..GatewayConfig::default() });
    let mut raw = Raw::connect(rig.address);
    raw.write(raw::PREFACE);
    raw.frame(SETTINGS, 0, 0, &window(0));
    raw.get(1);
    inbox.request().1.respond(200, &[], &[b'x'; 1000], true);
    raw.get(3);
    let (_, streaming) = inbox.request();
    streaming.respond(200, &[], &[b'x'; 1000], false);
    raw.get(5);
    let (_, waiting) = inbox.request();
    let mut reset =
        [raw.until(RST_STREAM), raw.until(RST_STREAM)].map(|frame| frame.expect("a reset").stream);
    reset.sort_unstable();
    assert_eq!(reset, [1, 3]);
    assert_eq!(inbox.cancellation(), CancelReason::ClientGone);
    waiting.respond(204, &[], b"", true);
    assert_eq!(raw.until(HEADERS).map(|frame| (frame.stream, frame.status())), Some((5, 204)));
    let counters = rig.counters_when(A, |counters| counters.in_flight == 0);
    assert_eq!((counters.finished, counters.cancelled), (2, 1));
}

/// The host is stopped by the stream's own window.
#[test]
fn a_slow_reader_grows_no_memory() {
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    let mut raw = Raw::connect(rig.address);
    raw.write(raw::PREFACE);
    raw.frame(SETTINGS, 0, 0, &window(1));
    raw.get(1);
    let (_, reply) = inbox.request();
    reply.respond(200, &[], b"", false);
    let mut credit = hot_wire::data::SendCredit::default();
    let mut sent = 0;
    loop {
        let len = credit.take(50_000);
        if len > 0 {
            reply.body(&vec![b'x'; len], false);
            sent += len;
            assert!(sent <= 1024 * 1024, "{sent} bytes were taken from the host for a client that took one");
            continue;
        }
        let Some(came) = inbox.within(Duration::from_millis(200)) else { break };
        let FromGateway::Window(more) = came.message else { panic!("no credit") };
        credit.grant(more).expect("the gateway grants what was consumed");
    }
    assert!(sent >= 16 * 1024, "{sent} bytes are too few to tell");
    assert_eq!(raw.until(DATA).expect("a byte").payload, b"x");
}

/// One by one, so that each has begun: a flood is another matter, which the conformance tests have.
#[test]
fn a_client_that_breaks_off_what_it_asks_for_is_cut_off() {
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    std::thread::spawn(move || while inbox.within(PATIENCE).is_some() {});
    let mut raw = Raw::open(rig.address);
    let until = Instant::now() + PATIENCE;
    let mut broken_off = 0;
    for stream in (1..).step_by(2) {
        raw.get(stream);
        raw.frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
        raw.frame(PING, 0, 0, &[0; 8]);
        if raw.until(PING).is_none() {
            break;
        }
        broken_off += 1;
        assert!(Instant::now() < until, "it may go on without end: {broken_off} times");
    }
    assert!(broken_off >= 200, "cut off after {broken_off}");
    rig.counters_when(A, |counters| counters.in_flight == 0);
}

/// Each of them has us write: a client may say what it likes to have, and not without end.
#[test]
fn a_client_that_sends_settings_without_end_is_cut_off() {
    let (rig, _host, _inbox) = rig(GatewayConfig::default());
    let mut raw = Raw::open(rig.address);
    let until = Instant::now() + PATIENCE;
    let mut acknowledged = 0;
    while raw.next().is_some() {
        raw.frame(SETTINGS, 0, 0, &window(65_535));
        acknowledged += 1;
        assert!(Instant::now() < until, "it may go on without end: {acknowledged} times");
    }
    assert!(acknowledged >= 100, "cut off after {acknowledged}");
}

/// One connection of HTTP/2 is as many clients, for the module.
#[test]
fn the_bounds_of_a_module_hold_for_the_streams_of_one_connection() {
    let (rig, _host, inbox) = rig(GatewayConfig::default());
    let bounded = ModuleTable { max_in_flight: 2, max_waiting: 3, ..module(vec![stable(A, 10_000)]) };
    rig.gateway.publish(Table { modules: vec![bounded] });
    let mut client = H2::connect(rig.address);
    let coming: Vec<_> = (0..8).map(|_| client.get("/x")).collect();
    let mut replies = vec![inbox.request().1, inbox.request().1];
    assert!(inbox.within(Duration::from_millis(100)).is_none(), "more than may be in flight");
    let mut statuses = Vec::new();
    for (at, coming) in coming.into_iter().enumerate() {
        if let Some(reply) = replies.pop() {
            reply.respond(200, &[], b"", true);
        }
        if (2..5).contains(&at) {
            replies.push(inbox.request().1);
        }
        statuses.push(coming);
    }
    for reply in replies {
        reply.respond(200, &[], b"", true);
    }
    let mut statuses: Vec<_> = statuses.into_iter().map(|coming| client.whole(coming).status()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 503, 503, 503]);
}

/// A module that reads nothing takes the windows of its own streams, and of no other.
#[test]
fn uploads_to_a_slow_module_do_not_stop_those_to_another() {
    let rig = Rig::with(GatewayConfig { threads: 1, ..GatewayConfig::default() });
    let (_slow, links, slow) = Host::watched(1);
    rig.attach(A, links);
    let (_fast, links) = Host::answering(1, "fast");
    rig.attach(B, links);
    let slow_module = ModuleTable { module: "slow".to_owned(), ..module(vec![stable(A, 10_000)]) };
    let mut fast_backend = stable(B, 10_000);
    fast_backend.routes = vec!["/fast".to_owned()];
    let fast_module = module(vec![fast_backend]);
    rig.gateway.publish(Table { modules: vec![slow_module, fast_module] });
    let mut client = H2::connect(rig.address);
    let stuck: Vec<_> = (0..60).map(|_| client.post("/slow", 1_000_000)).collect();
    for _ in &stuck {
        // Each has its window at the host, and its own at the gateway.
        while !matches!(slow.next().message, FromGateway::Request(_)) {}
    }
    for _ in 0..5 {
        let coming = client.post("/fast", 200_000);
        assert_eq!(client.whole(coming).text(), "fast");
    }
    // Over HTTP/1.1 as well.
    assert_eq!(rig.get("/fast").text(), "fast");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_drain_lets_streams_end_and_says_goodbye() {
    tokio::task::block_in_place(|| {
        let (rig, _host, inbox) = rig(GatewayConfig::default());
        let mut client = H2::connect(rig.address);
        let coming = client.get("/x");
        let (_, reply) = inbox.request();
        let mut idle = Raw::open(rig.address);
        // Its SETTINGS have been read.
        idle.frame(PING, 0, 0, &[0; 8]);
        while idle.next().is_some_and(|frame| frame.kind != PING) {}
        let gateway = rig.gateway.clone();
        let drain = tokio::spawn(async move { gateway.drain(Instant::now() + PATIENCE).await });
        assert_eq!(idle.until(GOAWAY).map(|frame| frame.code()), Some(0));
        idle.until(SETTINGS);
        assert!(!drain.is_finished());
        reply.respond(200, &[], b"last", true);
        assert_eq!(client.whole(coming).text(), "last");
        assert!(client.end().is_ok());
        let drained = tokio::runtime::Handle::current().block_on(drain);
        assert_eq!(drained.expect("the drain ends"), Drained::default());
    });
}

/// As over HTTP/1.1, and more likely: a client of HTTP/2 grants credit for what it reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_goes_on_talking_gets_its_last_response_whole() {
    // Within one window of the host's.
    const TOTAL: usize = 200_000;
    tokio::task::block_in_place(|| {
        let (rig, _host, inbox) = rig(GatewayConfig { parting: PATIENCE, ..GatewayConfig::default() });
        let mut raw = Raw::connect(rig.address);
        raw.take_little();
        raw.write(raw::PREFACE);
        raw.frame(SETTINGS, 0, 0, &window(1 << 20));
        raw.frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 20).to_be_bytes());
        raw.get(1);
        let (_, reply) = inbox.request();
        let gateway = rig.gateway.clone();
        let drain = tokio::spawn(async move { gateway.drain(Instant::now() + PATIENCE).await });
        assert_eq!(raw.until(GOAWAY).map(|frame| frame.code()), Some(0));
        reply.respond(200, &[("content-length", &TOTAL.to_string())], b"", false);
        (1..=4).for_each(|piece| reply.body(&[b'y'; TOTAL / 4], piece == 4));
        let mut got = 0;
        while got < TOTAL {
            let data = raw.until(DATA);
            got += data.unwrap_or_else(|| panic!("it ends after {got} bytes")).payload.len();
            raw.frame(PING, 0, 0, &[0; 8]);
        }
        drop(raw);
        let drained = tokio::runtime::Handle::current().block_on(drain);
        assert_eq!(drained.expect("the drain ends"), Drained::default());
    });
}
