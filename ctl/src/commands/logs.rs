//! `hotctl logs`.

use hot_proto::v1::{GetNodeRequest, LogLine, LogsRequest};
use prost_types::Timestamp;

use super::{Context, of_release};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::heard::Hearing;
use crate::json::LogLineJson;
use crate::node::next;
use crate::on::parse_node;
use crate::output::{Out, OutputError, Tone, paint};
use crate::words;

/// Show what a module prints and logs; with -f go on with each new line
///
/// In a fleet on all nodes, whichever is asked; who does not answer is named on standard error.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  hotctl logs greeter\n  hotctl logs greeter -f --release 3\n  hotctl logs greeter --on web-3"
)]
pub(crate) struct Args {
    /// Name of the module
    module: String,

    /// Go on with each new line until Ctrl-C
    #[arg(short, long)]
    follow: bool,

    /// So many of the latest lines, at most 10000
    #[arg(short = 'n', long, allow_hyphen_values = true, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    tail: u32,

    /// Only of this release
    #[arg(long, value_name = "RELEASE", default_value_t, hide_default_value = true)]
    release: u64,

    /// Only those of this node, by its name [default: of all nodes of the fleet]
    #[arg(long, value_name = "NODE", value_parser = parse_node)]
    on: Option<String>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let Args { module, tail, follow, release, on } = args;
    let on = on.unwrap_or_default();
    let request = LogsRequest { module: module.clone(), tail, follow, release, on };
    let mut stream = client.ask(client.modules().logs(request)).await?;
    let (mut is_silent, mut hearing) = (true, Hearing::of("lines"));
    while let Some(message) = next(&mut stream, context.out).await? {
        hearing.take(message.heard, context.out);
        if message.dropped > 0 {
            context.out.hint(&format!("{} lines were dropped here: they came too fast", message.dropped));
        }
        is_silent &= message.lines.is_empty();
        for line in message.lines {
            print(context.out, line)?;
        }
    }
    if follow {
        return Err(Failure::failed(
            "stream_ended",
            "the node ended the stream; it stops, run the command again",
        ));
    }
    if is_silent {
        let node = client.ask(client.nodes().get(GetNodeRequest::default())).await?.node.unwrap_or_default();
        // Of several each began at another time.
        let since = node.since.filter(|_| hearing.column().is_none());
        context.out.hint(&silence(&of_release(&module, release), since));
    }
    Ok(Exit::Success)
}

/// That there are no lines of the instances `of` something. A node keeps them in its memory: what was before `since` is gone.
fn silence(of: &str, since: Option<Timestamp>) -> String {
    let since = since.map(|since| format!(" since this hotd began at {}", words::time(since)));
    format!(
        "no lines: the instances {of} that run, and the last ones that ended, have printed and logged nothing{}",
        since.unwrap_or_default()
    )
}

/// One line: a JSON object or text.
fn print(out: &mut Out, line: LogLine) -> Result<(), OutputError> {
    if out.json() {
        return out.object(&LogLineJson::from(line));
    }
    let time = line.time.map(words::time).unwrap_or_default();
    let from = format!("{time} {}/{} {} ({})", line.node, line.instance, line.version, line.release);
    let text =
        format!("{}  {}", paint(&words::clean(&from), Tone::Dim, out.colour()), words::clean(&line.text));
    out.text(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_of_this_hotd() {
        let text = silence("of greeter", Some(Timestamp { seconds: 0, nanos: 0 }));
        assert!(text.ends_with("nothing since this hotd began at 1970-01-01T00:00:00Z"), "{text}");
        assert!(silence("of greeter", None).ends_with("logged nothing"));
    }
}
