//! What a swap does to those who are being served: beside stretches of the same length in which nothing happens.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};

use super::{Effort, lost};
use crate::client::{Background, Seen};
use crate::report::{Chart, Figure, Joined, Plot, Section, Series, Shape};
use crate::server::Hot;
use crate::stats::{Spread, quantile};

/// Open loop, requests per second over [`CONNECTIONS`], as DESIGN has it.
const PER_SECOND: u32 = 10_000;
const CONNECTIONS: usize = 64;

/// How long the new release is watched: a swap takes a little more.
const BAKE: &str = "1s";

/// Longest wait for the proof of the last swap.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

pub(super) fn measure(_folder: &Path, effort: Effort) -> Result<Section> {
    let swaps = effort.repeats.min(30);
    let hot = Hot::start("")?;
    hot.push("1.0.0", &[])?;
    let load = Background::start(hot.load(CONNECTIONS, Some(PER_SECOND)));
    thread::sleep(Duration::from_secs(1));
    let mut pairs: Vec<(Seen, Seen)> = Vec::new();
    let mut first_answers = Vec::new();
    let known = hot.flips()?.len();
    for number in 0..swaps {
        let (before, after) = if number % 2 == 0 { ("1.0.0", "1.0.1") } else { ("1.0.1", "1.0.0") };
        load.cut()?;
        hot.push(after, &["--steps", "100%", "--bake", BAKE])?;
        let swap = load.cut()?;
        let answer = swap.words.get(after);
        let (_, first) = answer
            .with_context(|| format!("{after} was pushed over {before} and never answered: {swap:?}"))?;
        first_answers.push(SystemTime::now() - first.elapsed());
        thread::sleep(swap.time);
        pairs.push((swap, load.cut()?));
    }
    let last = load.stop()?;
    let delays = delays(&hot, known, &first_answers)?;
    let sum = |of: fn(&Seen) -> u64| {
        pairs.iter().map(|(swap, control)| of(swap) + of(control)).sum::<u64>() + of(&last)
    };
    let p99 = |seen: &Seen| seen.micros(0.99);
    let [middle, most] = [0.5, 1.0].map(|part| quantile(&delays, part));
    let ratio = Spread::of(pairs.iter().map(|(swap, control)| p99(swap) / p99(control)));
    let during = Spread::of(pairs.iter().map(|(swap, _)| p99(swap)));
    let beside = Spread::of(pairs.iter().map(|(_, control)| p99(control)));
    Ok(Section {
        title: "A swap",
        text: format!(
            "{swaps} pushes of another release to 100% (upload, check, start of its host, {BAKE} of watching, promotion, end of the old \
             host), at {PER_SECOND} requests/s in an open loop over {CONNECTIONS} kept-alive connections; after each as long a stretch \
             in which nothing happens. hotctl runs on the server's core."
        ),
        figures: vec![
            lost(
                format!("{swaps} swaps at {PER_SECOND} requests/s: failed requests, connections closed"),
                (sum(|seen| seen.failed), sum(|seen| seen.closed), sum(Seen::good)),
            ),
            Figure::new(
                "first answer of the new release after the flip's start, most of all",
                format!("{most:.0} ms (p50 {middle:.0})"),
            )
            .at_most(15.0, "ms", most)
            .goal(5.0),
            Figure::new("p99 during a swap over p99 beside it", ratio.text(2))
                .at_most(1.3, "", ratio.median)
                .goal(1.1),
            Figure::new("p99 during a swap", format!("{} us", during.text(0))),
            Figure::new("p99 beside it", format!("{} us", beside.text(0))),
        ],
        tables: Vec::new(),
        plots: vec![plot(&pairs)],
    })
}

/// Each swap and the stretch beside it.
fn plot(pairs: &[(Seen, Seen)]) -> Plot {
    let series = |label: &str, ours, of: fn(&(Seen, Seen)) -> &Seen| Series {
        label: label.to_owned(),
        points: (1..).map(f64::from).zip(pairs.iter().map(|pair| of(pair).micros(0.99))).collect(),
        ours,
    };
    Plot {
        name: "swap",
        title: "p99 during each swap and beside it, us".to_owned(),
        shape: Shape::Chart(Chart {
            x: "number of the swap",
            joined: Joined::Across,
            series: vec![
                series("beside it", false, |(_, beside)| beside),
                series("during the swap", true, |(swap, _)| swap),
            ],
        }),
    }
}

/// From the start of each flip, by hotd's clock and to the millisecond, to the first answer that a client had of the new
/// release; milliseconds. The node tells of a swap some seconds after it. `known`: those of before.
fn delays(hot: &Hot, known: usize, first_answers: &[SystemTime]) -> Result<Vec<f64>> {
    let end = Instant::now() + TOLD_WITHIN;
    let flips = loop {
        let flips = hot.flips()?.split_off(known);
        if flips.len() >= first_answers.len() || Instant::now() > end {
            break flips;
        }
        thread::sleep(Duration::from_millis(100));
    };
    ensure!(
        flips.len() == first_answers.len(),
        "the node told of {} swaps, expected {}",
        flips.len(),
        first_answers.len()
    );
    let delay = |(flip, answer): (&SystemTime, &SystemTime)| match answer.duration_since(*flip) {
        Ok(after) => Ok(after.as_secs_f64() * 1e3),
        // Before it by less than the millisecond to which the flip is told.
        Err(before) if before.duration() < Duration::from_millis(1) => Ok(0.0),
        Err(before) => bail!("an answer {:?} before its flip: they are no pair", before.duration()),
    };
    flips.iter().zip(first_answers).map(delay).collect()
}
