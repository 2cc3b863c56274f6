//! A module's metrics, asked of its host a page at a time. Pure: who sends and who waits is the caller's business.
//!
//! The pages are claims of a process that runs foreign code: what is gathered is bounded, has each series once, and each
//! metric in one kind.

use std::collections::BTreeMap;
use std::time::Duration;

use hot_wire::host::{MetricsPage, ToHost};
use hot_wire::metrics::{MAX_SERIES, Series, Value};
use thiserror::Error;
use tokio::sync::oneshot;

/// A host that is well answers each page at once. Who asks waits no longer than this for all of them.
pub(super) const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// Askers who wait for one instance; more than a person or a scraper will ever be.
pub(super) const MAX_WAITING: usize = 32;

/// Why there are no metrics.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MetricsError {
    /// It does not serve.
    #[error("the instance is not ready")]
    NotReady,
    /// It was started by an older release of this software.
    #[error("its host is of an older release, which has no metrics; `hotctl restart` starts a new one")]
    Unknown,
    /// It did not answer, or not with what follows on the last page.
    #[error("its host has not answered with its metrics within {ANSWERED_WITHIN:?}")]
    NoAnswer,
    /// Too many ask at once.
    #[error("{MAX_WAITING} others wait for its metrics already")]
    Busy,
}

/// Where an answer goes.
pub(super) type Waiting = oneshot::Sender<Result<Vec<Series>, MetricsError>>;

/// One gathering at a time, for all who asked meanwhile.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    seq: u64,
    series: Vec<Series>,
    waiting: Vec<Waiting>,
}

impl Gathering {
    /// One more asks: the question to send, if none is under way.
    pub(super) fn ask(&mut self, asker: Waiting) -> Option<ToHost> {
        // Those who gave up do not keep a gathering alive that got no answer.
        self.waiting.retain(|waiting| !waiting.is_closed());
        let is_first = self.waiting.is_empty();
        if self.waiting.len() >= MAX_WAITING {
            // Who is gone already needs no answer.
            drop(asker.send(Err(MetricsError::Busy)));
            return None;
        }
        self.waiting.push(asker);
        is_first.then(|| {
            self.seq += 1;
            self.series.clear();
            self.question()
        })
    }

    /// A page came: the next question, if there is more. Pages that answer no question are ignored.
    pub(super) fn page(&mut self, page: MetricsPage) -> Option<ToHost> {
        if page.seq != self.seq || page.first != self.next() || self.waiting.is_empty() {
            return None;
        }
        let is_last = page.series.is_empty();
        self.series.extend(page.series);
        if !is_last && self.next() < page.total && self.series.len() < MAX_SERIES {
            return Some(self.question());
        }
        let series = told_once(std::mem::take(&mut self.series));
        for asker in self.waiting.drain(..) {
            // Who is gone already needs no answer.
            drop(asker.send(Ok(series.clone())));
        }
        None
    }

    fn question(&self) -> ToHost {
        ToHost::Metrics { seq: self.seq, first: self.next() }
    }

    fn next(&self) -> u32 {
        u32::try_from(self.series.len()).unwrap_or(u32::MAX)
    }
}

/// In the order of names and labels, each once, and of each metric only those of the kind that came first.
fn told_once(mut series: Vec<Series>) -> Vec<Series> {
    series.truncate(MAX_SERIES);
    let mut kinds = BTreeMap::new();
    series.retain(|series| {
        let kind = kind(&series.value);
        *kinds.entry(series.name.clone()).or_insert(kind) == kind
    });
    series.sort_by(|a, b| (&a.name, &a.labels).cmp(&(&b.name, &b.labels)));
    series.dedup_by(|a, b| (&a.name, &a.labels) == (&b.name, &b.labels));
    series
}

const fn kind(value: &Value) -> u8 {
    match value {
        Value::Counter(_) => 0,
        Value::Gauge(_) => 1,
        Value::Histogram { .. } => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauge(name: &str) -> Series {
        Series { name: name.to_owned(), labels: Vec::new(), value: Value::Gauge(1.0) }
    }

    fn page(seq: u64, first: u32, total: u32, names: &[&str]) -> MetricsPage {
        MetricsPage { seq, first, total, series: names.iter().map(|name| gauge(name)).collect() }
    }

    fn asker() -> (Waiting, oneshot::Receiver<Result<Vec<Series>, MetricsError>>) {
        oneshot::channel()
    }

    #[test]
    fn pages_are_asked_for_until_all_is_there_and_everyone_gets_all() {
        let mut gathering = Gathering::default();
        let ((one, mut first), (two, mut second)) = (asker(), asker());
        assert_eq!(gathering.ask(one), Some(ToHost::Metrics { seq: 1, first: 0 }));
        assert_eq!(gathering.ask(two), None);
        assert_eq!(gathering.page(page(1, 0, 3, &["c", "b"])), Some(ToHost::Metrics { seq: 1, first: 2 }));
        assert_eq!(gathering.page(page(1, 0, 3, &["x"])), None, "answers no question");
        assert_eq!(gathering.page(page(2, 2, 3, &["x"])), None, "answers no question");
        assert_eq!(gathering.page(page(1, 2, 3, &["a"])), None);
        let all = Ok(vec![gauge("a"), gauge("b"), gauge("c")]);
        assert_eq!(first.try_recv(), Ok(all.clone()));
        assert_eq!(second.try_recv(), Ok(all));
        let (three, _third) = asker();
        assert_eq!(gathering.ask(three), Some(ToHost::Metrics { seq: 2, first: 0 }));
    }

    #[test]
    fn a_host_that_lies_is_bounded() {
        let mut gathering = Gathering::default();
        let (one, mut answer) = asker();
        gathering.ask(one);
        let names: Vec<String> = (0..100).map(|n| format!("n{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut questions = 0;
        let mut next = 0;
        while let Some(ToHost::Metrics { first, .. }) = gathering.page(page(1, next, u32::MAX, &names)) {
            next = first;
            questions += 1;
        }
        assert_eq!((questions, answer.try_recv().unwrap().unwrap().len()), (2, 100));

        let (one, mut answer) = asker();
        gathering.ask(one);
        assert_eq!(gathering.page(page(2, 0, 7, &[])), None, "says that there is more and gives nothing");
        assert_eq!(answer.try_recv(), Ok(Ok(Vec::new())));
    }

    #[test]
    fn a_gathering_without_an_answer_is_begun_anew() {
        let mut gathering = Gathering::default();
        let (one, gone) = asker();
        gathering.ask(one);
        gathering.page(page(1, 0, 3, &["a"]));
        drop(gone);
        let (two, _answer) = asker();
        assert_eq!(gathering.ask(two), Some(ToHost::Metrics { seq: 2, first: 0 }));
    }

    #[test]
    fn each_metric_has_one_kind_and_each_series_comes_once() {
        let other = Series { value: Value::Counter(2.0), ..gauge("a") };
        let labelled = Series { labels: vec![("x".into(), "y".into())], ..other.clone() };
        let told = told_once(vec![gauge("a"), gauge("a"), other, labelled, gauge("b")]);
        assert_eq!(told, [gauge("a"), gauge("b")]);
    }
}
