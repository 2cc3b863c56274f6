//! One module on one node: the assignment that it obeys, and what runs and serves by it.
//!
//! | room | what it is for |
//! |---|---|
//! | `serve` | users come, and are answered |
//! | `say` | what it says to the one that leads |

mod say;
mod serve;

use std::collections::BTreeMap;

use hot_rollout::guard::{self, Signals};
use hot_rollout::{
    Assignment, Cause, Event, InstanceState, Millis, Module, Node, ReleaseNumber, Revision, Role, Time,
    Weight,
};

use super::counter::Counter;
use super::instance::{Instance, State, truth};
use super::{FAILURES_SAID, Seen, Weather};
use crate::scenario::Scenario;
use crate::seed::Dice;

/// One module on one node.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// Its place among the modules.
    index: usize,
    pub(crate) module: Module,
    /// In the node's file.
    pub(crate) assignment: Option<Assignment>,
    /// In the node's file: it took the candidate out of that revision by itself.
    took_back: Option<(Revision, Cause)>,
    /// A word that it may not take has come since a person went back here alone.
    passed_over: bool,
    /// When the assignment came or was renewed; `None`: not since this `hotd` began.
    renewed: Option<Time>,
    instances: BTreeMap<ReleaseNumber, Instance>,
    /// What the gateway picks by.
    pub(crate) serving: Vec<(ReleaseNumber, Role, Weight)>,
    pub(crate) applied: Option<Revision>,
    /// When the counting began.
    since: Time,
    candidate: Counter,
    stable: Counter,
    ends: Vec<Cause>,
    /// What is said again for a while.
    failures: Vec<(Time, Event)>,
    /// The gateway's deck: basis points of a request that the candidate is owed.
    owed: u64,
    /// How often its node's clock has ticked.
    ticks: u64,
}

impl Slot {
    pub(super) fn new(index: usize, module: Module, now: Time) -> Self {
        Self {
            index,
            module,
            assignment: None,
            took_back: None,
            passed_over: false,
            renewed: None,
            instances: BTreeMap::new(),
            serving: Vec::new(),
            applied: None,
            since: now,
            candidate: Counter::default(),
            stable: Counter::default(),
            ends: Vec::new(),
            failures: Vec::new(),
            owed: 0,
            ticks: 0,
        }
    }

    /// The candidate's weight by which users are served, in the release that it goes to.
    pub(crate) fn tries(&self) -> Option<(ReleaseNumber, Weight)> {
        let candidate = self.serving.iter().find(|(_, role, _)| *role == Role::Candidate);
        candidate
            .filter(|(.., weight)| *weight > Weight::ZERO)
            .map(|(release, _, weight)| (*release, *weight))
    }

    /// The release runs and has passed its checks.
    pub(crate) fn is_ready(&self, release: ReleaseNumber) -> bool {
        self.instances.get(&release).is_some_and(Instance::is_ready)
    }

    /// Takes an assignment, unless it is older, or has what was taken back, or goes another way than a person went here. The
    /// same again is a renewal, but not where it is only read once more (not `live`): nobody knows when it was written.
    pub(super) fn accept(&mut self, assignment: Assignment, live: bool, alone: bool, now: Time) {
        let known = self.assignment.as_ref();
        if !live && known.is_some_and(|known| known.revision == assignment.revision) {
            return;
        }
        let older = known.is_some_and(|known| known.revision > assignment.revision);
        let same_rollout = known.is_some_and(|known| known.rollout == assignment.rollout);
        let expired = matches!(self.took_back, Some((_, Cause::Expired { .. })));
        let stays_back =
            same_rollout && assignment.candidate.is_some() && self.took_back.is_some() && !expired;
        if older || stays_back {
            return;
        }
        let same_way =
            |known: &Assignment| known.stable == assignment.stable && assignment.candidate.is_none();
        if alone && !known.is_some_and(same_way) {
            self.passed_over = true;
            return;
        }
        self.passed_over = false;
        self.renewed = Some(now);
        if known.is_some_and(|known| known.revision == assignment.revision) {
            return;
        }
        let tried = |of: &Assignment| of.candidate.as_ref().map(|candidate| candidate.release);
        if known.and_then(tried) != tried(&assignment) {
            self.ends.clear();
        }
        if !same_rollout || expired {
            self.took_back = None;
        }
        self.assignment = Some(assignment);
    }

    pub(super) fn renew(&mut self, revision: Revision, now: Time) {
        if self.assignment.as_ref().is_some_and(|known| known.revision <= revision) {
            self.renewed = Some(now);
        }
    }

