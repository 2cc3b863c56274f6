//! From what the gateway counted to what a judgement compares.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hot_rollout::{Figures, Latency, Role};

use super::Agent;
use super::slot::{Baseline, Slot};
use crate::clock;
use crate::gateway::Counters;
use crate::supervisor::InstanceId;

impl Agent {
    /// What candidate and stable counted since they have their present weights. Instances that have ended or are
    /// ending count as well: what they counted must not be missing from a later sample.
    pub(super) fn figures(&self, slot: &mut Slot) -> (Figures, Figures) {
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
        slot.baseline = Some(Baseline { since: clock::now(), begun: Instant::now(), counters });
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
