//! `hotctl versions`.

use std::time::SystemTime;

use hot_proto::v1::VersionsRequest;

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::heard::Hearing;
use crate::json::VersionsJson;
use crate::show;

/// List the stored versions of a module
///
/// In a fleet what any node stores, whichever is asked, with the nodes that have it where not all do; who does not answer is
/// named on standard error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl versions greeter")]
pub(crate) struct Args {
    /// Name of the module
    module: String,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let request = VersionsRequest { module: args.module.clone() };
    let answer = client.ask(client.modules().versions(request)).await?;
    if context.out.json() {
        context.out.object(&VersionsJson::new(&args.module, answer))?;
    } else {
        let mut hearing = Hearing::of("versions");
        hearing.take(answer.heard.clone(), context.out);
        let lines = show::versions(&answer, SystemTime::now(), context.out.layout());
        context.out.text(&lines.join("\n"))?;
    }
    Ok(Exit::Success)
}
