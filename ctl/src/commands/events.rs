//! `hotctl events`.

use hot_proto::v1::{Event, FollowEventsRequest, GetModuleRequest, ListEventsRequest};

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::heard::Hearing;
use crate::json::EventJson;
use crate::node::next;
use crate::on::parse_node;
use crate::output::{Out, OutputError};
use crate::show;

/// List what happened, oldest first; with -f go on with what happens
///
/// In a fleet of all nodes, whichever is asked; who does not answer is named on standard error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  hotctl events greeter\n  hotctl events --on web-3 -f -o json")]
pub(crate) struct Args {
    /// Only those of this module
    #[arg(default_value_t, hide_default_value = true)]
    module: String,

    /// Go on with each new event until Ctrl-C
    #[arg(short, long)]
    follow: bool,

    /// So many of the latest, at most 1000
    #[arg(short = 'n', long, allow_hyphen_values = true, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,

    /// Only those of this node, by its name [default: of all nodes of the fleet]
    #[arg(long, value_name = "NODE", value_parser = parse_node)]
    on: Option<String>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let mut hearing = Hearing::of("events");
    if !args.follow {
        let (module, limit, on) = (args.module.clone(), args.limit, args.on.unwrap_or_default());
        let request = ListEventsRequest { module, after: 0, limit, on };
        let answer = client.ask(client.events().list(request)).await?;
        if answer.events.is_empty() && !args.module.is_empty() {
            // A module of which nothing is told, or a name that is none: the node says which.
            client.ask(client.modules().get(GetModuleRequest { module: args.module })).await?;
        }
        hearing.take(answer.heard, context.out);
        if !context.out.json() {
            let lines = show::events(&answer.events, hearing.column(), context.out.layout());
            context.out.text(&lines.join("\n"))?;
            return Ok(Exit::Success);
        }
        for event in answer.events {
            print(context.out, event, &hearing)?;
        }
        return Ok(Exit::Success);
    }
    let request = FollowEventsRequest {
        module: args.module,
        after: 0,
        tail: args.limit,
        on: args.on.unwrap_or_default(),
    };
    let answer = client.ask(client.events().follow(request)).await?;
    let mut events = answer;
    while let Some(message) = next(&mut events, context.out).await? {
        hearing.take(message.heard, context.out);
        if let Some(event) = message.event {
            print(context.out, event, &hearing)?;
        }
    }
    Err(Failure::failed(
        "stream_ended",
        "the node ended the stream of events; it stops, run the command again",
    ))
}

/// One line: a JSON object or text.
fn print(out: &mut Out, event: Event, hearing: &Hearing) -> Result<(), OutputError> {
    if out.json() {
        out.object(&EventJson::from(event))
    } else {
        out.text(&show::event(&event, hearing.column(), out.layout()).join("\n"))
    }
}
