//! Who gets which request: shares, publication, routes, pins.

use std::time::Instant;

use hotd::gateway::{Backend, GatewayConfig, ModuleTable, Network, Role, Sources, Table};

use crate::host::{Host, fields};
use crate::rig::{A, B, PATIENCE, Rig, candidate, module, stable};

/// Over kept-alive connections from several threads, which the gateway's threads share in whatever way.
#[test]
fn a_share_of_10_percent_is_exact_over_10_000_requests_and_all_threads() {
    let rig = Rig::new(4);
    let (_a, links) = Host::answering(4, "stable");
    rig.attach(A, links);
    let (_b, links) = Host::answering(4, "candidate");
    rig.attach(B, links);
    rig.serve(vec![stable(A, 9_000), candidate(B, 1_000)]);
    let answers: Vec<usize> = std::thread::scope(|scope| {
        let client = || {
            let mut client = rig.client();
            (0..1_250).filter(|_| client.get("/x").text() == "candidate").count()
        };
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().expect("the client ends")).collect()
    });
    assert_eq!(answers.iter().sum::<usize>(), 1_000);
    let (a, b) = (rig.gateway.counters(A), rig.gateway.counters(B));
    assert_eq!((a.picked, a.finished, b.picked, b.finished), (9_000, 9_000, 1_000, 1_000));
    assert_eq!((a.errors, a.lost, b.errors, b.lost, a.in_flight, b.in_flight), (0, 0, 0, 0, 0, 0));
    assert_eq!(a.latency.len() + b.latency.len(), 10_000);
}

/// Nobody has said that the candidate is good: while stable is gone its requests wait for the next one, and those that
/// are lost with a candidate do, too.
#[test]
fn a_candidate_gets_no_more_than_its_share_while_stable_is_gone() {
    let rig = Rig::with(GatewayConfig { threads: 1, max_wait: PATIENCE, ..GatewayConfig::default() });
    let (_b, links) = Host::answering(1, "candidate");
    rig.attach(B, links);
    let shares = || vec![stable(A, 9_000), candidate(B, 1_000)];
    rig.serve(shares());
    let mut clients: Vec<_> = (0..100).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
    }
    rig.counters_when(B, |counters| counters.finished == 10);
    // All that wait look again.
    for _ in 0..3 {
        rig.serve(shares());
    }
    let (_a, links) = Host::answering(1, "stable");
    rig.attach(A, links);
    let texts = clients.iter_mut().map(|client| client.response(false).text().to_owned());
    assert_eq!(texts.filter(|text| text == "stable").count(), 90);
    assert_eq!((rig.gateway.counters(A).picked, rig.gateway.counters(B).picked), (90, 10));
}

/// Those that wait for stable are as many as may: what is the candidate's is answered all the same.
#[test]
fn who_waits_for_stable_refuses_nobody_that_a_candidate_can_take() {
    let rig = Rig::with(GatewayConfig { threads: 1, max_wait: PATIENCE, ..GatewayConfig::default() });
    let (_b, links) = Host::answering(1, "candidate");
    rig.attach(B, links);
    let halves = vec![stable(A, 5_000), candidate(B, 5_000)];
    rig.gateway.publish(Table { modules: vec![ModuleTable { max_waiting: 4, ..module(halves) }] });
    let mut clients: Vec<_> = (0..40).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.write("GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
    }
    rig.counters_when(B, |counters| counters.finished == 20);
    let (_a, links) = Host::answering(1, "stable");
    rig.attach(A, links);
    let answers: Vec<_> = clients.iter_mut().map(|client| client.response(false)).collect();
    let of = |text: &str| answers.iter().filter(|answer| answer.text() == text).count();
    let refused = answers.iter().filter(|answer| answer.status == 503).count();
    assert_eq!((of("candidate"), of("stable"), refused), (20, 4, 16));
}

