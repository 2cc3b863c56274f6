//! What can be typed. No logic: each command's arguments are with the command.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches as _, Parser, Subcommand};

use crate::commands;
use crate::contexts::Files;
use crate::failure::Failure;
use crate::node::Wanted;
use crate::output::Format;

/// Hot deployment of native modules on plain machines.
#[derive(Debug, Parser)]
#[command(
    name = "hotctl",
    version,
    max_term_width = 110,
    after_help = "A node is found by --node, --context, HOTCTL_NODE, HOTCTL_CONTEXT, the context that the file of contexts \
                  names, /run/hot/hotd.sock, or the dev node that `hotd --dev` records, in this order.\n\n\
                  Exit codes: 0 promoted or done, 1 failed, 2 usage, 3 rolled back, aborted or superseded, 4 refused, \
                  5 not finished in time, incomplete, or gone back on one node alone, 10 plan would change something, 130 Ctrl-C before anything was \
                  started.\n\n\
                  Example:\n  hotctl push target/release/greeter-1.1.0.so --canary 10% --bake 30s"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub place: Place,

    /// How to print results
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Everywhere"
    )]
    pub output: Format,

    #[command(subcommand)]
    pub command: Command,
}

/// Which node to ask, and by which files.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Place {
    /// The node to ask: https://HOST:PORT, http://HOST:PORT or unix:PATH
    #[arg(long, global = true, env = "HOTCTL_NODE", value_name = "URL", value_parser = parse_node)]
    node: Option<String>,

    /// The context to use: `hotctl contexts` lists them
    #[arg(long, global = true, env = "HOTCTL_CONTEXT", value_name = "NAME", value_parser = parse_context)]
    context: Option<String>,

    /// Take nodes that have a certificate of this authority (PEM)
    #[arg(long, global = true, env = "HOTCTL_NODE_AUTHORITY", value_name = "FILE")]
    node_authority: Option<PathBuf>,

    /// Show nodes at https:// this certificate (PEM)
    #[arg(long, global = true, env = "HOTCTL_CERTIFICATE", value_name = "FILE")]
    certificate: Option<PathBuf>,

    /// The certificate's private key (PEM)
    #[arg(long, global = true, env = "HOTCTL_IDENTITY_KEY", value_name = "FILE")]
    identity_key: Option<PathBuf>,
}

/// What was typed. A context that is named there counts before a node that only the environment names.
pub(crate) fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let matches = Cli::command().try_get_matches_from(line)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    let typed = |name: &str| matches.value_source(name) == Some(ValueSource::CommandLine);
    if typed("context") && !typed("node") {
        cli.place.node = None;
    }
    Ok(cli)
}

impl Place {
    pub(crate) fn wanted(self) -> Wanted {
        let Self { node, context, node_authority: authority, certificate, identity_key: key } = self;
        Wanted { node, context, files: Files { authority, certificate, key } }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Push(commands::push::Args),
    Plan(commands::plan::Args),
    Status(commands::status::Args),
    Rollback(commands::rollback::Args),
    Promote(commands::promote::Args),
    Pause(commands::pause::Args),
    Resume(commands::resume::Args),
    Abort(commands::abort::Args),
    Restart(commands::restart::Args),
    Versions(commands::versions::Args),
    History(commands::history::Args),
    Nodes(commands::nodes::Args),
    Cordon(commands::cordon::Args),
    Uncordon(commands::uncordon::Args),
    Drain(commands::drain::Args),
    Leave(commands::leave::Args),
    Events(commands::events::Args),
    Logs(commands::logs::Args),
    Metrics(commands::metrics::Args),
    New(commands::new::Args),
    Inspect(commands::inspect::Args),
    Sign(commands::sign::Args),
    Verify(commands::verify::Args),
    Trust(commands::trust::Args),
    Pki(commands::pki::Args),
    Remove(commands::remove::Args),
    Contexts(commands::contexts::Args),
    Use(commands::choose::Args),
    Completions(commands::completions::Args),
}

/// The text of an address, which the search for a node reads. An empty one is a shell's variable that is not set: to act on
/// whatever node is found instead would act on the wrong one.
fn parse_node(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("it is empty: expected https://HOST:PORT, http://HOST:PORT or unix:PATH; for the node that is found without one, leave \
                    --node away and unset HOTCTL_NODE"
            .to_owned());
    }
    Ok(text.to_owned())
}

/// As [`parse_node`].
fn parse_context(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("it is empty: expected the name of a context; for the one that is used without one, leave --context away \
                    and unset HOTCTL_CONTEXT"
            .to_owned());
    }
    Ok(text.to_owned())
}

/// Whether arguments that can't be parsed ask for JSON all the same.
pub(crate) fn ask_for_json(arguments: impl IntoIterator<Item = OsString>) -> bool {
    let mut is_named = false;
    arguments.into_iter().take_while(|argument| argument != "--").any(|argument| {
        let names = std::mem::replace(&mut is_named, argument == "-o" || argument == "--output");
        let joined = ["-ojson", "-o=json", "--output=json"].iter().any(|joined| argument == *joined);
        joined || (names && argument == "json")
    })
}

/// Names an option as it can be typed: clap says its long name alone, which is not what somebody reads who typed the short
/// one.
pub(crate) fn name_both(error: &mut clap::Error) {
    let Some(ContextValue::String(named)) = error.get(ContextKind::InvalidArg) else { return };
    let long = named.trim_start_matches('-').split([' ', '=']).next().unwrap_or_default();
    let command = Cli::command();
    let mut options =
        command.get_subcommands().flat_map(clap::Command::get_arguments).chain(command.get_arguments());
    let short = options.find(|option| option.get_long() == Some(long)).and_then(clap::Arg::get_short);
    if let Some(short) = short.filter(|_| named.starts_with("--")) {
        let both = ContextValue::String(format!("-{short}, {named}"));
        error.insert(ContextKind::InvalidArg, both);
    }
}

/// Names the option for what others take without one: `rollback MODULE VERSION`.
pub(crate) fn name_the_way_back(error: &mut clap::Error) {
    let is_rollback = error.to_string().contains("Usage: hotctl rollback");
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else { return };
    if error.kind() == ErrorKind::UnknownArgument && is_rollback && !given.starts_with('-') {
        let tip = format!("to go back to a release or a version, type '--to {given}'");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
}

/// What is wrong with the arguments, in one sentence: clap's paragraphs up to the usage.
pub(crate) fn failure(error: &clap::Error) -> Failure {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::usage("a command is missing; `hotctl --help` lists them");
    }
    let text = error.to_string();
    let words = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let paragraphs = text.split("\n\n").map(words).take_while(|words| !words.starts_with("Usage: "));
    let parts: Vec<String> = paragraphs
        .filter(|words| !words.starts_with("For more information"))
        .map(|words| words.trim_start_matches("error: ").trim_start_matches("tip: ").to_owned())
        .collect();
    Failure::usage(format!("{}; `--help` says what can be typed", parts.join("; ")))
}

#[cfg(test)]
mod tests;
