//! Somebody who looks at every node of a fleet all the time, and says afterwards what must not have been.
//!
//! It asks each node for what that runs itself, by its control socket, and no node for what others run: a node that is cut
//! off says so as well as any.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hot_proto::v1::ListModulesRequest;
use hot_proto::v1::module_service_client::ModuleServiceClient;
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::{Door, Service};

/// Between two looks at a node.
const LOOK: Duration = Duration::from_millis(100);
/// How long a node may take to answer; one that does not is looked at later.
const ANSWER: Duration = Duration::from_secs(2);
/// Wrongs that are kept in words.
const WRONGS: usize = 10;

/// The most of a node's traffic that each version may have, basis points. A version that is not named may have none.
type Allowed = BTreeMap<String, u32>;

/// A witness of one module on some nodes. It stops to look when it is dropped.
#[derive(Debug)]
pub struct Witness {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    allowed: Mutex<Allowed>,
    seen: Mutex<Seen>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Answers of each node.
    pub looks: BTreeMap<String, u64>,
    /// The most of its traffic that each node gave each version, basis points.
    pub most: BTreeMap<(String, String), u32>,
    /// What was not allowed, the first of it.
    pub wrong: Vec<String>,
}

impl Witness {
    /// Looks at `module` on these nodes from now on. Nothing is allowed yet.
    ///
    /// # Errors
    /// When its thread can't be started.
    pub fn start(module: &str, nodes: &[Service]) -> Result<Self> {
        let nodes: Vec<(String, Door)> =
            nodes.iter().map(|node| (node.name().to_owned(), node.door())).collect();
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = watch::channel(false);
        let (of, module) = (Arc::clone(&shared), module.to_owned());
        let thread = thread::Builder::new()
            .name("witness".to_owned())
            .spawn(move || run(&module, nodes, &of, &stopped))
            .context("a thread for the witness")?;
        Ok(Self { shared, stop, thread: Some(thread) })
    }

    /// From now on a version may have so much of a node's traffic, basis points, and no more.
    pub fn allow(&self, version: &str, weight: u32) {
        self.shared.allowed().insert(version.to_owned(), weight);
    }

    /// Stops to look, and gives what was seen.
    ///
    /// # Errors
    /// When something was seen that was not allowed, or a node did not answer once.
    pub fn end(mut self) -> Result<Seen> {
        self.join()?;
        let seen = self.shared.seen().clone();
        ensure!(seen.wrong.is_empty(), "the witness saw:\n{}", seen.wrong.join("\n"));
        ensure!(seen.looks.values().all(|looks| *looks > 0), "a node was never seen: {:?}", seen.looks);
        Ok(seen)
    }

    fn join(&mut self) -> Result<()> {
        self.stop.send_replace(true);
        match self.thread.take() {
            Some(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            None => Ok(()),
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn allowed(&self) -> MutexGuard<'_, Allowed> {
        self.allowed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a node said between two moments, at each of which so much was allowed.
    fn note(&self, node: &str, runs: &[(String, u32)], before: &Allowed, after: &Allowed) {
        let mut seen = self.seen();
        *seen.looks.entry(node.to_owned()).or_default() += 1;
        for (version, weight) in runs {
            let weight = *weight;
            let most = seen.most.entry((node.to_owned(), version.clone())).or_default();
            *most = weight.max(*most);
            let bound = |allowed: &Allowed| allowed.get(version).copied().unwrap_or_default();
            let allowed = bound(before).max(bound(after));
            if weight > allowed && seen.wrong.len() < WRONGS {
                seen.wrong.push(format!(
                    "{node} gives {version} {weight} basis points of its traffic; allowed are {allowed}"
                ));
            }
        }
    }
}

fn run(
    module: &str,
    nodes: Vec<(String, Door)>,
    shared: &Arc<Shared>,
    stopped: &watch::Receiver<bool>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    runtime.block_on(async {
        for (node, door) in nodes {
            tokio::spawn(follow(module.to_owned(), node, door, Arc::clone(shared)));
        }
        let mut stopped = stopped.clone();
        // Its other end is there until it says so.
        drop(stopped.wait_for(|stopped| *stopped).await);
    });
    Ok(())
}

/// Looks at one node until the runtime ends.
async fn follow(module: String, node: String, door: Door, shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut channel = None;
    loop {
        tick.tick().await;
        let before = shared.allowed().clone();
        let answer = tokio::time::timeout(ANSWER, look(&module, &door, &mut channel)).await;
        if let Ok(Ok(runs)) = answer {
            let after = shared.allowed().clone();
            shared.note(&node, &runs, &before, &after);
        } else {
            // It is down, or comes up.
            channel = None;
        }
    }
}

/// The versions that the node runs, with the part of its traffic that each has.
async fn look(module: &str, door: &Door, channel: &mut Option<Channel>) -> Result<Vec<(String, u32)>> {
    let there = match channel {
        Some(channel) => channel.clone(),
        None => channel.insert(door.connect().await?).clone(),
    };
    let mut request = door.request(ListModulesRequest {})?;
    // What it says of itself alone.
    request.metadata_mut().insert("hot-own", "true".parse().context("ASCII")?);
    let answer = ModuleServiceClient::new(there).list(request).await?.into_inner();
    let modules = answer.modules.into_iter().filter(|of| of.name == module);
    let instances = modules.flat_map(|of| of.nodes).flat_map(|node| node.instances);
    Ok(instances.map(|instance| (instance.version, instance.weight)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_allowed_at_either_moment_is_wrong() {
        let shared = Shared::default();
        let allowed = |all: &[(&str, u32)]| -> Allowed {
            all.iter().map(|(version, weight)| ((*version).to_owned(), *weight)).collect()
        };
        let (before, after) = (allowed(&[("1.0.0", 10_000), ("1.1.0", 5000)]), allowed(&[("1.0.0", 10_000)]));
        let runs = |version: &str, weight| [(version.to_owned(), weight), ("1.0.0".to_owned(), 5000)];
        shared.note("n1", &runs("1.1.0", 5000), &before, &after);
        assert!(shared.seen().wrong.is_empty(), "it may have been said before");
        shared.note("n1", &runs("1.1.0", 1), &after, &after);
        shared.note("n1", &runs("6.6.6", 1), &before, &before);
        shared.note("n2", &runs("1.1.0", 5001), &before, &before);
        assert_eq!(shared.seen().wrong.len(), 3, "{:?}", shared.seen().wrong);
        assert_eq!(shared.seen().most.get(&("n1".to_owned(), "1.1.0".to_owned())), Some(&5000));
        assert_eq!(shared.seen().looks.get("n1"), Some(&3));
    }
}
