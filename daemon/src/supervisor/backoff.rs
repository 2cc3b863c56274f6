//! How long to wait before trying again.

use std::time::Duration;

/// Waits that double, up to a cap, with some randomness so that many do not try at the same moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    tries: u32,
}

impl Default for Backoff {
    /// From 250 ms, so that a crash that happens once is hardly seen, to 30 s, so that a crash loop costs nothing.
    fn default() -> Self {
        Self::new(Duration::from_millis(250), Duration::from_secs(30))
    }
}

impl Backoff {
    /// Waits around `first`, then twice as long each time, but not above `cap`.
    #[must_use]
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, tries: 0 }
    }

    /// The next wait: between half of its nominal length and all of it. `jitter` is uniform in 0.0..1.0 and chooses
    /// where; what is outside counts as the nearer end.
    #[must_use]
    pub fn next(&mut self, jitter: f64) -> Duration {
        let nominal =
            self.first.saturating_mul(1u32.checked_shl(self.tries).unwrap_or(u32::MAX)).min(self.cap);
        self.tries = (self.tries + 1).min(31);
        let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 1.0 };
        nominal.mul_f64(0.5 + jitter / 2.0)
    }

    /// It went well: the next wait is the first one again.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_start_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(500));
        let waits: Vec<_> = (0..5).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 500, 500]);
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_millis(50));
        assert_eq!(backoff.next(f64::NAN), Duration::from_millis(200));
    }

    #[test]
    fn many_tries_never_overflow() {
        let mut backoff = Backoff::default();
        let last = (0..1000).map(|_| backoff.next(1.0)).last();
        assert_eq!(last, Some(Duration::from_secs(30)));
    }
}
