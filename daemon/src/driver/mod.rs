//! Runs rollouts: feeds events to the rollout machines, persists, then acts.
//!
//! Holds no rules of its own: what follows from what is decided in `hot-rollout`. One task owns all machines of this
//! node, so events of a rollout are handled one after the other; [`Driver`] is the handle to it.
//!
//! The order of effects is the machine's contract: actions toward stable, then the snapshot on disk, then the rest.
//! `rollback` and `abort` go one step further: traffic moves in the caller's own task ([`Agent::turn_back`]), before
//! the driver's task has even heard of it.

mod actor;
mod begin;
mod perform;
mod record;
mod undone;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use hot_artifact::{ModuleName, Sha256, Version};
use hot_rollout::{Command, Event, Module, Node, Outcome, Policy, ReleaseNumber, RolloutId, Time};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::actor::Actor;
pub(crate) use self::record::{Record, View};
use crate::agent::{Agent, Flip};
use crate::cluster::Local;
use crate::journal::Journal;
use crate::ledger::Ledger;

/// Calls that may wait for the driver's task. More callers than this wait for a place.
const WAITING_CALLS: usize = 64;

/// How long a call waits for a rollout to have gone back.
const LONGEST_WAY_BACK: std::time::Duration = std::time::Duration::from_secs(60);

/// What the driver works with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// This node's name.
    pub node: Node,
    /// Where rollouts, releases and assignments are kept.
    pub ledger: Ledger,
    /// Carries assignments to nodes.
    pub cluster: Local,
    /// The rules of a rollout that names no others.
    pub policy: Policy,
    /// This node's agent: for what must not wait for the cluster.
    pub agent: Agent,
    /// Where people read what happened.
    pub journal: Journal,
}

/// The rollouts that run and those that ended last, newest first by id.
pub(crate) type Views = BTreeMap<RolloutId, Arc<View>>;

/// A handle to the driver; clones are the same driver.
#[derive(Clone, Debug)]
pub struct Driver {
    asks: mpsc::Sender<Ask>,
    views: watch::Receiver<Arc<Views>>,
    parts: Parts,
}

/// One module of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Push {
    pub module: ModuleName,
    pub version: Version,
    /// The digests that the caller means; empty: whatever the version has.
    pub digests: Vec<Sha256>,
}

/// A rollout to begin.
#[derive(Clone, Debug)]
pub(crate) struct NewRollout {
    pub request: String,
    pub pushes: Vec<Push>,
    pub policy: Policy,
    pub by: String,
    pub message: String,
}

/// Where to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// The running rollout's stable, else the preceding stable.
    Preceding,
    /// A release that was stable.
    Release(ReleaseNumber),
    /// The newest release of this version that was stable.
    Version(Version),
}

/// What a rollback did.
#[derive(Clone, Debug)]
pub(crate) struct WentBack {
    pub rollout: RolloutId,
    pub aborted: bool,
    pub from: ReleaseNumber,
    pub to: ReleaseNumber,
    pub flip: Option<Flip>,
}

/// Why a call to the driver changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The version was never uploaded.
    #[error("{module} has no version {version}")]
    NoVersion { module: ModuleName, version: Version },
    /// The version is gone.
    #[error("version {version} of {module} was removed")]
    Removed { module: ModuleName, version: Version },
    /// The caller means other bytes.
    #[error("version {version} of {module} has no artifact with digest {digest}")]
    OtherDigest { module: ModuleName, version: Version, digest: Sha256 },
    /// Its digest failed before.
    #[error("{module} {version} is quarantined: {reason}")]
    Quarantined { module: ModuleName, version: Version, reason: String },
    /// Another module has one of its routes.
    #[error("{0}")]
    Route(#[from] crate::gateway::Conflict),
    /// The same request name was used for something else.
    #[error("request id {0} was used for another rollout")]
    RequestReused(String),
    /// There is no such rollout.
    #[error("no rollout is named {0}")]
    NoRollout(String),
    /// It is over.
    #[error("rollout {0} is over")]
    Over(RolloutId),
    /// The module has no rollout.
    #[error("no rollout of {0} runs")]
    NothingRuns(String),
    /// There is nothing to go back to.
    #[error("{module} has nothing to return to: {why}")]
    NothingToReturnTo { module: ModuleName, why: String },
    /// The release to go back to could not serve: what served goes on serving.
    #[error("{module} did not go back to release {to}: {why}")]
    NotGoneBack { module: ModuleName, to: ReleaseNumber, why: String },
    /// The module does not exist.
    #[error("no module is named {0}")]
    NoModule(ModuleName),
    /// So many wait that one more is not taken.
    #[error("many rollouts wait already for those that they supersede")]
    TooManyWait,
    /// It could not be read or kept: nothing has changed.
    #[error("{why}")]
    Store {
        why: String,
        /// The disk is full.
        full: bool,
    },
    /// It has taken effect here but is not on disk.
    #[error("rollout {rollout} goes that way here, but that can't be written down: {why}")]
    NotDurable {
        rollout: RolloutId,
        why: String,
        /// The disk is full.
        full: bool,
    },
    /// It does not end.
    #[error("rollout {0} has not gone back yet")]
    StillRuns(RolloutId),
    /// The node shuts down.
    #[error("this node is shutting down")]
    ShuttingDown,
}

