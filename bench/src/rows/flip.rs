//! The way back under load: from the command's arrival to the last request that goes to the release that is left, by
//! hotd's own clock.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{Effort, lost};
use crate::client::Background;
use crate::report::{Figure, Section};
use crate::server::Hot;
use crate::stats::quantile;

/// Open loop beside the rollbacks, requests per second over [`CONNECTIONS`].
const PER_SECOND: u32 = 5_000;
const CONNECTIONS: usize = 64;

pub(super) fn measure(_folder: &Path, effort: Effort) -> Result<Section> {
    let hot = Hot::start("")?;
    hot.push("1.0.0", &[])?;
    let load = Background::start(hot.load(CONNECTIONS, Some(PER_SECOND)));
    let mut micros = Vec::new();
    for _ in 0..effort.repeats {
        // The release that is left becomes stable anew for each: a rollback never goes forward.
        hot.push("1.0.1", &["--steps", "100%", "--bake", "1s"])?;
        let back = hot.rollback()?;
        let flip = back.flip_us.context("the time of the flip")?;
        micros.push(flip.max(back.last_pick_us.unwrap_or_default()));
    }
    let seen = load.stop()?;
    ensure!(seen.good() > 0, "the load saw no response");
    let micros: Vec<f64> =
        micros.into_iter().map(|micros| f64::from(u32::try_from(micros).unwrap_or(u32::MAX))).collect();
    let [p50, p95, most] = [0.5, 0.95, 1.0].map(|part| quantile(&micros, part) / 1e3);
    Ok(Section {
        title: "The way back",
        text: format!(
            "`hotctl rollback` to a standby, {} times, at {PER_SECOND} requests/s in an open loop over {CONNECTIONS} kept-alive \
             connections; between two of them the other release is pushed to 100%. From the command's arrival to the last pick of the \
             release that is left, by hotd's clock.",
            effort.repeats
        ),
        figures: vec![
            Figure::new("rollback to a standby, p95", format!("{p95:.2} ms (p50 {p50:.2}, most {most:.2})"))
                .at_most(10.0, "ms", p95)
                .goal(1.0),
            lost(
                "requests that failed meanwhile, and connections closed",
                (seen.failed, seen.closed, seen.good()),
            ),
        ],
        tables: Vec::new(),
        plots: Vec::new(),
    })
}
