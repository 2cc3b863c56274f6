//! `hotctl remove`.

use hot_proto::v1::RemoveRequest;

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::RemovedJson;
use crate::node::Wait;
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
    let request = RemoveRequest { module: args.module.clone(), version: version.clone() };
    let answer = client.ask_after(Wait::WayBack, client.modules().remove(request)).await?;
    let removed = RemovedJson { module: args.module, versions: answer.versions };
    if context.out.json() {
        context.out.object(&removed)?;
    } else {
        context.out.text(&words::clean(&text(&removed, &version)))?;
    }
    Ok(Exit::Success)
}

/// What was done. Nothing is left to do where it was removed before: that is what was asked for.
fn text(removed: &RemovedJson, version: &str) -> String {
    let RemovedJson { module, versions } = removed;
    match versions.as_slice() {
        [] if version.is_empty() => format!("{module}: was removed already"),
        [] => format!("{module} {version}: was removed already"),
        versions => format!("{module}: removed {}", versions.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn again_is_said() {
        let removed = |versions: &[&str]| RemovedJson {
            module: "greeter".to_owned(),
            versions: versions.iter().map(|&version| version.to_owned()).collect(),
        };
        assert_eq!(text(&removed(&["1.0.0", "1.1.0"]), ""), "greeter: removed 1.0.0, 1.1.0");
        assert_eq!(text(&removed(&[]), ""), "greeter: was removed already");
        assert_eq!(text(&removed(&[]), "1.0.0"), "greeter 1.0.0: was removed already");
    }
}
