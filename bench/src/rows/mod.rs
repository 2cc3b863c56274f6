//! What is measured, a file for each row of the table.

mod flip;
mod hop;
mod memory;
mod push;
mod swap;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::report::Section;

/// How long it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Rounds of a comparison.
    pub(crate) rounds: usize,
    /// How long each run of a comparison lasts.
    pub(crate) run: Duration,
    /// Flips, and times that something short is repeated.
    pub(crate) repeats: usize,
}

impl Effort {
    /// For numbers that go into the documentation: some ten minutes.
    pub(crate) const FULL: Self = Self { rounds: 15, run: Duration::from_secs(2), repeats: 100 };
    /// For a look: under two minutes.
    pub(crate) const QUICK: Self = Self { rounds: 3, run: Duration::from_secs(1), repeats: 10 };
}

/// A row: its name on the command line, and what measures it.
pub(crate) type Row = (&'static str, fn(&Path, Effort) -> Result<Section>);

/// All rows, in the order of the table.
pub(crate) const ROWS: [Row; 5] = [
    ("hop", hop::measure),
    ("swap", swap::measure),
    ("rollback", flip::measure),
    ("push", push::measure),
    ("memory", memory::measure),
];
