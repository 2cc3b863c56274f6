//! What users see when a host dies, refuses, aborts or forges frames.

use std::io::{ErrorKind, Read};
use std::time::Instant;

use hot_wire::data::{self, AbortCode, CancelReason, FromGateway};
use hotd::gateway::{Event, LinkEnd};
use tokio::sync::broadcast::Receiver;

use crate::host::Host;
use crate::rig::{A, B, PATIENCE, Rig, candidate, stable};

/// A gateway with one thread, a stable that answers and a candidate that is watched.
macro_rules! rig_with_candidate {
    ($rig:ident, $host:ident, $inbox:ident) => {
        let $rig = Rig::new(1);
        let (_stable, links) = Host::answering(1, "stable");
        $rig.attach(A, links);
        let ($host, links, $inbox) = Host::watched(1);
        $rig.attach(B, links);
        $rig.serve(vec![stable(A, 0), candidate(B, 10_000)]);
    };
}

#[test]
fn safe_requests_of_a_dying_candidate_are_answered_by_stable_and_the_rest_get_502() {
    rig_with_candidate!(rig, host, inbox);
    let requests = [
        ("GET", "", "stable", 200),
        ("OPTIONS", "", "stable", 200),
        ("HEAD", "", "", 200),
        ("POST", "", "module greeter was lost while it handled the request\n", 502),
        ("DELETE", "", "module greeter was lost while it handled the request\n", 502),
        // It has a body, so it may have been more than a question.
        ("GET", "content-length: 2\r\n", "module greeter was lost while it handled the request\n", 502),
    ];
    let mut clients = Vec::new();
    for (method, header, _, _) in requests {
        let mut client = rig.client();
        client.write(format!("{method} /x HTTP/1.1\r\nhost: test\r\n{header}\r\n"));
        inbox.request();
        clients.push(client);
    }
    host.die();
    for (mut client, (method, header, body, status)) in clients.into_iter().zip(requests) {
        let response = client.response(method == "HEAD");
        assert_eq!((response.status, response.text()), (status, body), "{method} {header}");
    }
    let candidate = rig.gateway.counters(B);
    assert_eq!((candidate.picked, candidate.lost, candidate.in_flight), (6, 6, 0));
    assert_eq!(rig.gateway.counters(A).picked, 3);
    // Nobody is ready at the candidate's, so its share goes to stable until there is another table.
    assert_eq!(rig.get("/x").text(), "stable");
}

/// Far beyond a tenth of the requests: the death itself pays for them.
#[test]
fn all_200_requests_in_flight_at_a_death_are_tried_again() {
    rig_with_candidate!(rig, host, inbox);
    let mut clients: Vec<_> = (0..200).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
        inbox.request();
    }
    host.die();
    for client in &mut clients {
        assert_eq!(client.response(false).text(), "stable");
    }
}

#[test]
fn a_request_is_tried_again_only_once() {
    let rig = Rig::new(1);
    let (a, links, a_inbox) = Host::watched(1);
    rig.attach(A, links);
    let (b, links, b_inbox) = Host::watched(1);
    rig.attach(B, links);
    rig.serve(vec![stable(A, 0), candidate(B, 10_000)]);
    let mut client = rig.client();
    client.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
    b_inbox.request();
    b.die();
    a_inbox.request();
    a.die();
    assert_eq!(client.response(false).status, 502);
}

#[test]
fn a_response_that_has_begun_is_cut_off_visibly() {
    rig_with_candidate!(rig, host, inbox);
    for fields in [&[][..], &[("content-length", "100")]] {
        let mut client = rig.client();
        client.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
        let (_, reply) = inbox.request();
        reply.respond(200, fields, b"the first part", false);
        let head = client.head();
        assert_eq!(head.status, 200);
        reply.abort(AbortCode::Failed);
        assert!(!client.is_closed(), "what came is handed on, then the connection ends");
    }
    let mut client = rig.client();
    client.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
    let (_, reply) = inbox.request();
    reply.respond(200, &[("content-length", "100")], b"the first part", false);
    assert_eq!(client.head().status, 200);
    host.die();
    let mut rest = Vec::new();
    client.socket.read_to_end(&mut rest).expect("the connection ends");
    assert!(rest.len() < 100, "{rest:?}");
    assert_eq!(rig.gateway.counters(B).lost, 1);
    assert_eq!(rig.gateway.counters(A).picked, 0);
}

