//! Whether this `hotd` itself stood still: stopped by a signal or a debugger, in a frozen cgroup, or out of CPU. A host
//! can't be blamed for silence that nobody was there to hear. Pure: the time comes from the caller.

use std::time::Duration;

use tokio::time::Instant;

/// The longest sleep: a pause is noticed by a timer that was due in it.
const LONGEST: Duration = Duration::from_secs(1);
/// A timer that comes later than this is later than a busy machine makes it.
const LATE: Duration = Duration::from_millis(500);
/// One that comes no later than this tells nothing, however short the interval: every machine is that busy at times.
const USUAL: Duration = Duration::from_millis(50);

/// When its task is to wake at the latest, and how late may be.
#[derive(Debug)]
pub(super) struct Pulse {
    due: Instant,
    late: Duration,
}

impl Pulse {
    /// `interval`: the time between two questions. A pause may not take a question away unnoticed.
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self { due: now + LONGEST, late: interval.clamp(USUAL, LATE) }
    }

    /// When to wake for what is due at `wanted`: then, or before.
    pub(super) fn sleep_until(&mut self, wanted: Instant, now: Instant) -> Instant {
        self.due = wanted.clamp(now, now + LONGEST);
        self.due
    }

    /// Its task is awake: for how long it stood still, if it did.
    pub(super) fn stood_still(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.due)).filter(|still| *still > self.late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_timer_that_comes_long_after_it_was_due_tells_of_a_pause() {
        let now = Instant::now();
        let mut pulse = Pulse::new(SECOND, now);
        let due = now + SECOND / 2;
        assert_eq!(pulse.sleep_until(due, now), due);
        for (awake, still) in [(now, None), (due + LATE, None), (due + 6 * SECOND, Some(6 * SECOND))] {
            assert_eq!(pulse.stood_still(awake), still);
        }
    }

    #[test]
    fn a_pause_shows_also_where_nothing_is_due_for_long_or_was_due_before() {
        let now = Instant::now();
        let mut pulse = Pulse::new(SECOND, now);
        assert_eq!(pulse.sleep_until(now + 3600 * SECOND, now), now + LONGEST);
        assert_eq!(pulse.stood_still(now + 6 * SECOND), Some(5 * SECOND));
        // What is overdue because its task had something else to do tells of no pause.
        assert_eq!(pulse.sleep_until(now, now + 6 * SECOND), now + 6 * SECOND);
        assert_eq!(pulse.stood_still(now + 6 * SECOND), None);
    }

    #[test]
    fn where_hosts_are_asked_often_a_short_pause_counts() {
        let now = Instant::now();
        let mut pulse = Pulse::new(SECOND / 50, now);
        pulse.sleep_until(now, now);
        assert_eq!(pulse.stood_still(now + USUAL), None);
        assert_eq!(pulse.stood_still(now + SECOND / 10), Some(SECOND / 10));
    }
}
