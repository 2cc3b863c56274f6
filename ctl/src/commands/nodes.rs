//! `hotctl nodes`.

use std::time::SystemTime;

use hot_proto::v1::ListNodesRequest;

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::NodesJson;
use crate::show;

/// List the nodes, and what each lacks
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl nodes -o json")]
pub(crate) struct Args {}

pub(crate) async fn run(Args {}: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let answer = client.ask(client.nodes().list(ListNodesRequest {})).await?;
    let nodes = answer.nodes;
    if context.out.json() {
        context.out.object(&NodesJson::from(nodes))?;
    } else {
        let lines = show::nodes(&nodes, SystemTime::now(), context.out.layout());
        context.out.text(&lines.join("\n"))?;
    }
    Ok(Exit::Success)
}
