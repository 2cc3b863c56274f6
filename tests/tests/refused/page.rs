//! The table of `docs/refusals.md`, which is what the tests have seen.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const START: &str = "<!-- generated: cases -->\n";
const END: &str = "<!-- end of generated -->\n";

/// Set to write the page instead of comparing it.
const WRITE: &str = "HOT_WRITE_DOCS";

/// What one case was answered with.
pub(crate) struct Row {
    pub(crate) case: &'static str,
    pub(crate) code: String,
    pub(crate) sentence: String,
}

/// Compares the table of the committed page with these rows, or writes it there.
pub(crate) fn check(rows: &[Row]) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/refusals.md");
    let page = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (before, rest) = page.split_once(START).context("the page has a place for the table")?;
    let (found, after) = rest.split_once(END).context("the table has an end")?;
    let table = table(rows)?;
    if std::env::var_os(WRITE).is_some() {
        return Ok(fs::write(&path, format!("{before}{START}{table}{END}{after}"))?);
    }
    ensure!(
        found == table,
        "docs/refusals.md is not what the programs say. Write it anew with\n\
         {WRITE}=1 scripts/test -E 'binary(refused)'\nand look at the difference. It should be:\n{table}"
    );
    Ok(())
}

fn table(rows: &[Row]) -> Result<String> {
    let mut table = "| file | code | what is said |\n|---|---|---|\n".to_owned();
    for Row { case, code, sentence } in rows {
        writeln!(table, "| {case} | `{code}` | {} |", cell(&general(sentence)))?;
    }
    Ok(table)
}

/// The sentence without what is of this build or this system: sizes and addresses, the newest glibc.
fn general(sentence: &str) -> String {
    let mut out = String::new();
    let mut rest = sentence;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c: char| !c.is_ascii_hexdigit() && c != 'x').unwrap_or(from.len());
        let (number, after) = from.split_at(end);
        out += before;
        out += match (number.len(), before.chars().next_back()) {
            _ if number.starts_with("0x") => "0xN",
            _ if out.ends_with("up to `GLIBC_2.") => "NN",
            (4.., None | Some(' ')) => "N",
            _ => number,
        };
        rest = after;
    }
    out + rest
}

/// As it stands between two bars of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}
