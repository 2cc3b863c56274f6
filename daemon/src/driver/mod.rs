//! Runs rollouts: feeds events to the rollout machines, persists, then acts.
//!
//! Holds no rules of its own: what follows from what is decided in `hot-rollout`. One task owns all machines of this
//! node, so events of a rollout are handled one after the other; [`Driver`] is the handle to it.
//!
//! The order of effects is the machine's contract: actions toward stable, then the snapshot on disk, then the rest.
//! `rollback` and `abort` go one step further: traffic moves in the caller's own task ([`Agent::turn_back`]), before
//! the driver's task has even heard of it.

mod actor;
mod back;
mod begin;
mod check;
mod crash_loop;
mod failing;
mod half_done;
mod level;
mod local;
mod on;
mod overtaken;
mod perform;
mod plan;
mod record;
mod refusal;
mod terms;
mod undone;
mod views;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hot_artifact::{ModuleName, Sha256, Version};
use hot_rollout::{Command, Event, Labels, Module, Node, Policy, ReleaseNumber, RolloutId, Time};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::actor::Actor;
pub(crate) use self::back::{GoBack, To, WentBack, Who};
pub use self::crash_loop::OnCrashLoop;
pub(crate) use self::failing::Held;
pub(crate) use self::local::WentAlone;
pub(crate) use self::plan::{Planned, Thought};
pub(crate) use self::record::{Record, View};
pub(crate) use self::refusal::Refusal;
use self::refusal::{stored, unkept};
pub(crate) use self::views::Views;
use crate::agent::{Agent, Flip};
use crate::cluster::Cluster;
use crate::journal::Journal;
use crate::ledger::Ledger;
use crate::trust::{Frozen, TrustFiles};

/// Calls that may wait for the driver's task. More callers than this wait for a place.
const WAITING_CALLS: usize = 64;

/// What the driver works with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// This node's name.
    pub node: Node,
    /// Where rollouts, releases and assignments are kept.
    pub ledger: Ledger,
    /// Carries assignments to nodes.
    pub cluster: Cluster,
    /// The rules of a rollout that names no others.
    pub policy: Policy,
    /// This node's agent: for what must not wait for the cluster.
    pub agent: Agent,
    /// Whose modules may be let in: asked before a rollout begins.
    pub trust: TrustFiles,
    /// Where people read what happened.
    pub journal: Journal,
}

/// A handle to the driver; clones are the same driver.
#[derive(Clone, Debug)]
pub struct Driver {
    asks: mpsc::Sender<Ask>,
    views: watch::Receiver<Arc<Views>>,
    held: watch::Receiver<BTreeMap<RolloutId, Held>>,
    /// Whether this node's rollouts are all that there are: not while it does not lead its fleet.
    drives: Arc<AtomicBool>,
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
    /// What is quarantined is tried again: its quarantine is lifted.
    pub retry: bool,
    /// The labels that a node must have to run it; none: as of what is stable.
    pub on: Option<Labels>,
}

#[derive(Debug)]
enum Ask {
    /// With whether anything new is let in: asked by the caller, since the answer may be on a disk that hangs.
    Begin(NewRollout, Result<(), Arc<Frozen>>, oneshot::Sender<Result<(RolloutId, bool), Refusal>>),
    Command(Order, oneshot::Sender<Result<(), Refusal>>),
    GoBack(GoBack, begin::BackReply),
    /// Nodes are to run nothing of a module any more.
    Withdraw(Module, oneshot::Sender<Result<(), Refusal>>),
}

impl Ask {
    fn refuse(self, refusal: Refusal) {
        match self {
            Self::Begin(_, _, reply) => drop(reply.send(Err(refusal))),
            Self::Command(_, reply) | Self::Withdraw(_, reply) => drop(reply.send(Err(refusal))),
            Self::GoBack(_, reply) => drop(reply.send(Err(refusal))),
        }
    }
}

/// A command to a rollout that runs.
#[derive(Debug)]
struct Order {
    id: RolloutId,
    command: Command,
    message: String,
    /// The request name of the rollback that it is part of; empty: none.
    request: String,
}

