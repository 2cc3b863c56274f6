//! When to ask a host how it is, and what its answers and its silence mean. Pure: the time comes from the caller.

use std::time::Duration;

use hot_wire::host::{HealthReply, ToHost};
use tokio::time::Instant;

use super::state::{End, bounded};

/// The shortest interval between questions: below, they would be the load.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// What follows from an answer or its absence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    Ended(End),
}

/// The questions to one host.
#[derive(Debug)]
pub(super) struct Health {
    interval: Duration,
    threshold: u32,
    seq: u64,
    next: Instant,
    last_answer: Instant,
    failures: u32,
}

impl Health {
    pub(super) fn new(interval: Duration, threshold: u32, now: Instant) -> Self {
        Self {
            interval: interval.max(MIN_INTERVAL),
            threshold: threshold.max(1),
            // Answers to the questions of a hotd before this one count as well: they are as fresh.
            seq: rand::random(),
            next: now,
            last_answer: now,
            failures: 0,
        }
    }

    /// The host is ready: silence counts from now on.
    pub(super) fn begin(&mut self, now: Instant) {
        self.last_answer = now;
        self.next = now + self.interval;
    }

    /// Nobody was there to ask and to listen: the host gets its whole limit anew.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        self.failures = 0;
        self.last_answer = now;
        self.next = now;
    }

    /// When the next question is due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// The next question; the one after is due an interval later.
    pub(super) fn ask(&mut self, now: Instant) -> ToHost {
        self.seq = self.seq.wrapping_add(1);
        self.next = now + self.interval;
        ToHost::Health { seq: self.seq }
    }

    /// A question is due: whether the host has been silent for too long.
    pub(super) fn due(&self, now: Instant) -> Verdict {
        let silent = self.silent(now);
        if silent >= self.limit() {
            return Verdict::Ended(End::Hung { silent, limit: self.limit() });
        }
        Verdict::Fine
    }

    /// The host answered.
    pub(super) fn answered(&mut self, reply: HealthReply, now: Instant) -> Verdict {
        self.last_answer = now;
        if reply.ok {
            self.failures = 0;
            return Verdict::Fine;
        }
        self.failures += 1;
        if self.failures < self.threshold {
            return Verdict::Fine;
        }
        let text = bounded(reply.text);
        Verdict::Ended(End::FailingHealth { failures: self.failures, limit: self.threshold, text })
    }

    /// Time since the last answer.
    pub(super) fn silent(&self, now: Instant) -> Duration {
        now.duration_since(self.last_answer)
    }

    /// The silence that ends an instance: as many intervals as bad answers would.
    pub(super) fn limit(&self) -> Duration {
        self.interval * self.threshold
    }
}

#[cfg(test)]
mod tests {
    use hot_wire::host::{Features, Phase};
    use hot_wire::isolation::Parts;

    use super::*;

    fn reply(ok: bool) -> HealthReply {
        HealthReply {
            seq: 0,
            phase: Phase::Ready,
            ok,
            text: "no database".into(),
            in_flight: 0,
            oldest_ms: 0,
            features: Features::default(),
            parts: Parts::NONE,
        }
    }

    #[test]
    fn so_many_bad_answers_in_a_row_end_it() {
        let now = Instant::now();
        let mut health = Health::new(Duration::from_secs(1), 3, now);
        for ok in [false, false, true, false, false] {
            assert_eq!(health.answered(reply(ok), now), Verdict::Fine);
        }
        let end = End::FailingHealth { failures: 3, limit: 3, text: "no database".into() };
        assert_eq!(health.answered(reply(false), now), Verdict::Ended(end));
    }

    #[test]
    fn silence_for_so_many_intervals_ends_it() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut health = Health::new(second, 3, now);
        health.begin(now);
        assert_eq!(health.next(), now + second);
        assert_eq!(health.due(now + 2 * second), Verdict::Fine);
        let end = End::Hung { silent: 3 * second, limit: 3 * second };
        assert_eq!(health.due(now + 3 * second), Verdict::Ended(end));
        health.answered(reply(true), now + 3 * second);
        assert_eq!(health.due(now + 4 * second), Verdict::Fine);
    }

    #[test]
    fn what_was_held_against_a_host_before_a_pause_of_ours_counts_no_more() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut health = Health::new(second, 3, now);
        health.begin(now);
        for _ in 0..2 {
            assert_eq!(health.answered(reply(false), now), Verdict::Fine);
        }
        let awake = now + 100 * second;
        health.begin_anew(awake);
        assert_eq!((health.next(), health.due(awake + 2 * second)), (awake, Verdict::Fine));
        for _ in 0..2 {
            assert_eq!(health.answered(reply(false), awake), Verdict::Fine);
        }
        let end = End::Hung { silent: 3 * second, limit: 3 * second };
        assert_eq!(health.due(awake + 3 * second), Verdict::Ended(end));
    }

    #[test]
    fn zeros_are_raised_to_what_can_be_kept() {
        let health = Health::new(Duration::ZERO, 0, Instant::now());
        assert_eq!(health.limit(), MIN_INTERVAL);
    }
}
