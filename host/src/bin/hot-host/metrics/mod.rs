//! The module's metrics: at most [`MAX_SERIES`] series, which are only ever added.
//!
//! A call that finds its series takes no lock: series lie in a table with a place for each hash, are written once and
//! stay, and their values are atomic. Only a new series is looked at in full, under a lock.

mod cell;
mod key;
#[cfg(test)]
mod tests;

use crate::exchange::{Field, Refusal};
use crate::output;
use cell::Cell;
use hot_wire::metrics::{self, MAX_SERIES};
use key::Key;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

pub(crate) use cell::Kind;

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
