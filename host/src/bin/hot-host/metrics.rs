//! The module's metrics: at most [`MAX_SERIES`] series, which are only ever added.
//!
//! A call that finds its series takes no lock: series lie in a table with a place for each hash, are written once and
//! stay, and their values are atomic. Only a new series is looked at in full, under a lock.

use crate::exchange::{Field, Refusal};
use crate::output;
use hot_module::abi;
use hot_wire::metrics::{self, BUCKETS, MAX_LABELS, MAX_SERIES, Value, is_label, is_label_value, is_name};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::from_utf8;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The registry of this process: it has one module.
pub(crate) static METRICS: Metrics = Metrics::new();

/// Half of them stay free, so a search is short.
const PLACES: usize = 2 * MAX_SERIES;

/// See the module.
#[derive(Debug)]
pub(crate) struct Metrics {
    places: [OnceLock<Series>; PLACES],
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// Places in the order in which their series came.
    order: Vec<usize>,
    /// The kind of each metric.
    kinds: Option<HashMap<Box<str>, Kind>>,
    has_said_full: bool,
}

/// Names and values, by name.
type Labels = Box<[(Box<str>, Box<str>)]>;

#[derive(Debug)]
struct Series {
    name: Box<str>,
    labels: Labels,
    cell: Cell,
}

#[derive(Debug)]
enum Cell {
    Counter(Number),
    Gauge(Number),
    Histogram { buckets: [AtomicU64; BUCKETS.len()], beyond: AtomicU64, sum: Number },
}

/// What is done with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A floating-point number that several threads change.
#[derive(Debug, Default)]
struct Number(AtomicU64);

/// Name and labels, as given but in order.
struct Key<'a> {
    name: &'a [u8],
    labels: [Field<'a>; MAX_LABELS],
    count: usize,
}

impl Metrics {
    const fn new() -> Self {
        let known = Known { order: Vec::new(), kinds: None, has_said_full: false };
        Self { places: [const { OnceLock::new() }; PLACES], known: Mutex::new(known) }
    }

    /// Adds to, sets or observes the series of that name and these labels.
    pub(crate) fn record<'a>(
        &self,
        kind: Kind,
        name: &'a [u8],
        labels: impl Iterator<Item = Field<'a>>,
        value: f64,
    ) -> Result<(), Refusal> {
        if !value.is_finite() || (kind == Kind::Counter && value < 0.0) {
            return Err(Refusal::Invalid);
        }
        let key = Key::new(name, labels)?;
        let series = match self.find(&key) {
            Ok(series) => series,
            Err(_free) => self.add(&key, kind)?,
        };
        if series.cell.kind() != kind {
            return Err(Refusal::Invalid);
        }
        series.cell.take(value);
        Ok(())
    }

    /// How many series there are, and those from `first` on.
    pub(crate) fn page(&self, first: usize) -> (usize, Vec<metrics::Series>) {
        let known = self.known();
        let from_there = known.order.get(first..).unwrap_or_default();
        let series = from_there.iter().filter_map(|&place| self.places.get(place)?.get());
        (known.order.len(), series.map(Series::read).collect())
    }

    /// The series, or the free place at which the search ended.
    fn find(&self, key: &Key<'_>) -> Result<&Series, usize> {
        let mut place = key.place();
        loop {
            match self.places.get(place).and_then(OnceLock::get) {
                None => return Err(place),
                Some(series) if key.is(series) => return Ok(series),
                // There is a free one: not more than half of them are ever taken.
                Some(_another) => place = (place + 1) % PLACES,
            }
        }
    }

    /// Adds a series, if it may be.
    fn add(&self, key: &Key<'_>, kind: Kind) -> Result<&Series, Refusal> {
        let (name, labels) = key.check()?;
        let mut known = self.known();
        let place = match self.find(key) {
            // Another thread was faster.
            Ok(series) => return Ok(series),
            Err(free) => free,
        };
        if !known.admits(name, kind) {
            return Err(Refusal::Invalid);
        }
        if known.order.len() >= MAX_SERIES {
            if !std::mem::replace(&mut known.has_said_full, true) {
                output::say(&format!(
                    "the module has {MAX_SERIES} series of metrics, as many as it may; {name} and further ones are lost"
                ));
            }
            return Err(Refusal::TooLarge);
        }
        known.kinds.get_or_insert_default().entry(name.into()).or_insert(kind);
        known.order.push(place);
        let series = || Series { name: name.into(), labels, cell: Cell::new(kind) };
        Ok(self.places.get(place).ok_or(Refusal::TooLarge)?.get_or_init(series))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Whether a metric may have this name and kind beside the others. A histogram is shown as three metrics, whose names
    /// are taken.
    fn admits(&self, name: &str, kind: Kind) -> bool {
        const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];
        let kind_of = |name: &str| self.kinds.as_ref().and_then(|kinds| kinds.get(name)).copied();
        if let Some(before) = kind_of(name) {
            return before == kind;
        }
        let is_part = PARTS
            .iter()
            .filter_map(|part| name.strip_suffix(part))
            .any(|whole| kind_of(whole) == Some(Kind::Histogram));
        let has_part =
            kind == Kind::Histogram && PARTS.iter().any(|part| kind_of(&format!("{name}{part}")).is_some());
        !is_part && !has_part
    }
}