#[test]
fn when_a_publication_returns_the_old_table_is_picked_from_no_more() {
    let rig = Rig::new(2);
    let (_a, links) = Host::answering(2, "a");
    rig.attach(A, links);
    let (_b, links) = Host::answering(2, "b");
    rig.attach(B, links);
    rig.serve(vec![stable(A, 10_000), candidate(B, 0)]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = || {
            let mut client = rig.client();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(client.get("/x").status, 200);
            }
        };
        for _ in 0..4 {
            scope.spawn(load);
        }
        for flip in 0..50 {
            let (on, off) = if flip % 2 == 0 { (B, A) } else { (A, B) };
            let picked = rig.gateway.counters(on).picked;
            let weight = |instance| if instance == on { 10_000 } else { 0 };
            rig.serve(vec![stable(A, weight(A)), candidate(B, weight(B))]);
            let returned = Instant::now();
            let before = rig.gateway.counters(off).picked;
            rig.counters_when(on, |counters| counters.picked > picked + 20);
            let counters = rig.gateway.counters(off);
            assert_eq!(counters.picked, before, "flip {flip}");
            assert!(counters.last_pick.is_none_or(|last| last <= returned), "flip {flip}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let (a, b) = (rig.gateway.counters(A), rig.gateway.counters(B));
    assert_eq!((a.errors, a.lost, b.errors, b.lost), (0, 0, 0, 0));
}

#[test]
fn the_longest_prefix_on_a_segment_boundary_gets_the_request() {
    let rig = Rig::new(1);
    let (_a, links) = Host::answering(1, "greet");
    rig.attach(A, links);
    let (_b, links) = Host::answering(1, "deep");
    rig.attach(B, links);
    let with = |instance, route: &str| Backend { routes: vec![route.to_owned()], ..stable(instance, 10_000) };
    let mut greet = module(vec![with(A, "/greet")]);
    greet.module = "greet".to_owned();
    let mut deep = module(vec![with(B, "/greet/deep/")]);
    deep.module = "deep".to_owned();
    rig.gateway.publish(Table { modules: vec![greet, deep] });
    let mut client = rig.client();
    for (path, expected) in [
        ("/greet", "greet"),
        ("/greet/", "greet"),
        ("/greet?name=x", "greet"),
        ("/greet/deeper", "greet"),
        ("/greet/deep", "deep"),
        ("/greet/deep/er/x", "deep"),
    ] {
        assert_eq!(client.get(path).text(), expected, "{path}");
    }
    for path in ["/greeting", "/", "/gree", "//greet", "/-greet"] {
        let response = client.get(path);
        assert_eq!(
            (response.status, response.text()),
            (404, "no module has a route for this path\n"),
            "{path}"
        );
    }
}

#[test]
fn a_route_that_only_one_release_has_goes_to_it_alone_and_an_inner_one_keeps_the_share() {
    let rig = Rig::new(1);
    let (_a, links) = Host::answering(1, "stable");
    rig.attach(A, links);
    let (_b, links) = Host::answering(1, "candidate");
    rig.attach(B, links);
    let routes = |routes: &[&str]| routes.iter().map(|route| (*route).to_owned()).collect();
    let old = Backend { routes: routes(&["/greet", "/old"]), ..stable(A, 9_000) };
    let new = Backend { routes: routes(&["/greet", "/greet/inner", "/new"]), ..candidate(B, 1_000) };
    rig.serve(vec![old.clone(), new.clone()]);
    let mut client = rig.client();
    let mut to_candidate =
        |path: &str, count| (0..count).filter(|_| client.get(path).text() == "candidate").count();
    assert_eq!(to_candidate("/new", 20), 20);
    assert_eq!(to_candidate("/old", 20), 0);
    assert_eq!(to_candidate("/greet", 20), 2);
    assert_eq!(to_candidate("/greet/inner", 20), 2);
    // A candidate that has no weight yet, and a standby, serve nobody.
    rig.serve(vec![Backend { weight: 10_000, ..old.clone() }, Backend { weight: 0, ..new.clone() }]);
    assert_eq!(rig.get("/new").status, 404);
    rig.serve(vec![
        Backend { role: Role::Standby, weight: 0, ..old },
        Backend { role: Role::Stable, weight: 10_000, ..new },
    ]);
    assert_eq!(rig.get("/old").status, 404);
    assert_eq!(rig.get("/new").text(), "candidate");
}

#[test]
fn a_pin_is_honoured_from_trusted_sources_alone_and_counts_in_nothing() {
    let request = |pin: &str| format!("GET /x HTTP/1.1\r\nhost: test\r\nx-hot-version: {pin}\r\n\r\n");
    let local: Network = "127.0.0.0/8".parse().expect("a network");
    for (pin_from, pinned) in [(Sources::In(vec![local]), true), (Sources::None, false)] {
        let config = GatewayConfig { threads: 1, pin_from, show_release: true, ..GatewayConfig::default() };
        let rig = Rig::with(config);
        let (_a, links) = Host::answering(1, "stable");
        rig.attach(A, links);
        let (_b, links, inbox) = Host::watched(1);
        rig.attach(B, links);
        rig.serve(vec![stable(A, 10_000), candidate(B, 0)]);
        let mut client = rig.client();
        for pin in ["2", "1.2.0"] {
            client.write(request(pin));
            if pinned {
                let (request, reply) = inbox.request();
                assert!(!fields(&request).contains_key("x-hot-version"));
                reply.respond(200, &[], b"candidate", true);
            }
            let response = client.response(false);
            let expected = if pinned { ("candidate", Some("2")) } else { ("stable", Some("1")) };
            assert_eq!((response.text(), response.header("x-hot-release")), expected);
        }
        client.write(request("9.9.9"));
        assert_eq!(client.response(false).status, if pinned { 404 } else { 200 });
        let candidate = rig.gateway.counters(B);
        assert_eq!((candidate.picked, candidate.finished, candidate.last_pick), (0, 0, None));
        assert_eq!(rig.gateway.counters(A).picked, if pinned { 0 } else { 3 });
    }
}
