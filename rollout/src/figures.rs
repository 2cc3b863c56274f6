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
    /// Requests that began in that time and are under way at its end, by how long they have been: each takes at least
    /// so long. They are not in `requests`.
    #[serde(default, skip_serializing_if = "Latency::is_empty")]
    pub open: Latency,
}

impl Figures {
    /// Adds the figures of another node, or of another time.
    pub fn merge(&mut self, other: &Self) {
        *self = Self::sum([&*self, other]);
    }

    /// All figures together, in one pass: a fleet's are added up after every sample.
    #[must_use]
    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let (mut latency, mut open) = (Sum::default(), Sum::default());
        let (mut requests, mut errors) = (0_u64, 0_u64);
        for figures in all {
            requests = requests.saturating_add(figures.requests);
            errors = errors.saturating_add(figures.errors);
            latency.add(&figures.latency);
            open.add(&figures.open);
        }
        Self { requests, errors, latency: latency.latency(), open: open.latency() }
    }

    /// The 99th percentile in microseconds of what the requests took, those that are open included as far as they have
    /// taken longer already. `None` without any.
    #[must_use]
    pub fn p99(&self) -> Option<u64> {
        let mut sum = Sum::default();
        sum.add(&self.latency);
        sum.add(&self.open.beyond(self.latency.p99().unwrap_or_default()));
        sum.latency().p99()
    }

    /// How many requests took longer than `micros`, and of how many that is known: an open request that has not taken
    /// so long yet may still go either way.
    #[must_use]
    pub fn slower_than(&self, micros: u64) -> (u64, u64) {
        let open = self.open.above(micros);
        (self.latency.above(micros).saturating_add(open), self.latency.count().saturating_add(open))
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

    /// Nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Each bucket that is in use: its upper end in microseconds and how many values are in it. [`Latency::from_counts`]
    /// makes the same histogram of it again.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        self.buckets.iter().map(|(bucket, count)| (upper_end(*bucket), *count))
    }

    /// How many values are in buckets that lie wholly above `micros`.
    #[must_use]
    pub fn above(&self, micros: u64) -> u64 {
        self.beyond(micros).count()
    }

    /// The values in buckets that lie wholly above `micros`.
    fn beyond(&self, micros: u64) -> Self {
        let limit = bucket_of(micros);
        Self { buckets: self.buckets.iter().filter(|(bucket, _)| *bucket > limit).copied().collect() }
    }

    /// The longest value in whole milliseconds, rounded up.
    #[must_use]
    pub fn longest_millis(&self) -> Option<Millis> {
        self.percentile(100).map(Millis::of_micros)
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
}

/// Latencies that are added up.
#[derive(Debug, Default)]
struct Sum {
    /// The count of each bucket; none until something was added.
    counts: Vec<u64>,
}

impl Sum {
    fn add(&mut self, latency: &Latency) {
        if !latency.is_empty() {
            self.counts.resize(usize::from(Latency::BUCKETS), 0);
        }
        for (bucket, count) in &latency.buckets {
            if let Some(sum) = self.counts.get_mut(usize::from(*bucket)) {
                *sum = sum.saturating_add(*count);
            }
        }
    }

    fn latency(self) -> Latency {
        Latency { buckets: (0..).zip(self.counts).filter(|(_, count)| *count > 0).collect() }
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
    fn an_open_request_counts_once_it_is_known_to_be_slow() {
        let open = Latency::from_counts([(1000, 7), (300_000, 3)]);
        let figures = Figures { requests: 90, latency: Latency::from_counts([(5000, 90)]), open, errors: 0 };
        assert_eq!(figures.slower_than(100_000), (3, 93));
        assert_eq!(figures.slower_than(500), (100, 100));
        assert_eq!(figures.slower_than(400_000), (0, 90));
        assert!(figures.p99().unwrap() >= 300_000, "3 of 93 take at least so long");
        let none = Figures { latency: Latency::default(), ..figures };
        assert_eq!(none.open.longest_millis(), none.p99().map(Millis::of_micros));
        assert_eq!(Figures::default().p99(), None);
    }

    #[test]
    fn a_snapshot_of_anything_is_put_in_order() {
        let latency: Latency = serde_json::from_str("[[9,1],[3,2],[9,1],[4,0],[65535,1]]").unwrap();
        assert_eq!(serde_json::to_string(&latency).unwrap(), "[[3,2],[9,2],[895,1]]");
    }

    #[test]
    fn more_errors_than_requests_are_as_many() {
        let figures = Figures { requests: 2, errors: 9, ..Figures::default() };
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
                open: Latency::from_counts(counts.iter().copied()),
            };
            let mut merged = figures(&left);
            merged.merge(&figures(&right));
            prop_assert_eq!((merged.requests, merged.errors), ((left.len() + right.len()) as u64, 2));
            prop_assert_eq!(&merged.open, &merged.latency);
            let merged = merged.latency;
            prop_assert_eq!(&merged, &Latency::from_counts(left.into_iter().chain(right)));
            prop_assert_eq!(&Latency::from_counts(merged.counts()), &merged);
            prop_assert_eq!(merged.above(0) + merged.buckets.iter().filter(|b| b.0 == 0).map(|b| b.1).sum::<u64>(), merged.count());
        }
    }
}
