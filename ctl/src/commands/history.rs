//! `hotctl history`.

use std::time::SystemTime;

use hot_proto::v1::HistoryRequest;

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::HistoryJson;
use crate::show;

/// List the releases of a module: who, when, why, and how each ended
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl history greeter --limit 10")]
pub(crate) struct Args {
    /// Name of the module
    module: String,

    /// At most so many
    #[arg(short = 'n', long, allow_hyphen_values = true, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let request = HistoryRequest { module: args.module.clone(), limit: args.limit };
    let answer = client.ask(client.modules().history(request)).await?;
    let entries = answer.entries;
    if context.out.json() {
        context.out.object(&HistoryJson::new(&args.module, entries))?;
    } else {
        let lines = show::history(&entries, SystemTime::now(), context.out.layout());
        context.out.text(&lines.join("\n"))?;
    }
    Ok(Exit::Success)
}
