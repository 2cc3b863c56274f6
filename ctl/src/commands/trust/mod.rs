//! `hotctl trust`: looking after a file of allowed signers, without a node.

mod add;
mod check;
mod edit;
mod list;
mod remove;

use std::fs;
use std::path::{Path, PathBuf};

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::offer::unreadable;
use crate::trust;

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
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    List(list::Args),
    Add(add::Args),
    Remove(remove::Args),
    Check(check::Args),
}

pub(crate) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let file = file(args.allowed_signers.as_deref(), context)?;
    match &args.command {
        Command::List(_) => list::run(&file, context),
        Command::Add(args) => add::run(args, &file, context),
        Command::Remove(args) => remove::run(args, &file, context),
        Command::Check(args) => check::run(args, &file, context),
    }
}

fn file(given: Option<&Path>, context: &Context<'_>) -> Result<PathBuf, Failure> {
    let found = context.find().ok();
    trust::signers_file(given, found.as_ref()).ok_or_else(|| {
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
