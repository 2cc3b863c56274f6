//! The tables of docs/isolation.md, which the run writes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::rig::Seen;
use crate::table::{Case, Group};

const END: &str = "<!-- end of generated -->\n";
const HEAD: &str = "| module | verdict | after | budget | requests lost by others | what protects |\n|---|---|---|---|---|---|\n";

/// Set to write the tables.
const WRITE: &str = "HOT_WRITE_DOCS";

/// What was seen of each case of a group, by its name.
pub(crate) type Rows = BTreeMap<&'static str, Seen>;

/// Writes the table of a group, or checks that the page has a row for each of its cases, with the verdict, the bound on time,
/// a measured time within it, and no lost request.
pub(crate) fn check(group: Group, cases: &[Case], rows: &Rows) -> Result<()> {
    let start = format!("<!-- generated: zoo {group:?} -->\n");
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/isolation.md");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (before, rest) = text.split_once(&*start).with_context(|| format!("the page lacks {start}"))?;
    let (found, after) = rest.split_once(END).context("the table has an end")?;
    let old = |case: &Case| found.lines().find(|line| line.starts_with(&beginning(case)));
    if std::env::var_os(WRITE).is_some() {
        let mut table = HEAD.to_owned();
        for case in cases {
            let row = rows.get(case.name).map(|seen| row(case, seen));
            let old = old(case).filter(|row| row.ends_with(&ending(case))).map(str::to_owned);
            let row = row.or(old).unwrap_or_else(|| untried(case));
            writeln!(table, "{row}")?;
        }
        return fs::write(&path, format!("{before}{start}{table}{END}{after}")).context("the page");
    }
    for case in cases {
        let row =
            old(case).with_context(|| format!("{} is not as on docs/isolation.md: {WRITE}=1", case.name))?;
        let ending = ending(case);
        ensure!(row.ends_with(&ending), "{row}\ndoes not end with {ending}");
        let took = row[beginning(case).len()..].split_once(" s |").and_then(|(took, _)| took.parse().ok());
        let within = took.is_some_and(|took: f64| took <= case.budget.as_secs_f64());
        ensure!(within, "{row}\nhas no time within its budget: {WRITE}=1");
    }
    let strange =
        found.lines().skip(2).find(|row| !cases.iter().any(|case| row.starts_with(&beginning(case))));
    ensure!(strange.is_none(), "docs/isolation.md has a row that is no case: {strange:?}");
    Ok(())
}

fn beginning(case: &Case) -> String {
    format!("| {} | {} | ", case.name, case.verdict())
}

/// Of a row that was tried.
fn ending(case: &Case) -> String {
    format!(" | {} s | 0 | {} |", case.budget.as_secs(), case.protection())
}

fn row(case: &Case, seen: &Seen) -> String {
    format!(
        "{}{:.1} s | {} s | {} | {} |",
        beginning(case),
        seen.took.as_secs_f64(),
        case.budget.as_secs(),
        seen.near.failed() + seen.after.failed(),
        case.protection()
    )
}

fn untried(case: &Case) -> String {
    format!("{}not tried yet | {} s | – | {} |", beginning(case), case.budget.as_secs(), case.protection())
}
