//! `hotctl restart`.

use std::time::Duration;

use hot_proto::v1::RestartRequest;

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::RestartedJson;
use crate::node::answer_within;
use crate::words;

/// A start and a drain of each instance, one after the other.
const DEADLINE: Duration = Duration::from_secs(180);

/// Replace each instance of the stable release by a new one, without losing a request
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl restart greeter")]
pub(crate) struct Args {
    /// Name of the module
    module: String,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let request = RestartRequest { module: args.module.clone() };
    let answer = answer_within(client.rollouts().restart(request), DEADLINE)
        .await
        .map_err(|status| Failure::of_command(&status))?;
    let restarted = RestartedJson { module: args.module, instances: answer.instances };
    if context.out.json() {
        context.out.object(&restarted)?;
    } else {
        let plural = if restarted.instances == 1 { "instance" } else { "instances" };
        let module = words::clean(&restarted.module);
        context.out.text(&format!("{module}: {} {plural} replaced", restarted.instances))?;
    }
    Ok(Exit::Success)
}
