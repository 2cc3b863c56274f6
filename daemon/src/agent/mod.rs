//! Makes this node's assignments true: starts and stops instances, tells the gateway who has how much traffic, counts
//! for the judgement, and moves toward stable by itself.
//!
//! Never moves away from stable by itself: that takes an assignment. Does not choose releases or judge a rollout; the
//! driver gives assignments, the operator's calls and the driver read [`Agent::slots`].
//!
//! One lock guards what the node knows of its modules. It is never held across an await, so the way back waits for
//! nothing: [`Agent::obey`] toward stable and [`Agent::turn_back`] take effect before anything is written.
//!
//! Rooms that decide and do nothing: `orders` what the node obeys, `plan` what is next, `resting` when to try again,
//! `swap` what became of one, with `recent` and `proof`, `calls` what a refused system call tells.
//! `slot` is what they look at, one for each module. Rooms that do: `reconcile` a step of the plan, `launch` one
//! instance from its artifact to its end, `lost` one that ended with hot-spawn, `restart`, `prepare`, `local` what a person does on this node alone; `missing` says how
//! instances are held, `denied` keeps what is told of refused calls and `calls` has their names; `guard` has the clock,
//! `review` looks after signers, `figures` counts, `swapping` follows swaps, `keep` writes down what the node obeys, and
//! `report` tells the driver.

mod calls;
mod denied;
mod figures;
mod guard;
mod keep;
mod launch;
mod local;
mod lost;
mod missing;
mod orders;
mod plan;
mod prepare;
mod proof;
mod recent;
mod reconcile;
mod report;
mod restart;
mod resting;
mod review;
mod slot;
mod swap;
mod swapping;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hot_artifact::ModuleName;
use hot_rollout::{Direction, Event, Module, Node, ReleaseNumber, Revision, Role};
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

