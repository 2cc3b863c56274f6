//! `hotctl trust`: looking after a file of allowed signers, without a node.

mod add;
mod check;
mod edit;
mod list;
mod remove;
mod standing;

use std::fs;
use std::path::{Path, PathBuf};

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::offer::unreadable;
use crate::trust::TrustFiles;

/// Look after the allowed signers: who may sign modules
///
/// Works on a file in OpenSSH's format: that of --allowed-signers, else of the dev node on record, else
/// /etc/hotd/allowed_signers. A node reads it anew when it changes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  hotctl trust list\n  hotctl trust add anna@example.com ~/.ssh/id_ed25519.pub\n  \
                        hotctl trust remove anna@example.com\n  hotctl trust check greeter-1.1.0.so"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,

    /// The file
    #[arg(long, global = true, value_name = "FILE")]
    allowed_signers: Option<PathBuf>,

    /// Keys that count no more: public keys, or a KRL [default: the dev node's]
    #[arg(long, global = true, value_name = "FILE")]
    revoked: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    List(list::Args),
    Add(add::Args),
    Remove(remove::Args),
    Check(check::Args),
}

pub(crate) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let files = files(args.allowed_signers.as_deref(), args.revoked.as_deref(), context)?;
    match &args.command {
        Command::List(_) => list::run(&files, context),
        Command::Add(args) => add::run(args, &files, context),
        Command::Remove(args) => remove::run(args, &files.signers, context),
        Command::Check(args) => check::run(args, &files, context),
    }
}

fn files(
    signers: Option<&Path>,
    revoked: Option<&Path>,
    context: &Context<'_>,
) -> Result<TrustFiles, Failure> {
    context.trust_files(signers, revoked)?.ok_or_else(|| {
        Failure::failed(
            "signers.none",
            "no allowed signers: there is neither a dev node on record nor /etc/hotd/allowed_signers; name the file \
             with --allowed-signers",
        )
    })
}

/// The text of the file, as it is.
fn read(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|error| unreadable(file, &error))
}
