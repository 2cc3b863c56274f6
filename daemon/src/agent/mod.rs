//! Makes this node's assignments true: starts and stops instances, tells the gateway who has how much traffic, counts
//! for the judgement, and moves toward stable by itself.
//!
//! Never moves away from stable by itself: that takes an assignment. Does not choose releases or judge a rollout; the
//! driver gives assignments, the operator's calls and the driver read [`Agent::slots`].
//!
//! One lock guards what the node knows of its modules. It is never held across an await, so the way back waits for
//! nothing: [`Agent::obey`] toward stable and [`Agent::turn_back`] take effect before anything is written.

mod guard;
mod launch;
mod plan;
mod slot;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hot_rollout::{
    Assignment, Cause, Direction, Event, InstanceState, Module, Node, ReleaseNumber, Revision,
};
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

pub(crate) use self::slot::{Run, RunState, Slot};
use crate::gateway::{Backend, Gateway, ModuleTable, Table};
use crate::ledger::{Ledger, LedgerError};
use crate::supervisor::{Adopted, InstanceId, Supervisor};
use crate::trust::TrustFiles;

/// How long a host that is no longer wanted may finish what it has.
const DRAIN: Duration = Duration::from_secs(30);

/// Between two times at which the node restates what is so, counts, and asks the guard.
pub(crate) const TICK: Duration = Duration::from_millis(500);

/// What every module on this node gets.
#[derive(Clone, Copy, Debug)]
pub struct ModuleBounds {
    /// From a request's head to its response's last byte.
    pub deadline: Duration,
    /// Requests that its hosts may have at once.
    pub max_in_flight: u32,
    /// Requests that may wait beyond those.
    pub max_waiting: u32,
    /// From the start of a host to ready, where no assignment says otherwise.
    pub start_deadline: Duration,
    /// Between two health checks, where no assignment says otherwise.
    pub health_interval: Duration,
    /// Failed checks in a row that end an instance, where no assignment says otherwise.
    pub health_threshold: u32,
}

/// What the agent works with.
#[derive(Debug)]
pub struct Parts {
    /// This node's name.
    pub node: Node,
    /// Releases and artifacts.
    pub ledger: Ledger,
    /// Whose signatures count.
    pub trust: TrustFiles,
    /// Starts hosts.
    pub supervisor: Supervisor,
    /// Splits traffic.
    pub gateway: Gateway,
    /// Bounds for modules.
    pub bounds: ModuleBounds,
    /// Largest artifact, bytes.
    pub max_artifact: u64,
}

/// A handle to the agent; clones are the same agent.
#[derive(Clone, Debug)]
pub struct Agent {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    parts: Parts,
    slots: Mutex<BTreeMap<Module, Slot>>,
    reports: mpsc::Sender<Event>,
    changed: watch::Sender<u64>,
    next_instance: AtomicU64,
    tasks: TaskTracker,
}

/// Traffic moved toward stable.
#[derive(Clone, Copy, Debug)]
pub struct Flip {
    /// What it left.
    pub from: ReleaseNumber,
    /// The instance that it left.
    pub from_instance: Option<InstanceId>,
    /// Where it went.
    pub to: ReleaseNumber,
    /// From when on no request was given to what it left.
    pub at: Instant,
}

impl Agent {
    /// An agent that obeys nothing yet, and what it will report. Reports restate what is so, so a full channel loses
    /// nothing that does not come again within [`TICK`].
    #[must_use]
    pub fn new(parts: Parts) -> (Self, mpsc::Receiver<Event>) {
        let (reports, receiver) = mpsc::channel(1024);
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        // Numbers go on from the clock, so that they differ from those of a hotd before this one.
        let first = u64::try_from(since_epoch.as_micros()).unwrap_or(1);
        let shared = Shared {
            parts,
            slots: Mutex::default(),
            reports,
            changed: watch::Sender::new(0),
            next_instance: AtomicU64::new(first),
            tasks: TaskTracker::new(),
        };
        (Self { shared: Arc::new(shared) }, receiver)
    }

