//! `hotctl pause`.

use hot_proto::v1::PauseRequest;

use super::Context;
use super::steer::{Aim, steer};
use crate::exit::Exit;
use crate::failure::Failure;

/// Hold a running rollout at its share
///
/// Again is no error. `hotctl resume` lets it go on; abort and rollback work as ever.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl pause greeter --message 'looking at the logs'")]
pub(crate) struct Args {
    #[command(flatten)]
    aim: Aim,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    steer(args.aim, context, async |client, aim| {
        let request = PauseRequest { rollout: aim.rollout(), message: aim.message };
        Ok(client.answer(client.rollouts().pause(request)).await?.rollout)
    })
    .await
}
