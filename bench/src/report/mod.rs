//! What was measured as a page: Markdown with a plot beside it.

mod figure;
mod machine;
mod plot;
mod runs;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

pub(crate) use figure::Figure;
pub(crate) use machine::Machine;
pub(crate) use plot::{Bar, Chart, Joined, Plot, Series, Shape};
use runs::Run;

/// What one row found.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// Its heading.
    pub(crate) title: &'static str,
    /// What was done.
    pub(crate) text: String,
    /// What DESIGN holds us to, and what belongs beside it.
    pub(crate) figures: Vec<Figure>,
    /// All that was seen.
    pub(crate) tables: Vec<Table>,
    /// The same to look at.
    pub(crate) plots: Vec<Plot>,
}

/// A table of texts.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// What it is of.
    pub(crate) title: String,
    /// Titles of its columns.
    pub(crate) head: Vec<String>,
    /// Its rows, each as long as the head.
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    fn write(&self, page: &mut String) {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        page.push_str(&line(&self.head));
        page.push_str(&line(&vec!["---".to_owned(); self.head.len()]));
        self.rows.iter().for_each(|row| page.push_str(&line(row)));
    }
}

/// The page as Markdown, with what was measured and where. `command`: what one types to do it again.
fn page(machine: &Machine, command: &str, sections: &[Section], runs: &[Run]) -> String {
    let mut page = String::from(
        "# Benchmarks\n\nWritten by the run itself; do not edit. Medians, with the least and the most of all rounds in brackets. Ratios \
         are of runs that follow each other in one round, so that what changes slowly on the machine weighs on both.\n\n",
    );
    page.push_str(&format!("Command: `{command}`\n\n{}\n", machine.markdown()));
    let (figures, words) = figure::table(sections.iter().flat_map(|section| &section.figures));
    page.push_str(&format!("## What we are held to\n\n{words} A limit is of the median.\n\n"));
    figures.write(&mut page);
    if runs.len() > 1 {
        page.push_str(
            "\n## The runs so far\n\nThe same, of the whole runs that are kept in benchmarks/runs.json.\n\n",
        );
        runs::table(runs).write(&mut page);
    }
    for section in sections {
        page.push_str(&format!("\n## {}\n\n{}\n", section.title, section.text));
        for table in &section.tables {
            page.push_str(&format!("\n{}:\n\n", table.title));
            table.write(&mut page);
        }
        for plot in &section.plots {
            page.push_str(&format!("\n![{}](benchmarks/{}.svg)\n", plot.title, plot.name));
        }
    }
    page
}

/// The page of a run that is only shown.
pub(crate) fn show(machine: &Machine, command: &str, sections: &[Section]) -> String {
    page(machine, command, sections, &[])
}

/// Writes the page of a whole run and its plots below `docs`, keeps what was measured beside the runs before, and gives
/// the page.
pub(crate) fn write(docs: &Path, machine: &Machine, command: &str, sections: &[Section]) -> Result<String> {
    let folder = docs.join("benchmarks");
    fs::create_dir_all(&folder).context("a folder for the plots")?;
    let figures = sections.iter().flat_map(|section| &section.figures);
    let run = Run::new(machine.said("date"), machine.said("commit"), figures);
    let runs = runs::keep(docs, runs::read(docs)?, run)?;
    let page = page(machine, command, sections, &runs);
    for plot in sections.iter().flat_map(|section| &section.plots) {
        let file = folder.join(plot.name).with_extension("svg");
        fs::write(&file, plot.svg()).with_context(|| file.display().to_string())?;
    }
    let file = docs.join("benchmarks.md");
    fs::write(&file, &page).with_context(|| file.display().to_string())?;
    Ok(page)
}