impl Driver {
    /// Takes up the rollouts that run and goes on with them until `stopped`; in a fleet while this node leads. `reports`
    /// are what the agent of a node that is alone says.
    pub async fn start(
        parts: Parts,
        reports: mpsc::Receiver<Event>,
        stopped: CancellationToken,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (asks, receiver) = mpsc::channel(WAITING_CALLS);
        let (sender, views) = watch::channel(Arc::default());
        let (holding, held) = watch::channel(BTreeMap::new());
        let mut actor = Actor::new(parts.clone(), sender, holding);
        let drives = Arc::new(AtomicBool::new(matches!(parts.cluster, Cluster::Local(_))));
        let task = match &parts.cluster {
            Cluster::Local(local) => {
                actor.recover(local.running_rollouts()).await;
                let (mut asks, mut reports) = (receiver, reports);
                tokio::spawn(async move { actor.run(&mut asks, &mut reports, &stopped).await })
            }
            Cluster::Fleet(fleet) => {
                tokio::spawn(terms::run(fleet.clone(), actor, receiver, Arc::clone(&drives), stopped))
            }
        };
        (Self { asks, views, held, drives, parts }, task)
    }

    /// The rollouts that run and those that ended last; changes when they do.
    pub(crate) fn views(&self) -> watch::Receiver<Arc<Views>> {
        self.views.clone()
    }

    /// The rollouts that want something which can't be done yet.
    pub(crate) fn held(&self) -> BTreeMap<RolloutId, Held> {
        self.held.borrow().clone()
    }

    /// One rollout, from memory or from the ledger.
    pub(crate) async fn view(&self, id: &RolloutId) -> Result<Arc<View>, Refusal> {
        if let Some(view) = self.views.borrow().get(id) {
            return Ok(view);
        }
        let (ledger, wanted) = (self.parts.ledger.clone(), id.clone());
        let found = crate::blocking(move || ledger.rollout(&wanted)).await.map_err(|error| stored(&error))?;
        let value = found.ok_or_else(|| self.not_here(id))?;
        let record = Record::decode(value).map_err(|error| stored(&error))?;
        Ok(Arc::new(record.view()))
    }

    /// Whether what this node drives are all rollouts that there are.
    pub(crate) fn drives_all(&self) -> bool {
        self.drives.load(Ordering::Acquire)
    }

    /// That this node does not know a rollout: which says that there is none only where it drives them.
    fn not_here(&self, id: &RolloutId) -> Refusal {
        if self.drives_all() {
            Refusal::NoRollout(id.to_string())
        } else {
            Refusal::not_leader(&self.parts.cluster)
        }
    }

    /// Begins a rollout. True beside its id: it had been begun by an earlier call with the same request name.
    pub(crate) async fn begin(&self, new: NewRollout) -> Result<(RolloutId, bool), Refusal> {
        let modules: Vec<Module> = new.pushes.iter().map(|push| Module(push.module.to_string())).collect();
        let admitted = self.parts.trust.admitting().await.map(drop);
        for Push { module, version, .. } in &new.pushes {
            self.parts.cluster.have(module, version).await.map_err(|error| unkept(&error))?;
        }
        self.in_time(&modules, self.ask(|reply| Ask::Begin(new, admitted, reply))).await
    }

    /// Gives a running rollout a command. An abort moves traffic on this node before anything else happens.
    pub(crate) async fn command(
        &self,
        id: RolloutId,
        command: Command,
        message: String,
    ) -> Result<Option<Flip>, Refusal> {
        let modules: Vec<Module> = self
            .views
            .borrow()
            .get(&id)
            .map_or_else(Vec::new, |view| view.spec.moves.keys().cloned().collect());
        self.in_time(&modules, self.order(Order { id, command, message, request: String::new() })).await
    }

