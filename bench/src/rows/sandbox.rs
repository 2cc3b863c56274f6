//! What it costs to keep a module apart.

use std::path::Path;

use anyhow::{Context, Result};

use super::Effort;
use crate::compare::{Ask, run};
use crate::report::{Figure, Section};
use crate::server::{Hot, Server};
use crate::stats::{Spread, median_below};

/// Requests in flight, as in the comparison with other servers.
const IN_FLIGHT: usize = 64;

/// CPU time per request in one round, microseconds.
struct Pair {
    with: f64,
    without: f64,
}

pub(super) fn measure(_folder: &Path, effort: Effort) -> Result<Section> {
    let (with, without) = (Hot::start("")?, Hot::start_bare()?);
    for hot in [&with, &without] {
        hot.push("1.0.0", &[])?;
    }
    let (with, without) = (Server::hot(with)?, Server::hot(without)?);
    let ask = Ask { connections: IN_FLIGHT, per_second: None, time: effort.run };
    let cpu = |server| Ok::<f64, anyhow::Error>(run(server, ask)?.cpu_us);
    for server in [&with, &without] {
        cpu(server).context("warming up")?;
    }
    let mut pairs = Vec::new();
    for round in 0..effort.rounds {
        // One, the other twice, the one again: both have the same middle. Each is the outer one as often.
        let (outer, inner) = if round % 2 == 0 { (&with, &without) } else { (&without, &with) };
        let [first, second, third, fourth] = [cpu(outer)?, cpu(inner)?, cpu(inner)?, cpu(outer)?];
        let (outer, inner) = (f64::midpoint(first, fourth), f64::midpoint(second, third));
        let (with, without) = if round % 2 == 0 { (outer, inner) } else { (inner, outer) };
        pairs.push(Pair { with, without });
    }
    let ratios: Vec<f64> = pairs.iter().map(|pair| pair.with / pair.without).collect();
    let what = format!("{IN_FLIGHT} in flight, CPU time per request, with the sandbox over without");
    let bound = "below this is the median of all such rounds, with 95% confidence";
    let [with, without] =
        [|pair: &Pair| pair.with, |pair: &Pair| pair.without].map(|side| Spread::of(pairs.iter().map(side)));
    Ok(Section {
        title: "The sandbox",
        text: format!(
            "Two nodes, one as it is installed, and one whose instances have hot-spawn's user, no limit of memory or tasks, and \
             no part of `[sandbox]`. {} rounds, each of which lets one node have two runs around two of the other. CPU time is that of \
             hotd, hot-spawn, which looks at what hosts use, and hosts: {} us with, {} us without. The bound takes nothing for granted \
             of how rounds vary: it is a round's own ratio, chosen by the binomial distribution.",
            pairs.len(),
            with.text(2),
            without.text(2),
        ),
        figures: vec![
            Figure::new(what, Spread::of(ratios.iter().copied()).text(3)),
            match median_below(&ratios, 0.95) {
                Some(most) => Figure::new(bound, format!("{most:.3}")).at_most(1.03, "", most),
                None => Figure::new(bound, "too few rounds"),
            },
        ],
        tables: Vec::new(),
        plots: Vec::new(),
    })
}
