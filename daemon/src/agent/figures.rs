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
        slot.baseline = Some(Baseline { since: clock::counted(), begun: Instant::now(), counters });
    }
}

/// What was counted after `before`, which was `elapsed` ago.
fn since(now: &Counters, before: Option<&Counters>, elapsed: Duration) -> Figures {
    // A stream that fails takes back the answer that it was counted as when it began, maybe before `before`.
    let failed = |counters: &Counters| counters.failed() + counters.streams_failed;
    let errors = failed(now).saturating_sub(before.map_or(0, failed));
    let requests = now.ended().saturating_sub(before.map_or(0, Counters::ended)).max(errors);
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

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;

    fn counters(finished: u64, errors: u64, streams_failed: u64) -> Counters {
        Counters {
            picked: finished,
            finished,
            errors,
            aborted: 0,
            timeouts: 0,
            lost: 0,
            sent_again: 0,
            cancelled: 0,
            in_flight: 0,
            streams: 0,
            streams_failed,
            open: Vec::new(),
            latency: Histogram::new(2).unwrap(),
            last_pick: None,
        }
    }

    #[test]
    fn a_stream_that_fails_takes_back_its_good_answer() {
        let judged = |now: &Counters, before: Option<&Counters>| {
            let figures = since(now, before, Duration::ZERO);
            (figures.requests, figures.errors)
        };
        assert_eq!(judged(&counters(100, 0, 100), None), (100, 100));
        let before = counters(100, 5, 10);
        assert_eq!(judged(&counters(200, 6, 30), Some(&before)), (100, 21));
        assert_eq!(judged(&counters(105, 5, 60), Some(&before)), (50, 50), "they began before");
    }
}
