//! `hotctl plan`.

use std::path::PathBuf;

use hot_proto::v1::PlanRequest;

use super::Context;
use crate::bundle::Bundle;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::PlanJson;
use crate::on::OnArgs;
use crate::policy::PolicyArgs;
use crate::signing::SigningArgs;
use crate::{plan, show};

/// Show what a push would do, without doing it
///
/// Takes what push takes. The node is told what the files say of themselves, not their bytes. Exit code 0: nothing would
/// change, 10: something would, 4: it would be refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  hotctl plan greeter-1.1.0.so\n  \
                        hotctl plan greeter-1.1.0.so --canary 10% --bake 30s -o json")]
pub(crate) struct Args {
    /// The module's files, one for each target
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    on: OnArgs,

    #[command(flatten)]
    signing: SigningArgs,

    /// What a push with --retry would do: one of bytes that failed before and are quarantined
    #[arg(long)]
    retry: bool,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let on = args.on.labels().map_err(Failure::usage)?;
    let bundle = Bundle::open(&args.files)?;
    let client = context.connect().await?;
    bundle.announce(context.out)?;
    let means = args.signing.means(&args.files, &client).await?;
    means.announce(context.out)?;
    let files = bundle.sign(means).await?;
    let wish =
        PlanRequest { policy: args.policy.overrides(), retry: args.retry, on, ..PlanRequest::default() };
    let Some(answer) = plan::ask(&client, &files, wish).await? else {
        return Err(Failure::failed(
            "unimplemented",
            "this node can't plan yet: expected a newer hotd; `hotctl push` works as ever",
        ));
    };
    let exit = plan::exit(&answer);
    if context.out.json() {
        context.out.object(&PlanJson::new(answer, &files, exit))?;
    } else {
        let lines = show::plan::lines(&answer, &files, context.out.colour());
        context.out.text(&lines.join("\n"))?;
    }
    Ok(exit)
}
