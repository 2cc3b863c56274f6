//! `hotctl trust list`.

use std::path::Path;

use hot_artifact::trust::{Allowed, Listed, Says, listing};
use serde::Serialize;

use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Tone;
use crate::table::{Cell, Table};

/// Show who may sign, and every mistake with its line
///
/// Exit code 1 says that there are mistakes: a node does not take a file with any.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl trust list --allowed-signers /etc/hotd/allowed_signers")]
pub(super) struct Args {}

/// What `trust list -o json` prints.
#[derive(Debug, Serialize)]
struct ListJson<'a> {
    file: &'a Path,
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
    valid_after: Option<&'a str>,
    valid_before: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct ProblemJson<'a> {
    line: usize,
    problem: &'a str,
}

pub(super) fn run(file: &Path, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let listed = listing(&super::read(file)?);
    let mistakes = listed.iter().filter(|listed| matches!(listed.says, Says::Mistake { .. })).count();
    if context.out.json() {
        context.out.object(&json(file, &listed))?;
    } else {
        let mut lines = table(&listed).lines(context.out.colour());
        if listed.is_empty() {
            lines = vec![format!("{}: nobody may sign", file.display())];
        }
        context.out.text(&lines.join("\n"))?;
    }
    Ok(if mistakes == 0 { Exit::Success } else { Exit::Failed })
}

fn json<'a>(file: &'a Path, listed: &'a [Listed]) -> ListJson<'a> {
    let mut json = ListJson { file, signers: Vec::new(), notes: Vec::new(), mistakes: Vec::new() };
    for Listed { line, says } in listed {
        let line = *line;
        match says {
            Says::Allows(of) => json.signers.push(SignerJson {
                line,
                principals: &of.principals,
                authority: of.authority,
                kind: of.key.kind_name(),
                fingerprint: of.key.fingerprint(),
                namespaces: &of.namespaces,
                valid_after: of.valid_after.as_deref(),
                valid_before: of.valid_before.as_deref(),
            }),
            Says::Nothing { reason, .. } => json.notes.push(ProblemJson { line, problem: reason }),
            Says::Mistake { problem } => json.mistakes.push(ProblemJson { line, problem }),
        }
    }
    json
}

fn table(listed: &[Listed]) -> Table<6> {
    let mut table = Table::new(["LINE", "PRINCIPALS", "KEY", "FINGERPRINT", "NAMESPACES", "VALID"]);
    for Listed { line, says } in listed {
        let line = line.to_string();
        table.row(match says {
            Says::Allows(of) => [
                line.into(),
                of.principals.join(",").into(),
                kind(of).into(),
                of.key.fingerprint().into(),
                of.namespaces.as_str().into(),
                validity(of).into(),
            ],
            Says::Nothing { reason, key } => [
                line.into(),
                Cell::toned(&format!("does not count: {reason}"), Tone::Warn),
                "".into(),
                key.as_ref().map(|key| key.fingerprint()).unwrap_or_default().into(),
                "".into(),
                "".into(),
            ],
            Says::Mistake { problem } => [
                line.into(),
                Cell::toned(&format!("mistake: {problem}"), Tone::Bad),
                "".into(),
                "".into(),
                "".into(),
                "".into(),
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
    match (&of.valid_after, &of.valid_before) {
        (None, None) => "always".to_owned(),
        (Some(after), None) => format!("from {after}"),
        (None, Some(before)) => format!("until {before}"),
        (Some(after), Some(before)) => format!("{after} to {before}"),
    }
}
