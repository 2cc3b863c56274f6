//! What modules print: the lines that are still known, then each new one.

use std::future::ready;
use std::time::Duration;

use futures_util::StreamExt as _;
use hot_artifact::ModuleName;
use hot_proto::v1;
use hot_proto::v1::module_service_client::ModuleServiceClient;
use hot_rollout::{Module, Node, ReleaseNumber};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::Api;
use super::everywhere::{Piece, Said, Since, Telling, Told, Whose, place_to_follow, tell};
use crate::agent::{Run, RunState};
use crate::supervisor::{Instance, InstanceId, Line};

/// Between two looks for instances that were started meanwhile.
const LOOK: Duration = Duration::from_millis(500);

/// The most lines that a call begins with.
pub(super) const MOST: usize = 10_000;

/// Lines of one message of a fleet: at 4 KiB each well below what a caller takes.
const AT_ONCE: usize = 1000;

/// One instance of a module.
pub(super) struct Source {
    pub(super) id: InstanceId,
    pub(super) release: ReleaseNumber,
    pub(super) version: String,
    /// What it printed last, if it has ended.
    past: Vec<Line>,
    /// The instance, if it runs.
    pub(super) instance: Option<Instance>,
}

/// What lines are wanted.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) name: ModuleName,
    pub(super) release: Option<ReleaseNumber>,
    /// So many of the latest first.
    pub(super) tail: usize,
    pub(super) follow: bool,
}

type Lines = ReceiverStream<Result<v1::LogsResponse, Status>>;

/// The lines of this node.
pub(super) fn here(api: &Api, wanted: Wanted) -> Lines {
    let (sender, receiver) = mpsc::channel(16);
    let api = api.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = feed(&api, &wanted, sender) => {}
            () = api.stopped.cancelled() => {}
        }
    });
    ReceiverStream::new(receiver)
}

/// The lines of these nodes.
pub(super) fn everywhere(api: &Api, wanted: Wanted, whose: Whose) -> Result<Lines, Box<Status>> {
    let place = wanted.follow.then(place_to_follow).transpose()?;
    let (sender, receiver) = mpsc::channel(16);
    let telling = FleetLines { api: api.clone(), wanted };
    tokio::spawn(async move {
        let FleetLines { api, wanted: Wanted { tail, follow, .. } } = &telling;
        tokio::select! {
            () = tell(api, &telling, whose, *tail, *follow, sender) => {}
            () = api.stopped.cancelled() => {}
        }
        drop(place);
    });
    Ok(ReceiverStream::new(receiver))
}

/// Lines of a fleet.
#[derive(Clone, Debug)]
struct FleetLines {
    api: Api,
    wanted: Wanted,
}

impl Telling for FleetLines {
    type Item = v1::LogLine;
    type Message = v1::LogsResponse;

    async fn open(&self, node: &Node, since: Since<'_, v1::LogLine>) -> Option<Told<v1::LogLine>> {
        let Wanted { name, release, tail, follow } = self.wanted.clone();
        let after = match since {
            Since::Past | Since::Now => None,
            Since::After(line) => Some(Self::time(line)),
        };
        // A node that is back has few lines, and those that are known are left out.
        let tail = if matches!(since, Since::Past) { tail } else { MOST };
        let mut answer = if self.api.is_this(node) {
            here(&self.api, Wanted { name, release, tail, follow }).boxed()
        } else {
            let request = v1::LogsRequest {
                module: name.to_string(),
                tail: u32::try_from(tail).unwrap_or(u32::MAX),
                follow,
                release: release.map_or(0, |release| release.0),
                on: String::new(),
            };
            let mut client = ModuleServiceClient::new(self.api.reach(node).await?);
            client.logs(self.api.asking(request)).await.ok()?.into_inner().boxed()
        };
        let mut past = match answer.next().await {
            Some(first) => first.ok()?.lines,
            None => Vec::new(),
        };
        past.retain(|line| after.is_none_or(|after| Self::time(line) > after));
        let next =
            answer.take_while(|message| ready(message.is_ok())).filter_map(|message| ready(message.ok()));
        let piece = |of: v1::LogsResponse| Piece { items: of.lines, dropped: of.dropped };
        Some(Told { past, next: next.map(piece).boxed() })
    }

    fn time(line: &v1::LogLine) -> (i64, i32) {
        line.time.map(|at| (at.seconds, at.nanos)).unwrap_or_default()
    }

    fn messages(said: Said<v1::LogLine>) -> Vec<v1::LogsResponse> {
        match said {
            Said::Heard(heard) => {
                vec![v1::LogsResponse { heard: Some(heard), ..v1::LogsResponse::default() }]
            }
            Said::Piece(piece) => messages(piece),
        }
    }

    fn keep(line: &v1::LogLine) -> v1::LogLine {
        v1::LogLine { time: line.time, ..v1::LogLine::default() }
    }
}

/// As many messages as that takes.
fn messages(Piece { items: mut lines, mut dropped }: Piece<v1::LogLine>) -> Vec<v1::LogsResponse> {
    let mut messages = Vec::new();
    while !lines.is_empty() || dropped > 0 {
        let rest = lines.split_off(lines.len().min(AT_ONCE));
        messages.push(v1::LogsResponse { lines, dropped, heard: None });
        (lines, dropped) = (rest, 0);
    }
    messages
}

