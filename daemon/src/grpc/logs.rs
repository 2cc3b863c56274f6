//! What modules print: the lines that are still known, then each new one.

use std::time::Duration;

use hot_artifact::ModuleName;
use hot_proto::v1;
use hot_rollout::{Module, ReleaseNumber};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tonic::Status;

use super::Api;
use crate::agent::{Run, RunState};
use crate::supervisor::{Instance, InstanceId, Line};

/// Between two looks for instances that were started meanwhile.
const LOOK: Duration = Duration::from_millis(500);

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

/// Sends the last `tail` lines of a module and, with `follow`, each new one until nobody reads.
pub(super) async fn feed(
    api: &Api,
    name: &ModuleName,
    release: Option<ReleaseNumber>,
    tail: usize,
    follow: bool,
    sender: mpsc::Sender<Result<v1::LogsResponse, Status>>,
) {
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
    if !first.is_empty() && sender.send(Ok(v1::LogsResponse { lines: first, dropped: 0 })).await.is_err() {
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
                    if !lines.is_empty() && sender.send(Ok(v1::LogsResponse { lines, dropped: 0 })).await.is_err() {
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
                let message = v1::LogsResponse { lines: vec![log_line(&api, &source, &line)], dropped };
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
