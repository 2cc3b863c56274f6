//! A candidate that crashes with requests in flight: what its users see of it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use hot_tests::Module;

use super::{Effort, lost};
use crate::client::{Background, Seen};
use crate::report::{Figure, Section};
use crate::server::Hot;
use crate::stats::quantile;

/// Open loop beside the crashes, requests per second over [`CONNECTIONS`].
const PER_SECOND: u32 = 5_000;
const CONNECTIONS: usize = 64;

pub(super) fn measure(_folder: &Path, effort: Effort) -> Result<Section> {
    let hot = Hot::start("")?;
    hot.push("1.0.0", &[])?;
    let files = (0..effort.repeats.min(30)).map(bad).collect::<Result<Vec<_>>>()?;
    let load = Background::start(hot.load(CONNECTIONS, Some(PER_SECOND)));
    let mut seen: Vec<Seen> = Vec::new();
    for file in &files {
        load.cut()?;
        hot.push_file(file, &["--canary", "10%", "--bake", "30s"])?.expect(3)?;
        seen.push(load.cut()?);
    }
    let last = load.stop()?;
    let sum = |of: fn(&Seen) -> u64| seen.iter().chain([&last]).map(of).sum::<u64>();
    let of_bad =
        seen.iter().filter(|seen| seen.words.keys().any(|word| word.starts_with("bench 2."))).count();
    ensure!(
        of_bad == files.len(),
        "{of_bad} of {} candidates answered before they crashed: {seen:?}",
        files.len()
    );
    let p99: Vec<f64> = seen.iter().map(|seen| seen.micros(0.99)).collect();
    Ok(Section {
        title: "A crash",
        text: format!(
            "{} candidates that call abort() on a request of their 10%, each another one, at {PER_SECOND} requests/s in an open loop over \
             {CONNECTIONS} kept-alive connections. All requests are GET.",
            files.len()
        ),
        figures: vec![
            lost(
                "crash of a candidate: failed safe requests, connections closed",
                (sum(|seen| seen.failed), sum(|seen| seen.closed), sum(Seen::good)),
            ),
            Figure::new(
                "p99 while it is pushed, crashes and is taken back",
                format!("{:.0} us (most {:.0})", quantile(&p99, 0.5), quantile(&p99, 1.0)),
            ),
        ],
        tables: Vec::new(),
        plots: Vec::new(),
    })
}

/// One that answers some requests and crashes on the next. A digest is tried once, so each is another one.
pub(super) fn bad(number: usize) -> Result<std::path::PathBuf> {
    let number = u64::try_from(number).context("a number")?;
    Module::new("aborts").name("bench").version(&format!("2.0.{number}")).number("NTH", 20 + number).build()
}
