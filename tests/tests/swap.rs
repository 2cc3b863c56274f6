//! A swap and its proof: what was in flight is finished where it is, no client notices, and what is told of it agrees with
//! what clients saw.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use bytes::Bytes;
use hot_tests::{
    Event, Events, Key, Load, LoadOptions, Module, ModuleStatus, Node, Process, Reply, Service, Swap, WAIT,
};
use http_body_util::Full;
use serde::Deserialize;

/// Requests that are under way side by side.
const REQUESTS: u64 = 12;

/// What `history -o json` says of the rollouts of a module, newest first.
#[derive(Debug, Deserialize)]
struct History {
    entries: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    rollout: String,
    rollback: bool,
    swaps: Vec<Swap>,
}

fn history(node: &Node) -> Result<Vec<Entry>> {
    Ok(node.hotctl(&["history", "probe", "-o", "json"])?.expect(0)?.json::<History>()?.entries)
}

/// The next swap that is told.
fn next_swap(events: &mut Events) -> Result<(Event, Swap)> {
    let event = events.wait(WAIT, |event| event.kind == "swap.done")?;
    let swap = event.swap.clone().context("a swap has its numbers")?;
    assert!(swap.is_balanced(), "{swap:?}");
    Ok((event, swap))
}

/// Requests that are sent at once, each on a connection of its own.
struct Sent(Vec<JoinHandle<Result<Reply>>>);

impl Sent {
    fn send(address: SocketAddr, method: &'static str, count: u64) -> Self {
        let send = move || {
            let request =
                http::Request::builder().method(method).uri("/probe").header("host", address.to_string());
            hot_tests::exchange(address, request.body(Full::new(Bytes::new()))?)
        };
        Self((0..count).map(|_| thread::spawn(send)).collect())
    }

    /// How many replies there were of each status and body.
    fn replies(self) -> Result<BTreeMap<(u16, String), u64>> {
        let mut replies = BTreeMap::new();
        for sent in self.0 {
            let reply = sent.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            let body = String::from_utf8_lossy(reply.body()).trim_end().to_owned();
            *replies.entry((reply.status().as_u16(), body)).or_default() += 1;
        }
        Ok(replies)
    }
}

/// Good replies of one version.
fn all_of(version: &str) -> BTreeMap<(u16, String), u64> {
    BTreeMap::from([((200, format!("probe {version}")), REQUESTS)])
}

/// In flight at all instances together.
fn in_flight(module: &ModuleStatus) -> u64 {
    module.instances().map(|instance| instance.in_flight).sum()
}

fn slow(version: &str, millis: u64) -> Result<PathBuf> {
    Module::new("slow").version(version).number("DELAY_MS", millis).build()
}