    /// Takes over what runs already, then obeys the assignments that the node accepted last. To be called once, before
    /// the gateway opens.
    pub fn recover(&self, adopted: Vec<Adopted>, accepted: Vec<Assignment>) {
        // Locked throughout: how a host ended meanwhile is judged by the assignment, and nothing is started that runs.
        let mut slots = self.lock();
        let modules: Vec<Module> = accepted.iter().map(|assignment| assignment.module.clone()).collect();
        for assignment in accepted {
            slots.entry(assignment.module.clone()).or_insert_with(Slot::new).recover(assignment);
        }
        let mut adopted = adopted;
        // The newest of a release is the one that serves.
        adopted.sort_by_key(|adopted| adopted.spec.instance);
        for adopted in adopted {
            self.adopt(&mut slots, adopted);
        }
        for module in modules {
            self.reconcile(&mut slots, &module);
        }
        let unknown: Vec<Module> = slots
            .iter()
            .filter(|(_, slot)| slot.assignment.is_none())
            .map(|(module, _)| module.clone())
            .collect();
        for module in unknown {
            self.stop_all(&mut slots, &module);
        }
        self.publish(&slots);
    }

    /// Takes an assignment: toward stable it takes effect first and is then written, else it is written first. It is
    /// on disk when this returns. An older one than the node has changes nothing, and neither does one with a candidate
    /// that the node took back from the same rollout.
    pub async fn obey(&self, assignment: Assignment, direction: Direction) -> Result<(), LedgerError> {
        let stays_back = |slots: &BTreeMap<Module, Slot>| {
            slots.get(&assignment.module).is_some_and(|slot| slot.stays_back(&assignment))
        };
        if self.slots(stays_back) {
            // The clock says once more that it was taken back.
            return Ok(());
        }
        if direction == Direction::TowardStable {
            self.accept(assignment.clone());
            self.persist(assignment, direction).await
        } else {
            self.persist(assignment.clone(), direction).await?;
            self.accept(assignment);
            Ok(())
        }
    }

    /// The expiry of assignments up to `revision` for `module` starts anew.
    pub fn renew(&self, module: &Module, revision: Revision) {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(module) else { return };
        if slot.assignment.as_ref().is_some_and(|assignment| assignment.revision <= revision) {
            slot.renewed = Some(Instant::now());
        }
    }

    /// Moves traffic toward stable at once, without anybody's leave: from a candidate to stable or, with `to`, from
    /// stable to that release where it is ready as standby. `None` when there is nothing to move that way.
    #[must_use]
    pub fn turn_back(&self, module: &Module, to: Option<ReleaseNumber>, by: &str) -> Option<Flip> {
        let mut slots = self.lock();
        let slot = slots.get_mut(module)?;
        let flip = slot.turn_back(to, by)?;
        self.reconcile(&mut slots, module);
        drop(slots);
        self.shared.note_change();
        Some(Flip { at: Instant::now(), ..flip })
    }

    /// Checks that these releases could run here, without running anything, and reports. They are checked again when
    /// they are loaded.
    pub fn prepare(&self, modules: &[(Module, ReleaseNumber)]) {
        for (module, release) in modules.iter().cloned() {
            let agent = self.clone();
            self.shared.tasks.spawn(async move {
                let Parts { ledger, trust, node, max_artifact, .. } = &agent.shared.parts;
                let (ledger, trusted, max_size, name) =
                    (ledger.clone(), trust.current(), *max_artifact, module.clone());
                let checked = crate::blocking(move || {
                    let runnable = ledger.runnable(&name, release)?;
                    ledger.verified(&name, &runnable, &trusted, max_size)?;
                    ledger.config(&runnable)
                })
                .await;
                let node = node.clone();
                let event = match checked {
                    Ok(_) => Event::Prepared { node, module },
                    Err(error) => Event::PrepareFailed { node, module, text: crate::describe(&error) },
                };
                // Not restated by the clock, so it waits for room.
                drop(agent.shared.reports.send(event).await);
            });
        }
    }

