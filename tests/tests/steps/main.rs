//! A `hotd` that meets harm at one step that it takes on its store, for each step of a start that adopts hosts, a push, a
//! canary, a promotion and a rollback, under load: `kill -9`, a call that fails, a disk that is full. In `messages` it, or
//! hot-spawn, is killed at one of the calls by which they bring hosts to service.
//!
//! A usual run takes steps that are spread over the whole story; `make steps` (HOT_EVERY_STEP=1) takes every one.

mod messages;
mod rig;

use std::io::Write;

use anyhow::{Context, Result, ensure};
use hot_tests::{Harm, Load, LoadOptions, WAIT, Window};

use crate::rig::{Rig, Then, Told};

/// Steps that a usual run takes of those that a kind of harm is for.
const USUAL: usize = 40;

/// Connections of the load: at most so many requests are under way when `hotd` is killed.
const CONNECTIONS: u32 = 4;

/// The steps of a kind of harm that this run takes: places from 1 among those that it is for.
fn chosen(harm: Harm, steps: &[String]) -> Vec<usize> {
    spread(steps.iter().filter(|step| harm.is_at(step)).count(), USUAL)
}

/// Places from 1 to `all`: every one where that is asked for, else `usual` that are spread evenly.
fn spread(all: usize, usual: usize) -> Vec<usize> {
    let every = std::env::var_os("HOT_EVERY_STEP").is_some();
    let count = if every { all } else { all.min(usual) };
    (0..count).map(|n| 1 + n * all / count).collect()
}

fn say(text: &str) {
    // The test runner shows it with a failed test.
    drop(writeln!(std::io::stderr(), "{text}"));
}

#[test]
fn a_kill_at_any_step_loses_nothing_that_was_acknowledged() -> Result<()> {
    let mut rig = Rig::new()?;
    let steps = rig.steps()?;
    let load = Load::start(LoadOptions::closed(rig.service.http(), "/probe", CONNECTIONS).at(200))?;
    let (mut killed, mut number) = (0, 102);
    for at in chosen(Harm::Kill, &steps) {
        let version = rig.series.write(number)?;
        number += 1;
        rig.service.terminate()?;
        let window = load.begin_window();
        let told = rig.harmed(&version, Harm::Kill, at, Then::End)?;
        let taken = rig.steps.taken()?;
        let (step, when) =
            (taken.last().cloned().unwrap_or_default(), told.as_ref().map_or("its start", |told| told.call));
        // Some steps come by the clock: a story may have a few less, and is killed at its end.
        let came = taken.len() >= at;
        killed += usize::from(came);
        let point = if came {
            format!("killed before step {at}, {step}, during {when}")
        } else {
            format!("killed after {step}, the last of {} steps", taken.len())
        };
        say(&point);
        is_whole_again(&mut rig, &load, window, &version, &told.unwrap_or_default()).context(point)?;
    }
    ensure!(
        steps.len() > 100 && killed > USUAL - 5,
        "{killed} kills at {} steps are too few to mean much",
        steps.len()
    );
    let total = load.stop()?;
    let most = u64::try_from(killed)? * u64::from(CONNECTIONS);
    ensure!(total.failed() <= most, "what was in flight at {killed} kills is {most} at most: {total}");
    rig.service.stop()
}

/// After a kill of `hotd`: it starts again, all is as it was told, and the load has lost what was in flight at most.
fn is_whole_again(rig: &mut Rig, load: &Load, window: Window, version: &str, told: &Told) -> Result<()> {
    rig.service.kill().ok();
    rig.service.boot()?;
    rig.check(version, told)?;
    load.wait_requests(window, 1, WAIT)?;
    let seen = load.end_window(window)?;
    ensure!(seen.failed() <= u64::from(CONNECTIONS), "{seen}");
    rig.again(version)
}

/// Harm at the steps of a kind, of which a story has `least`. What is refused is repeated at every other one; else a restart
/// follows at once.
fn fails_at_any_step(harm: Harm, least: usize) -> Result<()> {
    let mut rig = Rig::new()?;
    let steps = rig.steps()?;
    let chosen = chosen(harm, &steps);
    ensure!(chosen.len() >= least, "{} steps are too few to mean much", chosen.len());
    let both = if std::env::var_os("HOT_EVERY_STEP").is_some() { 2 } else { 1 };
    let ways = [Then::Stop, Then::Repeat].into_iter().cycle();
    let chosen: Vec<(usize, Then)> =
        chosen.into_iter().flat_map(|at| std::iter::repeat_n(at, both)).zip(ways).collect();
    let (points, mut harmed) = (chosen.len(), 0);
    for ((at, then), number) in chosen.into_iter().zip(102..) {
        let version = rig.series.write(number)?;
        let point = format!("{harm:?} at the {at}-th of its kind, then {then:?}");
        say(&point);
        rig.service.terminate()?;
        let told = rig.harmed(&version, harm, at, then).with_context(|| point.clone())?;
        harmed += usize::from(rig.steps.was_harmed()?);
        let before =
            told.as_ref().map(|_| rig.service.module("probe")).transpose()?.and_then(|module| module.stable);
        rig.service.kill().ok();
        rig.service.boot().with_context(|| point.clone())?;
        let told = told.unwrap_or_default();
        rig.check(&version, &told).with_context(|| point.clone())?;
        let after = rig.service.module("probe")?.stable;
        // What could not be written is tried again, and may be so by the time at which `hotd` is killed.
        let may_move = told.unanswered && told.call == "promote";
        ensure!(
            before.is_none() || before == after || may_move,
            "{point}: {before:?} was stable, and {after:?} is now; {told:?}"
        );
        rig.again(&version).with_context(|| point.clone())?;
    }
    // Some steps come by the clock: a story may have a few less.
    ensure!(harmed + 5 > points, "harm was done at {harmed} of {points} steps: too few to mean much");
    rig.service.stop()
}

#[test]
fn an_fsync_that_fails_at_any_step_is_told_and_mended() -> Result<()> {
    fails_at_any_step(Harm::Failing("fsync"), 30)
}

#[test]
fn a_write_that_fails_at_any_step_is_told_and_mended() -> Result<()> {
    fails_at_any_step(Harm::Failing("write"), 30)
}

#[test]
fn a_rename_that_fails_at_any_step_is_told_and_mended() -> Result<()> {
    fails_at_any_step(Harm::Failing("rename"), 10)
}

#[test]
fn a_file_that_can_not_be_made_at_any_step_is_told_and_mended() -> Result<()> {
    fails_at_any_step(Harm::Failing("create"), 10)
}

#[test]
fn a_disk_that_is_full_at_any_step_is_told_and_mended() -> Result<()> {
    fails_at_any_step(Harm::FullDisk, 30)
}