/// To which the end of the connection is the end of the response.
#[test]
fn a_client_of_http_1_0_does_not_take_what_was_cut_off_for_all() {
    rig_with_candidate!(rig, _host, inbox);
    let mut client = rig.client();
    client.write("GET /x HTTP/1.0\r\n\r\n");
    let (_, reply) = inbox.request();
    reply.respond(200, &[], b"the first part", false);
    assert_eq!(client.head().status, 200);
    reply.abort(AbortCode::Failed);
    let end = client.socket.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
}

#[test]
fn what_a_stopping_host_refuses_goes_elsewhere_whatever_its_method() {
    let rig = Rig::new(1);
    let (_stable, links) = Host::answering(1, "stable");
    rig.attach(A, links);
    let (_host, links, inbox) = Host::watched(1);
    rig.attach(B, links);
    rig.serve(vec![stable(A, 0), candidate(B, 10_000)]);
    let mut clients: Vec<_> = (0..5).map(|_| rig.client()).collect();
    let replies: Vec<_> = clients
        .iter_mut()
        .map(|client| {
            client.write("DELETE /x HTTP/1.1\r\nhost: test\r\n\r\n");
            inbox.request().1
        })
        .collect();
    // It leaves the table before it is told to stop.
    rig.serve(vec![stable(A, 10_000)]);
    for reply in replies {
        reply.abort(AbortCode::Refused);
    }
    for client in &mut clients {
        assert_eq!(client.response(false).text(), "stable");
    }
    let refused = rig.gateway.counters(B);
    assert_eq!((refused.errors, refused.lost), (0, 0));
    assert_eq!((refused.cancelled, refused.picked), (5, 5));
}

/// It may have executed them all the same, and the verdict must see it.
#[test]
fn what_a_host_refuses_that_was_not_told_to_stop_is_its_error_and_only_safe_requests_go_elsewhere() {
    let rig = Rig::new(1);
    let (_stable, links) = Host::answering(1, "stable");
    rig.attach(A, links);
    let (_host, links) = Host::start(1, |came| {
        if matches!(came.message, FromGateway::Request(_)) {
            came.reply.abort(AbortCode::Refused);
        }
    });
    rig.attach(B, links);
    rig.serve(vec![stable(A, 0), candidate(B, 10_000)]);
    let mut client = rig.client();
    for _ in 0..5 {
        assert_eq!(client.get("/x").text(), "stable");
        client.write("DELETE /x HTTP/1.1\r\nhost: test\r\n\r\n");
        let response = client.response(false);
        assert_eq!((response.status, response.text()), (502, "module greeter refused the request\n"));
    }
    let refused = rig.gateway.counters(B);
    assert_eq!((refused.picked, refused.errors, refused.aborted, refused.cancelled), (10, 10, 10, 0));
    assert_eq!(rig.gateway.counters(A).picked, 5);
    // Where it is stable that refuses, a safe request is tried there once more, and that is all.
    rig.serve(vec![stable(B, 10_000)]);
    assert_eq!(client.get("/x").status, 502);
    assert_eq!(rig.gateway.counters(B).errors, 12);
}

#[test]
fn an_exchange_that_the_module_gives_up_is_a_500_and_its_error() {
    rig_with_candidate!(rig, _host, inbox);
    let mut client = rig.client();
    for code in [AbortCode::Panicked, AbortCode::Failed, AbortCode::Unfinished] {
        client.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
        inbox.request().1.abort(code);
        let response = client.response(false);
        assert_eq!(response.status, 500);
        assert_eq!(response.text(), "module greeter failed while it handled the request\n");
    }
    let counters = rig.gateway.counters(B);
    assert_eq!((counters.errors, counters.aborted, counters.finished), (3, 3, 0));
    assert_eq!(rig.gateway.counters(A).picked, 0, "it was executed, so it is not tried again");
}

