//! One module on one node: the assignment that it obeys, and what serves by it.

use std::collections::BTreeMap;

use hot_rollout::guard::{self, Signals};
use hot_rollout::{
    Assignment, Cause, Event, InstanceState, Millis, Module, Node, ReleaseNumber, Revision, Role, Sample,
    Time, Weight,
};

use super::counter::Counter;
use super::instance::{Instance, State, truth};
use super::{FAILURES_SAID, Seen, Weather};
use crate::draw::{binomial, multinomial};
use crate::scenario::Scenario;
use crate::seed::Dice;
use crate::truth::{SHAPE, Truth};

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

    /// Says again what is so. What was taken back comes first.
    pub(super) fn restate(&mut self, node: &Node, now: Time, said: &mut Vec<Event>) {
        let Some(assignment) = self.assignment.as_ref() else { return };
        let module = || self.module.clone();
        if let Some((revision, cause)) = &self.took_back {
            let (revision, cause) = (*revision, cause.clone());
            said.push(Event::TookBack { node: node.clone(), module: module(), revision, cause });
        }
        self.failures.retain(|(since, _)| now.since(*since) < FAILURES_SAID);
        said.extend(self.failures.iter().map(|(_, failed)| failed.clone()));
        let target = assignment.candidate.as_ref().map(|candidate| candidate.release).or(assignment.stable);
        if let Some((release, instance)) =
            target.and_then(|target| Some((target, self.instances.get(&target)?)))
        {
            let state = match &instance.state {
                State::Starting { .. } => Some(InstanceState::Starting),
                State::Ready { .. } => Some(InstanceState::Ready),
                State::Gone { .. } => None,
            };
            let event = |state| Event::Instance { node: node.clone(), module: module(), release, state };
            said.extend(state.map(event));
        }
        let tries = assignment.candidate.is_some();
        let Some(revision) = self.say_applied(node, said).filter(|_| tries) else { return };
        said.push(Event::Sample(Sample {
            node: node.clone(),
            module: self.module.clone(),
            revision,
            since: self.since,
            until: now,
            candidate: self.candidate.figures(self.since, now),
            stable: self.stable.figures(self.since, now),
        }));
    }

    /// Says of which revision the assignment is true, if it is, and whether stable serves by it.
    pub(super) fn say_applied(&self, node: &Node, said: &mut Vec<Event>) -> Option<Revision> {
        let assignment = self.assignment.as_ref()?;
        let revision = self.applied.filter(|applied| *applied == assignment.revision && self.is_whole())?;
        let serves = assignment.stable.is_none_or(|stable| self.is_ready(stable));
        said.push(Event::Applied { node: node.clone(), module: self.module.clone(), revision, serves });
        Some(revision)
    }

    /// The node does all of the assignment that it was given last.
    fn is_whole(&self) -> bool {
        let taken = self.took_back.as_ref().map(|(revision, _)| *revision);
        !self.passed_over && (taken.is_none() || taken != self.assignment.as_ref().map(|of| of.revision))
    }

    /// Users come.
    pub(super) fn serve(
        &mut self,
        place: usize,
        scenario: &Scenario,
        weather: Weather,
        dice: &mut Dice,
        seen: &mut Seen,
    ) {
        seen.failed += self.candidate.let_go(weather.now) + self.stable.let_go(weather.now);
        seen.requests += weather.requests;
        let tried = self.tries().map_or(0, |(_, weight)| u64::from(weight.basis_points()));
        let whole = u64::from(Weight::WHOLE.basis_points());
        let owed = self.owed + weather.requests * tried;
        let (to_candidate, owed) = (owed / whole, owed % whole);
        let to_candidate = to_candidate.min(weather.requests);
        self.owed = if tried == 0 { self.owed } else { owed };
        seen.tried += to_candidate;
        for (release, role, weight) in &self.serving {
            let (count, counter) = match role {
                Role::Candidate => (to_candidate, &mut self.candidate),
                Role::Stable => (weather.requests - to_candidate, &mut self.stable),
                Role::Standby => continue,
            };
            let releases = &scenario.modules[self.index];
            let truth = truth(releases, *release);
            seen.bad += if truth.is_bad(&releases.truths[0]) { count } else { 0 };
            let Some(instance) = self.instances.get_mut(release).filter(|it| it.is_ready()) else {
                // They wait for an instance, and are refused.
                seen.failed += count;
                continue;
            };
            let rate = truth.error_rate(place, *weight == Weight::WHOLE);
            let rate = 1.0 - (1.0 - rate) * (1.0 - weather.outage);
            instance.requests += count;
            seen.failed += answer(counter, instance, truth, (count, rate), weather.now, dice);
        }
        if self.serving.iter().all(|(.., weight)| *weight == Weight::ZERO) {
            seen.failed += weather.requests;
        }
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

/// An instance answers `count` requests, each of which fails at that rate; how many failed by now.
fn answer(
    counter: &mut Counter,
    instance: &Instance,
    truth: &Truth,
    (count, rate): (u64, f64),
    now: Time,
    dice: &mut Dice,
) -> u64 {
    let age = if let State::Ready { since } = instance.state { now.since(since) } else { Millis(0) };
    if let Some(hold) = truth.holds.filter(|hold| age >= hold.from) {
        counter.hold(now, now.plus(hold.open), hold.fails, count);
        return 0;
    }
    let cold = truth.cold.filter(|(span, _)| age < *span).map_or(1, |(_, times)| times);
    let chances = SHAPE.map(|(_, chance)| chance);
    multinomial(dice, count, &chances, |place, part| {
        counter.took(truth.median * cold * SHAPE[place].0 / 1000, part);
    });
    let failed = binomial(dice, count, rate);
    counter.failed(failed);
    failed
}
