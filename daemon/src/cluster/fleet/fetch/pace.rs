//! When a peer is too slow: pure. Only the time counts in which it was waited for.

use std::time::Duration;

use thiserror::Error;

/// How long a peer may send nothing at all.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// What a peer has to give where others could: bytes, in so long. 64 KiB/s is what a line gives that a person takes for broken.
const AMONG_OTHERS: (u64, Duration) = (5 * (64 << 10), Duration::from_secs(5));
/// What one has to give that nobody else could take the place of. It is there against those who give a byte now and then, for
/// as long as they like.
const ALONE: (u64, Duration) = (30 * (4 << 10), Duration::from_secs(30));

/// Why a peer is not asked any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Slow {
    /// Nothing came.
    #[error("it sent nothing for {} s", PATIENCE.as_secs())]
    Silent,
    /// Too little came.
    #[error("it sent {bytes} bytes in {} s, expected at least {least}", span.as_secs())]
    Slow {
        /// That came.
        bytes: u64,
        /// In so long.
        span: Duration,
        /// That should have come.
        least: u64,
    },
}

/// How fast a peer gives.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Waited for `bytes`, since it was judged last.
    span: Duration,
    bytes: u64,
    /// Waited since the last byte.
    silent: Duration,
}

impl Pace {
    /// How long to wait, at most, before it is judged again.
    pub(super) fn patience(&self, others: bool) -> Duration {
        let (_, span) = expected(others);
        span.saturating_sub(self.span).min(PATIENCE.saturating_sub(self.silent))
    }

    /// It was waited for so long.
    pub(super) fn waited(&mut self, time: Duration) {
        self.span += time;
        self.silent += time;
    }

    /// So many bytes came.
    pub(super) fn came(&mut self, bytes: u64) {
        self.bytes += bytes;
        if bytes > 0 {
            self.silent = Duration::ZERO;
        }
    }

    /// Looks at what came so far.
    ///
    /// # Errors
    /// It is too slow, where `others` could give the same.
    pub(super) fn judge(&mut self, others: bool) -> Result<(), Slow> {
        if self.silent >= PATIENCE {
            return Err(Slow::Silent);
        }
        let (least, within) = expected(others);
        if self.span < within {
            return Ok(());
        }
        let (span, bytes) = (std::mem::take(&mut self.span), std::mem::take(&mut self.bytes));
        // As much over what may be a longer time than was meant.
        if u128::from(bytes) * within.as_nanos() < u128::from(least) * span.as_nanos() {
            return Err(Slow::Slow { bytes, span, least });
        }
        Ok(())
    }
}

const fn expected(others: bool) -> (u64, Duration) {
    if others { AMONG_OTHERS } else { ALONE }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A second in which so much comes.
    fn second(pace: &mut Pace, bytes: u64, others: bool) -> Result<(), Slow> {
        pace.waited(secs(1));
        pace.came(bytes);
        pace.judge(others)
    }

    #[test]
    fn one_that_sends_nothing_is_given_up() {
        let mut pace = Pace::default();
        assert_eq!(pace.patience(false), PATIENCE);
        pace.waited(secs(9));
        assert_eq!((pace.judge(false), pace.patience(false)), (Ok(()), secs(1)));
        pace.came(1);
        pace.waited(secs(9));
        assert_eq!(pace.judge(false), Ok(()), "a byte came meanwhile");
        pace.came(0);
        assert_eq!(second(&mut pace, 0, false), Err(Slow::Silent), "and nothing is no byte");
    }

    #[test]
    fn one_that_is_slow_is_given_up_where_others_could_give() {
        let mut pace = Pace::default();
        for _ in 0..4 {
            assert_eq!(second(&mut pace, 63 * KIB, true), Ok(()));
        }
        let slow = second(&mut pace, 63 * KIB, true).unwrap_err();
        assert_eq!(slow, Slow::Slow { bytes: 315 * KIB, span: secs(5), least: 320 * KIB });
        assert_eq!(slow.to_string(), "it sent 322560 bytes in 5 s, expected at least 327680");
        let mut pace = Pace::default();
        for _ in 0..100 {
            assert_eq!(second(&mut pace, 64 * KIB, true), Ok(()));
        }
    }

    #[test]
    fn one_that_is_alone_may_be_slower_but_not_without_end() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            assert_eq!(second(&mut pace, 4 * KIB, false), Ok(()));
        }
        let mut pace = Pace::default();
        let first = (0..100).find_map(|after| Some((after, second(&mut pace, 1, false).err()?)));
        assert_eq!(first, Some((29, Slow::Slow { bytes: 30, span: secs(30), least: 120 * KIB })));
    }

    /// As where it was alone for long, and then is not.
    #[test]
    fn what_was_gathered_over_a_longer_time_is_judged_by_that_time() {
        let mut pace = Pace::default();
        for _ in 0..20 {
            second(&mut pace, 20 * KIB, false).unwrap();
        }
        assert!(second(&mut pace, 20 * KIB, true).is_err());
    }
}
