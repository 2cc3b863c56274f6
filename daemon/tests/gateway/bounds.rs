//! Waiting, queues, deadlines, sizes, slow clients: everything that must end or stay small.

use std::time::{Duration, Instant};

use hot_wire::data::CancelReason;
use hotd::gateway::{Counters, GatewayConfig, ModuleTable, Table};

use crate::host::Host;
use crate::rig::{A, PATIENCE, Rig, module, stable};

const GET: &str = "GET /x HTTP/1.1\r\nhost: test\r\n\r\n";

fn config() -> GatewayConfig {
    GatewayConfig { threads: 1, ..GatewayConfig::default() }
}

#[test]
fn requests_wait_for_the_first_table_and_for_an_instance() {
    let rig = Rig::with(GatewayConfig { max_wait: PATIENCE, ..config() });
    let mut early = rig.client();
    early.write(GET);
    assert_eq!(rig.get("/-/ready").status, 503, "the early request has come, or comes later than this one");
    rig.serve(vec![stable(A, 10_000)]);
    let mut late = rig.client();
    late.write("POST /x HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\nhi");
    let ready = rig.get("/-/ready");
    assert_eq!((ready.status, ready.text()), (503, "module greeter has no instance that is ready\n"));
    let (_a, links) = Host::answering(1, "a");
    rig.attach(A, links);
    assert_eq!(early.response(false).text(), "a");
    assert_eq!(late.response(false).text(), "a");
    assert_eq!(rig.get("/-/ready").text(), "ready\n");
    assert_eq!(rig.get("/-/live").text(), "live\n");
    assert_eq!(rig.get("/-/other").status, 404);
}

#[test]
fn a_wait_ends_with_503_and_retry_after() {
    let rig = Rig::with(GatewayConfig { max_wait: Duration::from_millis(150), ..config() });
    let before = rig.get("/x");
    assert_eq!((before.status, before.header("retry-after")), (503, Some("1")));
    assert_eq!(before.text(), "this node has not begun to serve yet; try again\n");
    rig.serve(vec![stable(A, 10_000)]);
    let began = Instant::now();
    let response = rig.get("/x");
    assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
    assert_eq!(response.text(), "module greeter has no instance that is ready; try again\n");
    assert!(began.elapsed() >= Duration::from_millis(150));
}

#[test]
fn beyond_the_bound_requests_wait_in_a_queue_that_is_bounded_too() {
    let rig = Rig::with(config());
    let (_a, links, inbox) = Host::watched(1);
    rig.attach(A, links);
    let bounded = ModuleTable { max_in_flight: 1, max_waiting: 1, ..module(vec![stable(A, 10_000)]) };
    rig.gateway.publish(Table { modules: vec![bounded] });
    let (mut first, mut second) = (rig.client(), rig.client());
    first.write(GET);
    let (_, reply) = inbox.request();
    second.write(GET);
    // One of these is the second that waits, at the latest the last one finds the queue full.
    let refused = loop {
        let mut other = rig.client();
        other.socket.get_ref().set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out");
        other.write(GET);
        let mut byte = [0];
        if other.socket.get_ref().peek(&mut byte).is_ok() {
            break other.response(false);
        }
    };
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.text(), "module greeter has too many requests waiting; try again\n");
    reply.respond(200, &[], b"first", true);
    assert_eq!(first.response(false).text(), "first");
    inbox.request().1.respond(200, &[], b"second", true);
    assert_eq!(second.response(false).text(), "second");
}

#[test]
fn a_deadline_is_a_504_a_cancellation_and_the_instances_timeout() {
    let rig = Rig::with(config());
    let (_a, links, inbox) = Host::watched(1);
    rig.attach(A, links);
    let hasty = ModuleTable { deadline: Duration::from_millis(200), ..module(vec![stable(A, 10_000)]) };
    rig.gateway.publish(Table { modules: vec![hasty] });
    let mut client = rig.client();
    let began = Instant::now();
    client.write(GET);
    let (request, _reply) = inbox.request();
    assert!((1..=200).contains(&request.deadline_ms));
    let response = client.response(false);
    assert_eq!(
        (response.status, response.text()),
        (504, "module greeter did not answer within its deadline\n")
    );
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!(inbox.cancellation(), CancelReason::Deadline);
    // A response that has begun and never ends is cut off, and no less a timeout. It begins in time on a busy machine, too.
    let calm = ModuleTable { deadline: Duration::from_secs(3), ..module(vec![stable(A, 10_000)]) };
    rig.gateway.publish(Table { modules: vec![calm] });
    client.write(GET);
    inbox.request().1.respond(200, &[], b"begun", false);
    assert!(client.response(false).cut_off);
    let counters = rig.gateway.counters(A);
    assert_eq!((counters.timeouts, counters.errors, counters.finished, counters.in_flight), (2, 0, 0, 0));
}

#[test]
fn requests_under_way_are_counted_by_their_age_until_they_end() {
    let rig = Rig::with(config());
    let (_a, links, inbox) = Host::watched(1);
    rig.attach(A, links);
    rig.serve(vec![stable(A, 10_000)]);
    let (mut waiting, mut slow_client) = (rig.client(), rig.client());
    waiting.write(GET);
    let (_, reply) = inbox.request();
    // This one waits for its client and not for the instance.
    slow_client.write("POST /x HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nhalf");
    let old = |counters: &Counters| {
        let [(age, 1)] = counters.open[..] else { return false };
        age >= Duration::from_millis(200)
    };
    assert_eq!(rig.counters_when(A, old).in_flight, 2);
    reply.respond(200, &[], b"at last", true);
    assert_eq!(waiting.response(false).status, 200);
    let counters = rig.counters_when(A, |counters| counters.open.is_empty());
    assert_eq!((counters.finished, counters.in_flight), (1, 1));
}

