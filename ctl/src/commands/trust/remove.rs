//! `hotctl trust remove`.

use std::path::Path;

use serde::Serialize;

use super::edit::{self, What};
use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::whole::replace;

/// Allow a principal or a key no more
///
/// A line with more principals keeps those, and comments stay. What that key signed is loaded no more either.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  hotctl trust remove anna@example.com\n  hotctl trust remove SHA256:uNiVztksCsDhcc0u9e8B..."
)]
pub(super) struct Args {
    /// A principal, or a key's fingerprint as `trust list` shows it
    who: String,
}

/// What `trust remove -o json` prints.
#[derive(Debug, Serialize)]
struct RemovedJson<'a> {
    file: &'a Path,
    removed: &'a str,
    lines: usize,
}

pub(super) fn run(args: &Args, file: &Path, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let who = args.who.as_str();
    let what = if who.starts_with("SHA256:") { What::Fingerprint(who) } else { What::Principal(who) };
    let (text, lines) = edit::without(&super::read(file)?, what);
    if lines == 0 {
        let sentence =
            format!("{} has no line of {who}; `hotctl trust list` shows who is there", file.display());
        return Err(Failure::failed("signers.not_found", sentence));
    }
    replace(file, &text)?;
    if context.out.json() {
        context.out.object(&RemovedJson { file, removed: who, lines })?;
    } else {
        let s = if lines == 1 { "" } else { "s" };
        context.out.text(&format!("{}: {who} is taken out of {lines} line{s}", file.display()))?;
    }
    Ok(Exit::Success)
}
