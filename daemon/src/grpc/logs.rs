//! What modules print: the lines that are still known, then each new one.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hot_artifact::ModuleName;
use hot_proto::v1;
use hot_rollout::{Module, ReleaseNumber};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tonic::Status;

use super::Api;
use crate::supervisor::{Instance, InstanceId};

/// Between two looks for instances that were started meanwhile.
const LOOK: Duration = Duration::from_millis(500);

/// One instance of a module.
pub(super) struct Source {
    pub(super) id: InstanceId,
    pub(super) release: ReleaseNumber,
    pub(super) version: String,
    pub(super) instance: Instance,
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
        let (lines, receiver) = heard(&source.instance);
        past.extend(lines.iter().map(|line| log_line(api, &source, line)));
        if follow {
            tokio::spawn(pass_on(api.clone(), source, receiver, merged.clone()));
        }
    }
    let first = past.split_off(past.len().saturating_sub(tail));
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
                    let (lines, receiver) = heard(&source.instance);
                    let lines: Vec<v1::LogLine> = lines.iter().map(|line| log_line(api, &source, line)).collect();
                    if !lines.is_empty() && sender.send(Ok(v1::LogsResponse { lines, dropped: 0 })).await.is_err() {
                        return;
                    }
                    tokio::spawn(pass_on(api.clone(), source, receiver, merged.clone()));
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
    mut lines: broadcast::Receiver<Arc<str>>,
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
        let source = |run: &crate::agent::Run| {
            let instance = run.instance.clone()?;
            Some(Source { id: run.id, release: run.release, version: run.version.to_string(), instance })
        };
        wanted.filter_map(source).collect()
    })
}

/// The last lines of an instance, and those from now on.
fn heard(instance: &Instance) -> (Vec<Arc<str>>, broadcast::Receiver<Arc<str>>) {
    // In this order a line may come twice, and none is missed.
    let receiver = instance.subscribe_output();
    (instance.output_tail(), receiver)
}

fn log_line(api: &Api, source: &Source, line: &str) -> v1::LogLine {
    v1::LogLine {
        time: Some(SystemTime::now().into()),
        node: api.about.node.clone(),
        instance: source.id.0,
        release: source.release.0,
        version: source.version.clone(),
        source: v1::LogSource::Output.into(),
        text: line.to_owned(),
    }
}
