//! What the commands to a running rollout share: whom they are for, and showing where it is afterwards.

use hot_proto::v1::{Rollout, RolloutSelector};
use tonic::Status;

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::by_module;
use crate::json::RolloutJson;
use crate::node::Client;
use crate::output::{Out, OutputError};
use crate::progress;

/// The module whose running rollout a command is for, and why it is given.
#[derive(Debug, clap::Args)]
pub(crate) struct Aim {
    /// Name of the module
    pub module: String,

    /// Why, for the history
    #[arg(short, long, value_name = "TEXT", default_value_t, hide_default_value = true)]
    pub message: String,
}

impl Aim {
    /// The rollout as the contract names it.
    pub(crate) fn rollout(&self) -> Option<RolloutSelector> {
        Some(by_module(&self.module))
    }
}

/// Gives the rollout a command, which is `call`, and shows where it is then.
pub(crate) async fn steer(
    aim: Aim,
    context: &mut Context<'_>,
    call: impl AsyncFnOnce(Client, Aim) -> Result<Option<Rollout>, Status>,
) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let rollout = call(client, aim).await.map_err(|status| Failure::of_command(&status))?;
    show(context.out, rollout.unwrap_or_default())?;
    Ok(Exit::Success)
}

/// Where a rollout is, in one line.
pub(crate) fn show(out: &mut Out, rollout: Rollout) -> Result<(), OutputError> {
    if out.json() {
        out.object(&RolloutJson::from(rollout))
    } else {
        out.text(&progress::change(None, &rollout).unwrap_or_default())
    }
}