/// Sends the last `tail` lines of a module and, with `follow`, each new one until nobody reads.
async fn feed(api: &Api, wanted: &Wanted, sender: mpsc::Sender<Result<v1::LogsResponse, Status>>) {
    let Wanted { name, release, tail, follow } = wanted;
    let (release, tail, follow) = (*release, *tail, *follow);
    let module = Module(name.to_string());
    let (merged, mut arriving) = mpsc::channel(64);
    let mut known: Vec<InstanceId> = Vec::new();
    let mut past = Vec::new();
    for source in sources(api, &module, release) {
        known.push(source.id);
        let (lines, receiver) = heard(&source);
        past.extend(lines.iter().map(|line| (line.at, log_line(api, &source, line))));
        if let Some(receiver) = receiver.filter(|_| follow) {
            tokio::spawn(pass_on(api.clone(), source, receiver, merged.clone()));
        }
    }
    // Those of one instance are in order, and stay so where the clock was set back between two.
    past.sort_by_key(|(at, _)| *at);
    let first =
        past.split_off(past.len().saturating_sub(tail)).into_iter().map(|(_, line)| line).collect::<Vec<_>>();
    // Who follows has to know when the past is over.
    let begun = follow || !first.is_empty();
    if begun
        && sender.send(Ok(v1::LogsResponse { lines: first, ..v1::LogsResponse::default() })).await.is_err()
    {
        return;
    }
    if !follow {
        return;
    }
    loop {
        tokio::select! {
            message = arriving.recv() => {
                let Some(message) = message else { return };
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(LOOK) => {
                for source in sources(api, &module, release) {
                    if known.contains(&source.id) {
                        continue;
                    }
                    known.push(source.id);
                    let (lines, receiver) = heard(&source);
                    let lines: Vec<v1::LogLine> = lines.iter().map(|line| log_line(api, &source, line)).collect();
                    if !lines.is_empty() && sender.send(Ok(v1::LogsResponse { lines, ..v1::LogsResponse::default() })).await.is_err() {
                        return;
                    }
                    if let Some(receiver) = receiver {
                        tokio::spawn(pass_on(api.clone(), source, receiver, merged.clone()));
                    }
                }
            }
            () = sender.closed() => return,
        }
    }
}

/// Passes an instance's lines on until it ends or nobody reads.
async fn pass_on(
    api: Api,
    source: Source,
    mut lines: broadcast::Receiver<Line>,
    into: mpsc::Sender<v1::LogsResponse>,
) {
    let mut dropped = 0;
    loop {
        match lines.recv().await {
            Ok(line) => {
                let message =
                    v1::LogsResponse { lines: vec![log_line(&api, &source, &line)], dropped, heard: None };
                dropped = 0;
                if into.send(message).await.is_err() {
                    return;
                }
            }
            Err(RecvError::Lagged(missed)) => dropped += missed,
            Err(RecvError::Closed) => return,
        }
    }
}

/// The instances of a module, or of one of its releases.
pub(super) fn sources(api: &Api, module: &Module, release: Option<ReleaseNumber>) -> Vec<Source> {
    api.agent.slots(|slots| {
        let Some(slot) = slots.get(module) else { return Vec::new() };
        let wanted = slot.instances().filter(|run| release.is_none_or(|release| release == run.release));
        let source = |run: &Run| {
            let (instance, past) = (run.instance.clone(), run.lines.clone());
            Source { id: run.id, release: run.release, version: run.version.to_string(), past, instance }
        };
        // One without a host has printed nothing yet, and is looked at again.
        wanted.filter(|run| run.instance.is_some() || run.state == RunState::Ended).map(source).collect()
    })
}

/// The last lines of an instance, and those from now on if it runs.
fn heard(source: &Source) -> (Vec<Line>, Option<broadcast::Receiver<Line>>) {
    match &source.instance {
        Some(instance) => {
            // In this order a line may come twice, and none is missed.
            let receiver = instance.subscribe_output();
            (instance.output_tail(), Some(receiver))
        }
        None => (source.past.clone(), None),
    }
}

fn log_line(api: &Api, source: &Source, line: &Line) -> v1::LogLine {
    v1::LogLine {
        time: Some(line.at.into()),
        node: api.about.node.clone(),
        instance: source.id.0,
        release: source.release.0,
        version: source.version.clone(),
        source: v1::LogSource::Output.into(),
        text: line.text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_lines_are_several_messages() {
        let sizes = |count: u64, dropped| {
            let line = |instance| v1::LogLine { instance, ..v1::LogLine::default() };
            let said = messages(Piece { items: (0..count).map(line).collect(), dropped });
            let all: Vec<u64> = said.iter().flat_map(|of| &of.lines).map(|line| line.instance).collect();
            assert_eq!(all, (0..count).collect::<Vec<_>>(), "all of them, in order");
            said.iter().map(|of| (of.lines.len(), of.dropped)).collect::<Vec<_>>()
        };
        assert_eq!(sizes(0, 0), []);
        assert_eq!(sizes(0, 3), [(0, 3)]);
        assert_eq!(sizes(2500, 3), [(1000, 3), (1000, 0), (500, 0)]);
    }
}
