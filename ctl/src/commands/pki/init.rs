//! `hotctl pki init`.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::pki::{Authority, Subject};
use crate::words;

/// Make an authority: DIR/ca.pem for everybody, and DIR/ca.key, which signs
///
/// Nothing is overwritten. Whoever has the key can make certificates that every node takes: keep it off the nodes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl pki init ~/hot-ca --name prod")]
pub(super) struct Args {
    /// Where to put them; made where it lacks
    dir: PathBuf,

    /// How the authority is called
    #[arg(long, default_value = "authority", value_parser = Subject::name)]
    name: String,

    /// For how many days it is good
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
}

/// What `pki init -o json` prints.
#[derive(Debug, Serialize)]
struct AuthorityJson<'a> {
    name: &'a str,
    certificate: &'a Path,
    key: &'a Path,
    until: &'a str,
}

pub(super) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let until = Authority::make(&args.dir, &args.name, args.days)?;
    let [certificate, key] = Authority::files(&args.dir);
    if context.out.json() {
        let (certificate, key) = (&*certificate, &*key);
        context.out.object(&AuthorityJson { name: &args.name, certificate, key, until: &until })?;
    } else {
        let dir = args.dir.display();
        let text = format!(
            "{} and {} are an authority, good until {until}; keep the key where nobody else gets at it, and make each node's \
             certificate with `hotctl pki issue NAME --dir {dir} --address HOST`, each person's without an address",
            certificate.display(),
            key.display()
        );
        context.out.text(&words::clean(&text))?;
    }
    Ok(Exit::Success)
}
