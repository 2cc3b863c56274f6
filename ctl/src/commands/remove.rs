//! `hotctl remove`.

use hot_proto::v1::RemoveRequest;

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::RemovedJson;
use crate::node::{Wait, ask_after};
use crate::words;

/// Remove a module with all that runs of it, or one of its versions
///
/// A version that is stable, candidate or standby is not removed by itself. What was removed leaves a tombstone: its
/// version is never given to other bytes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  hotctl remove greeter                    # it serves no more\n  \
                        hotctl remove greeter --version 1.0.0")]
pub(crate) struct Args {
    /// Name of the module
    module: String,

    /// Only this version
    #[arg(long, value_name = "VERSION")]
    version: Option<semver::Version>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let version = args.version.map(|version| version.to_string()).unwrap_or_default();
    let request = RemoveRequest { module: args.module.clone(), version };
    let answer = ask_after(Wait::WayBack, client.modules().remove(request)).await?;
    let removed = RemovedJson { module: args.module, versions: answer.versions };
    if context.out.json() {
        context.out.object(&removed)?;
    } else {
        let what =
            if removed.versions.is_empty() { "nothing".to_owned() } else { removed.versions.join(", ") };
        context.out.text(&words::clean(&format!("{}: removed {what}", removed.module)))?;
    }
    Ok(Exit::Success)
}