pub(crate) use self::calls::{attack as attack_of, name as call_name};
pub(crate) use self::missing::Lacking;
pub use self::orders::Word;
pub(crate) use self::proof::{BEGUN as SWAP_BEGUN, KIND as SWAP_KIND, Party, Proof, Window};
pub(crate) use self::restart::RestartError;
pub(crate) use self::slot::{CrashLoop, Run, RunState, Slot, Unwritten};
use crate::gateway::Gateway;
use crate::isolation::Asked;
use crate::journal::Journal;
use crate::ledger::{Ledger, LedgerError, Obeyed};
use crate::supervisor::{Adopted, InstanceId, Supervisor};
use crate::trust::TrustFiles;

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
    /// Streams at once.
    pub max_streams: u32,
    /// From the start of a host to ready, where no assignment says otherwise.
    pub start_deadline: Duration,
    /// Between two health checks, where no assignment says otherwise.
    pub health_interval: Duration,
    /// Failed checks in a row that end an instance, where no assignment says otherwise.
    pub health_threshold: u32,
    /// How long an instance that is no longer wanted may finish what it has.
    pub drain: Duration,
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
    /// What happens to instances, for people.
    pub journal: Journal,
    /// Bounds for modules.
    pub bounds: ModuleBounds,
    /// How instances are to be held, and what they may use.
    pub asked: Asked,
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
    /// Held while what a module's node obeys is read and written down, so that the newest is written last.
    keeping: tokio::sync::Mutex<()>,
    tasks: TaskTracker,
    /// What was said last that instances are held without.
    said_missing: Mutex<hot_wire::isolation::Parts>,
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
    /// The revision of the assignment by which the node had served what it left.
    pub revision: Revision,
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
            keeping: tokio::sync::Mutex::default(),
            tasks: TaskTracker::new(),
            said_missing: Mutex::default(),
        };
        (Self { shared: Arc::new(shared) }, receiver)
    }

    /// Takes over what runs already, then obeys the assignments that the node accepted last. To be called once: until
    /// then the gateway has no table, and requests wait.
    pub fn recover(&self, adopted: Vec<Adopted>, accepted: Vec<Obeyed>) {
        // Locked throughout: how a host ended meanwhile is judged by the assignment, and nothing is started that runs.
        let mut slots = self.lock();
        for obeyed in accepted {
            let module = obeyed.assignment.module.clone();
            slots.entry(module).or_default().orders.recover(obeyed, Instant::now());
        }
        let mut adopted = adopted;
        // The newest of a release is the one that serves.
        adopted.sort_by_key(|adopted| adopted.spec.instance);
        for adopted in adopted {
            self.adopt(&mut slots, adopted);
        }
        self.reconcile_all(&mut slots);
        let unknown: Vec<Module> = slots
            .iter()
            .filter(|(_, slot)| slot.orders.assignment.is_none())
            .map(|(module, _)| module.clone())
            .collect();
        for module in unknown {
            self.stop_all(&mut slots, &module);
        }
    }

    /// Takes an assignment: toward stable it takes effect first and is then written, else it is written first. It is
    /// on disk when this returns. An older one than the node has changes nothing, and neither does one with a candidate
    /// that the node took back from the same rollout.
    pub async fn obey(&self, word: impl Into<Word>, direction: Direction) -> Result<(), LedgerError> {
        let word = word.into();
        let assignment = &word.assignment;
        if direction == Direction::Onward {
            // The clock looks, too; but no more traffic goes there before it has.
            let trust = self.shared.parts.trust.fresh().await;
            self.review(&mut self.lock(), &assignment.module, &trust);
        }
        let stays_back = |slots: &BTreeMap<Module, Slot>| {
            slots.get(&assignment.module).is_some_and(|slot| slot.orders.stays_back(assignment))
        };
        if self.slots(stays_back) {
            // The clock says once more that it was taken back.
            return Ok(());
        }
        if direction == Direction::TowardStable {
            let module = assignment.module.clone();
            self.accept(word);
            self.keep(&module, direction).await
        } else {
            self.keep_and_accept(word, direction).await
        }
    }

    /// The expiry of assignments up to `revision` for `module` starts anew.
    pub fn renew(&self, module: &Module, revision: Revision) {
        let mut slots = self.lock();
        if let Some(slot) = slots.get_mut(module) {
            slot.orders.renew(revision, Instant::now());
        }
    }

    /// Moves traffic toward stable at once, without anybody's leave: from a candidate to stable or, with `to`, from
    /// stable to that release where it is ready as standby. `None` when there is nothing to move that way.
    #[must_use]
    pub fn turn_back(&self, module: &Module, to: Option<ReleaseNumber>, by: &str) -> Option<Flip> {
        let trust = self.shared.parts.trust.latest();
        let mut slots = self.lock();
        self.review(&mut slots, module, &trust);
        let slot = slots.get_mut(module)?;
        let flip = slot.turn_back(to, by, Instant::now())?;
        self.reconcile(&mut slots, module);
        drop(slots);
        let at = Instant::now();
        self.keep_later(module);
        self.shared.note_change();
        Some(Flip { at, ..flip })
    }

    /// Takes a move from stable to its standby back, because whoever ordered it is refused. Not where the node was given
    /// another word since: that one counts.
    pub(crate) fn undo(&self, module: &Module, flip: &Flip) {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(module) else { return };
        if !slot.undo(flip, Instant::now()) {
            return;
        }
        tracing::warn!(%module, release = %flip.from, "a way back was refused: what served before serves again");
        self.reconcile(&mut slots, module);
        drop(slots);
        self.keep_later(module);
        self.shared.note_change();
    }

    /// The revision of the assignment that this node obeys for `module`.
    #[must_use]
    pub fn revision(&self, module: &Module) -> Option<Revision> {
        self.slots(|slots| {
            slots.get(module)?.orders.assignment.as_ref().map(|assignment| assignment.revision)
        })
    }

    /// Every module with a stable release serves it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.slots(|slots| slots.values().all(Slot::is_ready))
    }

    /// Whether anything of `module` runs, or is to.
    pub(crate) fn runs(&self, module: &Module) -> bool {
        let has = |slot: &Slot| slot.orders.assignment.as_ref().is_some_and(|of| !of.weights().is_empty());
        self.slots(|slots| slots.get(module).is_some_and(|slot| has(slot) || !slot.runs.is_empty()))
    }

    /// The releases that it is to run, or to keep ready, and as what.
    pub(crate) fn roles(&self, module: &Module) -> Vec<(ReleaseNumber, Role)> {
        let weights = self.slots(|slots| Some(slots.get(module)?.orders.assignment.as_ref()?.weights()));
        weights.unwrap_or_default().into_iter().map(|(release, role, _)| (release, role)).collect()
    }

    /// Why stable releases do not serve by themselves, a sentence each.
    pub(crate) fn unserved(&self) -> Vec<String> {
        let now = Instant::now();
        let text = |(module, slot): (&Module, &Slot)| Some(format!("{module}: {}", slot.unserved(now)?));
        self.slots(|slots| slots.iter().filter_map(text).collect())
    }

    /// Why the stable release of this module does not serve by itself.
    pub(crate) fn unserved_of(&self, module: &Module) -> Option<String> {
        self.slots(|slots| slots.get(module)?.unserved(Instant::now()))
    }

    /// The stable releases that crash-loop.
    pub(crate) fn crash_loops(&self) -> Vec<(Module, CrashLoop)> {
        let now = Instant::now();
        let looping = |(module, slot): (&Module, &Slot)| Some((module.clone(), slot.crash_loop(now)?));
        self.slots(|slots| slots.iter().filter_map(looping).collect())
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

    /// Requests that were given to the instances of this node, and those that are in flight now, with the streams that are
    /// open.
    pub(crate) fn load(&self) -> (u64, u64) {
        let ids: Vec<InstanceId> =
            self.slots(|slots| slots.values().flat_map(|slot| &slot.runs).map(|run| run.id).collect());
        let each = ids.into_iter().map(|id| self.counters(id));
        each.fold((0, 0), |(requests, open), of| (requests + of.picked, open + of.in_flight + of.streams))
    }

    /// Whether load balancers are told to go away.
    pub(crate) fn is_away(&self) -> bool {
        self.shared.parts.gateway.away().is_some()
    }

    /// What the gateway counted for an instance.
    pub(crate) fn counters(&self, instance: InstanceId) -> crate::gateway::Counters {
        self.shared.parts.gateway.counters(instance)
    }

    /// Forgets a module, on disk and here, and stops all that runs of it.
    pub async fn forget(&self, name: &ModuleName) -> Result<(), LedgerError> {
        let module = &Module(name.to_string());
        let _nothing_is_kept_meanwhile = self.shared.keeping.lock().await;
        let (ledger, forgotten) = (self.shared.parts.ledger.clone(), name.clone());
        crate::blocking(move || ledger.forget(&forgotten)).await?;
        let mut slots = self.lock();
        if let Some(slot) = slots.get_mut(module) {
            let cut = self.cut_swaps(slot, Instant::now(), "the module was removed");
            self.tell_swaps(module, cut);
            // A module of this name that comes later begins with revision 1 again.
            slot.clear();
        }
        // Before anything stops, nothing goes there any more.
        self.publish(&slots);
        self.stop_all(&mut slots, module);
        drop(slots);
        self.shared.note_change();
        Ok(())
    }

    /// Stops every host and waits until they are gone, at most `deadline`.
    pub async fn stop_hosts(&self, deadline: Duration) {
        {
            let mut slots = self.lock();
            let modules: Vec<Module> = slots.keys().cloned().collect();
            for module in modules {
                if let Some(slot) = slots.get_mut(&module) {
                    slot.orders.assignment = None;
                }
                self.stop_all(&mut slots, &module);
            }
        }
        self.shared.tasks.close();
        if tokio::time::timeout(deadline, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!("some hosts did not end in time; hot-spawn ends them");
        }
    }

    fn accept(&self, word: Word) {
        let module = word.assignment.module.clone();
        let mut slots = self.lock();
        if slots.entry(module.clone()).or_default().accept(word, Instant::now()) {
            self.reconcile(&mut slots, &module);
        }
        drop(slots);
        self.shared.note_change();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Module, Slot>> {
        // A panic while it is held is a bug of ours; what the map says is still the best there is.
        self.shared.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn mint(&self) -> InstanceId {
        InstanceId(self.shared.next_instance.fetch_add(1, Ordering::Relaxed))
    }
}
