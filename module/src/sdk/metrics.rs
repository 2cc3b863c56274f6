//! Counters, gauges and histograms, which the host keeps and `hotctl metrics` shows.
//!
//! They are constants with a name: nothing is registered, kept or freed, and outside a host they do nothing.

use super::services::services;
use crate::abi::{self, Header, Slice, Status};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, Ordering};
use kind::Kind;
use std::format;
use std::time::Instant;

/// A metric of one kind: a [`Counter`], a [`Gauge`] or a [`Histogram`].
#[derive(Debug)]
pub struct Metric<K> {
    name: &'static str,
    /// Whether a refusal was logged: once is enough.
    is_refused: AtomicBool,
    kind: PhantomData<K>,
}

/// Counts what happens. By custom its name ends in `_total`.
///
/// ```
/// use hot_module::Counter;
///
/// static REQUESTS: Counter = Counter::new("requests_total");
///
/// REQUESTS.inc();
/// REQUESTS.with([("route", "/greet"), ("status", "200")]).add(2);
/// ```
///
/// A host keeps 256 series: a label must not have values without bound, as paths and names of users are.
pub type Counter = Metric<kind::Counter>;

/// Shows how much of something there is now.
///
/// ```
/// static QUEUED: hot_module::Gauge = hot_module::Gauge::new("queued_jobs");
///
/// QUEUED.set(3.0);
/// ```
pub type Gauge = Metric<kind::Gauge>;

/// Shows how values spread, in buckets from 0.005 to 10: usually seconds. By custom its name ends in its unit, as in
/// `_seconds`.
///
/// ```
/// static LOOKUP: hot_module::Histogram = hot_module::Histogram::new("lookup_seconds");
///
/// LOOKUP.observe(0.02);
/// let timer = LOOKUP.timer(); // observes the seconds until it is dropped
/// # drop(timer);
/// ```
pub type Histogram = Metric<kind::Histogram>;

/// The kinds of metrics.
pub mod kind {
    use crate::abi;

    /// One of the kinds that the ABI has.
    pub trait Kind {
        /// Its number there.
        const NUMBER: u32;
    }

    /// Counts up.
    #[derive(Debug)]
    pub struct Counter;

    /// Goes up and down.
    #[derive(Debug)]
    pub struct Gauge;

    /// Sorts values into buckets.
    #[derive(Debug)]
    pub struct Histogram;

    impl Kind for Counter {
        const NUMBER: u32 = abi::COUNTER;
    }

    impl Kind for Gauge {
        const NUMBER: u32 = abi::GAUGE;
    }

    impl Kind for Histogram {
        const NUMBER: u32 = abi::HISTOGRAM;
    }
}

/// A metric with labels: what [`Metric::with`] gives, to be used at once.
#[derive(Debug)]
#[must_use = "labels count nothing by themselves"]
pub struct Labelled<'a, M, const N: usize> {
    metric: &'a M,
    labels: [(&'a str, &'a str); N],
}

impl<K: Kind> Metric<K> {
    /// A metric of that name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, is_refused: AtomicBool::new(false), kind: PhantomData }
    }

    /// With labels.
    pub const fn with<'a, const N: usize>(
        &'a self,
        labels: [(&'a str, &'a str); N],
    ) -> Labelled<'a, Self, N> {
        Labelled { metric: self, labels }
    }
}

impl<K: Kind, const N: usize> Labelled<'_, Metric<K>, N> {
    fn record(&self, value: f64) {
        let Some(metric) = services().and_then(|services| services.metric) else { return };
        let name = self.metric.name;
        let labels = self.labels.map(|(name, value)| Header {
            name: Slice::of(name.as_bytes()),
            value: Slice::of(value.as_bytes()),
        });
        // SAFETY: name and labels outlive the call, which copies them; any thread may make it, but a `wake`, and none of
        // this crate's counts anything.
        let status = unsafe { metric(K::NUMBER, Slice::of(name.as_bytes()), labels.as_ptr(), N, value) };
        if status != abi::OK && !self.metric.is_refused.swap(true, Ordering::Relaxed) {
            super::log(super::Level::Warn, &format!("the metric {name:?} is lost: {}", why(status)));
        }
    }
}

const fn why(status: Status) -> &'static str {
    match status {
        abi::TOO_LARGE => "the host keeps no more series; has a label values without bound?",
        _ => {
            "the host refused it: names are [a-zA-Z_][a-zA-Z0-9_]*, at most 8 labels of 128 bytes, one kind per name, \
              finite values"
        }
    }
}

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// `count` more.
    pub fn add(&self, count: u64) {
        self.with([]).add(count);
    }
}

impl<const N: usize> Labelled<'_, Counter, N> {
    /// One more.
    pub fn inc(self) {
        self.add(1);
    }

    /// `count` more.
    pub fn add(self, count: u64) {
        #[expect(clippy::cast_precision_loss, reason = "the ABI counts in doubles, exact up to 2^53")]
        self.record(count as f64);
    }
}

impl Gauge {
    /// It is `value` now.
    pub fn set(&self, value: f64) {
        self.with([]).set(value);
    }
}

impl<const N: usize> Labelled<'_, Gauge, N> {
    /// It is `value` now.
    pub fn set(self, value: f64) {
        self.record(value);
    }
}

impl Histogram {
    /// One value more.
    pub fn observe(&self, value: f64) {
        self.with([]).observe(value);
    }

    /// Observes the seconds from now until the timer is dropped.
    pub fn timer(&self) -> Timer<'_, 0> {
        self.with([]).timer()
    }
}

impl<'a, const N: usize> Labelled<'a, Histogram, N> {
    /// One value more.
    pub fn observe(self, value: f64) {
        self.record(value);
    }

    /// Observes the seconds from now until the timer is dropped.
    pub fn timer(self) -> Timer<'a, N> {
        Timer { of: self, since: Instant::now() }
    }
}

/// A stretch of time that is being measured.
#[derive(Debug)]
#[must_use = "a timer that is dropped at once measures nothing"]
pub struct Timer<'a, const N: usize> {
    of: Labelled<'a, Histogram, N>,
    since: Instant,
}

impl<const N: usize> Drop for Timer<'_, N> {
    fn drop(&mut self) {
        self.of.record(self.since.elapsed().as_secs_f64());
    }
}
