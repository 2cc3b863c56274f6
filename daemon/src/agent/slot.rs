//! What this node runs of one module: the assignment that it obeys and the instances that make it true.
//!
//! Plain data and the questions that are asked of it. Starts and stops nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use hot_artifact::{Sha256, Version};
use hot_rollout::{Assignment, Cause, ReleaseNumber, Revision, Role, Standby, Weight};

use super::plan::{Plan, Serving, Stage, plan};
use crate::supervisor::{Backoff, Instance, InstanceId};

/// Ended instances that are remembered for `status`, for each module.
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
    /// The host, once there is one.
    pub instance: Option<Instance>,
    /// How it ended, as a sentence; empty: it has not.
    pub reason: String,
}

/// A release that ended by itself and waits to be started again.
#[derive(Debug)]
pub(super) struct Rest {
    pub until: Instant,
    /// The rest is over. The back-off stays until the release is ready again.
    pub due: bool,
    pub backoff: Backoff,
}

/// What the candidate and stable had counted when counting for a sample began.
#[derive(Debug)]
pub(super) struct Baseline {
    pub since: SystemTime,
    pub counters: BTreeMap<InstanceId, crate::gateway::Counters>,
}

/// What this node runs of one module.
#[derive(Debug)]
pub(crate) struct Slot {
    pub assignment: Option<Assignment>,
    /// Since when nobody has renewed the assignment.
    pub renewed: Instant,
    /// Since when the assignment with this revision is true.
    pub applied: Option<(Revision, Instant)>,
    pub serving: Vec<Serving>,
    pub runs: Vec<Run>,
    pub(super) former: VecDeque<Run>,
    /// How instances of the candidate ended since it was first assigned.
    pub(super) ends: Vec<Cause>,
    pub(super) resting: BTreeMap<ReleaseNumber, Rest>,
    /// This node took the candidate out of the assignment by itself.
    pub(super) took_back: Option<(Revision, Cause)>,
    pub(super) baseline: Option<Baseline>,
}

impl Slot {
    pub(super) fn new() -> Self {
        Self {
            assignment: None,
            renewed: Instant::now(),
            applied: None,
            serving: Vec::new(),
            runs: Vec::new(),
            former: VecDeque::new(),
            ends: Vec::new(),
            resting: BTreeMap::new(),
            took_back: None,
            baseline: None,
        }
    }

    /// Takes `assignment` unless it is older than the one it has. The same revision again is a renewal.
    ///
    /// A standby whose time is not up is kept although a later assignment does not speak of it: trying a candidate,
    /// or taking one back, must not cost the instant way back from stable.
    pub(super) fn accept(&mut self, mut assignment: Assignment) -> bool {
        let known = self.assignment.as_ref();
        if known.is_some_and(|known| known.revision > assignment.revision) {
            return false;
        }
        self.renewed = Instant::now();
        if known.is_some_and(|known| known.revision == assignment.revision) {
            return false;
        }
        assignment.standby = assignment.standby.or_else(|| self.standby_to_keep(&assignment));
        let known = self.assignment.as_ref();
        let candidate =
            |of: Option<&Assignment>| of.and_then(|of| of.candidate.as_ref()).map(|it| it.release);
        if candidate(known) != candidate(Some(&assignment)) {
            self.ends.clear();
        }
        // A release that is wanted anew gets its chance at once.
        let wanted: Vec<ReleaseNumber> = assignment.weights().iter().map(|(release, ..)| *release).collect();
        let was: Vec<ReleaseNumber> = known
            .map_or_else(Vec::new, |known| known.weights().iter().map(|(release, ..)| *release).collect());
        self.resting.retain(|release, _| wanted.contains(release) && was.contains(release));
        self.took_back = None;
        self.assignment = Some(assignment);
        true
    }

    /// What is next.
    pub(super) fn plan(&self) -> Option<Plan> {
        let assignment = self.assignment.as_ref()?;
        Some(plan(assignment, &self.stages(), &self.serving, self.standby_expired()))
    }

    /// The best stage that any instance of each release has.
    fn stages(&self) -> BTreeMap<ReleaseNumber, Stage> {
        let mut stages: BTreeMap<ReleaseNumber, Stage> = self
            .resting
            .iter()
            .filter(|(_, rest)| !rest.due)
            .map(|(release, _)| (*release, Stage::Resting))
            .collect();
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
        stages.retain(|release, stage| {
            *stage != Stage::Stopping
                || self.assignment.as_ref().is_none_or(|assignment| {
                    assignment.weights().iter().all(|(wanted, ..)| wanted != release)
                })
        });
        stages
    }

