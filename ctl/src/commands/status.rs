//! `hotctl status`.

use std::time::SystemTime;

use hot_proto::v1::{
    GetModuleRequest, ListModulesRequest, Module, NodeProblem, WatchModulesRequest, WatchModulesResponse,
};
use tonic::Status;

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::is_lost;
use crate::json::ModulesJson;
use crate::node::Client;
use crate::output::{Layout, Out, OutputError};
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

/// Shows each change, and goes on with another node where there is one and its own is lost.
async fn watch(client: &Client, out: &mut Out, module: Option<String>) -> Result<Exit, Failure> {
    let mut view = View { module, printed: Vec::new(), is_heard: false };
    loop {
        let lost = view.follow(client, out).await?;
        // One that says nothing at all would be asked over and over.
        if !std::mem::take(&mut view.is_heard)
            || !client.has_others()
            || lost.as_ref().is_some_and(|lost| !is_lost(lost))
        {
            return Err(lost.map_or_else(
                || {
                    Failure::failed(
                        "stream_ended",
                        "the node ended the watch; it stops, run the command again",
                    )
                },
                |lost| Failure::of_command(&lost),
            ));
        }
        out.hint(&format!("lost the node at {}; asking the others", client.address()));
    }
}

/// What is watched, and how much of it was shown.
struct View {
    module: Option<String>,
    /// Lines that stand there already.
    printed: Vec<String>,
    /// The node has said something.
    is_heard: bool,
}

impl View {
    /// Shows what one node says, until it ends the watch (nothing) or is lost.
    async fn follow(&mut self, client: &Client, out: &mut Out) -> Result<Option<Status>, Failure> {
        let request = WatchModulesRequest { module: self.module.clone().unwrap_or_default() };
        let mut stream = match client.answer(client.modules().watch(request)).await {
            Ok(stream) => stream,
            Err(status) => return Ok(Some(status)),
        };
        loop {
            let message = tokio::select! {
                message = stream.message() => message,
                left = out.left() => return Err(left.into()),
            };
            match message {
                Ok(Some(message)) => {
                    self.is_heard = true;
                    self.show(message, out)?;
                }
                Ok(None) => return Ok(None),
                Err(status) => return Ok(Some(status)),
            }
        }
    }

    /// Redraws on a terminal. Elsewhere it prints the table again when a line of it changed: counters alone are no change.
    fn show(&mut self, message: WatchModulesResponse, out: &mut Out) -> Result<(), OutputError> {
        if out.json() {
            return out.object(&ModulesJson::new(message.modules, message.problems));
        }
        if out.live() {
            let lines = lines(&message.modules, &message.problems, self.module.is_some(), out.layout());
            return out.redraw(&lines);
        }
        let mut table = show::modules(&message.modules, Layout::PIPE);
        // Without their age, which would be a change at every look.
        let timeless = message.problems.into_iter().map(|problem| NodeProblem { since: None, ..problem });
        table.extend(show::problems(&timeless.collect::<Vec<_>>(), SystemTime::now(), Layout::PIPE));
        if table != self.printed {
            out.text(&table.join("\n"))?;
            self.printed = table;
        }
        Ok(())
    }
}
