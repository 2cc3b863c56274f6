//! `hotctl restart`.

use hot_proto::v1::{GetNodeRequest, RestartRequest};

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::RestartedJson;
use crate::node::Wait;
use crate::words;

/// Replace each instance of the stable release by a new one, without losing a request: on the node
/// that is asked
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl restart greeter")]
pub(crate) struct Args {
    /// Name of the module
    module: String,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let node = client.ask(client.nodes().get(GetNodeRequest::default())).await?.node.unwrap_or_default();
    let request = RestartRequest { module: args.module.clone() };
    let answer = client.ask_after(Wait::start_on(&node), client.rollouts().restart(request)).await?;
    let restarted = RestartedJson { module: args.module, instances: answer.instances };
    if context.out.json() {
        context.out.object(&restarted)?;
    } else {
        let plural = if restarted.instances == 1 { "instance" } else { "instances" };
        let module = words::clean(&restarted.module);
        let node = words::clean(&node.name);
        context.out.text(&format!("{module}: {} {plural} replaced on {node}", restarted.instances))?;
    }
    Ok(Exit::Success)
}
