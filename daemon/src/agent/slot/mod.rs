//! What this node runs of one module: its orders and the instances that make them true.
//!
//! Plain data and the questions that are asked of it. Starts and stops nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use hot_artifact::{Sha256, Version};
use hot_rollout::{Assignment, Cause, Millis, ReleaseNumber, Role, Time, Weight};

use super::Flip;
use super::denied::Told;
use super::orders::{Orders, Word};
use super::plan::{Plan, Serving, Stage, plan};
use super::proof::Party;
use super::recent::Recent;
use super::resting::Resting;
use super::swap::Swap;
use crate::gateway::Counters;
use crate::ledger::{LocalRollback, Obeyed};
use crate::supervisor::{Instance, InstanceId, Isolation, Line};

/// Ended instances that are remembered for `status` and `logs`, for each module.
const REMEMBERED: usize = 4;

/// Where an instance is, from the agent's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunState {
    /// Its artifact is checked, its host starts.
    Starting,
    /// The gateway can send to it.
    Ready,
    /// It finishes what it has.
    Stopping,
    /// Its process is gone.
    Ended,
}

/// One release in one host.
#[derive(Debug)]
pub(crate) struct Run {
    pub id: InstanceId,
    pub release: ReleaseNumber,
    pub version: Version,
    pub digest: Sha256,
    pub routes: Vec<String>,
    pub state: RunState,
    pub started: SystemTime,
    /// When its host was ordered, by this `hotd`.
    pub ordered: Option<Instant>,
    /// From then until the gateway could send to it.
    pub start_took: Option<Duration>,
    /// Since when the gateway can send to it.
    pub ready: Option<Instant>,
    /// The host, once there is one.
    pub instance: Option<Instance>,
    /// How it was held, once it has ended.
    pub isolation: Option<Isolation>,
    /// How it ended, or is ending, as a sentence; empty: it has not, or it was told to.
    pub reason: String,
    /// What it printed last, once it has ended.
    pub lines: Vec<Line>,
    /// Its system calls that were refused.
    pub denied: Told,
}

impl Run {
    /// How it is or was held, as far as that is known; `None`: it has had no host.
    pub(super) fn isolation(&self) -> Option<Isolation> {
        self.instance.as_ref().map(Instance::isolation).or(self.isolation)
    }

    /// The user of its process, where that is one of its own.
    pub(crate) fn user(&self) -> Option<u32> {
        self.isolation()?.held.user
    }

    /// Whether it ends by itself: its process may still be there, and nothing goes to it any more.
    pub(super) fn has_failed(&self) -> bool {
        self.state == RunState::Stopping && !self.reason.is_empty()
    }
}

/// What the candidate and stable had counted when counting for a sample began.
#[derive(Debug)]
pub(super) struct Baseline {
    pub since: Time,
    /// The same moment, for measuring.
    pub begun: Instant,
    pub counters: BTreeMap<InstanceId, Counters>,
}

/// What this node runs of one module.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub orders: Orders,
    pub serving: Vec<Serving>,
    /// By id, so that the newest of a release is its last.
    pub runs: Vec<Run>,
    pub(super) former: VecDeque<Run>,
    pub(super) resting: Resting,
    /// How releases failed of which there was not even an instance: they could not be looked up.
    pub(super) unlaunched: BTreeMap<ReleaseNumber, String>,
    pub(super) baseline: Option<Baseline>,
    /// Who had a weight when the gateway was told last.
    pub(super) given: Vec<(Party, Weight)>,
    pub(super) recent: Recent,
    /// Swaps that are under way: those of the last time that traffic left an instance.
    pub(super) swaps: Vec<Swap>,
    /// What it obeys is not on disk as it is.
    pub(super) unkept: bool,
    /// Why that is so, once it could not be written.
    pub(crate) unwritten: Option<Unwritten>,
}

/// What is in effect could not be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unwritten {
    /// Since when.
    pub since: SystemTime,
    /// What the last try came to.
    pub why: String,
}

/// A stable release that fails each time that it is started, or soon afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CrashLoop {
    pub release: ReleaseNumber,
    /// How often in a row.
    pub failures: u32,
    /// When the first of them was.
    pub since: SystemTime,
    /// How it ended last.
    pub reason: String,
}

