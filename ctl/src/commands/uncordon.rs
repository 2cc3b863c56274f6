//! `hotctl uncordon`.

use hot_proto::v1::UncordonRequest;

use super::Context;
use super::cordon::Aim;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::UncordonedJson;
use crate::words;

/// Let a node take part in rollouts again, and load balancers come back to it
///
/// It follows to what is stable. Of a node that is not cordoned it is no error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl uncordon web-3")]
pub(crate) struct Args {
    #[command(flatten)]
    aim: Aim,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let Aim { name, message } = args.aim;
    let client = context.connect().await?;
    let request = UncordonRequest { node: name.clone(), message };
    let answer = client.answer(client.nodes().uncordon(request)).await;
    let cordon = answer.map_err(|status| Failure::of_offer(&status))?.cordon;
    if context.out.json() {
        context.out.object(&UncordonedJson { node: name, cordon: cordon.map(Into::into) })?;
    } else {
        let text = match &cordon {
            Some(cordon) => {
                format!("{name} takes part in rollouts again; it was {}", words::cordoned(cordon))
            }
            None => format!("{name} was not cordoned; nothing changes"),
        };
        context.out.text(&words::clean(&text))?;
    }
    Ok(Exit::Success)
}
