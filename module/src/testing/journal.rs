//! What a module has logged and counted, and the config that it was given: one of each per process, as in a real host.

use super::exchange::Outcome;
use super::services;
use crate::Level;
use crate::abi;
use core::fmt;
use std::borrow::ToOwned;
use std::collections::BTreeMap;
use std::string::String;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use std::vec::Vec;

/// Most labels of a series, and most series, as in hot-host.
pub(super) const MAX_LABELS: usize = 8;
const MAX_SERIES: usize = 256;

/// One line that the module has logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// What it says.
    pub text: String,
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.level, self.text)
    }
}

/// One series of the module's metrics, as it stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Metric {
    /// What was added in all.
    Counter(f64),
    /// What it was set to last.
    Gauge(f64),
    /// What was observed, in order.
    Histogram(Vec<f64>),
}

type Series = (String, Vec<(String, String)>);

#[derive(Debug)]
struct Journal {
    config: &'static [u8],
    lines: Vec<LogLine>,
    series: BTreeMap<Series, Metric>,
}

static JOURNAL: Mutex<Journal> =
    Mutex::new(Journal { config: &[], lines: Vec::new(), series: BTreeMap::new() });

fn journal() -> MutexGuard<'static, Journal> {
    JOURNAL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins anew for a module with that config.
pub(super) fn begin(config: &'static [u8]) {
    *journal() = Journal { config, lines: Vec::new(), series: BTreeMap::new() };
}

pub(super) fn config() -> &'static [u8] {
    journal().config
}

pub(super) fn log(level: u32, text: String) {
    let level = match level {
        abi::LOG_ERROR => Level::Error,
        abi::LOG_WARN => Level::Warn,
        abi::LOG_DEBUG => Level::Debug,
        _ => Level::Info,
    };
    journal().lines.push(LogLine { level, text });
    services::tell();
}

/// A fault of the module's that the contract leaves to it.
pub(super) fn error(text: &str) {
    log(abi::LOG_ERROR, text.to_owned());
}

pub(super) fn lines() -> Vec<LogLine> {
    journal().lines.clone()
}

/// Waits for a line that is as wanted, at most until `until`.
pub(super) fn wait_line(until: Instant, wanted: impl Fn(&LogLine) -> bool) -> Option<LogLine> {
    let find = || journal().lines.iter().find(|line| wanted(line)).cloned();
    services::wait_open(Some(until), |_| find().is_some());
    find()
}

pub(super) fn series(name: &str, labels: &[(&str, &str)]) -> Option<Metric> {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    journal().series.get(&key(name.to_owned(), labels.collect())).cloned()
}

/// Labels count in whatever order they come.
fn key(name: String, mut labels: Vec<(String, String)>) -> Series {
    labels.sort();
    (name, labels)
}

pub(super) fn metric(kind: u32, name: String, labels: Vec<(String, String)>, value: f64) -> Outcome {
    let (name, labels) = key(name, labels);
    let twice = labels.windows(2).any(|pair| matches!(pair, [one, two] if one.0 == two.0));
    let taken = |name: &str| {
        matches!(name, "le" | "module" | "release" | "version" | "instance") || name.starts_with("__")
    };
    let is_value = |value: &str| value.len() <= 128 && !value.contains(char::is_control);
    let labels_are_good =
        labels.iter().all(|(name, value)| is_name(name, false) && !taken(name) && is_value(value));
    if !is_name(&name, true) || twice || !labels_are_good || !value.is_finite() {
        return Err(abi::INVALID);
    }
    let fresh = match kind {
        abi::COUNTER if value >= 0.0 => Metric::Counter(0.0),
        abi::GAUGE => Metric::Gauge(0.0),
        abi::HISTOGRAM => Metric::Histogram(Vec::new()),
        _ => return Err(abi::INVALID),
    };
    let series = &mut journal().series;
    let same_kind = |known: &Metric| core::mem::discriminant(known) == core::mem::discriminant(&fresh);
    let admits = |known: &str, metric: &Metric| match metric {
        _ if known == name => same_kind(metric),
        Metric::Histogram(_) if is_part(&name, known) => false,
        Metric::Counter(_) | Metric::Gauge(_) | Metric::Histogram(_) => {
            kind != abi::HISTOGRAM || !is_part(known, &name)
        }
    };
    if !series.iter().all(|((known, _), metric)| admits(known, metric)) {
        return Err(abi::INVALID);
    }
    if series.len() >= MAX_SERIES && !series.contains_key(&(name.clone(), labels.clone())) {
        return Err(abi::TOO_LARGE);
    }
    match series.entry((name, labels)).or_insert(fresh) {
        Metric::Counter(sum) => *sum += value,
        Metric::Gauge(last) => *last = value,
        Metric::Histogram(all) => all.push(value),
    }
    Ok(())
}

/// A histogram is shown as three metrics, whose names are taken.
fn is_part(name: &str, histogram: &str) -> bool {
    name.strip_prefix(histogram).is_some_and(|part| matches!(part, "_bucket" | "_sum" | "_count"))
}

fn is_name(name: &str, with_colon: bool) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (with_colon && byte == b':');
    name.len() <= 63
        && name.bytes().all(is_good)
        && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}
