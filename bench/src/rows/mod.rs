//! What is measured, a file for each row of the table.

mod crash;
mod flip;
mod hop;
mod memory;
mod push;
mod sandbox;
mod slow;
mod soak;
mod start;
mod swap;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::report::{Figure, Section};

/// How long it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Rounds of a comparison.
    pub(crate) rounds: usize,
    /// How long each run of a comparison lasts.
    pub(crate) run: Duration,
    /// Flips, and times that something short is repeated.
    pub(crate) repeats: usize,
    /// How long a load goes on that is looked at for what grows.
    pub(crate) soak: Duration,
}

impl Effort {
    /// For numbers that go into the documentation: some 40 minutes, ten of them the soak.
    pub(crate) const FULL: Self =
        Self { rounds: 15, run: Duration::from_secs(2), repeats: 100, soak: Duration::from_secs(600) };
    /// For a look: under two minutes.
    pub(crate) const QUICK: Self =
        Self { rounds: 2, run: Duration::from_secs(1), repeats: 5, soak: Duration::from_secs(20) };
}

/// A row: its name on the command line, and what measures it.
pub(crate) type Row = (&'static str, fn(&Path, Effort) -> Result<Section>);

/// What users may not see at all: requests that failed and connections that were closed, with how many were good.
fn lost(what: impl Into<String>, (failed, closed, good): (u64, u64, u64)) -> Figure {
    let count = f64::from(u32::try_from(failed.saturating_add(closed)).unwrap_or(u32::MAX));
    Figure::new(what, format!("{failed} and {closed} of {good} requests")).at_most(0.0, "", count)
}

/// All rows, in the order of the table.
pub(crate) const ROWS: [Row; 10] = [
    ("hop", hop::measure),
    ("swap", swap::measure),
    ("rollback", flip::measure),
    ("crash", crash::measure),
    ("push", push::measure),
    ("start", start::measure),
    ("sandbox", sandbox::measure),
    ("memory", memory::measure),
    ("slow", slow::measure),
    ("soak", soak::measure),
];
