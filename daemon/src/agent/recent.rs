//! How long the requests of one module took lately, whichever instance answered them: a few looks at its counters, and
//! what came between one and the next. Reads no clock and no counter by itself.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use hot_rollout::Latency;

use super::TICK;
use crate::gateway::Tally;
use crate::supervisor::InstanceId;

/// How far back it can be asked for.
pub(super) const KEPT: Duration = Duration::from_secs(5);

/// What was answered between two looks.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub until: Instant,
    /// Of all instances together.
    pub latency: Latency,
}

/// What one instance had counted.
#[derive(Debug, Default)]
struct Seen {
    /// At the looks of the last [`TICK`], and at the one before these; the oldest first.
    tallies: VecDeque<(Instant, Tally)>,
    /// At the last look, since it was attached.
    latency: Latency,
}

/// The last looks at one module.
#[derive(Debug, Default)]
pub(super) struct Recent {
    seen: BTreeMap<InstanceId, Seen>,
    spans: VecDeque<Span>,
}

impl Recent {
    /// Takes what the instances have counted by now, and gives what was answered since the last look. Latencies are
    /// asked for only where something was answered: a module at rest costs next to nothing.
    pub(super) fn look(
        &mut self,
        now: Instant,
        tallies: &[(InstanceId, Tally)],
        latency_of: impl Fn(InstanceId) -> Latency,
    ) -> Span {
        self.seen.retain(|id, _| tallies.iter().any(|(there, _)| there == id));
        let mut counts: Vec<(u16, u64)> = Vec::new();
        for (id, tally) in tallies {
            let seen = self.seen.entry(*id).or_default();
            let last = seen.tallies.back().map_or(0, |(_, last)| last.finished);
            if last != tally.finished {
                let latency = latency_of(*id);
                counts.extend(since(&latency, &seen.latency));
                seen.latency = latency;
            }
            seen.tallies.push_back((now, *tally));
            while seen.tallies.get(1).is_some_and(|(at, _)| is_before(*at, now)) {
                seen.tallies.pop_front();
            }
        }
        let span = Span { until: now, latency: counts.into() };
        self.spans.push_back(span.clone());
        // One that ended before is still needed for the time behind its end, up to the next one's.
        while self.spans.front().is_some_and(|span| now.saturating_duration_since(span.until) > KEPT + TICK) {
            self.spans.pop_front();
        }
        span
    }

    /// What an instance had counted at least [`TICK`] before `now`: a look between a crash and its flip does not hide
    /// what the crash took. Nothing, where it has been there for less.
    pub(super) fn shortly_before(&self, id: InstanceId, now: Instant) -> Tally {
        let tallies = self.seen.get(&id).into_iter().flat_map(|seen| seen.tallies.iter().rev());
        tallies.into_iter().find(|(at, _)| is_before(*at, now)).map(|(_, tally)| *tally).unwrap_or_default()
    }

    /// What was answered in the last [`KEPT`] before the last look, in pieces, the oldest first.
    pub(super) fn spans(&self) -> Vec<Span> {
        self.spans.iter().cloned().collect()
    }
}

fn is_before(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) >= TICK
}

/// What `now` has beyond `before`: the same histogram, earlier.
fn since(now: &Latency, before: &Latency) -> Vec<(u16, u64)> {
    let before: BTreeMap<u16, u64> = Vec::from(before.clone()).into_iter().collect();
    let had = |bucket: &u16| before.get(bucket).copied().unwrap_or_default();
    let mut counts = Vec::from(now.clone());
    for (bucket, count) in &mut counts {
        *count = count.saturating_sub(had(bucket));
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: InstanceId = InstanceId(1);
    const B: InstanceId = InstanceId(2);

    fn finished(finished: u64) -> Tally {
        Tally { finished, ..Tally::default() }
    }

    #[test]
    fn a_look_gives_what_came_since_the_last_one_of_all_instances() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let of = |id| Latency::from_counts([(1_000, if id == A { 10 } else { 2 })]);
        let span = recent.look(start, &[(A, finished(10)), (B, finished(2))], of);
        assert_eq!(span.latency.count(), 12);
        let of = |id| {
            assert_eq!(id, A, "nothing new is read of what counted nothing new");
            Latency::from_counts([(1_000, 10), (9_000, 3)])
        };
        let span = recent.look(start + TICK, &[(A, finished(13)), (B, finished(2))], of);
        assert_eq!((span.latency.count(), span.latency.above(2_000)), (3, 3));
    }

    #[test]
    fn a_look_right_before_hides_nothing() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let of = |_| Latency::default();
        recent.look(start, &[(A, finished(1))], of);
        assert_eq!(recent.shortly_before(A, start), Tally::default(), "it has just come");
        recent.look(start + TICK / 2, &[(A, finished(2))], of);
        recent.look(start + TICK, &[(A, finished(3))], of);
        assert_eq!(recent.shortly_before(A, start + TICK), finished(1));
        recent.look(start + TICK * 2, &[(A, finished(4))], of);
        assert_eq!(recent.shortly_before(A, start + TICK * 2), finished(3));
        assert_eq!(recent.shortly_before(B, start + TICK * 2), Tally::default());
    }

    #[test]
    fn an_instance_that_is_forgotten_takes_nothing_away() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let of = |_| Latency::from_counts([(1_000, 10)]);
        recent.look(start, &[(A, finished(10))], of);
        let span = recent.look(start + TICK, &[(B, finished(10))], of);
        assert_eq!(span.latency.count(), 10);
    }

    #[test]
    fn it_is_bounded() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        for tick in 0..1000 {
            recent.look(start + TICK * tick, &[(A, finished(1))], |_| Latency::default());
        }
        assert!(recent.spans().len() <= 13 && recent.seen[&A].tallies.len() <= 2, "{recent:?}");
    }
}