    /// Starts what is to run, ends what is not, and serves by the assignment as soon as it can: a candidate that gets
    /// weight must be ready, stable must be ready or have failed.
    pub(super) fn reconcile(&mut self, place: usize, scenario: &Scenario, now: Time, dice: &mut Dice) {
        let Some(assignment) = self.assignment.clone() else { return };
        let weights = assignment.weights();
        let releases = &scenario.modules[self.index];
        let deadline = scenario.rules().start_deadline;
        for (release, ..) in &weights {
            self.instances
                .entry(*release)
                .or_insert_with(|| Instance::start(truth(releases, *release), place, deadline, now));
        }
        let may_serve = weights.iter().all(|(release, role, weight)| {
            let Some(instance) = self.instances.get(release) else { return false };
            match role {
                Role::Candidate => *weight == Weight::ZERO || instance.is_ready(),
                Role::Stable => instance.is_ready() || instance.is_gone() || *weight == Weight::ZERO,
                Role::Standby => true,
            }
        });
        if may_serve && self.applied != Some(assignment.revision) {
            self.serving.clone_from(&weights);
            self.applied = Some(assignment.revision);
            (self.since, self.owed) = (now, dice.below(u64::from(Weight::WHOLE.basis_points())));
            self.candidate.begin_anew();
            self.stable.begin_anew();
        }
        let serving = &self.serving;
        self.instances
            .retain(|release, _| weights.iter().chain(serving).any(|(wanted, ..)| wanted == release));
    }

    /// Instances get ready, fail, end, and are started again.
    pub(super) fn follow_instances(
        &mut self,
        node: &Node,
        place: usize,
        scenario: &Scenario,
        now: Time,
        said: &mut Vec<Event>,
    ) {
        let releases = &scenario.modules[self.index];
        let tried = self.assignment.as_ref().and_then(|of| Some(of.candidate.as_ref()?.release));
        for (release, instance) in &mut self.instances {
            let truth = truth(releases, *release);
            let cause = match &instance.state {
                State::Starting { due, becomes } if *due <= now => becomes.clone().err(),
                State::Ready { .. } => instance.ended(truth, place, now),
                State::Gone { again } if *again <= now && tried != Some(*release) => {
                    *instance = Instance::start(truth, place, scenario.rules().start_deadline, now);
                    None
                }
                State::Starting { .. } | State::Gone { .. } => continue,
            };
            let (node, module, release) = (node.clone(), self.module.clone(), *release);
            if let Some(cause) = cause {
                instance.go(now);
                if tried == Some(release) {
                    self.ends.push(cause.clone());
                    self.candidate.lose();
                }
                let state = InstanceState::Failed(cause);
                let failed = Event::Instance { node, module, release, state };
                self.failures.push((now, failed.clone()));
                said.push(failed);
            } else if matches!(instance.state, State::Starting { due, .. } if due <= now) {
                instance.state = State::Ready { since: now };
                said.push(Event::Instance { node, module, release, state: InstanceState::Ready });
            }
        }
    }

    /// Takes the candidate back where the node itself must.
    pub(super) fn take_back_if_due(&mut self, node: &Node, now: Time, said: &mut Vec<Event>) {
        let Some(assignment) = self.assignment.as_ref() else { return };
        let Some(tried) = assignment.candidate.as_ref() else { return };
        let (candidate, stable) =
            (self.candidate.figures(self.since, now), self.stable.figures(self.since, now));
        let signals = Signals {
            ends: &self.ends,
            health_failures: 0,
            health_text: "",
            candidate: &candidate,
            stable: &stable,
            unrenewed: self.renewed.map_or(tried.expiry, |renewed| now.since(renewed)),
        };
        if let Some(back) = guard::judge(assignment, &signals) {
            self.take_back(node, back.reason, said);
        }
    }

    /// Takes the candidate back, at once.
    pub(super) fn take_back(&mut self, node: &Node, cause: Cause, said: &mut Vec<Event>) {
        let Some(assignment) = self.assignment.as_ref().filter(|of| of.candidate.is_some()) else { return };
        let (revision, without) = (assignment.revision, assignment.without_candidate());
        self.serving = without.weights();
        self.assignment = Some(without);
        self.took_back = Some((revision, cause.clone()));
        said.push(Event::TookBack { node: node.clone(), module: self.module.clone(), revision, cause });
    }

    /// A new `hotd` does not know when it was renewed; without its instances it starts them anew.
    pub(super) fn restart(&mut self, with_instances: bool) {
        (self.renewed, self.applied) = (None, None);
        self.failures.clear();
        if !with_instances {
            self.instances.clear();
            (self.candidate, self.stable) = (Counter::default(), Counter::default());
        }
    }

    pub(super) fn lose_instances(&mut self, node: &Node, now: Time, said: &mut Vec<Event>) {
        for (release, instance) in &mut self.instances {
            instance.state = State::Starting { due: now.plus(Millis::seconds(2)), becomes: Ok(()) };
            instance.requests = 0;
            let (node, module, release) = (node.clone(), self.module.clone(), *release);
            said.push(Event::Instance { node, module, release, state: InstanceState::Ended });
        }
    }

    /// When something becomes of an instance by itself.
    pub(super) fn next_due(&self) -> Option<Time> {
        let tried = self.assignment.as_ref().and_then(|of| Some(of.candidate.as_ref()?.release));
        let awaited = |(release, instance): (&ReleaseNumber, &Instance)| {
            let rests = instance.is_gone() && tried == Some(*release);
            if rests { None } else { instance.due() }
        };
        self.instances.iter().filter_map(awaited).min()
    }
}