    /// Replaces the instance of a module's stable release by a new one: traffic moves when the new one is ready. The
    /// number of instances that were replaced.
    pub(crate) async fn restart(&self, module: &Module) -> Result<u32, RestartError> {
        let (old, release) = {
            let mut slots = self.lock();
            let slot = slots.get_mut(module).ok_or_else(|| RestartError::NotRunning(module.clone()))?;
            let stable = slot.stable().ok_or_else(|| RestartError::NotRunning(module.clone()))?;
            let old = slot.run_of(stable).map(|run| run.id);
            let coming = slot
                .runs
                .iter()
                .any(|run| run.release == stable && Some(run.id) > old && run.state == RunState::Starting);
            if !coming {
                self.launch(module, slot, stable);
            }
            (old, stable)
        };
        let replaced = async {
            let mut changes = self.changes();
            loop {
                let state = self.slots(|slots| replacement(slots.get(module)?, release, old));
                match state {
                    None => {}
                    Some(Ok(())) => return Ok(1),
                    Some(Err(reason)) => return Err(RestartError::Failed(reason)),
                }
                if changes.changed().await.is_err() {
                    return Err(RestartError::NotRunning(module.clone()));
                }
            }
        };
        let deadline = self.shared.parts.bounds.start_deadline + TICK;
        tokio::time::timeout(deadline, replaced).await.unwrap_or_else(|_elapsed| {
            Err(RestartError::Failed(format!(
                "the new instance was not ready within {} s",
                deadline.as_secs()
            )))
        })
    }

    /// The revision of the assignment that this node obeys for `module`.
    #[must_use]
    pub fn revision(&self, module: &Module) -> Option<Revision> {
        self.slots(|slots| slots.get(module)?.assignment.as_ref().map(|assignment| assignment.revision))
    }