#[test]
fn swaps_under_load_cost_nobody_anything_and_say_so() -> Result<()> {
    let node = Node::start()?;
    node.push(&slow("1.0.0", 50)?, &[])?.expect(0)?;
    let load = Load::start(LoadOptions::closed(node.http(), "/probe", 64))?;
    let window = load.begin_window();
    load.wait_requests(window, 2000, WAIT)?;
    let mut events = node.events()?;

    let next = slow("1.1.0", 50)?;
    node.push(&next, &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
    let (promoted, there) = next_swap(&mut events)?;
    let hosts: Vec<i32> = node.hosts()?.iter().map(Process::pid).collect();
    node.hotctl(&["rollback", "probe"])?.expect(0)?;
    let (returned, back) = next_swap(&mut events)?;
    assert_eq!(hosts, node.hosts()?.iter().map(Process::pid).collect::<Vec<_>>(), "the standby was warm");
    let total = load.stop()?;
    assert_eq!((total.failed(), total.closed), (0, 0), "{total}");

    assert_eq!((there.releases(), back.releases()), ((1, 2), (2, 1)));
    for swap in [&there, &back] {
        // Each connection of the load has one request on its way, next to always.
        assert!((1..=64).contains(&swap.in_flight), "{swap:?}");
        assert_eq!((swap.finished, swap.errors, swap.lost), (swap.in_flight, 0, 0), "{swap:?}");
        assert!(swap.drained_ms.is_some() && swap.cut_short.is_empty(), "{swap:?}");
        for window in [swap.before, swap.during, swap.after] {
            assert!(window.requests > 100 && window.p99_ms > Some(50.0), "{swap:?}");
        }
    }
    let text = &promoted.text;
    assert!(
        text.starts_with("probe: release 2 took over from release 1: ") && text.contains(", none lost; p99"),
        "{text}"
    );

    let entries = history(&node)?;
    assert_eq!((&entries[0].rollout, entries[0].rollback), (&returned.rollout, true));
    assert_eq!(entries[0].swaps, [back]);
    assert_eq!((&entries[1].rollout, &entries[1].swaps[..]), (&promoted.rollout, &[there][..]));
    assert!(entries[2].swaps.is_empty(), "the first release took traffic from nobody");
    let table = node.hotctl(&["history", "probe"])?.expect(0)?.stdout;
    assert!(table.contains(" in flight, 0 lost, p99 "), "{table}");
    node.stop()
}

#[test]
fn what_is_in_flight_at_a_rollback_is_finished_where_it_is() -> Result<()> {
    let node = Node::start()?;
    node.push(&slow("1.0.0", 4000)?, &[])?.expect(0)?;
    node.push(&slow("1.1.0", 4000)?, &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
    let mut events = node.events()?;
    let sent = Sent::send(node.http(), "GET", REQUESTS);
    node.wait_module("probe", WAIT, |module| in_flight(module) == REQUESTS)?;
    node.hotctl(&["rollback", "probe"])?.expect(0)?;
    assert_eq!(sent.replies()?, all_of("1.1.0"));
    let (_, swap) = next_back(&mut events)?;
    assert_eq!((swap.in_flight, swap.finished, swap.lost), (REQUESTS, REQUESTS, 0), "{swap:?}");
    assert!(swap.drained_ms >= Some(500) && swap.window_ms >= 1000, "{swap:?}");
    node.stop()
}

/// The swap by a rollback: the one before it may be told meanwhile.
fn next_back(events: &mut Events) -> Result<(Event, Swap)> {
    loop {
        let (event, swap) = next_swap(events)?;
        if swap.releases() == (2, 1) {
            return Ok((event, swap));
        }
    }
}

#[test]
fn an_instance_that_is_replaced_finishes_what_it_has_and_ends() -> Result<()> {
    let node = Node::start()?;
    node.push(&slow("1.0.0", 4000)?, &[])?.expect(0)?;
    let [old] = &node.hosts()?[..] else { anyhow::bail!("one host runs") };
    let mut events = node.events()?;
    let sent = Sent::send(node.http(), "POST", REQUESTS);
    node.wait_module("probe", WAIT, |module| in_flight(module) == REQUESTS)?;
    node.hotctl(&["restart", "probe"])?.expect(0)?;
    assert_eq!(sent.replies()?, all_of("1.0.0"), "not one is lost or sent twice");
    old.wait_gone(WAIT)?;
    let (event, swap) = next_swap(&mut events)?;
    assert_eq!((swap.releases(), event.rollout.as_str()), ((1, 1), ""));
    assert_eq!((swap.in_flight, swap.finished, swap.lost), (REQUESTS, REQUESTS, 0), "{swap:?}");
    assert!(event.text.contains("another instance of release 1 took over: 12 in flight"), "{}", event.text);
    node.stop()
}

/// What crashes has nothing in flight any more when traffic leaves it: what it took counts all the same.
#[test]
fn what_a_crash_took_is_told_as_its_clients_saw_it() -> Result<()> {
    let node = Node::start()?;
    node.push(&slow("1.0.0", 5000)?, &[])?.expect(0)?;
    let next = slow("1.1.0", 5000)?;
    let next = next.to_str().context("UTF-8")?;
    node.hotctl(&["push", next, "--canary", "50%", "--bake", "10m", "--detach"])?.expect(0)?;
    let canary = |module: &ModuleStatus| module.phase == "baking";
    let module = node.wait_module("probe", WAIT, canary)?;
    let candidate = module.instances().find(|instance| instance.release == 2).context("a candidate")?.pid;
    let candidate = node.hosts()?.into_iter().find(|host| host.pid() == candidate).context("its host")?;

    let mut events = node.events()?;
    let (reads, writes) =
        (Sent::send(node.http(), "GET", REQUESTS), Sent::send(node.http(), "POST", REQUESTS));
    node.wait_module("probe", WAIT, |module| in_flight(module) == 2 * REQUESTS)?;
    candidate.signal(rustix::process::Signal::KILL)?;
    assert_eq!(reads.replies()?, all_of("1.0.0"), "they are sent again");
    let writes = writes.replies()?;
    let failed: u64 = writes.iter().filter(|((status, _), _)| *status == 502).map(|(_, count)| count).sum();
    let good = writes.get(&(200, "probe 1.0.0".to_owned())).copied().unwrap_or_default();
    assert_eq!(failed + good, REQUESTS, "{writes:?}");

    let (event, swap) = next_swap(&mut events)?;
    assert_eq!((swap.releases(), swap.finished, swap.in_flight), ((2, 1), 0, swap.lost), "{swap:?}");
    // Of each ten picks in a row five are the candidate's.
    assert!((10..=14).contains(&swap.lost), "{swap:?}");
    assert_eq!(swap.lost - swap.sent_again, failed, "{swap:?}: {writes:?}");
    let entries = history(&node)?;
    assert_eq!((&entries[0].rollout, &entries[0].swaps[..]), (&event.rollout, &[swap][..]));
    node.stop()
}

#[test]
fn a_second_swap_ends_the_first_with_what_is_known() -> Result<()> {
    let node = Node::start()?;
    // Longer than it takes to push and to abort: until then the first swap is not over.
    node.push(&slow("1.0.0", 8000)?, &[])?.expect(0)?;
    let mut events = node.events()?;
    let sent = Sent::send(node.http(), "GET", REQUESTS);
    node.wait_module("probe", WAIT, |module| in_flight(module) == REQUESTS)?;
    let next = Module::new("good").version("1.1.0").build()?;
    let next = next.to_str().context("UTF-8")?;
    node.hotctl(&["push", next, "--steps", "100%", "--bake", "10m", "--detach"])?.expect(0)?;
    node.wait_module("probe", WAIT, |module| module.phase == "baking")?;
    node.hotctl(&["abort", "probe"])?.expect(0)?;
    let (first, swap) = next_swap(&mut events)?;
    assert_eq!(swap.releases(), (1, 2));
    let (second, back) = next_swap(&mut events)?;
    assert_eq!((swap.in_flight, swap.still_in_flight), (REQUESTS, REQUESTS));
    assert_eq!((back.releases(), back.cut_short.as_str()), ((2, 1), ""));
    assert_eq!((swap.cut_short.as_str(), swap.drained_ms), ("traffic moved again", None));
    assert_eq!(sent.replies()?, all_of("1.0.0"));
    assert_eq!(first.rollout, second.rollout);
    assert_eq!(history(&node)?[0].swaps, [swap, back]);
    node.stop()
}

#[test]
fn a_standby_is_checked_like_any_other() -> Result<()> {
    let node = Node::start()?;
    let sick = node.scratch().join("sick");
    let first = Module::new("unhealthy").text("SICK", sick.to_str().context("UTF-8")?).build()?;
    node.push(&first, &[])?.expect(0)?;
    let next = Module::new("good").version("1.1.0").build()?;
    node.push(&next, &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
    let mut events = node.events()?;
    std::fs::write(&sick, "")?;
    let ended = events.wait(WAIT, |event| event.kind == "instance.ended")?;
    assert!(ended.text.contains("the disk feels warm"), "{}", ended.text);
    std::fs::remove_file(&sick)?;
    events.wait(WAIT, |event| event.kind == "instance.restarted" && event.text.contains("1.0.0"))?;
    node.hotctl(&["rollback", "probe"])?.expect(0)?;
    assert_eq!(hot_tests::get(node.http(), "/probe")?.body().as_ref(), b"probe 1.0.0\n");
    node.stop()
}

/// Its time is over while it still has requests of before the swap.
#[test]
fn a_standby_whose_time_is_over_finishes_what_it_has_and_ends() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ada = Key::generate(folder.path().join("ada"))?;
    let service = Service::start(&ada.signer("ada@example.com")?, "[policy]\nstandby = \"1s\"\n")?;
    let push = |file: &Path| {
        let (file, key) = (file.to_str().context("UTF-8")?, ada.path().to_str().context("UTF-8")?);
        service.hotctl(&["push", file, "--key", key, "--steps", "100%", "--bake", "1s"])?.expect(0)
    };
    push(&slow("1.0.0", 12_000)?)?;
    let old = service.hosts()?.pop().context("a host runs")?;
    let mut events = service.events()?;
    let sent = Sent::send(service.http(), "GET", REQUESTS);
    service.wait_module("probe", |module| in_flight(module) == REQUESTS)?;
    push(&Module::new("good").version("1.1.0").build()?)?;
    let stopping =
        |module: &ModuleStatus| module.instances().any(|it| it.release == 1 && it.state == "stopping");
    let module = service.wait_module("probe", stopping)?;
    assert_eq!(in_flight(&module), REQUESTS, "its time is over before its requests are");
    assert_eq!(sent.replies()?, all_of("1.0.0"));
    old.wait_gone(WAIT)?;
    let (_, swap) = next_swap(&mut events)?;
    assert_eq!((swap.in_flight, swap.finished, swap.lost), (REQUESTS, REQUESTS, 0), "{swap:?}");
    assert!(swap.drained_ms > Some(1000) && swap.window_ms >= 1000, "{swap:?}");
    service.stop()
}

#[test]
fn a_swap_whose_hotd_is_killed_is_told_by_the_next_one() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ada = Key::generate(folder.path().join("ada"))?;
    let mut service = Service::start(&ada.signer("ada@example.com")?, "")?;
    let push = |file: &Path| {
        let (file, key) = (file.to_str().context("UTF-8")?, ada.path().to_str().context("UTF-8")?);
        service.hotctl(&["push", file, "--key", key, "--steps", "100%", "--bake", "1s"])?.expect(0)
    };
    push(&Module::new("good").build()?)?;
    push(&slow("1.1.0", 8000)?)?;
    let mut events = service.events()?;
    // It is not over when it is killed: the old instance has these.
    let sent = Sent::send(service.http(), "GET", REQUESTS);
    service.wait_module("probe", |module| in_flight(module) == REQUESTS)?;
    service.hotctl(&["rollback", "probe"])?.expect(0)?;
    events.wait(WAIT, |event| {
        event.kind == "swap.begun"
            && event.text.contains("release 1 takes over from release 2, which has 12 in flight")
    })?;
    service.wait_module("probe", |module| module.phase == "done")?;
    service.kill()?;
    service.boot()?;
    drop(sent);

    let (event, swap) = next_back(&mut service.events()?)?;
    assert_eq!(
        (swap.in_flight, swap.still_in_flight, swap.drained_ms),
        (REQUESTS, REQUESTS, None),
        "{swap:?}"
    );
    assert!(
        swap.cut_short.starts_with("hotd ended at once") && event.text.contains(&swap.cut_short),
        "{event:?}"
    );
    // It is told once.
    for _ in 0..2 {
        let history = service.hotctl(&["history", "probe", "-o", "json"])?.expect(0)?.json::<History>()?;
        let rollback = &history.entries[0];
        assert_eq!((&rollback.rollout, rollback.rollback), (&event.rollout, true));
        assert_eq!(rollback.swaps, std::slice::from_ref(&swap));
        service.terminate()?;
        service.boot()?;
    }
    service.stop()
}