    async fn order(&self, order: Order) -> Result<Option<Flip>, Refusal> {
        let mut flip = None;
        if let Command::Abort { by } = &order.command {
            let view = self.views.borrow().get(&order.id);
            if let Some(view) = view.filter(|view| view.is_push_under_way()) {
                for module in view.spec.moves.keys() {
                    flip = self.parts.agent.turn_back(module, None, by).or(flip);
                }
            }
        }
        self.ask(|reply| Ask::Command(order, reply)).await?;
        Ok(flip)
    }

    /// Has no node of a fleet run anything of a module, which no rollout moves, and nothing of it be stable.
    pub(crate) async fn withdraw(&self, module: Module) -> Result<(), Refusal> {
        let modules = [module.clone()];
        self.in_time(&modules, self.ask(|reply| Ask::Withdraw(module, reply))).await
    }

    /// Rollouts for which `wanted` holds, newest first, at most `limit`.
    pub(crate) async fn list(
        &self,
        limit: usize,
        wanted: impl Fn(&View) -> bool + Send + 'static,
    ) -> Result<Vec<Arc<View>>, Refusal> {
        let (ledger, known) = (self.parts.ledger.clone(), Arc::clone(&self.views.borrow()));
        crate::blocking(move || known.list(&ledger, limit, wanted)).await.map_err(|error| stored(&error))
    }

    /// The rollback of `module` to this release that began no sooner than `since`.
    pub(crate) async fn rollback_since(
        &self,
        module: &Module,
        to: ReleaseNumber,
        since: Time,
    ) -> Option<RolloutId> {
        let module = module.clone();
        let is_it = move |view: &View| {
            view.status.started >= since && view.way_back(&module).is_some_and(|back| back.to == to)
        };
        Some(self.list(1, is_it).await.ok()?.first()?.status.id.clone())
    }

    /// The ids that begin with `prefix`: at most two, which is enough to know that one is not the only one.
    pub(crate) async fn named(&self, prefix: &str) -> Result<Vec<RolloutId>, Refusal> {
        let (ledger, known) = (self.parts.ledger.clone(), Arc::clone(&self.views.borrow()));
        let wanted = prefix.to_owned();
        let named = crate::blocking(move || known.named(&ledger, &wanted)).await;
        let named = named.map_err(|error| stored(&error))?;
        match self.not_here(&RolloutId(prefix.to_owned())) {
            not_leader @ Refusal::NotLeader { .. } if named.is_empty() => Err(not_leader),
            _ => Ok(named),
        }
    }

    /// Returns when the rollout is over, however long that takes: see [`Self::in_time`].
    pub(crate) async fn ended(&self, id: &RolloutId) -> Result<(), Refusal> {
        let mut views = self.views();
        let over = |views: &Arc<Views>| {
            views.get(id).is_none_or(|view| view.status.phase.is_final() && view.meta.ended.is_some())
        };
        match views.wait_for(over).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Refusal::ShuttingDown),
        }
    }

    /// What `call`, which is about these modules, comes to; or in time why it has not come to anything yet. What it
    /// asked for goes on.
    pub(crate) async fn in_time<T>(
        &self,
        modules: &[Module],
        call: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        match tokio::time::timeout(hot_proto::WAY_BACK_WITHIN, call).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                let running = modules.iter().find_map(|module| self.running(module));
                Err(running.map_or(Refusal::NotInTime, |view| Refusal::StillRuns(view.status.id.clone())))
            }
        }
    }

    /// The running rollout of a module.
    pub(crate) fn running(&self, module: &Module) -> Option<Arc<View>> {
        self.latest(module).filter(|view| !view.status.phase.is_final())
    }

    /// The running rollout of a module, else its latest one.
    pub(crate) fn latest(&self, module: &Module) -> Option<Arc<View>> {
        self.views.borrow().latest(module)
    }

    async fn ask<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Ask,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        if self.asks.send(ask(reply)).await.is_err() {
            return Err(Refusal::ShuttingDown);
        }
        answer.await.unwrap_or_else(|_dropped| {
            // What a term of leading leaves undone is dropped with it.
            Err(if self.drives_all() {
                Refusal::ShuttingDown
            } else {
                Refusal::not_leader(&self.parts.cluster)
            })
        })
    }
}