#[derive(Debug)]
enum Ask {
    Begin(NewRollout, oneshot::Sender<Result<(RolloutId, bool), Refusal>>),
    Command { id: RolloutId, command: Command, message: String, reply: oneshot::Sender<Result<(), Refusal>> },
    GoBack(begin::Back, oneshot::Sender<Result<RolloutId, Refusal>>),
}

impl Driver {
    /// Takes up the rollouts that run and goes on with them until `stopped`. `reports` are what agents say.
    pub async fn start(
        parts: Parts,
        reports: mpsc::Receiver<Event>,
        stopped: CancellationToken,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (asks, receiver) = mpsc::channel(WAITING_CALLS);
        let (sender, views) = watch::channel(Arc::default());
        let mut actor = Actor::new(parts.clone(), sender);
        actor.recover().await;
        let task = tokio::spawn(actor.run(receiver, reports, stopped));
        (Self { asks, views, parts }, task)
    }

    /// The rollouts that run and those that ended last; changes when they do.
    pub(crate) fn views(&self) -> watch::Receiver<Arc<Views>> {
        self.views.clone()
    }

    /// One rollout, from memory or from the ledger.
    pub(crate) async fn view(&self, id: &RolloutId) -> Result<Arc<View>, Refusal> {
        if let Some(view) = self.views.borrow().get(id) {
            return Ok(Arc::clone(view));
        }
        let (ledger, wanted) = (self.parts.ledger.clone(), id.clone());
        let found = crate::blocking(move || ledger.rollout(&wanted)).await.map_err(|error| stored(&error))?;
        let value = found.ok_or_else(|| Refusal::NoRollout(id.to_string()))?;
        let record = Record::decode(value).map_err(|error| stored(&error))?;
        Ok(Arc::new(record.view()))
    }

    /// Begins a rollout. True beside its id: it had been begun by an earlier call with the same request name.
    pub(crate) async fn begin(&self, new: NewRollout) -> Result<(RolloutId, bool), Refusal> {
        self.ask(|reply| Ask::Begin(new, reply)).await
    }

    /// Gives a running rollout a command. An abort moves traffic on this node before anything else happens.
    pub(crate) async fn command(
        &self,
        id: RolloutId,
        command: Command,
        message: String,
    ) -> Result<Option<Flip>, Refusal> {
        let mut flip = None;
        if let Command::Abort { by } = &command
            && let Some(view) = self.views.borrow().get(&id).filter(|view| !view.status.phase.is_final())
        {
            for module in view.spec.moves.keys() {
                flip = self.parts.agent.turn_back(module, None, by).or(flip);
            }
        }
        self.ask(|reply| Ask::Command { id, command, message, reply }).await?;
        Ok(flip)
    }