impl<'a> Key<'a> {
    fn new(name: &'a [u8], given: impl Iterator<Item = Field<'a>>) -> Result<Self, Refusal> {
        let mut labels = [(&[][..], &[][..]); MAX_LABELS];
        let mut count = 0;
        for label in given {
            *labels.get_mut(count).ok_or(Refusal::Invalid)? = label;
            count += 1;
        }
        labels[..count].sort_unstable();
        Ok(Self { name, labels, count })
    }

    fn labels(&self) -> &[Field<'a>] {
        &self.labels[..self.count]
    }

    /// Where the search for it begins.
    fn place(&self) -> usize {
        // Without a secret: a module that makes names collide slows itself down.
        let mut hasher = DefaultHasher::new();
        self.name.hash(&mut hasher);
        self.labels().hash(&mut hasher);
        usize::try_from(hasher.finish() % PLACES as u64).unwrap_or_default()
    }

    fn is(&self, series: &Series) -> bool {
        let same = |(ours, theirs): (&Field<'_>, &(Box<str>, Box<str>))| {
            ours.0 == theirs.0.as_bytes() && ours.1 == theirs.1.as_bytes()
        };
        self.name == series.name.as_bytes()
            && self.count == series.labels.len()
            && self.labels().iter().zip(&series.labels).all(same)
    }

    /// Name and labels, if they are what they must be.
    fn check(&self) -> Result<(&'a str, Labels), Refusal> {
        let name = from_utf8(self.name).ok().filter(|name| is_name(name)).ok_or(Refusal::Invalid)?;
        let is_twice = self.labels().windows(2).any(|pair| pair[0].0 == pair[1].0);
        let label = |&(name, value): &Field<'_>| {
            let name = from_utf8(name).ok().filter(|name| is_label(name))?;
            let value = from_utf8(value).ok().filter(|value| is_label_value(value))?;
            Some((name.into(), value.into()))
        };
        let labels: Option<_> = self.labels().iter().map(label).collect();
        labels.filter(|_| !is_twice).map(|labels| (name, labels)).ok_or(Refusal::Invalid)
    }
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

impl Series {
    fn read(&self) -> metrics::Series {
        let text = |text: &str| text.to_owned();
        metrics::Series {
            name: text(&self.name),
            labels: self.labels.iter().map(|(name, value)| (text(name), text(value))).collect(),
            value: self.cell.read(),
        }
    }
}

