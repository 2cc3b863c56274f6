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
    /// Since when the gateway can send to it.
    pub ready: Option<Instant>,
    /// The host, once there is one.
    pub instance: Option<Instance>,
    /// How it ended, as a sentence; empty: it has not.
    pub reason: String,
}

/// A release that ended by itself and waits to be started again.
#[derive(Debug)]
pub(super) struct Rest {
    pub until: Instant,
    /// How long it is.
    pub length: Duration,
    /// The rest is over. The back-off stays until an instance has served longer than the rest before it.
    pub due: bool,
    pub backoff: Backoff,
}

/// What the candidate and stable had counted when counting for a sample began.
#[derive(Debug)]
pub(super) struct Baseline {
    pub since: SystemTime,
    /// The same moment, for measuring.
    pub begun: Instant,
    pub counters: BTreeMap<InstanceId, crate::gateway::Counters>,
}

/// What this node runs of one module.
#[derive(Debug)]
pub(crate) struct Slot {
    pub assignment: Option<Assignment>,
    /// When the assignment was given or renewed last; `None`: not since this hotd began, so that no restart prolongs
    /// what a candidate has left.
    pub renewed: Option<Instant>,
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
            renewed: None,
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
        if self.stays_back(&assignment) {
            return false;
        }
        self.renewed = Some(Instant::now());
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
        if self.assignment.as_ref().is_none_or(|known| known.rollout != assignment.rollout)
            || self.only_expired()
        {
            self.took_back = None;
        }
        self.assignment = Some(assignment);
        true
    }

    /// Takes what the node obeyed when the last hotd ended. Nobody has renewed it since.
    pub(super) fn recover(&mut self, assignment: Assignment) {
        self.accept(assignment);
        self.renewed = None;
    }

    /// Whether `next` has a candidate that this node took back from the same rollout, for more than an expiry: the
    /// driver has not heard of it yet, and is told once more.
    pub(super) fn stays_back(&self, next: &Assignment) -> bool {
        let same = self.assignment.as_ref().is_some_and(|known| known.rollout == next.rollout);
        same && next.candidate.is_some() && self.took_back.is_some() && !self.only_expired()
    }

    fn only_expired(&self) -> bool {
        matches!(&self.took_back, Some((_, Cause::Expired { .. })))
    }

    /// For how long nobody has renewed the assignment.
    pub(super) fn unrenewed(&self) -> Duration {
        let expiry = || {
            let candidate = self.assignment.as_ref()?.candidate.as_ref()?;
            Some(candidate.expiry.into())
        };
        self.renewed.map_or_else(|| expiry().unwrap_or_default(), |renewed| renewed.elapsed())
    }

    /// Whether the assignment can be called applied: not if this node took the candidate out of it.
    pub(super) fn is_whole(&self) -> bool {
        let revision = self.assignment.as_ref().map(|assignment| assignment.revision);
        self.took_back.as_ref().is_none_or(|(taken, _)| Some(*taken) != revision)
    }

    /// Not started again before some time has passed, which doubles each time. One that served for longer than its
    /// last rest begins with the shortest again: so even one that comes up only to crash is not started all the time.
    pub(super) fn rest_after(&mut self, release: ReleaseNumber, served: Option<Duration>) {
        let rest = self.resting.entry(release).or_insert_with(|| Rest {
            until: Instant::now(),
            length: Duration::ZERO,
            due: false,
            backoff: Backoff::default(),
        });
        if served.is_some_and(|served| served > rest.length) {
            rest.backoff.reset();
        }
        rest.due = false;
        rest.length = rest.backoff.next(rand::random());
        rest.until = Instant::now() + rest.length;
    }

    /// Forgets the assignment and all that was known of it; what runs is still to be stopped.
    pub(super) fn clear(&mut self) {
        let (runs, former) = (std::mem::take(&mut self.runs), std::mem::take(&mut self.former));
        *self = Self { runs, former, ..Self::new() };
    }

    /// A standby whose time is up is not wanted any more. True if there was one.
    pub(super) fn let_standby_go(&mut self) -> bool {
        let over = self.standby_left().is_some_and(|left| left.is_zero());
        match self.assignment.as_mut().filter(|_| over) {
            Some(assignment) => assignment.standby.take().is_some(),
            None => false,
        }
    }

    /// What is next.
    pub(super) fn plan(&self) -> Option<Plan> {
        let assignment = self.assignment.as_ref()?;
        Some(plan(assignment, &self.stages(), &self.serving))
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
            // What served is now the standby, from this moment on.
            self.applied = Some((assignment.revision, Instant::now()));
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

#[cfg(test)]
mod tests {
    use hot_rollout::{Candidate, FastLimits, Millis, Policy};

    use super::*;

    const R1: ReleaseNumber = ReleaseNumber(1);
    const R2: ReleaseNumber = ReleaseNumber(2);

    fn given(revision: u64, rollout: &str, stable: u64, candidate: Option<u64>) -> Assignment {
        Assignment {
            module: "greeter".into(),
            revision: Revision(revision),
            rollout: rollout.into(),
            stable: Some(ReleaseNumber(stable)),
            candidate: candidate.map(|release| Candidate {
                release: ReleaseNumber(release),
                weight: Weight::percent(10),
                limits: FastLimits::of(&Policy::default()),
                expiry: Millis::seconds(60),
            }),
            standby: None,
        }
    }

    fn with_standby(of: Assignment, release: u64, keep: Millis) -> Assignment {
        Assignment { standby: Some(Standby { release: ReleaseNumber(release), keep }), ..of }
    }

    fn run(id: u64, release: ReleaseNumber, state: RunState) -> Run {
        Run {
            id: InstanceId(id),
            release,
            version: "1.0.0".parse().unwrap(),
            digest: Sha256::of(b"x"),
            routes: Vec::new(),
            state,
            started: SystemTime::now(),
            ready: None,
            instance: None,
            reason: String::new(),
        }
    }

    fn slot(assignment: Assignment) -> Slot {
        let mut slot = Slot::new();
        assert!(slot.accept(assignment));
        slot
    }

    fn crash() -> Cause {
        Cause::Crashed { signal: 11, text: String::new() }
    }

    fn candidate(slot: &Slot) -> Option<ReleaseNumber> {
        Some(slot.assignment.as_ref()?.candidate.as_ref()?.release)
    }

    #[test]
    fn the_highest_revision_counts_and_the_same_again_renews() {
        let mut slot = slot(given(5, "a", 1, Some(2)));
        slot.renewed = None;
        assert!(!slot.accept(given(4, "a", 1, None)));
        assert!(slot.renewed.is_none(), "an older one renews nothing");
        assert!(!slot.accept(given(5, "a", 1, None)), "one revision has one content");
        assert!(slot.renewed.is_some());
        assert_eq!(candidate(&slot), Some(R2));
        assert!(slot.accept(given(6, "a", 1, None)));
        assert_eq!(candidate(&slot), None);
    }

    #[test]
    fn a_restart_does_not_prolong_a_candidate() {
        let mut slot = Slot::new();
        slot.recover(given(5, "a", 1, Some(2)));
        assert_eq!(slot.unrenewed(), Duration::from_secs(60));
        assert!(slot.accept(given(6, "a", 1, Some(2))));
        assert!(slot.unrenewed() < Duration::from_secs(60));
    }

    #[test]
    fn what_was_taken_back_stays_back_for_its_rollout() {
        let mut slot = slot(given(5, "a", 1, Some(2)));
        slot.assignment = slot.assignment.as_ref().map(Assignment::without_candidate);
        slot.took_back = Some((Revision(5), crash()));
        assert!(!slot.is_whole(), "it is not to be called applied");
        assert!(!slot.accept(given(6, "a", 1, Some(2))));
        assert_eq!(candidate(&slot), None);
        assert!(slot.accept(given(7, "a", 1, None)));
        assert!(slot.took_back.is_some(), "it is said until another rollout begins");
        assert!(slot.is_whole());
        assert!(slot.accept(given(8, "b", 1, Some(2))));
        assert!(slot.took_back.is_none());
    }

    #[test]
    fn what_only_expired_may_be_given_again() {
        let mut slot = slot(given(5, "a", 1, Some(2)));
        slot.assignment = slot.assignment.as_ref().map(Assignment::without_candidate);
        slot.took_back = Some((Revision(5), Cause::Expired { after: Millis::seconds(60) }));
        assert!(slot.accept(given(6, "a", 1, Some(2))));
        assert_eq!((candidate(&slot), slot.took_back.is_none()), (Some(R2), true));
    }

    #[test]
    fn ends_are_those_of_one_candidate() {
        let mut slot = slot(given(5, "a", 1, Some(2)));
        slot.ends.push(crash());
        assert!(slot.accept(given(6, "a", 1, Some(2))));
        assert_eq!(slot.ends.len(), 1);
        assert!(slot.accept(given(7, "b", 1, Some(3))));
        assert!(slot.ends.is_empty());
    }

    #[test]
    fn a_person_takes_a_candidate_back_and_it_stays_back() {
        let mut slot = slot(given(5, "a", 1, Some(2)));
        slot.runs = vec![run(10, R1, RunState::Ready), run(11, R2, RunState::Ready)];
        let flip = slot.turn_back(None, "ada").unwrap();
        assert_eq!((flip.from, flip.from_instance, flip.to), (R2, Some(InstanceId(11)), R1));
        assert!(!slot.accept(given(6, "a", 1, Some(2))));
        assert!(slot.turn_back(None, "ada").is_none(), "there is nothing left to take back");
    }

    #[test]
    fn a_person_goes_back_to_a_standby_that_is_ready() {
        let mut slot = slot(with_standby(given(5, "a", 2, None), 1, Millis::seconds(600)));
        slot.runs = vec![run(10, R1, RunState::Starting), run(11, R2, RunState::Ready)];
        assert!(slot.turn_back(Some(R1), "ada").is_none());
        slot.runs[0].state = RunState::Ready;
        assert!(slot.turn_back(Some(ReleaseNumber(9)), "ada").is_none());
        let flip = slot.turn_back(Some(R1), "ada").unwrap();
        assert_eq!((flip.from, flip.to), (R2, R1));
        let assignment = slot.assignment.as_ref().unwrap();
        assert_eq!((assignment.stable, assignment.standby.map(|it| it.release)), (Some(R1), Some(R2)));
        assert!(slot.standby_left().unwrap() > Duration::from_secs(590), "its time begins anew");
    }

    #[test]
    fn a_standby_outlives_a_trial_and_ends_when_its_time_is_up() {
        let mut slot = slot(with_standby(given(5, "a", 2, None), 1, Millis::seconds(600)));
        slot.applied = Some((Revision(5), Instant::now()));
        assert!(!slot.let_standby_go());
        assert!(slot.accept(given(6, "b", 2, Some(3))));
        let kept = slot.assignment.as_ref().unwrap().standby.unwrap();
        assert_eq!(kept.release, R1);
        assert!(slot.standby_left().is_none(), "its time goes on when this is applied");
        assert!(slot.accept(with_standby(given(7, "b", 3, None), 2, Millis(0))));
        slot.applied = Some((Revision(7), Instant::now()));
        assert!(slot.let_standby_go());
        assert!(!slot.let_standby_go());
        assert_eq!(slot.assignment.as_ref().unwrap().standby, None);
    }

    #[test]
    fn a_release_rests_longer_each_time_until_it_serves_for_longer_than_it_rested() {
        let mut slot = slot(given(5, "a", 1, None));
        for _ in 0..20 {
            slot.rest_after(R1, Some(Duration::from_millis(1)));
        }
        assert!(slot.resting[&R1].length >= Duration::from_secs(15));
        assert!(!slot.rest_is_over());
        slot.resting.get_mut(&R1).unwrap().until = Instant::now();
        assert!(slot.rest_is_over());
        assert!(!slot.rest_is_over(), "it is due once");
        assert_eq!(slot.plan().unwrap().start, [R1]);
        slot.rest_after(R1, Some(Duration::from_secs(60)));
        assert!(slot.resting[&R1].length <= Duration::from_millis(250));
        assert_eq!(slot.plan().unwrap().start, []);
    }

    #[test]
    fn few_ended_instances_are_remembered() {
        let mut slot = slot(given(5, "a", 1, None));
        for id in 0..6 {
            slot.runs.push(run(id, R1, RunState::Ready));
            slot.bury(InstanceId(id));
        }
        assert_eq!(slot.forget_oldest(), [InstanceId(0), InstanceId(1)]);
        assert_eq!(slot.instances().count(), REMEMBERED);
    }

    #[test]
    fn a_module_that_was_removed_begins_anew() {
        let mut slot = slot(given(5, "a", 1, Some(2)));
        slot.applied = Some((Revision(1), Instant::now()));
        slot.runs.push(run(1, R1, RunState::Stopping));
        slot.clear();
        assert!(slot.applied.is_none() && slot.assignment.is_none());
        assert_eq!(slot.runs.len(), 1, "what runs is still followed to its end");
        assert!(slot.accept(given(1, "b", 1, None)));
    }
}
