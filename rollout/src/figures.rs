//! What was counted about the requests of one side: how many, how many failed, how long they took.

use serde::{Deserialize, Serialize};

use crate::units::Millis;

/// Requests of one release over some time. Pinned requests are not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Requests that ended, however they ended.
    pub requests: u64,
    /// Those of them that failed by the release's fault: 5xx answers, deadlines missed, hosts lost.
    pub errors: u64,
    /// How long the requests took.
    pub latency: Latency,
}

impl Figures {
    /// Adds the figures of another node, or of another time.
    pub fn merge(&mut self, other: &Self) {
        *self = Self::sum([&*self, other]);
    }

    /// All figures together, in one pass: a fleet's are added up after every sample.
    #[must_use]
    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut counts = vec![0_u64; usize::from(Latency::BUCKETS)];
        let (mut requests, mut errors) = (0_u64, 0_u64);
        for figures in all {
            requests = requests.saturating_add(figures.requests);
            errors = errors.saturating_add(figures.errors);
            for (bucket, count) in &figures.latency.buckets {
                if let Some(sum) = counts.get_mut(usize::from(*bucket)) {
                    *sum = sum.saturating_add(*count);
                }
            }
        }
        let buckets = (0..Latency::BUCKETS).zip(counts).filter(|(_, count)| *count > 0).collect();
        Self { requests, errors, latency: Latency { buckets } }
    }

    /// Errors as a part of requests, 0.0 to 1.0; 0.0 without requests. Senders are not trusted to count errors as
    /// requests too, so more errors than requests are as many.
    #[must_use]
    pub fn error_rate(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { as_f64(self.errors.min(self.requests)) / as_f64(self.requests) }
    }
}

/// A histogram of durations, small enough for a snapshot: only buckets in use are kept, and there are at most
/// [`Latency::BUCKETS`] of them.
///
/// Buckets are log-linear: below 32 microseconds one each, above it 32 for every power of two, so a value is off by
/// at most 1/32. Made from any histogram that gives (microseconds, count) pairs, for hdrhistogram
/// `iter_recorded().map(|v| (v.value_iterated_to(), v.count_since_last_iteration()))`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u16, u64)>", into = "Vec<(u16, u64)>")]
pub struct Latency {
    /// Bucket and count, by bucket, none twice, no count 0.
    buckets: Vec<(u16, u64)>,
}

/// log2 of the buckets in each power of two.
const FINE: u32 = 5;
/// Values above 2^32 - 1 microseconds (71 minutes) are counted as that.
const LONGEST: u64 = u32::MAX as u64;

impl Latency {
    /// How many buckets there can be: 32 linear ones and 32 for each power of two from 2^5 to 2^31.
    pub const BUCKETS: u16 = 28 * 32;

    /// Counts each `(microseconds, count)`.
    #[must_use]
    pub fn from_counts(counts: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let pairs = counts.into_iter().map(|(micros, count)| (bucket_of(micros), count)).collect::<Vec<_>>();
        Self::from(pairs)
    }

    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// How many values are in buckets that lie wholly above `micros`.
    #[must_use]
    pub fn above(&self, micros: u64) -> u64 {
        let limit = bucket_of(micros);
        self.buckets
            .iter()
            .filter(|(bucket, _)| *bucket > limit)
            .fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// The 99th percentile in microseconds, as [`Latency::percentile`].
    #[must_use]
    pub fn p99(&self) -> Option<u64> {
        self.percentile(99)
    }

    /// The percentile `percent`, 1 to 100, in microseconds: the upper end of the bucket in which the nearest rank
    /// lies. `None` without values.
    #[must_use]
    pub fn percentile(&self, percent: u8) -> Option<u64> {
        let count = u128::from(self.count());
        let rank = (count * u128::from(percent.clamp(1, 100))).div_ceil(100);
        let mut seen = 0_u64;
        self.buckets
            .iter()
            .find(|(_, in_bucket)| {
                seen = seen.saturating_add(*in_bucket);
                u128::from(seen) >= rank
            })
            .map(|(bucket, _)| upper_end(*bucket))
    }

    /// The 99th percentile in whole milliseconds, rounded up, for people to read.
    #[must_use]
    pub fn p99_millis(&self) -> Option<Millis> {
        self.p99().map(|micros| Millis(micros.div_ceil(1000)))
    }
}

impl From<Vec<(u16, u64)>> for Latency {
    /// Sorts, adds up and clamps what comes from outside, so that the order holds whoever wrote it.
    fn from(mut pairs: Vec<(u16, u64)>) -> Self {
        for (bucket, _) in &mut pairs {
            *bucket = (*bucket).min(Self::BUCKETS - 1);
        }
        pairs.retain(|(_, count)| *count > 0);
        pairs.sort_unstable_by_key(|(bucket, _)| *bucket);
        pairs.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 = kept.1.saturating_add(next.1);
            }
            same
        });
        Self { buckets: pairs }
    }
}

