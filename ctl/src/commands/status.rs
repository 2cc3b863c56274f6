//! `hotctl status`.

use std::time::SystemTime;

use hot_proto::v1::{GetModuleRequest, ListModulesRequest, Module, NodeProblem, WatchModulesRequest};

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::ModulesJson;
use crate::node::{Client, next};
use crate::output::{Layout, Out};
use crate::show;

/// Show what serves, what is tried, and why
///
/// With a module: its releases and every instance with its weight and counters.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  hotctl status\n  hotctl status greeter --watch\n  \
                        hotctl status -o json | jq '.modules[].phase'")]
pub(crate) struct Args {
    /// Only this module, in full
    module: Option<String>,

    /// Go on with each change until Ctrl-C
    #[arg(short, long)]
    watch: bool,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    if args.watch {
        return watch(&client, context.out, args.module).await;
    }
    let (modules, problems) = match &args.module {
        Some(module) => {
            let request = GetModuleRequest { module: module.clone() };
            let answer = client.ask(client.modules().get(request)).await?;
            (answer.module.into_iter().collect(), answer.problems)
        }
        None => {
            let answer = client.ask(client.modules().list(ListModulesRequest {})).await?;
            (answer.modules, answer.problems)
        }
    };
    if context.out.json() {
        context.out.object(&ModulesJson::new(modules, problems))?;
    } else {
        let lines = lines(&modules, &problems, args.module.is_some(), context.out.layout());
        context.out.text(&lines.join("\n"))?;
    }
    Ok(Exit::Success)
}

fn lines(modules: &[Module], problems: &[NodeProblem], in_full: bool, layout: Layout) -> Vec<String> {
    let now = SystemTime::now();
    let mut lines = match modules {
        [module] if in_full => show::module(module, now, layout),
        modules => show::modules(modules, layout),
    };
    lines.extend(show::problems(problems, now, layout));
    lines
}

/// Redraws on a terminal. Elsewhere it prints the table again when a line of it changed: counters alone are no change.
async fn watch(client: &Client, out: &mut Out, module: Option<String>) -> Result<Exit, Failure> {
    let request = WatchModulesRequest { module: module.clone().unwrap_or_default() };
    let answer = client.ask(client.modules().watch(request)).await?;
    let mut stream = answer;
    let mut printed = Vec::new();
    while let Some(message) = next(&mut stream, out).await? {
        if out.json() {
            out.object(&ModulesJson::new(message.modules, message.problems))?;
            continue;
        }
        if out.live() {
            out.redraw(&lines(&message.modules, &message.problems, module.is_some(), out.layout()))?;
            continue;
        }
        let mut table = show::modules(&message.modules, Layout::PIPE);
        // Without their age, which would be a change at every look.
        let timeless = message.problems.into_iter().map(|problem| NodeProblem { since: None, ..problem });
        table.extend(show::problems(&timeless.collect::<Vec<_>>(), SystemTime::now(), Layout::PIPE));
        if table != printed {
            out.text(&table.join("\n"))?;
            printed = table;
        }
    }
    Err(Failure::failed("stream_ended", "the node ended the watch; it stops, run the command again"))
}
