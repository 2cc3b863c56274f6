//! `hotctl leave`.

use hot_proto::v1::LeaveRequest;

use super::Context;
use super::cordon::Aim;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::LeftJson;
use crate::words;

/// Take a node that is gone out of the fleet for good
///
/// No rollout is incomplete because of it any more. A node that is there is refused (exit code 4), as it would be back at
/// once: stop its hotd first, or take [cluster] out of its config. One that comes back later joins as a new one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl leave web-3 --message 'the machine was given back'")]
pub(crate) struct Args {
    #[command(flatten)]
    aim: Aim,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let Aim { name, message } = args.aim;
    let client = context.connect().await?;
    let request = LeaveRequest { node: name.clone(), message };
    let answer = client.answer(client.nodes().leave(request)).await;
    answer.map_err(|status| Failure::of_offer(&status))?;
    if context.out.json() {
        context.out.object(&LeftJson { node: name })?;
    } else {
        context.out.text(&words::clean(&format!("{name} is out of the fleet")))?;
    }
    Ok(Exit::Success)
}
