//! What a node is after `kill -9`: of its daemon, of all its processes, and of its daemon two hundred times at random
//! moments.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hot_tests::{Counts, Failure, Load, LoadOptions, Marker, Module, Node, Series, WAIT, text};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::Deserialize;

/// From the kill of `hotd` (started again at once, as systemd does) to the first good answer of stable.
const ANSWERS_AGAIN: Duration = Duration::from_secs(1);

/// Kills at random moments. Each finds another point of a push.
const KILLS: usize = 200;

/// Connections of the load beside these kills: at most so many requests are under way at each.
const BESIDE: u32 = 2;

#[test]
fn hosts_outlive_their_daemon_and_answer_again_within_a_second() -> Result<()> {
    let mut node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    let hosts = node.hosts()?;
    assert_eq!(hosts.len(), 1, "{hosts:?}");
    let load = Load::start(LoadOptions::closed(node.http(), "/probe", 32))?;
    let before = load.begin_window();
    load.wait_requests(before, 1000, WAIT)?;
    let before = load.end_window(before)?;
    assert_eq!(before.failed(), 0, "{before}");

    let after = load.begin_window();
    let killed = node.kill_daemon()?;
    node.start_again()?;
    load.wait_requests(after, 1000, WAIT)?;
    let counts = load.so_far(after);
    let answered = counts.first_good.context("an answer after the kill")?.saturating_duration_since(killed);
    assert!(answered <= ANSWERS_AGAIN, "the first answer came {answered:?} after the kill: {counts}");

    assert_eq!(node.hosts()?, hosts, "the same hosts, none new");
    let module = node.wait_module("probe", WAIT, |module| {
        module.instances().any(|instance| instance.state == "ready" && instance.pid == hosts[0].pid())
    })?;
    assert_eq!((module.stable_version(), module.phase.as_str()), ("1.0.0", "done"));
    let calm = load.begin_window();
    load.wait_requests(calm, 1000, WAIT)?;
    let calm = load.end_window(calm)?;
    assert_eq!((calm.failed(), calm.of("1.0.0")), (0, calm.requests), "{calm}");
    load.stop()?;
    node.stop()
}

/// What a node took back by itself is in its own file, so that a rollout that is resumed after a crash does not try it
/// once more. The module says so whenever any of its code runs.
#[test]
fn a_candidate_that_was_taken_back_is_not_tried_again_after_a_kill() -> Result<()> {
    let mut node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    let load = Load::start(LoadOptions::closed(node.http(), "/probe", 8))?;
    let marker = Marker::new("taken-back")?;
    let candidate = Module::new("aborts")
        .version("1.1.0")
        .text("CONSTRUCTED", text(&Marker::path("taken-back"))?)
        .build()?;
    node.push(&candidate, &["--canary", "10%", "--bake", "60s", "--detach"])?.expect(0)?;
    let record = node.data_dir().join("modules/probe.json");
    let deadline = Instant::now() + WAIT;
    while !fs::read_to_string(&record)?.contains("took_back") {
        ensure!(
            Instant::now() < deadline,
            "the node's own file does not say that it took the candidate back"
        );
        thread::yield_now();
    }
    node.kill_daemon()?;
    ensure!(marker.ran(), "the candidate ran before");
    marker.forget();
    node.start_again()?;
    let module = node.wait_module("probe", WAIT, |module| module.phase == "rolled_back")?;
    assert!(module.reason.contains("SIGABRT"), "{}", module.reason);
    assert!(!marker.ran(), "the candidate was loaded once more");
    load.stop()?;
    node.stop()
}

#[test]
fn a_dev_node_that_ends_takes_its_hosts_along_and_serves_the_same_when_it_is_back() -> Result<()> {
    let mut node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    let hosts = node.hosts()?;
    let load = Load::start(LoadOptions::closed(node.http(), "/probe", 16))?;
    let before = load.begin_window();
    load.wait_requests(before, 500, WAIT)?;
    node.restart()?;
    assert!(hosts.iter().all(|host| !host.alive()), "{hosts:?}");
    node.wait_module("probe", WAIT, |module| module.instances().any(|instance| instance.state == "ready"))?;
    let after = load.begin_window();
    load.wait_requests(after, 500, WAIT)?;
    let after = load.end_window(after)?;
    assert_eq!((after.failed(), after.of("1.0.0")), (0, after.requests), "{after}");
    load.stop()?;
    node.stop()
}

