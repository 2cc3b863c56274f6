//! `hotctl trust list`.

use std::path::Path;

use hot_artifact::trust::{Allowed, Listed, Says, Standing, listing};
use serde::Serialize;

use super::standing::{self, NO_REVOKED};
use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Tone;
use crate::table::{Cell, Table};
use crate::trust::TrustFiles;

/// Show who may sign, whether that counts now, and every mistake with its line
///
/// Exit code 1 says that there are mistakes: a node does not take a file with any.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl trust list --allowed-signers /etc/hotd/allowed_signers")]
pub(super) struct Args {}

/// What `trust list -o json` prints.
#[derive(Debug, Serialize)]
struct ListJson<'a> {
    file: &'a Path,
    /// Null where no file of revoked keys is known.
    revoked: Option<&'a Path>,
    signers: Vec<SignerJson<'a>>,
    /// Lines that do not count, and why.
    notes: Vec<ProblemJson<'a>>,
    mistakes: Vec<ProblemJson<'a>>,
}

#[derive(Debug, Serialize)]
struct SignerJson<'a> {
    line: usize,
    principals: &'a [String],
    authority: bool,
    kind: &'a str,
    fingerprint: String,
    namespaces: &'a str,
    valid_after: Option<String>,
    valid_before: Option<String>,
    counts: bool,
    /// Null where it counts.
    why_not: Option<String>,
}

#[derive(Debug, Serialize)]
struct ProblemJson<'a> {
    line: usize,
    problem: &'a str,
}

pub(super) fn run(files: &TrustFiles, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let file = &files.signers;
    let listed = listing(&super::read(file)?);
    let standings = standing::now(&listed, files)?;
    let mistakes = listed.iter().filter(|listed| matches!(listed.says, Says::Mistake { .. })).count();
    if context.out.json() {
        context.out.object(&json(files, &listed, &standings))?;
    } else {
        let mut lines = table(&listed, &standings).lines(context.out.layout());
        if listed.is_empty() {
            lines = vec![format!("{}: nobody may sign", file.display())];
        }
        context.out.text(&lines.join("\n"))?;
        if files.revoked.is_none() {
            context.out.hint(NO_REVOKED);
        }
    }
    Ok(if mistakes == 0 { Exit::Success } else { Exit::Failed })
}

fn json<'a>(files: &'a TrustFiles, listed: &'a [Listed], standings: &[Option<Standing>]) -> ListJson<'a> {
    let (file, revoked) = (files.signers.as_path(), files.revoked.as_deref());
    let mut json = ListJson { file, revoked, signers: Vec::new(), notes: Vec::new(), mistakes: Vec::new() };
    for (Listed { line, says }, standing) in listed.iter().zip(standings) {
        let line = *line;
        match says {
            Says::Allows(of) => {
                let why_not = why_not(standing.as_ref(), of);
                json.signers.push(SignerJson {
                    line,
                    principals: &of.principals,
                    authority: of.authority,
                    kind: of.key.kind_name(),
                    fingerprint: of.key.fingerprint(),
                    namespaces: &of.namespaces,
                    valid_after: of.valid_after(),
                    valid_before: of.valid_before(),
                    counts: why_not.is_none(),
                    why_not,
                });
            }
            Says::Nothing { reason, .. } => json.notes.push(ProblemJson { line, problem: reason }),
            Says::Mistake { problem } => json.mistakes.push(ProblemJson { line, problem }),
        }
    }
    json
}

fn why_not(standing: Option<&Standing>, of: &Allowed) -> Option<String> {
    standing::why_not(standing?, of)
}

fn table(listed: &[Listed], standings: &[Option<Standing>]) -> Table<7> {
    let mut table = Table::new(["LINE", "PRINCIPALS", "KEY", "FINGERPRINT", "NAMESPACES", "VALID", "NOW"]);
    for (Listed { line, says }, standing) in listed.iter().zip(standings) {
        let line = line.to_string();
        let none = || Cell::from("");
        table.row(match says {
            Says::Allows(of) => [
                line.into(),
                of.principals.join(",").into(),
                kind(of).into(),
                of.key.fingerprint().into(),
                of.namespaces.as_str().into(),
                validity(of).into(),
                match why_not(standing.as_ref(), of) {
                    None => "counts".into(),
                    Some(why) => Cell::toned(&why, Tone::Warn),
                },
            ],
            Says::Nothing { reason, key } => [
                line.into(),
                Cell::toned(&format!("does not count: {reason}"), Tone::Warn),
                none(),
                key.as_ref().map(|key| key.fingerprint()).unwrap_or_default().into(),
                none(),
                none(),
                none(),
            ],
            Says::Mistake { problem } => [
                line.into(),
                Cell::toned(&format!("mistake: {problem}"), Tone::Bad),
                none(),
                none(),
                none(),
                none(),
                none(),
            ],
        });
    }
    table
}

fn kind(of: &Allowed) -> String {
    let kind = of.key.kind_name();
    if of.authority { format!("authority {kind}") } else { kind.to_owned() }
}

fn validity(of: &Allowed) -> String {
    match (of.valid_after(), of.valid_before()) {
        (None, None) => "always".to_owned(),
        (Some(after), None) => format!("from {after}"),
        (None, Some(before)) => format!("until {before}"),
        (Some(after), Some(before)) => format!("{after} to {before}"),
    }
}
