//! `kill -9` at the calls by which a host comes to service: of `hotd`, between any two messages to and from hot-spawn and
//! hosts (an order to start, its answer, what the host is to load, that it is ready, its links, what is adopted); and of
//! hot-spawn, between any two calls by which it starts a host and says so.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use hot_tests::{Cut, Load, LoadOptions, Point, WAIT, skipped};

use crate::rig::{Rig, Then, Told};
use crate::{CONNECTIONS, is_whole_again, say, spread};

/// Kills of each program in a usual run.
const USUAL: usize = 16;

/// All that `hotd` says to hot-spawn and hosts, and hears from them. Nothing else of it makes these calls.
const MESSAGES: &str = "sendmsg,recvmsg";

/// What hot-spawn does for `hotd`: it is let in, heard and answered, and a host gets its socket, its pipe and its process.
const SERVES: &str = "accept4,recvmsg,sendmsg,socketpair,pipe2,clone,clone3,vfork,pidfd_open";

#[test]
fn a_kill_of_hotd_at_any_message_loses_nothing_and_leaves_no_host() -> Result<()> {
    if let Some(reason) = Cut::impossible() {
        return skipped(&reason);
    }
    let mut rig = Rig::new()?;
    let cut = Cut::of_threads(MESSAGES, &rig.service.scratch().join("messages"));
    rig.service.terminate()?;
    rig.service.boot_with(|hotd| cut.before(&hotd, None))?;
    let version = rig.series.write(101)?;
    ensure!(rig.tell(&version, Then::Stop)?.gone_back, "the story has an end");
    let all = cut.points()?;
    rig.again(&version)?;

    let load = Load::start(LoadOptions::closed(rig.service.http(), "/probe", CONNECTIONS).at(200))?;
    let mut killed = 0;
    for (number, at) in (102..).zip(spread(all.len(), USUAL)) {
        let (version, point) = (rig.series.write(number)?, &all[at - 1]);
        rig.service.terminate()?;
        let window = load.begin_window();
        // None: it did not come to serve.
        let told = match rig.service.boot_with(|hotd| cut.before(&hotd, Some(point))) {
            Ok(()) => Some(rig.tell(&version, Then::End)?),
            Err(_killed) => None,
        };
        let came = told.is_none() || !rig.service.daemon()?.alive();
        killed += usize::from(came);
        let when = told.as_ref().map_or("its start", |told| told.call);
        let point = format!("hotd, killed ({came}) before {point:?}, {}, during {when}", cut.last()?);
        say(&point);
        is_whole_again(&mut rig, &load, window, &version, &told.unwrap_or_default()).context(point)?;
    }
    // Which thread says what differs from one run to the next: some stories have less of one thread.
    ensure!(killed * 2 > USUAL, "{killed} kills at {all:?} are too few to mean much");
    load.stop()?;
    rig.service.stop()
}

#[test]
fn a_kill_of_hot_spawn_at_any_call_leaves_no_host_and_stable_serves_again() -> Result<()> {
    if let Some(reason) = Cut::impossible() {
        return skipped(&reason);
    }
    let mut rig = Rig::new()?;
    // Its hosts are known by their program also when their parent is gone.
    let host = rig.service.scratch().join("hot-host");
    fs::copy(rig.service.binaries().hot_host(), &host).context("a hot-host of the node's own")?;
    let cut = Cut::of_one(SERVES, &rig.service.scratch().join("calls"));
    let version = rig.series.write(101)?;
    let told = story(&mut rig, &cut, &version, None)?;
    ensure!(told.is_some_and(|told| told.gone_back), "the story has an end");
    let all = cut.points()?;
    ensure!(all.len() > 20, "{all:?} are too few to mean much");
    rig.again(&version)?;

    let mut killed = 0;
    for (number, at) in (102..).zip(spread(all.len(), USUAL)) {
        let (version, point) = (rig.series.write(number)?, &all[at - 1]);
        let told = story(&mut rig, &cut, &version, Some(point))?;
        let when = told.as_ref().map_or("its start", |told| told.call);
        let came = !rig.service.spawn().alive();
        killed += usize::from(came);
        let point = format!("hot-spawn, killed ({came}) before {point:?}, {}, during {when}", cut.last()?);
        say(&point);
        after(&mut rig, &version, told).context(point)?;
    }
    // How often it finds that nothing more has come differs: some stories have less of that.
    ensure!(killed * 3 > USUAL * 2, "{killed} kills at {all:?} are too few to mean much");
    rig.service.stop()
}

/// Starts both programs anew, hot-spawn to be killed, and tells the story. None: one of them did not come to serve.
fn story(rig: &mut Rig, cut: &Cut, version: &str, at: Option<&Point>) -> Result<Option<Told>> {
    // With hot-spawn went its hosts; `hotd` begins anew with each, since it would wait ever longer between two.
    rig.service.kill().ok();
    rig.service.lose_spawn()?;
    let host = rig.service.scratch().join("hot-host");
    let started = rig.service.start_spawn_with(|mut spawn| {
        spawn.arg("--host-binary").arg(&host);
        cut.before(&spawn, at)
    });
    if started.is_err() || rig.service.boot().is_err() {
        ensure!(at.is_some(), "both start");
        return Ok(None);
    }
    rig.tell(version, Then::End).map(Some)
}

/// hot-spawn is gone, and with it all of its hosts; a new one is all that the node needs.
fn after(rig: &mut Rig, version: &str, told: Option<Told>) -> Result<()> {
    rig.service.lose_spawn()?;
    let deadline = Instant::now() + WAIT;
    while !rig.service.others()?.is_empty() {
        ensure!(Instant::now() < deadline, "hosts are left behind: {:?}", rig.service.others()?);
        std::thread::yield_now();
    }
    rig.service.start_spawn()?;
    if told.is_none() {
        rig.service.kill().ok();
        rig.service.boot()?;
    }
    rig.check_anew(version, &told.unwrap_or_default())?;
    rig.again(version)
}
