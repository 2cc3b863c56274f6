//! `hotctl trust add`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hot_artifact::signature::{MODULE_NAMESPACE, PublicKey};
use hot_artifact::trust::{Allowed, Says, listing};
use serde::Serialize;

use super::edit;
use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::offer::unreadable;

/// Allow a key to sign modules
///
/// Adds a line for the namespace of modules. The file is replaced whole, and its comments stay.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  hotctl trust add ci@example.com ci.pub\n  \
                        hotctl trust add anna anna.pub --valid-before 20270101Z\n  \
                        hotctl trust add '*@example.com' authority.pub --authority")]
pub(super) struct Args {
    /// Who signs with it; names with commas
    principal: String,

    /// The public key's file
    key: PathBuf,

    /// From when on it counts: YYYYMMDD[HHMM[SS]], with a Z for UTC
    #[arg(long, value_name = "TIME")]
    valid_after: Option<String>,

    /// Until when it counts: YYYYMMDD[HHMM[SS]], with a Z for UTC
    #[arg(long, value_name = "TIME")]
    valid_before: Option<String>,

    /// The key makes certificates; PRINCIPAL may be patterns like `*@example.com`
    #[arg(long)]
    authority: bool,
}

/// What `trust add -o json` prints.
#[derive(Debug, Serialize)]
struct AddedJson<'a> {
    file: &'a Path,
    principals: &'a [String],
    fingerprint: &'a str,
    /// False: it was allowed already.
    added: bool,
}

pub(super) fn run(args: &Args, file: &Path, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        other => other.map_err(|error| unreadable(file, &error))?,
    };
    let line = line(args)?;
    let new = entry(&line)?;
    let mistakes = listing(&text).into_iter().find(|listed| matches!(listed.says, Says::Mistake { .. }));
    if let Some(listed) = mistakes {
        let sentence = format!(
            "{}:{} has a mistake, so no node takes the file: see `hotctl trust list`, and mend it first",
            file.display(),
            listed.line
        );
        return Err(Failure::failed("signers.malformed", sentence));
    }
    let added = !listing(&text).iter().any(|listed| matches!(&listed.says, Says::Allows(of) if *of == new));
    if added {
        edit::replace(file, &edit::with_line(&text, &line))?;
    }
    let fingerprint = new.key.fingerprint();
    if context.out.json() {
        let principals = &new.principals;
        context.out.object(&AddedJson { file, principals, fingerprint: &fingerprint, added })?;
    } else {
        let what = if added { "may sign from now on" } else { "could sign already" };
        context.out.text(&format!("{}: {} ({fingerprint}) {what}", file.display(), args.principal))?;
    }
    Ok(Exit::Success)
}

/// The line that says it.
fn line(args: &Args) -> Result<String, Failure> {
    let text = fs::read_to_string(&args.key).map_err(|error| unreadable(&args.key, &error))?;
    let first = text.lines().next().unwrap_or_default();
    let key = PublicKey::from_openssh(first).map_err(|error| {
        Failure::failed("key.not_accepted", format!("{}: {error}; give the .pub file", args.key.display()))
    })?;
    let mut options = format!("namespaces=\"{MODULE_NAMESPACE}\"");
    if args.authority {
        options.insert_str(0, "cert-authority,");
    }
    for (name, time) in [("valid-after", &args.valid_after), ("valid-before", &args.valid_before)] {
        if let Some(time) = time {
            options.push_str(&format!(",{name}=\"{time}\""));
        }
    }
    Ok(format!("{} {options} {}", args.principal, key.to_openssh()))
}

/// The line, read back: whatever was typed, it is one line that counts.
fn entry(line: &str) -> Result<Allowed, Failure> {
    let mut listed = listing(line).into_iter();
    let usage = |problem: &str| Failure::usage(format!("that would be no line that counts: {problem}"));
    match (listed.next().map(|listed| listed.says), listed.next()) {
        (Some(Says::Allows(of)), None) => Ok(of),
        (Some(Says::Mistake { problem }), _) => Err(usage(&problem)),
        (Some(Says::Nothing { reason, .. }), _) => Err(usage(reason)),
        _ => Err(usage("more or less than one line")),
    }
}
