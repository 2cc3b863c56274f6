//! What some clients and some modules do must not be felt by others.

use std::time::Instant;

use hotd::gateway::{GatewayConfig, ModuleTable, Table};

use crate::client::Client;
use crate::h2::client::H2;
use crate::h2::raw::{self, HEADERS, Raw};
use crate::host::{Host, Inbox};
use crate::rig::{A, B, PATIENCE, Rig, module, stable};

/// A module that answers under `/`, and one under `/slow` of which the test has the requests. One thread serves all.
fn rig() -> (Rig, [Host; 2], Inbox) {
    let rig = Rig::with(GatewayConfig { threads: 1, max_wait: PATIENCE, ..GatewayConfig::default() });
    let (fast, links) = Host::answering(1, "fast");
    rig.attach(A, links);
    let (slow, links, inbox) = Host::watched(1);
    rig.attach(B, links);
    let mut backend = stable(B, 10_000);
    backend.routes = vec!["/slow".to_owned()];
    let bounded = ModuleTable {
        module: "slow".to_owned(),
        max_in_flight: 20,
        max_waiting: 20,
        ..module(vec![backend])
    };
    rig.gateway.publish(Table { modules: vec![module(vec![stable(A, 10_000)]), bounded] });
    (rig, [fast, slow], inbox)
}

fn is_served(rig: &Rig, client: &mut Client, h2: &mut H2) {
    for _ in 0..20 {
        assert_eq!(client.get("/x").text(), "fast");
        assert_eq!(rig.get("/x").text(), "fast");
        let coming = h2.get("/x");
        assert_eq!(h2.whole(coming).text(), "fast");
    }
}

/// All places of the slow module are taken, and its queue is full.
#[test]
fn a_module_that_does_not_answer_holds_up_no_other() {
    let (rig, _hosts, inbox) = rig();
    let (mut client, mut h2) = (rig.client(), H2::connect(rig.address));
    let mut in_flight: Vec<_> = (0..20).map(|_| rig.client()).collect();
    for client in &mut in_flight {
        client.send_post("/slow", &[b'x'; 100_000]);
    }
    for _ in 0..20 {
        while !matches!(inbox.next().message, hot_wire::data::FromGateway::Request(_)) {}
    }
    let mut waiting: Vec<_> = (0..21).map(|_| rig.client()).collect();
    for client in &mut waiting {
        client.write("GET /slow HTTP/1.1\r\nhost: test\r\n\r\n");
        client.socket.get_ref().set_nonblocking(true).expect("it can be set");
    }
    let until = Instant::now() + PATIENCE;
    let refused = loop {
        if let Some(refused) =
            waiting.iter_mut().find(|client| client.socket.get_ref().peek(&mut [0]).is_ok())
        {
            break refused;
        }
        assert!(Instant::now() < until, "the queue takes more than 20");
        std::thread::yield_now();
    };
    refused.socket.get_ref().set_nonblocking(false).expect("it can be set");
    assert_eq!(refused.response(false).status, 503);
    let coming = h2.get("/slow");
    assert_eq!(h2.whole(coming).status(), 503);
    is_served(&rig, &mut client, &mut h2);
}

#[test]
fn heads_that_do_not_end_hinder_nobody() {
    let (rig, _hosts, _inbox) = rig();
    let (mut client, mut h2) = (rig.client(), H2::connect(rig.address));
    let _half: Vec<_> = (0..200)
        .map(|_| {
            let mut half = rig.client();
            half.write("GET /x HTTP/1.1\r\nhost: te");
            half
        })
        .collect();
    let _h2: Vec<_> = (0..50)
        .map(|_| {
            let mut half = Raw::open(rig.address);
            half.frame(HEADERS, 0, 1, &raw::head("GET", "/x", &[]));
            half
        })
        .collect();
    is_served(&rig, &mut client, &mut h2);
}