    /// Every module with a stable release serves it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let ready = |slot: &Slot| {
            slot.stable()
                .is_none_or(|stable| slot.run_of(stable).is_some_and(|run| run.state == RunState::Ready))
        };
        self.slots(|slots| slots.values().all(ready))
    }

    /// Reads what runs.
    pub(crate) fn slots<T>(&self, read: impl FnOnce(&BTreeMap<Module, Slot>) -> T) -> T {
        read(&self.lock())
    }

    /// Changes whenever [`Agent::slots`] has something new to say.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// What the gateway counted for an instance.
    pub(crate) fn counters(&self, instance: InstanceId) -> crate::gateway::Counters {
        self.shared.parts.gateway.counters(instance)
    }

    /// Forgets a module and stops all that runs of it.
    pub fn forget(&self, module: &Module) {
        let mut slots = self.lock();
        self.stop_all(&mut slots, module);
        if let Some(slot) = slots.get_mut(module) {
            // A module of this name that comes later begins with revision 1 again.
            slot.clear();
        }
        self.publish(&slots);
        drop(slots);
        self.shared.note_change();
    }

    /// Stops every host and waits until they are gone, at most `deadline`.
    pub async fn stop_hosts(&self, deadline: Duration) {
        {
            let mut slots = self.lock();
            let modules: Vec<Module> = slots.keys().cloned().collect();
            for module in modules {
                if let Some(slot) = slots.get_mut(&module) {
                    slot.assignment = None;
                }
                self.stop_all(&mut slots, &module);
            }
        }
        self.shared.tasks.close();
        if tokio::time::timeout(deadline, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!("some hosts did not end in time; hot-spawn ends them");
        }
    }

    fn accept(&self, assignment: Assignment) {
        let module = assignment.module.clone();
        let mut slots = self.lock();
        if slots.entry(module.clone()).or_insert_with(Slot::new).accept(assignment) {
            self.reconcile(&mut slots, &module);
        }
        drop(slots);
        self.shared.note_change();
    }

    async fn persist(&self, assignment: Assignment, direction: Direction) -> Result<(), LedgerError> {
        let ledger = self.shared.parts.ledger.clone();
        crate::blocking(move || ledger.accept(&assignment, direction)).await
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Module, Slot>> {
        // A panic while it is held is a bug of ours; what the map says is still the best there is.
        self.shared.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn mint(&self) -> InstanceId {
        InstanceId(self.shared.next_instance.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes one step toward the assignment: tells the gateway who serves, starts what is missing, stops what is not
    /// wanted. Called again at every change, so each call does what can be done now.
    fn reconcile(&self, slots: &mut BTreeMap<Module, Slot>, module: &Module) {
        let Some(slot) = slots.get_mut(module) else { return };
        let Some(plan) = slot.plan() else { return };
        let revision = slot.assignment.as_ref().map(|assignment| assignment.revision);
        if slot.serving != plan.serve {
            slot.serving.clone_from(&plan.serve);
            self.count_anew(slot);
        }
        for release in plan.start {
            self.launch(module, slot, release);
        }
        // Before anything stops, nothing goes there any more.
        self.publish(slots);
        let Some(slot) = slots.get_mut(module) else { return };
        if let Some(revision) = revision.filter(|_| plan.applied)
            && slot.applied.is_none_or(|(applied, _)| applied != revision)
        {
            slot.applied = Some((revision, Instant::now()));
            // Each revision is counted for itself, even where the weights stay.
            self.count_anew(slot);
            if slot.is_whole() {
                self.shared.report(Event::Applied {
                    node: self.shared.parts.node.clone(),
                    module: module.clone(),
                    revision,
                });
            }
        }
        let superseded = slot.superseded();
        let stop: Vec<InstanceId> = slot
            .runs
            .iter()
            .filter(|run| plan.stop.contains(&run.release) || superseded.contains(&run.id))
            .map(|run| run.id)
            .collect();
        for id in stop {
            self.stop(module, slot, id);
        }
    }

    fn stop_all(&self, slots: &mut BTreeMap<Module, Slot>, module: &Module) {
        let Some(slot) = slots.get_mut(module) else { return };
        let ids: Vec<InstanceId> = slot.runs.iter().map(|run| run.id).collect();
        for id in ids {
            self.stop(module, slot, id);
        }
    }

    /// Gives the gateway all modules as they are to be served now.
    fn publish(&self, slots: &BTreeMap<Module, Slot>) {
        let bounds = &self.shared.parts.bounds;
        let modules =
            slots.iter().filter(|(_, slot)| slot.assignment.is_some()).map(|(module, slot)| ModuleTable {
                module: module.0.clone(),
                deadline: bounds.deadline,
                max_in_flight: bounds.max_in_flight,
                max_waiting: bounds.max_waiting,
                backends: slot.backends(),
            });
        self.shared.parts.gateway.publish(Table { modules: modules.collect() });
    }
}

/// Why instances were not replaced. What served goes on serving.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestartError {
    /// There is nothing to replace.
    #[error("{0} has no stable release on this node")]
    NotRunning(Module),
    /// The new instance did not come up.
    #[error("the new instance failed, and the old one goes on serving: it {0}")]
    Failed(String),
}

/// How far the replacement of `old` is; `None`: it is under way.
fn replacement(slot: &Slot, release: ReleaseNumber, old: Option<InstanceId>) -> Option<Result<(), String>> {
    if slot.run_of(release).is_some_and(|run| run.state == RunState::Ready && Some(run.id) > old) {
        return Some(Ok(()));
    }
    let newer = |run: &&Run| run.release == release && Some(run.id) > old;
    let failed = slot.instances().filter(newer).find(|run| run.state == RunState::Ended)?;
    Some(Err(failed.reason.clone()))
}

impl Shared {
    /// Best effort: what is lost here is said again at the next tick.
    fn report(&self, event: Event) {
        if self.reports.try_send(event).is_err() {
            tracing::debug!("a report waits for the next tick");
        }
    }

    fn note_change(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn instance_event(&self, module: &Module, release: ReleaseNumber, state: InstanceState) -> Event {
        Event::Instance { node: self.parts.node.clone(), module: module.clone(), release, state }
    }

    fn took_back(&self, module: &Module, revision: Revision, cause: Cause) -> Event {
        Event::TookBack { node: self.parts.node.clone(), module: module.clone(), revision, cause }
    }
}

impl Slot {
    /// The gateway's view of this module. A release that is to serve and has no host at present keeps its routes, so
    /// that its requests wait for the next one instead of being unknown.
    fn backends(&self) -> Vec<Backend> {
        let backend = |&(release, role, weight): &plan::Serving| {
            let run = self
                .run_of(release)
                .or_else(|| self.former.iter().rev().find(|run| run.release == release))?;
            Some(Backend {
                instance: run.id,
                release: release.0,
                version: run.version.to_string(),
                role: role.into(),
                weight: weight.basis_points(),
                routes: run.routes.clone(),
            })
        };
        self.serving.iter().filter_map(backend).collect()
    }
}

impl From<hot_rollout::Role> for crate::gateway::Role {
    fn from(role: hot_rollout::Role) -> Self {
        match role {
            hot_rollout::Role::Stable => Self::Stable,
            hot_rollout::Role::Candidate => Self::Candidate,
            hot_rollout::Role::Standby => Self::Standby,
        }
    }
}
