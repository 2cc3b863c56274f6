//! `hotctl drain`.

use std::time::{Duration, Instant};

use hot_proto::v1::{DrainRequest, GetNodeRequest, Node};

use super::Context;
use super::cordon::Aim;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::DrainedJson;
use crate::node::Client;
use crate::words;

/// Between two looks at the node.
const LOOK: Duration = Duration::from_millis(250);

/// A node that was given no request for so long, and has none in flight, has done its last one: between two requests of a
/// load balancer that still sends there is less.
const QUIET: Duration = Duration::from_secs(2);

/// Keep a node out of rollouts, and have load balancers go away from it
///
/// Its /-/ready answers 503 and its /-/live 200, also after a restart of its hotd, until `hotctl uncordon`. It serves what
/// comes all the same. Returns when it has no request in flight and was given none for two seconds.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl drain web-3 --timeout 5m --message 'kernel update'")]
pub(crate) struct Args {
    #[command(flatten)]
    aim: Aim,

    /// Stop waiting after this time (exit code 5); the node stays drained
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, default_value = "60s", value_parser = words::parse_span)]
    timeout: Duration,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let (Aim { name, message }, client) = (args.aim, context.connect().await?);
    let request = DrainRequest { node: name.clone(), message };
    let answer = client.answer(client.nodes().drain(request)).await;
    let answer = answer.map_err(|status| Failure::of_offer(&status))?;
    let mut watched = Watched::default();
    let until = Instant::now() + args.timeout;
    while !watched.is_done(Instant::now()) {
        if Instant::now() >= until {
            let text = format!(
                "{}; it stays drained until `hotctl uncordon {name}`",
                watched.open(&name, args.timeout)
            );
            return Err(Failure::new(Exit::Unfinished, "not_drained", text));
        }
        tokio::time::sleep(LOOK.min(until.saturating_duration_since(Instant::now()))).await;
        watched.look(&node(&client, &name).await?, Instant::now());
    }
    let cordon = answer.cordon.unwrap_or_default();
    if context.out.json() {
        let already = answer.already;
        context.out.object(&DrainedJson { node: name, already, cordon: cordon.into() })?;
    } else {
        let text = format!(
            "{name} is drained: it has no request in flight, load balancers are told to go away, and rollouts leave it out \
             until `hotctl uncordon {name}`"
        );
        context.out.text(&words::clean(&text))?;
    }
    Ok(Exit::Success)
}

async fn node(client: &Client, name: &str) -> Result<Node, Failure> {
    let request = GetNodeRequest { node: name.to_owned() };
    Ok(client.ask(client.nodes().get(request)).await?.node.unwrap_or_default())
}

/// What was seen of a node that is drained.
#[derive(Debug, Default)]
struct Watched {
    away: bool,
    in_flight: u64,
    requests: u64,
    /// Since when it has nothing to do.
    quiet: Option<Instant>,
}

impl Watched {
    fn look(&mut self, node: &Node, now: Instant) {
        let same = node.away && node.in_flight == 0 && node.requests == self.requests;
        self.quiet = same.then(|| self.quiet.unwrap_or(now));
        (self.away, self.in_flight, self.requests) = (node.away, node.in_flight, node.requests);
    }

    fn is_done(&self, now: Instant) -> bool {
        self.quiet.is_some_and(|since| now.duration_since(since) >= QUIET)
    }

    /// Why it is not done.
    fn open(&self, name: &str, within: Duration) -> String {
        let within = words::span(within);
        match (self.away, self.in_flight) {
            (false, _) => format!(
                "{name} has not said within {within} that it tells load balancers to go away: see `hotctl nodes`"
            ),
            (true, 0) => format!(
                "{name} is still given requests after {within}: see that its load balancer asks /-/ready"
            ),
            (true, 1) => format!("{name} still has 1 request in flight after {within}"),
            (true, open) => format!("{name} still has {open} requests in flight after {within}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(away: bool, in_flight: u64, requests: u64) -> Node {
        Node { away, in_flight, requests, ..Node::default() }
    }

    #[test]
    fn it_is_done_when_nothing_came_for_a_while() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut watched = Watched::default();
        watched.look(&node(false, 0, 0), at(0));
        assert!(!watched.is_done(at(10_000)), "it does not say yet that it is away");
        watched.look(&node(true, 0, 5), at(1000));
        watched.look(&node(true, 0, 5), at(2000));
        assert!(!watched.is_done(at(3999)));
        assert!(watched.is_done(at(4000)));
        watched.look(&node(true, 0, 6), at(4000));
        assert!(!watched.is_done(at(9000)), "another one came");
        watched.look(&node(true, 0, 6), at(9000));
        watched.look(&node(true, 2, 6), at(10_000));
        assert!(!watched.is_done(at(20_000)));
    }

    #[test]
    fn what_is_open_is_said() {
        let mut watched = Watched::default();
        let said = |watched: &Watched| watched.open("n2", Duration::from_secs(30));
        assert!(said(&watched).contains("has not said within 30s"), "{}", said(&watched));
        watched.look(&node(true, 0, 3), Instant::now());
        assert!(said(&watched).contains("still given requests"), "{}", said(&watched));
        watched.look(&node(true, 1, 3), Instant::now());
        assert_eq!(said(&watched), "n2 still has 1 request in flight after 30s");
        watched.look(&node(true, 7, 3), Instant::now());
        assert_eq!(said(&watched), "n2 still has 7 requests in flight after 30s");
    }
}
