//! What the load saw.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The longest time that is told apart from longer ones, nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// What was seen in some time.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// When it began.
    pub(crate) start: Instant,
    /// How long it lasted.
    pub(crate) time: Duration,
    /// Good responses, by the first word of their bodies, each with when the first one came.
    pub(crate) words: BTreeMap<String, (u64, Instant)>,
    /// Responses with another status than 200, and requests without a response.
    pub(crate) failed: u64,
    /// Connections that the server closed.
    pub(crate) closed: u64,
    /// Good responses, from when each was sent, or due in an open loop, to its last byte; nanoseconds.
    pub(crate) latency: Histogram<u64>,
}

impl Seen {
    pub(super) fn new(start: Instant) -> Self {
        Self {
            start,
            time: Duration::ZERO,
            words: BTreeMap::new(),
            failed: 0,
            closed: 0,
            // Right by construction: 1 <= LONGEST / 2, and 3 digits are at most 5.
            latency: Histogram::new_with_max(LONGEST, 3).expect("a histogram up to a minute"),
        }
    }

    pub(super) fn ended(mut self, end: Instant) -> Self {
        self.time = end.saturating_duration_since(self.start);
        self
    }

    pub(super) fn response(&mut self, status: u16, took: Duration, word: &str, now: Instant) {
        if status != 200 {
            self.failed += 1;
            return;
        }
        match self.words.get_mut(word) {
            Some((count, _)) => *count += 1,
            None => drop(self.words.insert(word.to_owned(), (1, now))),
        }
        self.latency.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Good responses.
    pub(crate) fn good(&self) -> u64 {
        self.latency.len()
    }

    /// Good responses per second.
    pub(crate) fn per_second(&self) -> f64 {
        count(self.good()) / self.time.as_secs_f64()
    }

    /// A quantile (0 to 1) of the latency, microseconds.
    pub(crate) fn micros(&self, quantile: f64) -> f64 {
        count(self.latency.value_at_quantile(quantile)) / 1e3
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds of a run are far below 2^53")]
fn count(value: u64) -> f64 {
    value as f64
}