impl Slot {
    /// As [`Orders::accept`].
    pub(super) fn accept(&mut self, word: impl Into<Word>, now: Instant) -> bool {
        let was = self.orders.wanted();
        let news = self.orders.accept(word, now);
        if news {
            self.wants_other(&was);
            self.attribute_swaps();
        }
        news
    }

    /// What is wanted has changed from what `was`.
    fn wants_other(&mut self, was: &[ReleaseNumber]) {
        let wanted = self.orders.wanted();
        self.resting.keep(was, &wanted);
        self.unlaunched.retain(|release, _| wanted.contains(release));
    }

    /// As [`Orders::go_back_alone`], with what the orders were before. The flip is timed by whoever makes it; none where what
    /// it goes to does not serve yet. `None`: the node was told nothing of this module yet.
    pub(super) fn go_back_alone(
        &mut self,
        local: LocalRollback,
        keep: Millis,
        now: Instant,
    ) -> Option<(Orders, Option<Flip>)> {
        let (before, from, to) = (self.orders.clone(), local.from, local.to);
        let revision = before.assignment.as_ref()?.revision;
        let (ready, from_instance) = (self.is_run_ready(to), self.run_of(from).map(|run| run.id));
        self.orders.go_back_alone(local, ready, keep, now);
        self.wants_other(&before.wanted());
        Some((before, ready.then_some(Flip { from, from_instance, to, revision, at: now })))
    }

    /// Has orders as they were before `local`, unless that does not stand any more.
    pub(super) fn put_back(&mut self, before: Orders, local: &LocalRollback) {
        if self.orders.local.as_ref() == Some(local) {
            let was = std::mem::replace(&mut self.orders, before).wanted();
            // What was tried stays left, as a person went away from all of it.
            let by = local.by.clone();
            self.orders.take_back(Cause::ByHand { by });
            self.wants_other(&was);
        }
    }

    /// As [`Orders::lift`].
    pub(super) fn lift(&mut self, keep: Millis, now: Instant) -> Option<LocalRollback> {
        let was = self.orders.wanted();
        let ready = self.orders.local.as_ref().is_some_and(|local| self.is_run_ready(local.from));
        let lifted = self.orders.lift(ready, keep, now)?;
        self.wants_other(&was);
        Some(lifted)
    }

    fn is_run_ready(&self, release: ReleaseNumber) -> bool {
        run_of(&self.runs, release).is_some_and(|run| run.state == RunState::Ready)
    }

    /// Where a person moved traffic to the standby, the rollout of that begins with the next assignment.
    fn attribute_swaps(&mut self) {
        let Some(given) = self.orders.assignment.as_ref().filter(|of| of.candidate.is_none()) else { return };
        for swap in self.swaps.iter_mut().filter(|swap| Some(swap.to()) == given.stable) {
            swap.belongs_to(&given.rollout);
        }
    }

    /// As [`Orders::turn_back`]. The flip is timed by whoever makes it.
    pub(super) fn turn_back(&mut self, to: Option<ReleaseNumber>, by: &str, now: Instant) -> Option<Flip> {
        let runs = &self.runs;
        let ready = |release| run_of(runs, release).is_some_and(|run| run.state == RunState::Ready);
        let revision = self.orders.assignment.as_ref()?.revision;
        let (from, to) = self.orders.turn_back(to, by, ready, now)?;
        let from_instance = self.run_of(from).map(|run| run.id);
        Some(Flip { from, from_instance, to, revision, at: now })
    }

    /// Goes to where a flip to the standby came from, unless another word was given since or it is not there any more.
    pub(super) fn undo(&mut self, flip: &Flip, now: Instant) -> bool {
        let as_flipped = |of: &Assignment| {
            (of.revision, of.stable, of.candidate.as_ref()) == (flip.revision, Some(flip.to), None)
        };
        self.orders.assignment.as_ref().is_some_and(as_flipped)
            && self.turn_back(Some(flip.from), "", now).is_some()
    }

    /// What is to be written down now. Until [`Slot::kept`] says so, it is not on disk.
    pub(super) fn begin_keeping(&mut self) -> Option<Obeyed> {
        let obeyed = self.orders.obeyed();
        self.unkept = obeyed.is_some();
        obeyed
    }

    /// `written` is on disk: which is all only if nothing has changed meanwhile.
    pub(super) fn kept(&mut self, written: &Obeyed) {
        if self.orders.obeyed().as_ref() == Some(written) {
            self.unkept = false;
            self.unwritten = None;
        }
    }

