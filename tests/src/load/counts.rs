//! What clients saw.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::connection::Outcome;

/// Different messages of failures that are kept: the first ones say what began.
const EXAMPLES: usize = 5;

/// Longest time that the histogram tells apart, microseconds.
const LONGEST: u64 = 120_000_000;

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// No connection.
    Connect,
    /// The connection ended before the response did.
    Broken,
    /// No whole response in time.
    Timeout,
    /// A status other than 200.
    Status,
    /// Status 200 with a body that names no version.
    Body,
}

/// What was seen of some requests.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Requests that ended, well or not.
    pub requests: u64,
    /// Good responses, by the version that their bodies name.
    pub versions: BTreeMap<String, u64>,
    /// All responses, by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Failed requests, by why.
    pub failures: BTreeMap<Failure, u64>,
    /// Kept-alive connections that the server closed.
    pub closed: u64,
    /// The first failures in words, each once.
    pub examples: Vec<String>,
    /// When the first good response was whole.
    pub first_good: Option<Instant>,
    /// When the last failure was seen.
    pub last_failure: Option<Instant>,
    /// From when a request was sent (or due, in an open loop) to the end of its response, microseconds; good ones only.
    pub latency: Histogram<u64>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            requests: 0,
            versions: BTreeMap::new(),
            statuses: BTreeMap::new(),
            failures: BTreeMap::new(),
            closed: 0,
            examples: Vec::new(),
            first_good: None,
            last_failure: None,
            // Bounds are right by construction: 1 <= LONGEST / 2, and 3 digits are at most 5.
            latency: Histogram::new_with_max(LONGEST, 3).expect("a histogram up to two minutes"),
        }
    }
}

impl Counts {
    /// Requests that failed.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Good responses of this version.
    pub fn of(&self, version: &str) -> u64 {
        self.versions.get(version).copied().unwrap_or_default()
    }

    /// Part of all requests that this version answered well, in percent.
    pub fn percent(&self, version: &str) -> f64 {
        ratio(self.of(version), self.requests) * 100.0
    }

    /// A percentile (0 to 1) of the time that good responses took.
    pub fn latency(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(quantile))
    }

    /// All of several counts together.
    pub fn sum<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        for counts in all {
            sum.requests += counts.requests;
            sum.closed += counts.closed;
            add(&mut sum.versions, &counts.versions);
            add(&mut sum.statuses, &counts.statuses);
            add(&mut sum.failures, &counts.failures);
            sum.examples
                .extend(counts.examples.iter().take(EXAMPLES - sum.examples.len().min(EXAMPLES)).cloned());
            sum.first_good = sum.first_good.into_iter().chain(counts.first_good).min();
            sum.last_failure = sum.last_failure.max(counts.last_failure);
            sum.latency.add(&counts.latency).expect("histograms of one shape");
        }
        sum
    }

    pub(super) fn record(&mut self, took: Duration, outcome: Outcome) {
        self.requests += 1;
        if let Some(status) = outcome.status {
            *self.statuses.entry(status).or_default() += 1;
        }
        if outcome.closed {
            self.closed += 1;
        }
        match outcome.result {
            Ok(version) => {
                self.first_good.get_or_insert_with(Instant::now);
                *self.versions.entry(version).or_default() += 1;
                self.latency.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
            }
            Err((failure, text)) => {
                *self.failures.entry(failure).or_default() += 1;
                self.last_failure = Some(Instant::now());
                if self.examples.len() < EXAMPLES && !self.examples.contains(&text) {
                    self.examples.push(text);
                }
            }
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests, {} failed, {} connections closed",
            self.requests,
            self.failed(),
            self.closed
        )?;
        for (version, count) in &self.versions {
            write!(f, ", {version}: {count} ({:.2}%)", self.percent(version))?;
        }
        write!(f, ", p50 {:?}, p99 {:?}", self.latency(0.5), self.latency(0.99))?;
        for (failure, count) in &self.failures {
            write!(f, ", {failure:?}: {count}")?;
        }
        if !self.examples.is_empty() {
            write!(f, " ({})", self.examples.join("; "))?;
        }
        Ok(())
    }
}

fn add<K: Clone + Ord>(sum: &mut BTreeMap<K, u64>, counts: &BTreeMap<K, u64>) {
    for (key, count) in counts {
        *sum.entry(key.clone()).or_default() += count;
    }
}

/// A ratio of counts; 0 of nothing.
#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^53")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(version: &str) -> Outcome {
        Outcome { status: Some(200), closed: false, result: Ok(version.to_owned()) }
    }

    fn bad(failure: Failure) -> Outcome {
        Outcome { status: None, closed: true, result: Err((failure, "why".to_owned())) }
    }

    #[test]
    fn shares_are_of_all_requests() {
        let mut counts = Counts::default();
        for _ in 0..3 {
            counts.record(Duration::from_millis(1), good("1.0.0"));
        }
        counts.record(Duration::from_millis(9), bad(Failure::Broken));
        assert_eq!((counts.requests, counts.failed(), counts.closed), (4, 1, 1));
        assert!((counts.percent("1.0.0") - 75.0).abs() < 1e-9);
        assert_eq!(counts.latency(1.0).as_millis(), 1, "failures have no latency");
    }

    #[test]
    fn a_sum_has_all() {
        let mut first = Counts::default();
        first.record(Duration::from_millis(1), good("1.0.0"));
        let mut second = Counts::default();
        second.record(Duration::from_millis(3), good("1.1.0"));
        second.record(Duration::from_millis(3), bad(Failure::Connect));
        let sum = Counts::sum([&first, &second].into_iter());
        assert_eq!((sum.requests, sum.failed(), sum.of("1.0.0"), sum.of("1.1.0")), (3, 1, 1, 1));
        assert_eq!(sum.latency.len(), 2);
    }
}