#[test]
fn a_client_that_does_not_send_its_body_is_not_the_instances_fault() {
    let rig = Rig::with(config());
    let (_a, links, _inbox) = Host::watched(1);
    rig.attach(A, links);
    let hasty = ModuleTable { deadline: Duration::from_millis(200), ..module(vec![stable(A, 10_000)]) };
    rig.gateway.publish(Table { modules: vec![hasty] });
    let mut client = rig.client();
    client.write("POST /x HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nhalf");
    assert_eq!(client.response(false).status, 408);
    let counters = rig.gateway.counters(A);
    assert_eq!((counters.timeouts, counters.cancelled), (0, 1));
}

#[test]
fn bodies_and_heads_are_bounded() {
    let rig = Rig::with(GatewayConfig { max_body_bytes: 100_000, ..config() });
    let (_a, links) = Host::answering(1, "a");
    rig.attach(A, links);
    rig.serve(vec![stable(A, 10_000)]);
    let text = "the request's body is larger than 100000 bytes, the most that is accepted\n";
    // The client sends all of it before it reads, as many do.
    let mut announced = rig.client();
    announced.send_post("/x", &vec![b'x'; 3_000_000]);
    let response = announced.response(false);
    assert_eq!((response.status, response.text()), (413, text));
    let mut chunked = rig.client();
    chunked.write("POST /x HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..30 {
        chunked.write(format!("2710\r\n{}\r\n", "x".repeat(10_000)));
    }
    chunked.write("0\r\n\r\n");
    assert_eq!(chunked.response(false).status, 413);
    let mut fits = rig.client();
    fits.send_post("/x", &vec![b'x'; 100_000]);
    assert_eq!(fits.response(false).text(), "a");
    let mut large_head = rig.client();
    large_head.write(format!("GET /x HTTP/1.1\r\nhost: test\r\nx-large: {}\r\n\r\n", "x".repeat(64 * 1024)));
    assert_eq!(large_head.response(false).status, 431);
    // Within the bound as the client sent it, and beyond with what the gateway adds.
    let mut nearly = rig.client();
    nearly.write(format!("GET /x HTTP/1.1\r\nhost: test\r\nx-large: {}\r\n\r\n", "x".repeat(65_480)));
    assert_eq!(nearly.response(false).status, 431);
    let mut many = rig.client();
    many.write(format!("GET /x HTTP/1.1\r\nhost: test\r\n{}\r\n", "x-many: 1\r\n".repeat(1_000)));
    assert_eq!(many.response(false).status, 431);
    assert_eq!(rig.get("/x").status, 200);
    let counters = rig.counters_when(A, |counters| counters.in_flight == 0);
    assert_eq!(counters.errors, 0);
    assert_eq!(counters.picked, counters.finished + counters.cancelled);
}

#[test]
fn a_client_that_goes_away_cancels_its_request_at_the_host() {
    let rig = Rig::with(config());
    let (_a, links, inbox) = Host::watched(1);
    rig.attach(A, links);
    rig.serve(vec![stable(A, 10_000)]);
    let mut client = rig.client();
    client.write(GET);
    let (_, reply) = inbox.request();
    drop(client);
    assert_eq!(inbox.cancellation(), CancelReason::ClientGone);
    // What the host had sent meanwhile belongs to nobody and does no harm.
    reply.respond(200, &[], b"too late", true);
    let mut client = rig.client();
    client.write(GET);
    inbox.request().1.respond(200, &[], b"in time", true);
    assert_eq!(client.response(false).text(), "in time");
    let counters = rig.counters_when(A, |counters| counters.in_flight == 0);
    assert_eq!((counters.picked, counters.cancelled, counters.finished), (2, 1, 1));
    assert_eq!((counters.errors, counters.timeouts, counters.lost), (0, 0, 0));
}

#[test]
fn slow_and_idle_clients_are_let_go_and_busy_ones_are_not() {
    // Enough for this test to ask in, on a busy machine.
    let patience = Duration::from_secs(3);
    let rig = Rig::with(GatewayConfig { header_timeout: patience, idle_timeout: patience, ..config() });
    let (_a, links, inbox) = Host::watched(1);
    rig.attach(A, links);
    rig.serve(vec![stable(A, 10_000)]);
    let (mut idle, mut slow, mut busy) = (rig.client(), rig.client(), rig.client());
    busy.write(GET);
    let (_, reply) = inbox.request();
    slow.write("GET /x HTTP/1.1\r\nho");
    assert!(idle.is_closed());
    assert!(slow.is_closed());
    reply.respond(200, &[], b"took its time", true);
    assert_eq!(busy.response(false).text(), "took its time");
    assert!(busy.is_closed(), "idle now");
}

#[test]
fn connections_beyond_the_bound_wait_until_another_ends() {
    let rig = Rig::with(GatewayConfig { max_connections: 1, ..config() });
    let (_a, links) = Host::answering(1, "a");
    rig.attach(A, links);
    rig.serve(vec![stable(A, 10_000)]);
    let mut first = rig.client();
    assert_eq!(first.get("/x").status, 200);
    let mut second = rig.client();
    second.socket.get_ref().set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out");
    second.write(GET);
    let mut byte = [0];
    assert!(second.socket.get_ref().peek(&mut byte).is_err(), "it is not served beside the first");
    drop(first);
    second.socket.get_ref().set_read_timeout(Some(PATIENCE)).expect("a time-out");
    assert_eq!(second.response(false).status, 200);
}