    /// Takes a module back: its running rollout is aborted, else its preceding stable serves again.
    pub(crate) async fn go_back(
        &self,
        module: ModuleName,
        to: To,
        by: String,
        message: String,
        request: String,
    ) -> Result<WentBack, Refusal> {
        if let Some(done) = self.went_back(&module, &request).await? {
            return Ok(done);
        }
        let name = Module(module.to_string());
        let running = self.running(&name);
        if let Some(view) = running.filter(|_| to == To::Preceding) {
            let releases = view.spec.moves.get(&name).copied();
            let Some((from, to)) = releases.and_then(|of| Some((of.candidate, of.stable?))) else {
                let why = "its first release is still being tried; abort it instead".to_owned();
                return Err(Refusal::NothingToReturnTo { module, why });
            };
            let id = view.status.id.clone();
            let flip = self.command(id.clone(), Command::Abort { by }, message).await?;
            return Ok(WentBack { rollout: id, aborted: true, from, to, flip });
        }
        let (from, to) = begin::way_back(&self.parts.ledger, &module, &to)?;
        let flip = self.parts.agent.turn_back(&name, Some(to), &by);
        let name = module.clone();
        let rollout = self
            .ask(|reply| Ask::GoBack(begin::Back { module: name, from, to, by, message, request }, reply))
            .await?;
        if flip.is_none() {
            // No standby: traffic moves when its host has started, which can fail.
            self.arrived(&rollout, module, to).await?;
        }
        Ok(WentBack { rollout, aborted: false, from, to, flip })
    }

    /// Returns when a rollback has moved traffic, or says why it did not.
    async fn arrived(&self, id: &RolloutId, module: ModuleName, to: ReleaseNumber) -> Result<(), Refusal> {
        self.ended(id).await?;
        match self.views().borrow().get(id).and_then(|view| view.meta.outcome.clone()) {
            Some(
                Outcome::Failed { reason }
                | Outcome::RolledBack { reason, .. }
                | Outcome::Superseded { reason },
            ) => Err(Refusal::NotGoneBack { module, to, why: reason.to_string() }),
            Some(Outcome::Done | Outcome::Incomplete { .. }) | None => Ok(()),
        }
    }

    /// All rollouts, newest first: those that run and at most `limit` that ended.
    pub(crate) async fn all_views(&self, limit: usize) -> Result<Vec<Arc<View>>, Refusal> {
        let ledger = self.parts.ledger.clone();
        let ended =
            crate::blocking(move || ledger.ended_rollouts(limit)).await.map_err(|error| stored(&error))?;
        let mut all: Views = (**self.views.borrow()).clone();
        for value in ended {
            match Record::decode(value) {
                Ok(record) => drop(all.entry(record.id().clone()).or_insert_with(|| Arc::new(record.view()))),
                Err(error) => {
                    tracing::debug!(error = %crate::grpc::chain(&error), "an old rollout is left out")
                }
            }
        }
        // Ids sort by time.
        Ok(all.into_values().rev().collect())
    }

    /// Returns when the rollout is over.
    pub(crate) async fn ended(&self, id: &RolloutId) -> Result<(), Refusal> {
        let mut views = self.views();
        let over = |views: &Arc<Views>| views.get(id).is_none_or(|view| view.meta.ended.is_some());
        let waited = tokio::time::timeout(LONGEST_WAY_BACK, views.wait_for(over)).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Refusal::ShuttingDown),
            Err(_) => Err(Refusal::StillRuns(id.clone())),
        }
    }

    /// The running rollout of a module.
    pub(crate) fn running(&self, module: &Module) -> Option<Arc<View>> {
        let views = self.views.borrow();
        let of = |view: &&Arc<View>| view.spec.moves.contains_key(module) && !view.status.phase.is_final();
        views.values().find(of).cloned()
    }

    /// What an earlier call with this request name did.
    async fn went_back(&self, module: &ModuleName, request: &str) -> Result<Option<WentBack>, Refusal> {
        if request.is_empty() {
            return Ok(None);
        }
        let found = self.parts.ledger.rollout_of_request(request).map_err(|error| stored(&error))?;
        let Some(rollout) = found else { return Ok(None) };
        let view = self.view(&rollout).await?;
        let releases = view.spec.moves.get(&Module(module.to_string()));
        let Some((from, to)) = releases.and_then(|of| Some((of.stable?, of.candidate))) else {
            return Err(Refusal::RequestReused(request.to_owned()));
        };
        Ok(Some(WentBack { rollout, aborted: false, from, to, flip: None }))
    }

    async fn ask<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Ask,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        if self.asks.send(ask(reply)).await.is_err() {
            return Err(Refusal::ShuttingDown);
        }
        answer.await.unwrap_or(Err(Refusal::ShuttingDown))
    }
}

/// The driver's clock.
fn now() -> Time {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

/// When `time` will be, on the clock that timers use.
fn at(time: Time) -> Instant {
    Instant::now() + time.since(now()).into()
}

fn stored(error: &(dyn std::error::Error + 'static)) -> Refusal {
    let (why, full) = crate::grpc::disk(error);
    Refusal::Store { why, full }
}