    fn standby_expired(&self) -> bool {
        self.standby_left().is_some_and(|left| left.is_zero())
    }

    /// The standby that it has, where `next` leaves room for it.
    fn standby_to_keep(&self, next: &Assignment) -> Option<Standby> {
        let known = self.assignment.as_ref()?;
        let standby = known.standby?;
        let left = self.standby_left().unwrap_or_else(|| standby.keep.into());
        let same_stable = next.stable.is_some() && known.stable == next.stable;
        let free = next.candidate.as_ref().is_none_or(|candidate| candidate.release != standby.release);
        (same_stable && free && !left.is_zero()).then(|| Standby { keep: left.into(), ..standby })
    }

    /// How long the standby is still kept; `None` without one, or before the assignment is applied.
    pub(super) fn standby_left(&self) -> Option<Duration> {
        let assignment = self.assignment.as_ref()?;
        let keep = Duration::from(assignment.standby?.keep);
        let (revision, since) = self.applied?;
        (revision == assignment.revision).then(|| keep.saturating_sub(since.elapsed()))
    }

    /// The instance that takes the traffic of `release`: the newest one that is ready, else the newest that starts.
    pub(crate) fn run_of(&self, release: ReleaseNumber) -> Option<&Run> {
        let of = |state: RunState| {
            self.runs.iter().rev().find(move |run| run.release == release && run.state == state)
        };
        of(RunState::Ready).or_else(|| of(RunState::Starting))
    }

    pub(super) fn run_mut(&mut self, id: InstanceId) -> Option<&mut Run> {
        self.runs.iter_mut().find(|run| run.id == id)
    }

    /// What the assignment makes of `release`.
    pub(crate) fn role(&self, release: ReleaseNumber) -> Option<Role> {
        let serving = self.serving.iter().find(|(serving, ..)| *serving == release).map(|(_, role, _)| *role);
        serving.or_else(|| {
            let wanted = self.assignment.as_ref()?.weights();
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

    /// The release that serves as stable now.
    pub(crate) fn stable(&self) -> Option<ReleaseNumber> {
        self.assignment.as_ref()?.stable
    }

    /// Moves an instance that ended to the few that are remembered.
    pub(super) fn bury(&mut self, id: InstanceId) {
        let Some(at) = self.runs.iter().position(|run| run.id == id) else { return };
        let mut run = self.runs.remove(at);
        run.state = RunState::Ended;
        run.instance = None;
        // What it counted is gone with it: counting starts anew.
        self.baseline = None;
        self.former.push_back(run);
        while self.former.len() > REMEMBERED {
            self.former.pop_front();
        }
    }

    /// Instances for `status`: those that run, then those that ended last.
    pub(crate) fn instances(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().chain(self.former.iter())
    }
}

fn rank(stage: Stage) -> u8 {
    match stage {
        Stage::Resting => 0,
        Stage::Stopping => 1,
        Stage::Starting => 2,
        Stage::Ready => 3,
    }
}

impl Slot {
    /// Goes toward stable by a person's word: see [`super::Agent::turn_back`]. The revision stays, so that the
    /// driver's next word counts.
    pub(super) fn turn_back(&mut self, to: Option<ReleaseNumber>, by: &str) -> Option<super::Flip> {
        let assignment = self.assignment.as_ref()?;
        let stable = assignment.stable?;
        let (from, to, next) = if let Some(candidate) = &assignment.candidate {
            self.took_back = Some((assignment.revision, Cause::ByHand { by: by.to_owned() }));
            (candidate.release, stable, assignment.without_candidate())
        } else {
            let standby = assignment.standby.filter(|standby| Some(standby.release) == to)?;
            self.run_of(standby.release).filter(|run| run.state == RunState::Ready)?;
            let back = Standby { release: stable, keep: standby.keep };
            let next =
                Assignment { stable: Some(standby.release), standby: Some(back), ..assignment.clone() };
            (stable, standby.release, next)
        };
        self.assignment = Some(next);
        let from_instance = self.run_of(from).map(|run| run.id);
        Some(super::Flip { from, from_instance, to, at: Instant::now() })
    }

    /// Instances whose place a newer one of the same release has taken.
    pub(super) fn superseded(&self) -> Vec<InstanceId> {
        let ready = |run: &&Run| run.state == RunState::Ready;
        let replaced = |run: &&Run| self.run_of(run.release).is_some_and(|newest| newest.id != run.id);
        self.runs.iter().filter(ready).filter(replaced).map(|run| run.id).collect()
    }
}
