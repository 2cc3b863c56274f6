//! `hotctl abort`.

use hot_proto::v1::AbortRequest;

use super::steer::Aim;
use super::{Context, rollback};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::RollbackJson;
use crate::node::{Wait, ask_after};
use crate::output::{Tone, paint};
use crate::progress;

/// Take the candidate of a running rollout back, at once
///
/// Stable serves everything when this returns. Again while it goes back is no error; when it is over it is: `no_rollout`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl abort greeter --message 'wrong branch'")]
pub(crate) struct Args {
    #[command(flatten)]
    aim: Aim,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let module = args.aim.module.clone();
    let request = AbortRequest { rollout: args.aim.rollout(), message: args.aim.message };
    let answer = ask_after(Wait::WayBack, client.rollouts().abort(request)).await?;
    if context.out.json() {
        context.out.object(&RollbackJson::of_abort(&module, answer))?;
    } else {
        let rollout = answer.rollout.unwrap_or_default();
        let mut text = format!("{}: aborted", progress::title(&rollout));
        if let Some(moved) = rollout.modules.iter().find(|moved| moved.module == module)
            && let Some(stable) = &moved.stable
        {
            text.push_str(&format!("; {} serves", progress::named(stable)));
        }
        text.push_str(&rollback::timing(answer.timing));
        context.out.text(&paint(&text, Tone::Good, context.out.colour()))?;
    }
    Ok(Exit::Success)
}
