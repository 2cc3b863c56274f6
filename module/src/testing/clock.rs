//! The time of an exchange: the module's own, so that it stands still while the exchange waits for its client.

use std::time::{Duration, Instant};

/// Counts down to the deadline. What the time is now is for the caller to say.
#[derive(Debug)]
pub(super) struct Clock {
    /// How long the module has, and how long a client may be waited for that does not move.
    time: Duration,
    /// `None` of a long stream that was not asked to end.
    deadline: Option<Instant>,
    still: Option<Still>,
}

/// The exchange waits for its client.
#[derive(Debug, Clone, Copy)]
struct Still {
    /// Since when, as far as the deadline does not know yet.
    since: Instant,
    /// When it has waited long enough.
    until: Option<Instant>,
}

impl Clock {
    pub(super) fn new(time: Duration, now: Instant) -> Self {
        Self { time, deadline: now.checked_add(time), still: None }
    }

    /// Notes whether the exchange waits for its client, and whether that has moved since the last time.
    pub(super) fn tick(&mut self, now: Instant, waits: bool, has_moved: bool) {
        let before = self.still.take();
        if let (Some(still), Some(deadline)) = (before, self.deadline) {
            self.deadline = deadline.checked_add(now.saturating_duration_since(still.since));
        }
        if waits {
            let until = before.filter(|_| !has_moved).map(|still| still.until);
            let until = until.unwrap_or_else(|| now.checked_add(self.time));
            self.still = Some(Still { since: now, until });
        }
    }

    /// From now on the deadline is another one, and no client moves it.
    pub(super) const fn set(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
        self.still = None;
    }

    /// When the exchange is given up if nothing happens before.
    pub(super) fn until(&self) -> Option<Instant> {
        self.still.map_or(self.deadline, |still| still.until)
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until().is_some_and(|until| until <= now)
    }

    /// The time until the deadline, if there is one.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let now = self.still.map_or(now, |still| still.since);
        self.deadline.map(|deadline| deadline.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(10);
    const STEP: Duration = Duration::from_secs(4);

    #[test]
    fn it_stands_still_for_a_client_that_moves() {
        let mut now = Instant::now();
        let mut clock = Clock::new(TIME, now);
        now += STEP;
        assert_eq!(clock.left(now), Some(TIME - STEP));
        clock.tick(now, true, false);
        for _ in 0..10 {
            now += STEP;
            assert!(!clock.is_over(now));
            clock.tick(now, true, true);
            assert_eq!(clock.left(now), Some(TIME - STEP));
        }
        clock.tick(now, false, true);
        assert_eq!(clock.until(), Some(now + TIME - STEP));
        now += STEP;
        assert_eq!(clock.left(now), Some(TIME - STEP - STEP));
        assert!(clock.is_over(now + TIME));
    }

    #[test]
    fn a_client_that_does_not_move_is_given_up() {
        let mut now = Instant::now();
        let mut clock = Clock::new(TIME, now);
        clock.tick(now, true, false);
        // That the module asks is no move of the client's.
        for _ in 0..2 {
            now += STEP;
            clock.tick(now, true, false);
        }
        assert_eq!(clock.left(now), Some(TIME));
        assert!(!clock.is_over(now));
        assert!(clock.is_over(now + TIME - STEP - STEP));
    }

    #[test]
    fn what_is_set_is_not_moved() {
        let now = Instant::now();
        let mut clock = Clock::new(TIME, now);
        clock.tick(now, true, false);
        clock.set(None);
        assert_eq!((clock.left(now), clock.until()), (None, None));
        clock.set(Some(now + STEP));
        clock.tick(now + STEP, false, true);
        assert!(clock.is_over(now + STEP));
    }
}