#[test]
fn a_response_that_is_no_http_is_a_502_and_the_instances_error() {
    rig_with_candidate!(rig, _host, inbox);
    let mut client = rig.client();
    type Said = (u16, &'static [(&'static str, &'static str)], &'static [u8]);
    let cases: [Said; 5] = [
        (200, &[("bad name", "x")], b""),
        (200, &[("x-ok", "bad\nvalue")], b""),
        (101, &[], b""),
        (200, &[("content-length", "5")], b"four"),
        (200, &[("content-length", "3")], b"four"),
    ];
    for (status, fields, body) in cases {
        client.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
        inbox.request().1.respond(status, fields, body, true);
        assert_eq!(client.response(false).status, 502, "{fields:?}");
    }
    client.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
    inbox.request().1.respond(503, &[], b"not now", true);
    assert_eq!(client.response(false).text(), "not now");
    client.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
    let (_, reply) = inbox.request();
    reply.respond(200, &[], b"all", false);
    assert_eq!(client.head().status, 200);
    reply.trailers(&[("bad name", "x")]);
    let mut rest = Vec::new();
    client.socket.read_to_end(&mut rest).expect("the connection ends");
    assert_eq!(rest, b"3\r\nall\r\n", "without an end");
    let counters = rig.gateway.counters(B);
    assert_eq!((counters.errors, counters.finished), (7, 1));
    assert_eq!(rig.gateway.counters(A).picked, 0);
}

#[test]
fn a_link_with_forged_frames_is_dropped_and_reported() {
    type Forge = fn(&crate::host::Reply);
    let forgeries: [(&str, Forge); 5] = [
        ("no frame at all", |reply| reply.write(&[0xff; 64])),
        ("a gateway's frame", |reply| {
            let mut out = Vec::new();
            data::cancel(&mut out, 1, CancelReason::Shutdown);
            reply.write(&out);
        }),
        ("an exchange that never was", |reply| reply.of_exchange(77).respond(200, &[], b"", true)),
        ("a body before its response", |reply| reply.body(b"x", true)),
        ("more than the credit", |reply| {
            reply.respond(200, &[], b"", false);
            // More than one window, and more than the kernel takes for a client that does not read.
            for _ in 0..1_000 {
                reply.body(&[0; 64 * 1024], false);
            }
        }),
    ];
    for (what, forge) in forgeries {
        rig_with_candidate!(rig, _host, inbox);
        let mut events = rig.gateway.events();
        let mut client = rig.client();
        client.write("POST /x HTTP/1.1\r\nhost: test\r\n\r\n");
        forge(&inbox.request().1);
        let Event::LinkLost { instance, end } = next_event(&mut events);
        assert_eq!(instance, B, "{what}");
        assert!(end.is_malformed() && end != LinkEnd::Closed, "{what}: {end}");
        drop(client);
        assert_eq!(rig.get("/x").text(), "stable", "{what}");
        assert_eq!(rig.gateway.counters(B).lost, 1, "{what}");
    }
}

#[test]
fn what_is_in_flight_at_a_detached_instance_ends_as_if_it_had_died() {
    rig_with_candidate!(rig, _host, inbox);
    let (mut get, mut post) = (rig.client(), rig.client());
    get.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
    inbox.request();
    post.write("POST /x HTTP/1.1\r\nhost: test\r\n\r\n");
    inbox.request();
    rig.serve(vec![stable(A, 10_000)]);
    assert_eq!(rig.gateway.counters(B).in_flight, 2, "a table leaves them where they are");
    rig.gateway.detach(B);
    assert_eq!(get.response(false).text(), "stable");
    assert_eq!(post.response(false).status, 502);
    assert_eq!(rig.gateway.counters(B).lost, 2);
    rig.gateway.forget(B);
    assert_eq!(rig.gateway.counters(B).lost, 0);
}

fn next_event(events: &mut Receiver<Event>) -> Event {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Ok(event) = events.try_recv() {
            return event;
        }
        assert!(Instant::now() < until, "no event came");
        std::thread::yield_now();
    }
}