impl Cell {
    fn new(kind: Kind) -> Self {
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

    const fn kind(&self) -> Kind {
        match self {
            Self::Counter(_) => Kind::Counter,
            Self::Gauge(_) => Kind::Gauge,
            Self::Histogram { .. } => Kind::Histogram,
        }
    }

    fn take(&self, value: f64) {
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

    fn read(&self) -> Value {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record(
        metrics: &Metrics,
        kind: Kind,
        name: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) -> Result<(), Refusal> {
        let labels = labels.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        metrics.record(kind, name.as_bytes(), labels, value)
    }

    fn values(metrics: &Metrics) -> Vec<(String, Value)> {
        metrics.page(0).1.into_iter().map(|series| (series.name, series.value)).collect()
    }

    #[test]
    fn labels_name_one_series_in_any_order() {
        let metrics = Metrics::new();
        record(&metrics, Kind::Counter, "a", &[("x", "1"), ("y", "2")], 1.0).unwrap();
        record(&metrics, Kind::Counter, "a", &[("y", "2"), ("x", "1")], 0.5).unwrap();
        record(&metrics, Kind::Counter, "a", &[("x", "2"), ("y", "1")], 4.0).unwrap();
        record(&metrics, Kind::Counter, "a", &[], 8.0).unwrap();
        let numbers: Vec<_> = values(&metrics).into_iter().map(|(_, value)| value).collect();
        assert_eq!(numbers, [Value::Counter(1.5), Value::Counter(4.0), Value::Counter(8.0)]);
        assert_eq!(metrics.page(1).0, 3);
        assert_eq!(metrics.page(2).1.len(), 1);
        assert_eq!(metrics.page(9).1.len(), 0);
    }

    #[test]
    fn a_gauge_is_set_and_a_histogram_has_its_bounds_in_its_buckets() {
        let metrics = Metrics::new();
        for value in [3.0, -2.5] {
            record(&metrics, Kind::Gauge, "g", &[], value).unwrap();
        }
        for value in [0.0, 0.005, 0.006, 10.0, 10.5, 99.0] {
            record(&metrics, Kind::Histogram, "h", &[], value).unwrap();
        }
        let [(_, gauge), (_, histogram)] = &values(&metrics)[..] else { unreachable!() };
        assert_eq!(gauge, &Value::Gauge(-2.5));
        let Value::Histogram { buckets, beyond: 2, sum } = histogram else { unreachable!("{histogram:?}") };
        assert!((sum - 119.511).abs() < 1e-9);
        assert_eq!(buckets.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn what_would_not_be_a_metric_is_refused() {
        let metrics = Metrics::new();
        let nine: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h", "i"].map(|name| (name, "")).to_vec();
        let long = "v".repeat(129);
        for (kind, name, labels, value) in [
            (Kind::Counter, "a", &[][..], -1.0),
            (Kind::Counter, "a", &[], f64::NAN),
            (Kind::Gauge, "a", &[], f64::INFINITY),
            (Kind::Gauge, "", &[], 1.0),
            (Kind::Gauge, "a-b", &[], 1.0),
            (Kind::Gauge, "a", &[("b", ""), ("b", "c")], 1.0),
            (Kind::Gauge, "a", &[("le", "1")], 1.0),
            (Kind::Gauge, "a", &[("b", &long)], 1.0),
            (Kind::Gauge, "a", &[("b", "two\nlines")], 1.0),
            (Kind::Gauge, "a", &nine, 1.0),
        ] {
            let refused = record(&metrics, kind, name, labels, value);
            assert_eq!(refused, Err(Refusal::Invalid), "{name} {labels:?} {value}");
        }
        assert_eq!(metrics.record(Kind::Gauge, b"a\xff", [].into_iter(), 1.0), Err(Refusal::Invalid));
        assert_eq!(metrics.page(0).0, 0);
    }

    #[test]
    fn a_kind_is_kept_and_the_parts_of_a_histogram_are_taken() {
        let metrics = Metrics::new();
        record(&metrics, Kind::Histogram, "h", &[], 1.0).unwrap();
        record(&metrics, Kind::Counter, "c_sum", &[], 1.0).unwrap();
        for (kind, name, label) in [
            (Kind::Counter, "h", ""),
            (Kind::Gauge, "h", "another series"),
            (Kind::Counter, "h_count", ""),
            (Kind::Histogram, "c", ""),
        ] {
            assert_eq!(record(&metrics, kind, name, &[("a", label)], 1.0), Err(Refusal::Invalid), "{name}");
        }
        assert_eq!(record(&metrics, Kind::Counter, "h", &[], 1.0), Err(Refusal::Invalid));
        record(&metrics, Kind::Counter, "c", &[], 1.0).unwrap();
        record(&metrics, Kind::Counter, "other_count", &[], 1.0).unwrap();
    }

    #[test]
    fn threads_lose_nothing_and_series_are_bounded() {
        let metrics = Metrics::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..2 * MAX_SERIES {
                        let value = number.to_string();
                        let told = record(&metrics, Kind::Counter, "a", &[("n", &value)], 1.0);
                        assert!(matches!(told, Ok(()) | Err(Refusal::TooLarge)), "{told:?}");
                        record(&metrics, Kind::Counter, "a", &[("n", "0")], 1.0).unwrap();
                    }
                });
            }
        });
        let (total, series) = metrics.page(0);
        assert_eq!((total, series.len()), (MAX_SERIES, MAX_SERIES));
        let first = series.iter().find(|series| series.labels[0].1 == "0").unwrap();
        assert_eq!(first.value, Value::Counter(4.0 + 4.0 * 512.0));
        let known = series.iter().filter(|series| series.value == Value::Counter(4.0)).count();
        assert_eq!(known, MAX_SERIES - 1);
    }
}
