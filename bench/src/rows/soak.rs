//! Minutes under load with a push every few seconds, good and bad ones in turns: nothing may fail, and nothing may grow.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Effort, crash};
use crate::client::{Background, Seen};
use crate::cpu::memory_kib;
use crate::report::{Figure, Section, Table};
use crate::server::{Full, Hot};
use crate::stats::{Spread, quantile};

/// Open loop, requests per second over [`CONNECTIONS`].
const PER_SECOND: u32 = 10_000;
const CONNECTIONS: usize = 64;

/// From one push to the next.
const EVERY: Duration = Duration::from_secs(5);

/// One of so many pushes is of a module that crashes.
const BAD: usize = 3;

/// So many times as many pushes come before the first look: each of hotd's threads has an arena of its own to allocate in,
/// which grows until the most that it was ever asked for at once fits between what stays. Most of that takes some 200 pushes.
const BEFORE: usize = 2;

/// How a good one is rolled out.
const GOOD: &[&str] = &["--steps", "50%,100%", "--bake", "1s"];

/// What the node holds, between two pushes.
#[derive(Clone, Copy, Debug)]
struct Holds {
    at: Duration,
    daemon_kib: u64,
    /// Of those what is in no file.
    daemon_anonymous_kib: u64,
    spawn_kib: u64,
    descriptors: usize,
    hosts: usize,
}

/// What was done.
#[derive(Clone, Copy, Debug)]
struct Run {
    before: usize,
    swaps: usize,
    full: Full,
}

/// A figure of what it holds.
type Figured = fn(&Holds) -> f64;

pub(super) fn measure(_folder: &Path, effort: Effort) -> Result<Section> {
    let mut hot = Hot::start("")?;
    hot.push("1.0.0", &[])?;
    hot.push("1.0.1", GOOD)?;
    let full = hot.fill_history()?;
    let swaps = usize::try_from(effort.soak.as_secs() / EVERY.as_secs()).context("a number of pushes")?;
    let before = swaps * BEFORE;
    let bad = (0..(before + swaps) / BAD + 1).map(crash::bad).collect::<Result<Vec<_>>>()?;
    let load = Background::start(hot.load(CONNECTIONS, Some(PER_SECOND)));
    for number in 0..before {
        push(&hot, &bad, number)?;
    }
    let (mut seen, mut holds): (Vec<Seen>, Vec<Holds>) = (Vec::new(), Vec::new());
    let at_first = load.cut()?;
    let start = Instant::now();
    for number in 0..swaps {
        let next = start + EVERY * u32::try_from(number + 1).context("a number of pushes")?;
        push(&hot, &bad, before + number)?;
        // Near the end of the turn what was replaced has gone.
        thread::sleep(next.saturating_duration_since(Instant::now()));
        holds.push(look(&hot, start)?);
        seen.push(load.cut()?);
    }
    let ends = [at_first, load.stop()?];
    section(Run { before, swaps, full }, &seen, &ends, &holds)
}

/// The push of this number: of two good versions in turns, and of a bad one every so often.
fn push(hot: &Hot, bad: &[PathBuf], number: usize) -> Result<()> {
    if number % BAD == BAD - 1 {
        hot.push_file(&bad[number / BAD], &["--canary", "10%", "--bake", "30s"])?.expect(3)?;
    } else {
        let good = number - number / BAD;
        hot.push(if good.is_multiple_of(2) { "1.0.0" } else { "1.0.1" }, GOOD)?;
    }
    Ok(())
}

fn look(hot: &Hot, start: Instant) -> Result<Holds> {
    let (daemon, spawn) = (hot.daemon()?.pid(), hot.spawn());
    Ok(Holds {
        at: start.elapsed(),
        daemon_kib: memory_kib(daemon, "VmRSS")?,
        daemon_anonymous_kib: memory_kib(daemon, "RssAnon")?,
        spawn_kib: memory_kib(spawn, "VmRSS")?,
        descriptors: [daemon, spawn].iter().map(|pid| descriptors(*pid)).sum::<Result<usize>>()?,
        hosts: hot.hosts()?.len(),
    })
}

