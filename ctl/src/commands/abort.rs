//! `hotctl abort`.

use hot_proto::v1::AbortRequest;

use super::steer::Aim;
use super::{Context, rollback};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::RollbackJson;
use crate::node::Wait;
use crate::output::{Tone, paint};
use crate::{progress, words};

/// Take the candidate of a running rollout back, at once
///
/// Stable serves everything when this returns with 0; with 5 it has no instance that does, and the text says why, or the
/// node could not tell its fleet and took it back alone (see `hotctl rollback --help`). Again
/// while it goes back is no error; when it is over it is: `no_rollout`.
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
    let answer = client.ask_after(Wait::WayBack, client.rollouts().abort(request)).await?;
    let unserved = rollback::unserved(answer.rollout.as_ref(), &module);
    if let Some(alone) = answer.alone.as_ref().filter(|_| !context.out.json()) {
        let text = format!("{}: aborted{}", words::clean(&module), rollback::alone(Some(alone)));
        context.out.text(&paint(&text, Tone::Warn, context.out.colour()))?;
        return Ok(Exit::Unfinished);
    }
    let exit = if answer.alone.is_some() { Exit::Unfinished } else { rollback::exit(unserved.as_ref()) };
    if context.out.json() {
        context.out.object(&RollbackJson::of_abort(&module, answer))?;
    } else {
        let rollout = answer.rollout.unwrap_or_default();
        let mut text = format!("{}: aborted", progress::title(&rollout));
        let moved = rollout.modules.iter().find(|moved| moved.module == module);
        if let Some(why) = &unserved {
            text.push_str(&format!("; {why}"));
        } else if let Some(stable) = moved.and_then(|moved| moved.stable.as_ref()) {
            text.push_str(&format!(
                "; {} serves{}",
                progress::named(stable),
                rollback::timing(answer.timing)
            ));
        } else {
            text.push_str(&rollback::timing(answer.timing));
        }
        context.out.text(&paint(&text, rollback::tone(unserved.as_ref()), context.out.colour()))?;
    }
    Ok(exit)
}
