//! `hotctl trust add`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hot_artifact::signature::{MODULE_NAMESPACE, PublicKey};
use hot_artifact::trust::{Allowed, Says, Standing, listing};
use serde::Serialize;

use super::edit;
use super::standing::{self, NO_REVOKED};
use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::offer::unreadable;
use crate::trust::TrustFiles;
use crate::whole::replace;

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
    /// False: the line was there already.
    added: bool,
    line: usize,
    counts: bool,
    /// Null where it counts.
    why_not: Option<String>,
}

pub(super) fn run(args: &Args, files: &TrustFiles, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let file = &files.signers;
    let mut text = match fs::read_to_string(file) {
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
    let is_there = |text: &str| {
        listing(text).iter().any(|listed| matches!(&listed.says, Says::Allows(of) if *of == new))
    };
    let added = !is_there(&text);
    if added {
        text = edit::with_line(&text, &line);
    }
    // Before anything is written: a list of revoked keys that can't be read is said first.
    let (number, standing) = stands(&text, &new, files)?;
    if added {
        replace(file, &text)?;
    }
    let (fingerprint, why_not) = (new.key.fingerprint(), standing::why_not(&standing, &new));
    if context.out.json() {
        context.out.object(&AddedJson {
            file,
            principals: &new.principals,
            fingerprint: &fingerprint,
            added,
            line: number,
            counts: why_not.is_none(),
            why_not,
        })?;
        return Ok(Exit::Success);
    }
    let what = match (why_not, added) {
        (None, true) => "may sign from now on".to_owned(),
        (None, false) => "could sign already".to_owned(),
        (Some(why), true) => format!("is in line {number} now, which does not count: {why}"),
        (Some(why), false) => format!("was in line {number} already, which does not count: {why}"),
    };
    context.out.text(&format!("{}: {} ({fingerprint}) {what}", file.display(), args.principal))?;
    if files.revoked.is_none() {
        context.out.hint(NO_REVOKED);
    }
    Ok(Exit::Success)
}

/// Where the entry is in the text, and how it stands there.
fn stands(text: &str, new: &Allowed, files: &TrustFiles) -> Result<(usize, Standing), Failure> {
    let listed = listing(text);
    let standings = standing::now(&listed, files)?;
    let mut all = listed.iter().zip(standings);
    let found = all.find_map(|(listed, standing)| match &listed.says {
        Says::Allows(of) if of == new => Some((listed.line, standing?)),
        _ => None,
    });
    found.ok_or_else(|| Failure::failed("internal", "the new line is not in the file"))
}

/// The line that says it.
fn line(args: &Args) -> Result<String, Failure> {
    is_name(&args.principal)?;
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

/// A name that has white space would end there, and what follows would be read as options or as a key. OpenSSH could
/// have it in quotes, and no node takes those.
fn is_name(principal: &str) -> Result<(), Failure> {
    let found = if principal.contains(char::is_whitespace) {
        "white space"
    } else if principal.contains('"') {
        "a quote"
    } else if principal.starts_with('#') {
        "a # at its beginning, which makes a line a comment"
    } else {
        return Ok(());
    };
    Err(Failure::usage(format!(
        "{principal:?} is no principal: found {found}, expected a name like anna@example.com, or several with commas and \
         without blanks"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_one_word() {
        for good in ["anna", "anna@example.com", "anna,berta", "*@example.com", "a#1"] {
            assert!(is_name(good).is_ok(), "{good}");
        }
        for (bad, word) in [
            ("a b", "white space"),
            (" a", "white space"),
            ("a\tb", "white space"),
            ("a\nb", "white space"),
            ("\"a", "a quote"),
            ("#a", "a comment"),
        ] {
            let failure = is_name(bad).expect_err(bad);
            assert_eq!(failure.exit.code(), 2);
            assert!(failure.sentence.contains(word), "{}", failure.sentence);
        }
    }
}
