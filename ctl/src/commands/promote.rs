//! `hotctl promote`.

use std::time::Duration;

use hot_proto::v1::PromoteRequest;

use super::Context;
use super::steer::{self, Aim};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow;
use crate::words;

/// Make the candidate of a running rollout stable now, skipping what is left of its steps
///
/// Follows the rollout to its end, as push does; --detach returns at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl promote greeter")]
pub(crate) struct Args {
    #[command(flatten)]
    aim: Aim,

    /// Return at once instead of following the rollout to its end
    #[arg(long)]
    detach: bool,

    /// Stop following after this time (exit code 5); the rollout goes on
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = words::parse_span, conflicts_with = "detach")]
    timeout: Option<Duration>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let mut interrupt = follow::Interrupt::listen()?;
    let module = args.aim.module.clone();
    let request = PromoteRequest { rollout: args.aim.rollout(), message: args.aim.message };
    let promoted = async { client.ask(client.rollouts().promote(request)).await };
    let answer = follow::unless(interrupt.pressed(), promoted, || follow::unanswered(&module)).await?;
    let rollout = answer.rollout.unwrap_or_default();
    if !args.detach {
        return follow::follow(&client, context.out, rollout, args.timeout, interrupt.pressed()).await;
    }
    steer::show(context.out, rollout)?;
    Ok(Exit::Success)
}