    /// What [`Slot::begin_keeping`] gave could not be written, at this moment.
    pub(super) fn not_kept(&mut self, why: String, now: SystemTime) {
        let since = self.unwritten.as_ref().map_or(now, |unwritten| unwritten.since);
        self.unwritten = self.unkept.then_some(Unwritten { since, why });
    }

    /// Forgets the assignment and all that was known of it; what runs is still to be stopped.
    pub(super) fn clear(&mut self) {
        let (runs, former) = (std::mem::take(&mut self.runs), std::mem::take(&mut self.former));
        *self = Self { runs, former, ..Self::default() };
    }

    /// What is next.
    pub(super) fn plan(&self) -> Option<Plan> {
        let assignment = self.orders.assignment.as_ref()?;
        // After a start only the orders know what served.
        let served = self.orders.stands_in.map(|release| (release, Role::Stable, Weight::ZERO));
        let served: Vec<Serving> = self.serving.iter().copied().chain(served).collect();
        Some(plan(assignment, &self.stages(), &served))
    }

    /// The best stage that any instance of each release has.
    fn stages(&self) -> BTreeMap<ReleaseNumber, Stage> {
        let mut stages: BTreeMap<ReleaseNumber, Stage> =
            self.resting.releases().map(|release| (release, Stage::Resting)).collect();
        // Nothing that they did: they start as soon as hot-spawn is there.
        stages.extend(self.resting.lost().map(|release| (release, Stage::Starting)));
        for run in &self.runs {
            let stage = match run.state {
                RunState::Starting => Stage::Starting,
                RunState::Ready => Stage::Ready,
                RunState::Stopping => Stage::Stopping,
                RunState::Ended => continue,
            };
            let best = stages.entry(run.release).or_insert(stage);
            if rank(stage) > rank(*best) {
                *best = stage;
            }
        }
        // One that is stopping is no reason not to start another.
        let wanted = self.orders.wanted();
        stages.retain(|release, stage| *stage != Stage::Stopping || !wanted.contains(release));
        stages
    }

    /// The instance that takes the traffic of `release`: the newest one that is ready, else the newest that starts.
    pub(crate) fn run_of(&self, release: ReleaseNumber) -> Option<&Run> {
        run_of(&self.runs, release)
    }

    /// The same; where there is none, the last one to which anything went.
    pub(super) fn known(&self, release: ReleaseNumber) -> Option<&Run> {
        self.run_of(release).or_else(|| self.ended_last(release))
    }

    pub(super) fn run_mut(&mut self, id: InstanceId) -> Option<&mut Run> {
        self.runs.iter_mut().find(|run| run.id == id)
    }

    /// What the assignment makes of `release`.
    pub(crate) fn role(&self, release: ReleaseNumber) -> Option<Role> {
        let serving = self.serving.iter().find(|(serving, ..)| *serving == release).map(|(_, role, _)| *role);
        serving.or_else(|| {
            let wanted = self.orders.assignment.as_ref()?.weights();
            wanted.into_iter().find(|(wanted, ..)| *wanted == release).map(|(_, role, _)| role)
        })
    }

    /// Its part of this node's traffic.
    pub(crate) fn weight(&self, release: ReleaseNumber) -> Weight {
        self.serving
            .iter()
            .find(|(serving, ..)| *serving == release)
            .map_or(Weight::ZERO, |(_, _, weight)| *weight)
    }

    /// Whether there is nothing that should serve as stable, or it does.
    pub(crate) fn is_ready(&self) -> bool {
        self.orders.stable().is_none_or(|stable| self.is_run_ready(stable))
    }

