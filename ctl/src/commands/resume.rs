//! `hotctl resume`.

use hot_proto::v1::ResumeRequest;

use super::Context;
use super::steer::{Aim, steer};
use crate::exit::Exit;
use crate::failure::Failure;

/// Let a held rollout go on
///
/// The bake of its step starts anew. Again is no error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl resume greeter")]
pub(crate) struct Args {
    #[command(flatten)]
    aim: Aim,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    steer(args.aim, context, async |client, aim| {
        let request = ResumeRequest { rollout: aim.rollout(), message: aim.message };
        Ok(client.answer(client.rollouts().resume(request)).await?.rollout)
    })
    .await
}