fn descriptors(pid: i32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd")).context("the descriptors of a process")?.count())
}

fn section(
    Run { before, swaps, full }: Run,
    seen: &[Seen],
    ends: &[Seen],
    holds: &[Holds],
) -> Result<Section> {
    let whole = holds.last().context("at least one push")?.at;
    // Minutes 2 to 4 of ten, and 8 to 10: the same parts of a shorter run.
    let part = |from: u32, to: u32| -> Vec<&Holds> {
        holds.iter().filter(|holds| holds.at >= whole * from / 10 && holds.at <= whole * to / 10).collect()
    };
    let (early, late) = (part(2, 4), part(8, 10));
    ensure!(!early.is_empty() && !late.is_empty(), "too few pushes to compare");
    let figures: [(&str, Figured); 5] = [
        ("resident memory of hotd, MiB", |holds| mib(holds.daemon_kib)),
        ("of it anonymous, MiB", |holds| mib(holds.daemon_anonymous_kib)),
        ("resident memory of hot-spawn, MiB", |holds| mib(holds.spawn_kib)),
        ("descriptors of both", |holds| small(holds.descriptors)),
        ("hosts", |holds| small(holds.hosts)),
    ];
    let rows = figures.iter().map(|(what, of)| {
        let of_part = |part: &[&Holds]| Spread::of(part.iter().map(|holds| of(holds))).text(1);
        vec![(*what).to_owned(), of_part(&early), of_part(&late)]
    });
    let growth = |of: fn(&Holds) -> f64| {
        let middle = |part: &[&Holds]| Spread::of(part.iter().map(|holds| of(holds))).median;
        middle(&late) - middle(&early)
    };
    let sum = |of: fn(&Seen) -> u64| seen.iter().chain(ends).map(of).sum::<u64>();
    let p99: Vec<f64> = seen.iter().map(|seen| seen.micros(0.99)).collect();
    let figure = |what: String, held, measured| Figure { what, held, goal: "", measured };
    Ok(Section {
        title: "Minutes of it",
        text: format!(
            "{swaps} pushes, one every {} s for {:.1} minutes, every {BAD}rd of them of a module that crashes under its 10%, at {PER_SECOND} \
             requests/s in an open loop over {CONNECTIONS} kept-alive connections. The history of the node is as full as it gets before that \
             ({} ended rollouts, {} events, copies of one push's): what hotd has of it in memory grows for the first thousand pushes. \
             {before} more pushes come first, one after the other, until most of the allocator's arenas have their sizes. What the \
             node holds is looked at before each push; minutes 2 to 4 of ten are compared with 8 to 10.",
            EVERY.as_secs(),
            whole.as_secs_f64() / 60.0,
            full.rollouts,
            full.events
        ),
        figures: vec![
            figure(
                format!(
                    "{swaps} pushes at {PER_SECOND} requests/s: failed safe requests, connections closed"
                ),
                "0 and 0",
                format!("{} and {} of {} requests", sum(|s| s.failed), sum(|s| s.closed), sum(Seen::good)),
            ),
            figure(
                "growth of memory, descriptors, hosts".to_owned(),
                "none",
                format!(
                    "{:+.1} MiB, {:+.0}, {:+.0}",
                    growth(|holds| mib(holds.daemon_kib + holds.spawn_kib)),
                    growth(|holds| small(holds.descriptors)),
                    growth(|holds| small(holds.hosts))
                ),
            ),
            figure(
                format!("p99 in each stretch of {} s", EVERY.as_secs()),
                "",
                format!(
                    "{:.0} us (95th of a hundred {:.0}, most {:.0})",
                    quantile(&p99, 0.5),
                    quantile(&p99, 0.95),
                    quantile(&p99, 1.0)
                ),
            ),
        ],
        tables: vec![Table {
            title: "What the node holds between pushes".to_owned(),
            head: ["what", "early", "late"].map(str::to_owned).into(),
            rows: rows.collect(),
        }],
        plots: Vec::new(),
    })
}

fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}

fn small(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
