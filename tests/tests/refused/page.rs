//! The tables of `docs/refusals.md` and `docs/trust.md`, which are what the tests have seen.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::lines::{Entry, Line};

const END: &str = "<!-- end of generated -->\n";

/// Set to write the pages instead of comparing them.
const WRITE: &str = "HOT_WRITE_DOCS";

const ENTRIES: [Entry; 4] = [Entry::Upload, Entry::Boot, Entry::Rollback, Entry::Promote];

/// What was said of each line, by its name.
pub(crate) type Said = BTreeMap<&'static str, String>;

/// Compares both committed tables with what was said at the upload, or writes them there.
pub(crate) fn check(lines: &[Line], said: &Said) -> Result<()> {
    for (page, start, files) in PAGES {
        let lines = lines.iter().filter(|line| line.is_file() == files);
        let table = table(lines, said, if files { "file" } else { "signature" })?;
        let (path, before, found, after) = read(page, start)?;
        if std::env::var_os(WRITE).is_some() {
            fs::write(&path, format!("{before}{start}{table}{END}{after}")).context("the page")?;
            continue;
        }
        ensure!(
            found == table,
            "docs/{page} is not what the programs say. Write it anew with\n\
             {WRITE}=1 scripts/test -E 'binary(refused)'\nand look at the difference. It should be:\n{table}"
        );
    }
    Ok(())
}

/// Whether what was said of a line at a later entry is what its page says.
pub(crate) fn agrees(line: &Line, said: &str) -> Result<()> {
    if std::env::var_os(WRITE).is_some() {
        // The pages are being written.
        return Ok(());
    }
    let (page, start, _) = if line.is_file() { PAGES[0] } else { PAGES[1] };
    let (_, _, table, _) = read(page, start)?;
    let row = table.lines().find(|row| row.starts_with(&format!("| {} | ", line.name)));
    let row = row.with_context(|| format!("docs/{page} has no line {:?}", line.name))?;
    let said = cell(&general(said));
    let expected = row.trim_end_matches(" |").splitn(7, " | ").nth(6).context("what is said")?;
    ensure!(said.contains(expected), "{}: {said}\nis not what docs/{page} says:\n{expected}", line.name);
    Ok(())
}

/// A page, the line before its table, and whether it has the lines about files.
const PAGES: [(&str, &str, bool); 2] = [
    ("refusals.md", "<!-- generated: cases -->\n", true),
    ("trust.md", "<!-- generated: signatures -->\n", false),
];

/// The page's path, and its text before, in and after its table.
fn read(page: &str, start: &str) -> Result<(PathBuf, String, String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (before, rest) = text.split_once(start).context("the page has a place for the table")?;
    let (found, after) = rest.split_once(END).context("the table has an end")?;
    Ok((path, before.to_owned(), found.to_owned(), after.to_owned()))
}

fn table<'a>(lines: impl Iterator<Item = &'a Line>, said: &Said, what: &str) -> Result<String> {
    let entries = ENTRIES.map(Entry::name).join(" | ");
    let mut table = format!("| {what} | code | {entries} | what is said |\n|---|---|---|---|---|---|---|\n");
    for line in lines {
        let cells = ENTRIES.map(|entry| line.outcome(entry).cell()).join(" | ");
        let said = said.get(line.name).map(|said| cell(&general(said)));
        let said = said.or_else(|| line.said().map(str::to_owned)).context(line.name)?;
        writeln!(table, "| {} | `{}` | {cells} | {said} |", line.name, line.code)?;
    }
    Ok(table)
}

/// The sentence without what is of this build or this system: sizes and addresses, the newest glibc, digests and keys.
fn general(sentence: &str) -> String {
    let sentence = general_names(sentence);
    let mut out = String::new();
    let mut rest = &*sentence;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c: char| !c.is_ascii_hexdigit() && c != 'x').unwrap_or(from.len());
        let (number, after) = from.split_at(end);
        out += before;
        out += match (number.len(), before.chars().next_back()) {
            _ if number.starts_with("0x") => "0xN",
            _ if out.ends_with("up to `GLIBC_2.") => "NN",
            // A year is no size.
            (4.., None | Some(' ')) if !after.starts_with('-') => "N",
            _ => number,
        };
        rest = after;
    }
    out + rest
}

/// The sentence with `DIGEST` for each digest and `SHA256:KEY` for each fingerprint.
fn general_names(sentence: &str) -> String {
    let word = |word: &str| {
        let hex = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        match (word.trim_end_matches([',', ';']), word.strip_prefix("SHA256:")) {
            (digest, _) if hex(digest) => word.replace(digest, "DIGEST"),
            (_, Some(fingerprint)) => {
                let end = fingerprint.find([',', ';', ':']).unwrap_or(fingerprint.len());
                format!("SHA256:KEY{}", &fingerprint[end..])
            }
            _ => word.to_owned(),
        }
    };
    sentence.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// As it stands between two bars of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}
