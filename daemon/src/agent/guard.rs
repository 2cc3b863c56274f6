//! The agent's clock: what it counts, restates and decides alone, every [`TICK`].

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hot_rollout::guard::judge;
use hot_rollout::{Direction, Event, Figures, InstanceState, Latency, Module, Role, Sample, Signals, Time};

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
            let due = slots.get_mut(&module).is_some_and(Slot::something_is_due);
            if due {
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
        let Some(assignment) = slot.assignment.clone() else { return };
        let (candidate, stable) = self.figures(slot);
        let signals = Signals {
            ends: &slot.ends,
            // The supervisor ends an instance that fails its checks, so they arrive as an end.
            health_failures: 0,
            health_text: "",
            candidate: &candidate,
            stable: &stable,
            unrenewed: slot.renewed.elapsed().into(),
        };
        let Some(back) = judge(&assignment, &signals) else { return };
        tracing::warn!(%module, reason = %back.reason, "this node takes its candidate back by itself");
        let without = assignment.without_candidate();
        slot.assignment = Some(without.clone());
        slot.took_back = Some((assignment.revision, back.reason.clone()));
        self.reconcile(slots, module);
        self.shared.report(self.shared.took_back(module, assignment.revision, back.reason));
        let agent = self.clone();
        self.shared.tasks.spawn(async move {
            if let Err(error) = agent.persist(without, Direction::TowardStable).await {
                tracing::error!(error = %crate::grpc::chain(&error), "the way back is done but not on disk");
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
        if let Some((revision, _)) = slot.applied.filter(|(revision, _)| *revision == assignment.revision) {
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

    /// What candidate and stable counted since they have their present weights.
    fn figures(&self, slot: &mut Slot) -> (Figures, Figures) {
        let instances: Vec<(Role, InstanceId)> = slot
            .serving
            .iter()
            .filter_map(|(release, role, _)| Some((*role, slot.run_of(*release)?.id)))
            .collect();
        let now: BTreeMap<InstanceId, Counters> =
            instances.iter().map(|(_, id)| (*id, self.shared.parts.gateway.counters(*id))).collect();
        let baseline =
            slot.baseline.get_or_insert_with(|| Baseline { since: SystemTime::now(), counters: now.clone() });
        let of = |wanted: Role| {
            let mut sum = Figures::default();
            for (_, id) in instances.iter().filter(|(role, _)| *role == wanted) {
                if let Some(counters) = now.get(id) {
                    sum.merge(&since(counters, baseline.counters.get(id)));
                }
            }
            sum
        };
        (of(Role::Candidate), of(Role::Stable))
    }
}

impl Slot {
    /// A rest is over or a standby's time is up.
    fn something_is_due(&mut self) -> bool {
        let now = Instant::now();
        let mut over = false;
        for rest in self.resting.values_mut().filter(|rest| !rest.due && rest.until <= now) {
            rest.due = true;
            over = true;
        }
        let standby_over = self.standby_left().is_some_and(|left| left.is_zero());
        over || standby_over
    }
}

/// What was counted after `before`.
fn since(now: &Counters, before: Option<&Counters>) -> Figures {
    let requests = now.ended() - before.map_or(0, Counters::ended);
    let errors = now.failed() - before.map_or(0, Counters::failed);
    let mut latency = now.latency.clone();
    if let Some(before) = before {
        // Only counts that were in `now` as well can be in `before`: it is the same histogram, earlier.
        if latency.subtract(&before.latency).is_err() {
            latency.reset();
        }
    }
    let counts = latency.iter_recorded().map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value()));
    Figures { requests, errors, latency: Latency::from_counts(counts) }
}

fn time(at: SystemTime) -> Time {
    let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
