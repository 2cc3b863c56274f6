//! `hotctl use`.

use serde::Serialize;

use super::Context;
use crate::contexts::choose;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::contexts;
use crate::words;

/// Have hotctl use a context where neither a node nor a context is named
///
/// Writes that into the file of contexts and leaves everything else in it as it is.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl use prod")]
pub(crate) struct Args {
    /// Which one: `hotctl contexts` lists them
    name: String,
}

/// What `use -o json` prints.
#[derive(Debug, Serialize)]
struct UsedJson<'a> {
    context: &'a str,
}

pub(crate) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let around = context.surroundings();
    let Some(found) = contexts(&around)? else {
        let file =
            around.contexts.map_or_else(|| "HOME is not set".to_owned(), |file| file.display().to_string());
        let sentence =
            format!("there are no contexts ({file}); write that file first, docs/cli.md has an example");
        return Err(Failure::failed("not_found", sentence));
    };
    choose(&found, &args.name)?;
    if context.out.json() {
        context.out.object(&UsedJson { context: &args.name })?;
    } else {
        let text = format!("{} is used from now on where neither a node nor a context is named", args.name);
        context.out.text(&words::clean(&text))?;
    }
    Ok(Exit::Success)
}
