//! The whole runs so far, kept beside the page: what one run says on a shared machine is little, so each stands beside
//! those of other days.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Figure, Table};

/// Runs that are kept; older ones go.
const KEPT: usize = 5;

/// One whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Run {
    date: String,
    commit: String,
    figures: Vec<Measured>,
}

/// What it measured, by what it is of.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Measured {
    what: String,
    measured: String,
}

impl Run {
    /// A run of this day and commit.
    pub(super) fn new<'f>(date: &str, commit: &str, figures: impl Iterator<Item = &'f Figure>) -> Self {
        let figures = figures
            .map(|figure| Measured { what: figure.what.clone(), measured: figure.measured.clone() })
            .collect();
        Self { date: date.to_owned(), commit: commit.to_owned(), figures }
    }

    fn measured(&self, what: &str) -> String {
        let found = self.figures.iter().find(|figure| figure.what == what);
        found.map_or_else(|| "not measured".to_owned(), |figure| figure.measured.clone())
    }
}

/// Those that were kept in this folder, oldest first; none in one without.
pub(super) fn read(docs: &Path) -> Result<Vec<Run>> {
    let file = file(docs);
    if !file.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    serde_json::from_str(&text).with_context(|| format!("{}: the runs so far", file.display()))
}

/// Adds one.
pub(super) fn keep(docs: &Path, mut runs: Vec<Run>, run: Run) -> Result<Vec<Run>> {
    runs.push(run);
    runs.drain(..runs.len().saturating_sub(KEPT));
    let file = file(docs);
    let text = serde_json::to_string_pretty(&runs).context("the runs")? + "\n";
    fs::write(&file, text).with_context(|| file.display().to_string())?;
    Ok(runs)
}

/// What each run measured, one column for each.
pub(super) fn table(runs: &[Run]) -> Table {
    let newest = runs.last().map(|run| &run.figures[..]).unwrap_or_default();
    let head = runs.iter().map(|run| format!("{} ({})", run.date, run.commit));
    Table {
        title: String::new(),
        head: std::iter::once("what".to_owned()).chain(head).collect(),
        rows: newest
            .iter()
            .map(|figure| {
                let of_runs = runs.iter().map(|run| run.measured(&figure.what));
                std::iter::once(figure.what.clone()).chain(of_runs).collect()
            })
            .collect(),
    }
}

fn file(docs: &Path) -> PathBuf {
    docs.join("benchmarks").join("runs.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_runs_are_kept_side_by_side() -> Result<()> {
        let docs = tempfile::tempdir()?;
        fs::create_dir(docs.path().join("benchmarks"))?;
        let figure = |measured: &str| Figure::new("a push", measured);
        for day in 0..=KEPT {
            let run = Run::new(&format!("day {day}"), "abc", [figure(&format!("{day} ms"))].iter());
            keep(docs.path(), read(docs.path())?, run)?;
        }
        let table = table(&read(docs.path())?);
        let days: Vec<String> = (1..=KEPT).map(|day| format!("day {day} (abc)")).collect();
        assert_eq!(table.head[1..], days[..]);
        assert_eq!(table.rows, [vec!["a push", "1 ms", "2 ms", "3 ms", "4 ms", "5 ms"]]);
        Ok(())
    }
}
