//! `hotctl metrics`.

use hot_proto::v1::MetricsRequest;

use super::{Context, of_release};
use crate::exit::Exit;
use crate::exposition;
use crate::failure::Failure;
use crate::heard::Hearing;
use crate::json::MetricsJson;
use crate::on::parse_node;

/// Show what a module has counted, in the text format of Prometheus
///
/// In a fleet on all nodes, whichever is asked; who does not answer is named on standard error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  hotctl metrics greeter\n  hotctl metrics greeter --release 3 -o json")]
pub(crate) struct Args {
    /// Name of the module
    module: String,

    /// Only of this release
    #[arg(long, value_name = "RELEASE", default_value_t, hide_default_value = true)]
    release: u64,

    /// Only those of this node, by its name [default: of all nodes of the fleet]
    #[arg(long, value_name = "NODE", value_parser = parse_node)]
    on: Option<String>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let request = MetricsRequest {
        module: args.module.clone(),
        release: args.release,
        on: args.on.unwrap_or_default(),
    };
    let answer = client.ask(client.modules().metrics(request)).await?;
    if context.out.json() {
        context.out.object(&MetricsJson::new(&args.module, answer))?;
        return Ok(Exit::Success);
    }
    let mut hearing = Hearing::of("metrics");
    hearing.take(answer.heard, context.out);
    let instances = answer.instances;
    for instance in instances.iter().filter(|instance| !instance.reason.is_empty()) {
        context
            .out
            .hint(&format!("instance {} on {}: {}", instance.instance, instance.node, instance.reason));
    }
    if instances.iter().all(|instance| instance.series.is_empty() && instance.reason.is_empty()) {
        let of = of_release(&args.module, args.release);
        context.out.hint(&match instances.len() {
            0 => format!("no metrics: no instance {of} serves"),
            _ => format!("no metrics: the instances {of} have counted nothing since they started"),
        });
    }
    context.out.text(&exposition::text(&args.module, &instances, hearing.column().is_some()))?;
    Ok(Exit::Success)
}
