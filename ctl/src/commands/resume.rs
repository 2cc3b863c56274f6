//! `hotctl resume`.

use hot_proto::v1::ResumeRequest;

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::by_module;
use crate::json::RolloutJson;
use crate::node::ask;
use crate::progress;

/// Let a held rollout go on
///
/// The bake of its step starts anew. Again is no error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl resume greeter")]
pub(crate) struct Args {
    /// Name of the module
    module: String,

    /// Why, for the history
    #[arg(short, long, value_name = "TEXT", default_value_t, hide_default_value = true)]
    message: String,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let request = ResumeRequest { rollout: Some(by_module(&args.module)), message: args.message };
    let answer = ask(client.rollouts().resume(request)).await?;
    let rollout = answer.rollout.unwrap_or_default();
    if context.out.json() {
        context.out.object(&RolloutJson::from(rollout))?;
    } else {
        let line = progress::change(None, &rollout).unwrap_or_default();
        context.out.text(&line)?;
    }
    Ok(Exit::Success)
}
