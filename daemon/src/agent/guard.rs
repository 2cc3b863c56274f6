//! The agent's clock: what it counts, restates and decides alone, every [`TICK`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hot_rollout::guard::judge;
use hot_rollout::{
    Assignment, Direction, Event, Figures, InstanceState, Latency, Module, Role, Sample, Signals, Time,
};

use super::slot::{Baseline, RunState, Slot};
use super::{Agent, TICK};
use crate::gateway::Counters;
use crate::supervisor::InstanceId;

impl Agent {
    /// Runs the clock until `stopped`.
    pub async fn run(self, stopped: tokio_util::sync::CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopped.cancelled() => return,
                _ = ticks.tick() => self.tick(),
            }
        }
    }

    fn tick(&self) {
        let mut slots = self.lock();
        let modules: Vec<Module> = slots.keys().cloned().collect();
        for module in modules {
            self.take_back_if_due(&mut slots, &module);
            let Some(slot) = slots.get_mut(&module) else { continue };
            let standby_over = slot.let_standby_go();
            if let Some(assignment) = slot.assignment.clone().filter(|_| standby_over) {
                self.persist_later(assignment);
            }
            if slot.rest_is_over() || standby_over {
                self.reconcile(&mut slots, &module);
            }
            if let Some(slot) = slots.get_mut(&module) {
                self.restate(&module, slot);
            }
        }
        drop(slots);
        self.shared.note_change();
    }

    /// Takes the candidate back where the node itself must: at once, then on disk, then told.
    pub(super) fn take_back_if_due(&self, slots: &mut BTreeMap<Module, Slot>, module: &Module) {
        let Some(slot) = slots.get_mut(module) else { return };
        let Some(assignment) = slot.assignment.clone().filter(|of| of.candidate.is_some()) else { return };
        let (candidate, stable) = self.figures(slot);
        let signals = Signals {
            ends: &slot.ends,
            // The supervisor ends an instance that fails its checks, so they arrive as an end.
            health_failures: 0,
            health_text: "",
            candidate: &candidate,
            stable: &stable,
            unrenewed: slot.unrenewed().into(),
        };
        let Some(back) = judge(&assignment, &signals) else { return };
        tracing::warn!(%module, reason = %back.reason, "this node takes its candidate back by itself");
        let without = assignment.without_candidate();
        slot.assignment = Some(without.clone());
        slot.took_back = Some((assignment.revision, back.reason.clone()));
        // Before anything else that is said of it.
        self.shared.report(self.shared.took_back(module, assignment.revision, back.reason));
        self.reconcile(slots, module);
        self.persist_later(without);
    }

    /// Puts on disk what is in effect already.
    fn persist_later(&self, assignment: Assignment) {
        let agent = self.clone();
        self.shared.tasks.spawn(async move {
            if let Err(error) = agent.persist(assignment, Direction::TowardStable).await {
                tracing::error!(error = %crate::describe(&error), "what is in effect is not on disk");
            }
        });
    }

    /// Says again what is so: events state facts, so saying one twice is saying it once.
    fn restate(&self, module: &Module, slot: &mut Slot) {
        let Some(assignment) = slot.assignment.as_ref() else { return };
        let node = &self.shared.parts.node;
        if let Some((revision, cause)) = &slot.took_back {
            self.shared.report(self.shared.took_back(module, *revision, cause.clone()));
        }
        let wanted = assignment.weights();
        for run in &slot.runs {
            let state = match run.state {
                RunState::Starting => InstanceState::Starting,
                RunState::Ready => InstanceState::Ready,
                RunState::Stopping | RunState::Ended => continue,
            };
            if wanted.iter().any(|(release, ..)| *release == run.release) {
                self.shared.report(self.shared.instance_event(module, run.release, state));
            }
        }
        let applied =
            slot.applied.filter(|(revision, _)| *revision == assignment.revision && slot.is_whole());
        if let Some((revision, _)) = applied {
            self.shared.report(Event::Applied { node: node.clone(), module: module.clone(), revision });
            if assignment.candidate.is_some() {
                let (candidate, stable) = self.figures(slot);
                let since = slot.baseline.as_ref().map_or(UNIX_EPOCH, |baseline| baseline.since);
                self.shared.report(Event::Sample(Sample {
                    node: node.clone(),
                    module: module.clone(),
                    revision,
                    since: time(since),
                    until: time(SystemTime::now()),
                    candidate,
                    stable,
                }));
            }
        }
    }

    /// What candidate and stable counted since they have their present weights. Instances that have ended or are
    /// ending count as well: what they counted must not be missing from a later sample.
    fn figures(&self, slot: &mut Slot) -> (Figures, Figures) {
        if slot.baseline.is_none() {
            self.count_anew(slot);
        }
        let (mut candidate, mut stable) = (Figures::default(), Figures::default());
        let Some(baseline) = &slot.baseline else { return (candidate, stable) };
        for run in slot.instances() {
            let role =
                slot.serving.iter().find(|(release, ..)| *release == run.release).map(|(_, role, _)| role);
            let sum = match role {
                Some(Role::Candidate) => &mut candidate,
                Some(Role::Stable) => &mut stable,
                Some(Role::Standby) | None => continue,
            };
            let counters = self.shared.parts.gateway.counters(run.id);
            sum.merge(&since(&counters, baseline.counters.get(&run.id), baseline.begun.elapsed()));
        }
        (candidate, stable)
    }

    /// Counting for samples begins now.
    pub(super) fn count_anew(&self, slot: &mut Slot) {
        let counters: BTreeMap<InstanceId, Counters> =
            slot.instances().map(|run| (run.id, self.shared.parts.gateway.counters(run.id))).collect();
        slot.baseline = Some(Baseline { since: SystemTime::now(), begun: Instant::now(), counters });
    }
}

impl Slot {
    /// A release that rested is to be started again.
    pub(super) fn rest_is_over(&mut self) -> bool {
        let now = Instant::now();
        let mut over = false;
        for rest in self.resting.values_mut().filter(|rest| !rest.due && rest.until <= now) {
            rest.due = true;
            over = true;
        }
        over
    }
}

/// What was counted after `before`, which was `elapsed` ago.
fn since(now: &Counters, before: Option<&Counters>, elapsed: Duration) -> Figures {
    let requests = now.ended().saturating_sub(before.map_or(0, Counters::ended));
    let errors = now.failed().saturating_sub(before.map_or(0, Counters::failed));
    let mut latency = now.latency.clone();
    if let Some(before) = before {
        // Only counts that were in `now` as well can be in `before`: it is the same histogram, earlier.
        if latency.subtract(&before.latency).is_err() {
            latency.reset();
        }
    }
    let counts = latency.iter_recorded().map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value()));
    // What began before the counting did is not compared: the candidate had no request yet while stable had.
    let open = now.open.iter().filter(|(age, _)| *age <= elapsed);
    let open = open.map(|(age, count)| (u64::try_from(age.as_micros()).unwrap_or(u64::MAX), *count));
    Figures { requests, errors, latency: Latency::from_counts(counts), open: Latency::from_counts(open) }
}

fn time(at: SystemTime) -> Time {
    let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
