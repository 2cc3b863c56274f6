//! `hotctl completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Context;
use crate::args::Cli;
use crate::exit::Exit;
use crate::failure::Failure;

/// Print the completions of a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  source <(hotctl completions bash)\n  \
                        hotctl completions fish > ~/.config/fish/completions/hotctl.fish")]
pub(crate) struct Args {
    /// Which shell
    shell: Shell,
}

pub(crate) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    if context.out.json() {
        return Err(Failure::usage("completions are a script for a shell and no JSON; leave -o json out"));
    }
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hotctl", &mut script);
    context.out.text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Success)
}
