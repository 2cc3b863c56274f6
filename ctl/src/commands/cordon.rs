//! `hotctl cordon`, and what the commands to a node share.

use hot_proto::v1::CordonRequest;

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::CordonedJson;
use crate::words;

/// The node that a command is for, and why it is given.
#[derive(Debug, clap::Args)]
pub(crate) struct Aim {
    /// Name of the node: `hotctl nodes` lists them
    #[arg(value_name = "NODE")]
    pub name: String,

    /// Why, for those who look at the nodes and the events
    #[arg(short, long, value_name = "TEXT", default_value_t, hide_default_value = true)]
    pub message: String,
}

/// Keep a node out of rollouts, until `hotctl uncordon`
///
/// What it has of a running rollout goes back to stable at once, and the rollout goes on without it. It goes on serving what
/// it serves. Again is no error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl cordon web-3 --message 'its disk is being replaced'")]
pub(crate) struct Args {
    #[command(flatten)]
    aim: Aim,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let Aim { name, message } = args.aim;
    let client = context.connect().await?;
    let request = CordonRequest { node: name.clone(), message };
    let answer = client.answer(client.nodes().cordon(request)).await;
    let answer = answer.map_err(|status| Failure::of_offer(&status))?;
    let cordon = answer.cordon.unwrap_or_default();
    if context.out.json() {
        context.out.object(&CordonedJson { node: name, already: answer.already, cordon: cordon.into() })?;
    } else {
        let text = if answer.already {
            format!("{name} was {} already", words::cordoned(&cordon))
        } else {
            format!("{name} is cordoned: rollouts leave it out until `hotctl uncordon {name}`")
        };
        context.out.text(&words::clean(&text))?;
    }
    Ok(Exit::Success)
}
