//! The value of one series.

use hot_module::abi;
use hot_wire::metrics::{BUCKETS, Value};
use std::sync::atomic::{AtomicU64, Ordering};

/// What is done with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    /// The kind of a number of the ABI.
    pub(crate) const fn of(kind: u32) -> Option<Self> {
        match kind {
            abi::COUNTER => Some(Self::Counter),
            abi::GAUGE => Some(Self::Gauge),
            abi::HISTOGRAM => Some(Self::Histogram),
            _ => None,
        }
    }
}

/// A value that several threads change without a lock.
#[derive(Debug)]
pub(super) enum Cell {
    Counter(Number),
    Gauge(Number),
    Histogram { buckets: [AtomicU64; BUCKETS.len()], beyond: AtomicU64, sum: Number },
}

/// A floating-point number that several threads change.
#[derive(Debug, Default)]
pub(super) struct Number(AtomicU64);

impl Cell {
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter(Number::default()),
            Kind::Gauge => Self::Gauge(Number::default()),
            Kind::Histogram => Self::Histogram {
                buckets: Default::default(),
                beyond: AtomicU64::default(),
                sum: Number::default(),
            },
        }
    }

    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Counter(_) => Kind::Counter,
            Self::Gauge(_) => Kind::Gauge,
            Self::Histogram { .. } => Kind::Histogram,
        }
    }

    pub(super) fn take(&self, value: f64) {
        match self {
            Self::Counter(number) => number.add(value),
            Self::Gauge(number) => number.set(value),
            Self::Histogram { buckets, beyond, sum } => {
                let bucket = BUCKETS.iter().zip(buckets).find(|(bound, _)| value <= **bound);
                bucket.map_or(beyond, |(_, bucket)| bucket).fetch_add(1, Ordering::Relaxed);
                sum.add(value);
            }
        }
    }

    pub(super) fn read(&self) -> Value {
        match self {
            Self::Counter(number) => Value::Counter(number.get()),
            Self::Gauge(number) => Value::Gauge(number.get()),
            Self::Histogram { buckets, beyond, sum } => Value::Histogram {
                buckets: BUCKETS
                    .iter()
                    .zip(buckets)
                    .map(|(&to, n)| (to, n.load(Ordering::Relaxed)))
                    .collect(),
                beyond: beyond.load(Ordering::Relaxed),
                sum: sum.get(),
            },
        }
    }
}

impl Number {
    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Adds. It stays finite, as whoever reads it expects.
    fn add(&self, value: f64) {
        let sum = |bits: u64| (f64::from_bits(bits) + value).clamp(f64::MIN, f64::MAX).to_bits();
        let mut seen = self.0.load(Ordering::Relaxed);
        while let Err(now) =
            self.0.compare_exchange_weak(seen, sum(seen), Ordering::Relaxed, Ordering::Relaxed)
        {
            seen = now;
        }
    }
}
