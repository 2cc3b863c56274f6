//! A crowd of clients that take their time, in both directions, and what it does to hotd and to everybody else.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hot_tests::Module;

use super::Effort;
use crate::client::{Background, Crowd};
use crate::cpu::memory_kib;
use crate::report::{Figure, Section};
use crate::server::Hot;
use crate::stats::Spread;

/// Of each kind.
const CLIENTS: usize = 1_000;
/// What each of them reads, or writes, in all.
const BYTES: u64 = 10 << 20;
/// Requests per second of the others, over [`CONNECTIONS`].
const PER_SECOND: u32 = 2_000;
const CONNECTIONS: usize = 16;

/// Longest wait for the crowd to be seen by the node, and to be gone.
const CROWD_LEAVES: Duration = Duration::from_secs(60);

/// Bounds of a module that is meant to have so many at once.
const CONFIG: &str = "max_in_flight = 4096\nmax_waiting = 4096\n";

pub(super) fn measure(_folder: &Path, effort: Effort) -> Result<Section> {
    let hot = Hot::start_with_http(CONFIG)?;
    hot.push("1.0.0", &[])?;
    hot.push_file(&Module::new("patient").number("BYTES", BYTES).build()?, &[])?.expect(0)?;
    let load = Background::start(hot.load(CONNECTIONS, Some(PER_SECOND)));
    thread::sleep(Duration::from_secs(1));
    let mut pairs = Vec::new();
    let (mut peak, mut failed) = (0, 0);
    for _ in 0..effort.rounds.min(9) {
        hot.at_rest("probe", CROWD_LEAVES)?;
        failed += load.cut()?.failed;
        thread::sleep(effort.run * 3);
        let alone = load.cut()?;
        let crowd = Crowd::start(hot.http(), "/probe", CLIENTS, BYTES)?;
        crowd.all_at_it(Duration::from_secs(60))?;
        hot.in_flight("probe", 2 * CLIENTS as u64, CROWD_LEAVES)?;
        let onset = load.cut()?;
        thread::sleep(effort.run * 3);
        let beside = load.cut()?;
        peak = peak.max(memory_kib(hot.daemon()?.pid(), "VmRSS")?);
        let (moved, broken) = crowd.stop()?;
        ensure!(broken == 0, "{broken} of {} slow clients were cut off", 2 * CLIENTS);
        ensure!(moved > 0, "the slow clients got nothing at all");
        failed += alone.failed + onset.failed + beside.failed;
        pairs.push((beside.micros(0.99), alone.micros(0.99), onset.micros(0.99)));
    }
    failed += load.stop()?.failed;
    let most = memory_kib(hot.daemon()?.pid(), "VmHWM").context("the peak of hotd")?.max(peak);
    let ratio = Spread::of(pairs.iter().map(|(beside, alone, _)| beside / alone));
    let onset = Spread::of(pairs.iter().map(|(_, alone, onset)| onset / alone));
    let most = f64::from(u32::try_from(most).unwrap_or(u32::MAX)) / 1024.0;
    Ok(Section {
        title: "Slow clients",
        text: format!(
            "{CLIENTS} clients that read a response of {} MiB at some KiB/s and {CLIENTS} that send a request of that size as slowly, all at once, \
             beside {PER_SECOND} requests/s in an open loop over {CONNECTIONS} connections to another module.",
            BYTES >> 20
        ),
        figures: vec![
            Figure::new(
                format!("{CLIENTS} slow readers and {CLIENTS} slow writers: hotd at its peak"),
                format!("{most:.1} MiB"),
            )
            .at_most(128.0, "MiB", most),
            Figure::new("p99 of the others beside them over p99 without", ratio.text(2)).at_most(
                2.0,
                "",
                ratio.median,
            ),
            Figure::new("the same while they connect, all at once", onset.text(2)),
            Figure::new("requests of the others that failed", failed.to_string()).at_most(
                0.0,
                "",
                f64::from(u32::try_from(failed).unwrap_or(u32::MAX)),
            ),
        ],
        tables: Vec::new(),
        plots: Vec::new(),
    })
}