#[test]
fn a_rollout_outlives_the_daemon() -> Result<()> {
    let mut node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    let next = Module::new("good").version("1.1.0").build()?;
    let next = next.to_str().context("UTF-8")?;
    node.hotctl(&["push", next, "--canary", "10%", "--bake", "3s", "--detach"])?.expect(0)?;
    node.wait_module("probe", WAIT, |module| module.phase == "baking")?;
    let hosts = node.hosts()?;
    node.kill_daemon()?;
    node.start_again()?;
    // No traffic: it goes on health alone, to its end.
    let module = node.wait_module("probe", Duration::from_secs(60), |module| module.phase == "done")?;
    assert_eq!(module.stable_version(), "1.1.0");
    assert!(hosts.iter().all(|host| host.alive()), "neither stable nor the candidate was started anew");
    assert_eq!(hot_tests::get(node.http(), "/probe")?.body().as_ref(), b"probe 1.1.0\n");
    node.stop()
}

#[test]
fn after_a_kill_of_everything_the_same_releases_serve() -> Result<()> {
    let mut node = Node::start()?;
    for (name, version) in [("one", "1.0.0"), ("one", "1.1.0"), ("two", "2.0.0")] {
        let file = Module::new("good").name(name).version(version).build()?;
        node.push(&file, &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
    }
    // And one in the middle of its rollout: stable is what comes back for certain.
    let next = Module::new("good").name("two").version("2.1.0").build()?;
    let next = next.to_str().context("UTF-8")?;
    node.hotctl(&["push", next, "--canary", "10%", "--bake", "10m", "--detach"])?.expect(0)?;
    node.wait_module("two", WAIT, |module| module.phase == "baking")?;
    let releases = |node: &Node| -> Result<BTreeMap<String, u64>> {
        let modules = node.status()?.modules;
        Ok(modules.into_iter().filter_map(|module| Some((module.name, module.stable?.release))).collect())
    };
    let before = releases(&node)?;

    node.kill_all()?;
    node.start_again()?;
    for (name, version) in [("one", "1.1.0"), ("two", "2.0.0")] {
        node.wait_module(name, WAIT, |module| {
            module.instances().any(|instance| instance.version == version && instance.state == "ready")
        })?;
    }
    assert_eq!(releases(&node)?, before);
    assert_eq!(hot_tests::get(node.http(), "/one")?.body().as_ref(), b"one 1.1.0\n");
    assert!(hot_tests::get(node.http(), "/two")?.body().starts_with(b"two 2."));
    node.stop()
}

/// Of two modules one is there again before the other. The requests of that one wait or are told to try again, and
/// none is told that there is no such route.
#[test]
fn no_route_is_unknown_while_a_node_of_two_modules_comes_back() -> Result<()> {
    let mut node = Node::start()?;
    for name in ["one", "two"] {
        node.push(&Module::new("good").name(name).build()?, &[])?.expect(0)?;
    }
    let loads: Vec<Load> = ["/one", "/two"]
        .into_iter()
        .map(|path| Load::start(LoadOptions::closed(node.http(), path, 8)))
        .collect::<Result<_>>()?;
    for everything in [false, true, false, true] {
        if everything {
            node.kill_all()?;
        } else {
            node.kill_daemon()?;
        }
        node.start_again()?;
        for name in ["one", "two"] {
            node.wait_module(name, WAIT, |module| {
                module.instances().any(|instance| instance.state == "ready")
            })?;
        }
        for load in &loads {
            let after = load.begin_window();
            load.wait_requests(after, 200, WAIT)?;
            let after = load.end_window(after)?;
            assert_eq!((after.failed(), after.of("1.0.0")), (0, after.requests), "{after}");
        }
    }
    for load in loads {
        let all = load.stop()?;
        assert_eq!(all.statuses.get(&404), None, "{all}");
    }
    node.stop()
}

/// What `versions -o json` prints, as far as the kills look at it.
#[derive(Debug, Deserialize)]
struct Versions {
    versions: Vec<Version>,
}

#[derive(Debug, Deserialize)]
struct Version {
    version: String,
    digest: String,
    removed: bool,
}

#[test]
fn no_acknowledged_push_is_missing_after_two_hundred_kills() -> Result<()> {
    // Fixed, so that a failure can be looked at again; the machine's own timing varies the moments enough.
    let mut random = SmallRng::seed_from_u64(200);
    let mut node = Node::start()?;
    let series = Series::new(node.scratch())?;
    let file = text(series.file())?.to_owned();
    let push = ["push", file.as_str(), "--detach"];

    // How long a push takes here: kills are spread over a bit more than that.
    series.write(100)?;
    let typical = node.hotctl(&push)?.expect(0)?.took;
    node.wait_module("probe", WAIT, |module| module.stable_version() == "1.0.100")?;
    let load = Load::start(LoadOptions::closed(node.http(), "/probe", BESIDE).at(100))?;
    let mut acknowledged = vec!["1.0.100".to_owned()];
    let mut interrupted = 0;
    for kill in 0..KILLS {
        let version = series.write(101 + kill)?;
        let started = Instant::now();
        let mut push = node.ctl().follow(&push)?;
        let moment = typical.mul_f64(random.random_range(0.0..1.3));
        // The moment itself is what is tested: there is nothing to wait for.
        thread::sleep(moment.saturating_sub(started.elapsed()));
        node.kill_daemon()?;
        // The client may wait for the daemon to come back; the next boot lets it end.
        node.start_again().with_context(|| format!("boot {kill}, killed {moment:?} into a push"))?;
        match push.wait_end(WAIT)? {
            0 => acknowledged.push(version),
            _ => interrupted += 1,
        }
        let versions: Versions = node.hotctl(&["versions", "probe", "-o", "json"])?.expect(0)?.json()?;
        for version in &acknowledged {
            let known = versions.versions.iter().find(|known| known.version == *version);
            ensure!(
                known.is_some(),
                "{version} was acknowledged and is gone after kill {kill} ({moment:?} into a push)"
            );
        }
        let last = acknowledged
            .last()
            .and_then(|last| versions.versions.iter().find(|known| known.version == *last));
        ensure!(
            last.is_some_and(|last| !last.removed && last.digest.len() == 64),
            "the last push is not there: {last:?}"
        );
    }
    assert!(
        acknowledged.len() > 20 && interrupted > 0,
        "{} acknowledged, {interrupted} not: the moments were no test",
        acknowledged.len()
    );
    let seen = load.stop()?;
    is_whole_or_cut_off(&seen)?;
    // And the node still is one: it serves, and takes the next push to its end.
    series.write(999)?;
    node.push(series.file(), &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
    assert_eq!(hot_tests::get(node.http(), "/probe")?.body().as_ref(), b"probe 1.0.999\n");
    node.stop()
}

/// What clients saw of the kills: what was answered was whole and right, by one of the releases that were pushed; what was
/// under way at a kill was cut off, and all else waited in the listener, which hot-spawn keeps.
fn is_whole_or_cut_off(seen: &Counts) -> Result<()> {
    let pushed = |version: &str| {
        let number = version.strip_prefix("1.0.").and_then(|number| number.parse::<usize>().ok());
        number.is_some_and(|number| (100..=100 + KILLS).contains(&number))
    };
    ensure!(
        seen.versions.keys().all(|version| pushed(version)),
        "a release that nobody pushed answered: {seen}"
    );
    ensure!(seen.failures.keys().all(|failure| *failure == Failure::Broken), "{seen}");
    let most = u64::try_from(KILLS)? * u64::from(BESIDE);
    ensure!(seen.failed() <= most, "what was under way at {KILLS} kills is {most} at most: {seen}");
    ensure!(seen.requests > 10 * most, "too few requests to mean much: {seen}");
    Ok(())
}
