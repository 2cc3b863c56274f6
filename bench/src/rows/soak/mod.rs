//! Minutes under load with a push every few seconds, good and bad ones in turns: nothing may fail, and nothing may grow.

mod holds;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Effort, crash, lost};
use crate::client::{Background, Seen};
use crate::report::{Figure, Section};
use crate::server::{Full, Hot};
use crate::stats::quantile;
use holds::Holds;

/// Open loop, requests per second over [`CONNECTIONS`].
const PER_SECOND: u32 = 10_000;
const CONNECTIONS: usize = 64;

/// From one push to the next.
const EVERY: Duration = Duration::from_secs(5);

/// One of so many pushes is of a module that crashes.
const BAD: usize = 3;

/// How a good one is rolled out.
const GOOD: &[&str] = &["--steps", "50%,100%", "--bake", "1s"];

pub(super) fn measure(_folder: &Path, effort: Effort) -> Result<Section> {
    let mut hot = Hot::start("")?;
    hot.push("1.0.0", &[])?;
    hot.push("1.0.1", GOOD)?;
    let full = hot.fill_history()?;
    let swaps = usize::try_from(effort.soak.as_secs() / EVERY.as_secs()).context("a number of pushes")?;
    let bad = (0..swaps / BAD + 1).map(crash::bad).collect::<Result<Vec<_>>>()?;
    let load = Background::start(hot.load(CONNECTIONS, Some(PER_SECOND)));
    let start = Instant::now();
    let (mut seen, mut holds): (Vec<Seen>, Holds) = (Vec::new(), Holds::since(start));
    for number in 0..swaps {
        let next = start + EVERY * u32::try_from(number + 1).context("a number of pushes")?;
        push(&hot, &bad, number)?;
        // Near the end of the turn what was replaced has gone.
        thread::sleep(next.saturating_duration_since(Instant::now()));
        holds.look(&hot)?;
        seen.push(load.cut()?);
    }
    let last = load.stop()?;
    section(full, &seen, &last, &holds)
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

fn section(full: Full, seen: &[Seen], last: &Seen, holds: &Holds) -> Result<Section> {
    let (swaps, every) = (seen.len(), EVERY.as_secs());
    let sum = |of: fn(&Seen) -> u64| seen.iter().chain([last]).map(of).sum::<u64>();
    let p99: Vec<f64> = seen.iter().map(|seen| seen.micros(0.99)).collect();
    let [middle, high, most] = [0.5, 0.95, 1.0].map(|part| quantile(&p99, part));
    let (growth, slope) = (holds.growth()?, holds.creep());
    Ok(Section {
        title: "Minutes of it",
        text: format!(
            "{swaps} pushes, one every {every} s for {:.1} minutes, every {BAD}rd of them of a module that crashes under its 10%, at {PER_SECOND} \
             requests/s in an open loop over {CONNECTIONS} kept-alive connections. The history of the node is as full as it gets before that \
             ({} ended rollouts, {} events, copies of one push's): what hotd has of it in memory grows for the first thousand pushes. \
             What the node holds is looked at before each push; minutes 2 to 4 of ten are compared with 8 to 10. The slope is the \
             median of those from each look of minutes 2 to 6 to the one four minutes later: where the least of them is above zero \
             memory creeps, and where they go both ways it only varies.",
            holds.minutes(),
            full.rollouts,
            full.events
        ),
        figures: vec![
            lost(
                format!(
                    "{swaps} pushes at {PER_SECOND} requests/s: failed safe requests, connections closed"
                ),
                (sum(|seen| seen.failed), sum(|seen| seen.closed), sum(Seen::good)),
            ),
            Figure::new("growth of resident memory, from minutes 2 to 4 of ten to 8 to 10", growth.memory()),
            Figure::new("growth of descriptors and hosts", growth.counts()).at_most(0.0, "", growth.most()),
            // What both rises and falls does not grow.
            Figure::new("slope of hotd's anonymous memory", format!("{} MiB a minute", slope.text(2)))
                .at_most(0.0, "", slope.least.max(0.0)),
            Figure::new(
                format!("p99 in each stretch of {every} s"),
                format!("{middle:.0} us (95th of a hundred {high:.0}, most {most:.0})"),
            ),
        ],
        tables: vec![holds.table()],
        plots: vec![holds.plot(format!("Memory of hotd with a push every {every} s, MiB"))],
    })
}
