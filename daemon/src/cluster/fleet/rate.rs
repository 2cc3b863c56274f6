//! How fast artifacts travel: so many bytes a second, in and out, so that users' requests have room on the line.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What may travel at once after a while in which nothing did, as time at the full rate.
const BURST: Duration = Duration::from_millis(250);

/// Bounds what travels to so many bytes a second, for all who share it.
#[derive(Debug)]
pub struct Rate(Option<Mutex<Bucket>>);

impl Rate {
    /// So many bytes a second. None: without a bound.
    #[must_use]
    pub fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        Self(bytes_per_second.map(|rate| Mutex::new(Bucket::new(rate, Instant::now()))))
    }

    /// How many can have so many bytes a second each. None: without a bound.
    #[must_use]
    pub fn shares(&self, each: NonZeroU64) -> Option<u64> {
        let bucket = self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(bucket.bytes_per_second.get() / each)
    }

    /// Returns when so many bytes may travel.
    pub async fn take(&self, bytes: u64) {
        let Some(bucket) = &self.0 else { return };
        let wait = bucket.lock().unwrap_or_else(PoisonError::into_inner).take(bytes, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

/// A bucket of tokens that may be owed: whoever takes waits for what those before it have taken, and not for its own. Pure.
#[derive(Debug)]
struct Bucket {
    bytes_per_second: NonZeroU64,
    /// When all that was taken will have come in.
    paid: Instant,
}

impl Bucket {
    const fn new(bytes_per_second: NonZeroU64, now: Instant) -> Self {
        Self { bytes_per_second, paid: now }
    }

    /// How long to wait before so many bytes may travel.
    fn take(&mut self, bytes: u64, now: Instant) -> Duration {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let begin = self.paid.max(earliest);
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second.get());
        self.paid = begin + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        begin.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn so_many_can_have_their_share() {
        let each = NonZeroU64::new(MIB / 8).unwrap();
        assert_eq!(Rate::new(NonZeroU64::new(MIB)).shares(each), Some(8));
        assert_eq!(Rate::new(None).shares(each), None);
    }

    fn bucket(now: Instant) -> Bucket {
        Bucket::new(NonZeroU64::new(4 * MIB).unwrap(), now)
    }

    #[test]
    fn what_is_taken_goes_at_the_rate_over_time() {
        let begun = Instant::now() + Duration::from_secs(60);
        let mut bucket = bucket(begun);
        let mut now = begun;
        for _ in 0..40 {
            now += bucket.take(MIB, now);
        }
        assert_eq!(
            now - begun,
            Duration::from_millis(39 * 250),
            "each but the first waits for those before it"
        );
    }

    #[test]
    fn a_pause_gives_a_burst_and_no_more() {
        let begun = Instant::now() + Duration::from_secs(60);
        let mut bucket = bucket(begun);
        let later = begun + Duration::from_secs(3600);
        assert_eq!(bucket.take(MIB, later), Duration::ZERO);
        assert_eq!(bucket.take(MIB, later), Duration::ZERO, "a quarter of a second at 4 MiB/s");
        assert_eq!(bucket.take(MIB, later), BURST);
    }

    #[test]
    fn who_takes_much_makes_the_next_wait() {
        let begun = Instant::now() + Duration::from_secs(60);
        let mut bucket = bucket(begun);
        assert_eq!(bucket.take(400 * MIB, begun), Duration::ZERO);
        assert_eq!(bucket.take(1, begun + Duration::from_secs(40)), Duration::from_secs(60));
    }

    #[tokio::test]
    async fn without_a_bound_nobody_waits() {
        Rate::new(None).take(u64::MAX).await;
    }
}