    /// Why the stable release does not serve by itself, in words; `None`: it does, or there is none.
    pub(crate) fn unserved(&self, now: Instant) -> Option<String> {
        let stable = self.orders.stable().filter(|_| !self.is_ready())?;
        let mut text = format!("stable release {stable} has no instance that serves");
        if let Some(how) = self.unlaunched.get(&stable) {
            text = format!("{text}: it {how}");
        } else if let Some(run) = self.failed_last(stable) {
            text = format!("{text}: the last one {}", run.reason);
        }
        let stands_in = self.serving.iter().find(|(release, _, weight)| {
            let serves = |run: &Run| run.state == RunState::Ready && *weight > Weight::ZERO;
            *release != stable && self.run_of(*release).is_some_and(serves)
        });
        match stands_in {
            Some((release, Role::Stable, _) | (release, _, Weight::WHOLE)) => {
                text = format!("{text}; release {release} serves until then");
            }
            Some((release, _, weight)) => {
                text = format!("{text}; release {release} serves no more than its {weight} of the traffic");
            }
            None => {}
        }
        Some(match (self.run_of(stable), self.resting.left(stable, now)) {
            _ if self.resting.lost().any(|lost| lost == stable) => {
                format!("{text}; the next one starts when hot-spawn is there again")
            }
            (Some(_), _) => format!("{text}; the next one is starting"),
            // A refusal stands for as long as what it is about, which a person mends.
            (None, Some(left)) if self.unlaunched.contains_key(&stable) => {
                format!("{text}; it is tried again in {:.1} s", left.as_secs_f64())
            }
            (None, Some(left)) => format!("{text}; the next one starts in {:.1} s", left.as_secs_f64()),
            (None, None) => text,
        })
    }

    /// The stable release, if it crash-loops: one that serves by now for longer than it rested last does not any more.
    pub(crate) fn crash_loop(&self, now: Instant) -> Option<CrashLoop> {
        let release = self.orders.stable()?;
        let (failures, since) = self.resting.loops(release)?;
        let served = |run: &Run| run.ready.map(|ready| now.saturating_duration_since(ready));
        let over = self.run_of(release).and_then(served).is_some_and(|it| it > self.resting.last(release));
        let reason = self.failed_last(release).map(|run| run.reason.clone()).unwrap_or_default();
        (!over).then_some(CrashLoop { release, failures, since, reason })
    }

    /// The last instance of `release` that ended, if it did so by itself.
    pub(super) fn failed_last(&self, release: ReleaseNumber) -> Option<&Run> {
        let last = self.ended_last(release)?;
        (!last.reason.is_empty()).then_some(last)
    }

    /// The last instance of `release` to which nothing goes any more.
    pub(super) fn ended_last(&self, release: ReleaseNumber) -> Option<&Run> {
        let failed = self.runs.iter().filter(|run| run.has_failed());
        self.former.iter().chain(failed).rev().find(|run| run.release == release)
    }

    /// Moves an instance that ended to the few that are remembered.
    pub(super) fn bury(&mut self, id: InstanceId) {
        let Some(at) = self.runs.iter().position(|run| run.id == id) else { return };
        let mut run = self.runs.remove(at);
        run.state = RunState::Ended;
        run.isolation = run.isolation();
        run.lines = run.instance.take().map(|instance| instance.output_tail()).unwrap_or_default();
        self.former.push_back(run);
    }

    /// Drops those that ended longest ago; nobody asks for what they counted any more.
    pub(super) fn forget_oldest(&mut self) -> Vec<InstanceId> {
        let beyond = self.former.len().saturating_sub(REMEMBERED);
        // What they counted is gone with them: counting starts anew.
        if beyond > 0 {
            self.baseline = None;
        }
        self.former.drain(..beyond).map(|run| run.id).collect()
    }

    /// Instances for `status`: those that run, then those that ended last.
    pub(crate) fn instances(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().chain(self.former.iter())
    }

    /// Instances whose place a newer one of the same release has taken.
    pub(super) fn superseded(&self) -> Vec<InstanceId> {
        let ready = |run: &&Run| run.state == RunState::Ready;
        let replaced = |run: &&Run| self.run_of(run.release).is_some_and(|newest| newest.id != run.id);
        self.runs.iter().filter(ready).filter(replaced).map(|run| run.id).collect()
    }
}

fn run_of(runs: &[Run], release: ReleaseNumber) -> Option<&Run> {
    let of =
        |state: RunState| runs.iter().rev().find(move |run| run.release == release && run.state == state);
    of(RunState::Ready).or_else(|| of(RunState::Starting))
}

fn rank(stage: Stage) -> u8 {
    match stage {
        Stage::Stopping => 0,
        // Also one that failed, rests, and is not gone yet.
        Stage::Resting => 1,
        Stage::Starting => 2,
        Stage::Ready => 3,
    }
}

#[cfg(test)]
pub(super) mod tests;