impl From<Latency> for Vec<(u16, u64)> {
    fn from(latency: Latency) -> Self {
        latency.buckets
    }
}

fn bucket_of(micros: u64) -> u16 {
    let micros = micros.min(LONGEST);
    let octave = micros.max(1).ilog2().saturating_sub(FINE);
    // In each octave `micros >> octave` is below 64, and for octave > 0 it is 32 or more.
    let bucket = (u64::from(octave) << FINE) + (micros >> octave);
    u16::try_from(bucket).unwrap_or(Latency::BUCKETS - 1)
}

fn upper_end(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    let octave = (bucket >> FINE).saturating_sub(1);
    let mantissa = bucket - (octave << FINE);
    ((mantissa + 1) << octave) - 1
}

/// Counts are far below 2^52, where every integer is exact.
#[expect(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^52")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn p99_is_the_nearest_rank() {
        let latency = Latency::from_counts([(1000, 99), (300_000, 1)]);
        assert!((1000..1032).contains(&latency.p99().unwrap()));
        let latency = Latency::from_counts([(1000, 98), (300_000, 2)]);
        assert!(latency.p99().unwrap() >= 300_000);
        assert_eq!(Latency::default().p99(), None);
        assert_eq!(Latency::from_counts([(7, 1)]).p99(), Some(7));
    }

    #[test]
    fn a_snapshot_of_anything_is_put_in_order() {
        let latency: Latency = serde_json::from_str("[[9,1],[3,2],[9,1],[4,0],[65535,1]]").unwrap();
        assert_eq!(serde_json::to_string(&latency).unwrap(), "[[3,2],[9,2],[895,1]]");
    }

    #[test]
    fn more_errors_than_requests_are_as_many() {
        let figures = Figures { requests: 2, errors: 9, latency: Latency::default() };
        assert!((figures.error_rate() - 1.0).abs() < f64::EPSILON);
    }

    proptest! {
        #[test]
        fn a_bucket_is_off_by_a_thirty_second_at_most(micros in 0..=LONGEST) {
            let bucket = bucket_of(micros);
            prop_assert!(bucket < Latency::BUCKETS);
            let end = upper_end(bucket);
            prop_assert!(end >= micros && end - micros <= micros / 32, "{} in bucket to {}", micros, end);
            prop_assert!(bucket == 0 || upper_end(bucket - 1) < micros);
        }

        #[test]
        fn merging_is_counting_together(
            left in prop::collection::vec((0_u64..1_000_000, 0_u64..100), 0..40),
            right in prop::collection::vec((0_u64..1_000_000, 0_u64..100), 0..40),
        ) {
            let figures = |counts: &[(u64, u64)]| Figures {
                requests: counts.len() as u64,
                errors: 1,
                latency: Latency::from_counts(counts.iter().copied()),
            };
            let mut merged = figures(&left);
            merged.merge(&figures(&right));
            prop_assert_eq!((merged.requests, merged.errors), ((left.len() + right.len()) as u64, 2));
            let merged = merged.latency;
            prop_assert_eq!(&merged, &Latency::from_counts(left.into_iter().chain(right)));
            prop_assert_eq!(merged.above(0) + merged.buckets.iter().filter(|b| b.0 == 0).map(|b| b.1).sum::<u64>(), merged.count());
        }
    }
}
