//! The requests of one side on one node, as its gateway counts them.

use hot_rollout::{Figures, Latency, Time};

/// What was counted since the counting began.
#[derive(Clone, Debug, Default)]
pub(super) struct Counter {
    requests: u64,
    errors: u64,
    /// Microseconds and how many took so long; sorted.
    latency: Vec<(u64, u64)>,
    open: Vec<Open>,
}

/// Requests that began together and have not ended.
#[derive(Clone, Copy, Debug)]
struct Open {
    began: Time,
    ends: Time,
    fails: bool,
    count: u64,
}

impl Counter {
    /// From now on only what ends from now on counts, and what is open is not compared.
    pub(super) fn begin_anew(&mut self) {
        (self.requests, self.errors) = (0, 0);
        self.latency.clear();
    }

    /// Requests have ended that took `micros`.
    pub(super) fn took(&mut self, micros: u64, count: u64) {
        self.requests += count;
        match self.latency.binary_search_by_key(&micros, |(known, _)| *known) {
            Ok(place) => self.latency[place].1 += count,
            Err(place) => self.latency.insert(place, (micros, count)),
        }
    }

    /// So many of those that have ended had failed.
    pub(super) fn failed(&mut self, count: u64) {
        self.errors += count;
    }

    /// Requests have begun that end later.
    pub(super) fn hold(&mut self, began: Time, ends: Time, fails: bool, count: u64) {
        if count > 0 {
            self.open.push(Open { began, ends, fails, count });
        }
    }

    /// Those that were open until now end; how many of them failed.
    pub(super) fn let_go(&mut self, now: Time) -> u64 {
        let mut failed = 0;
        let (over, open) =
            std::mem::take(&mut self.open).into_iter().partition(|open: &Open| open.ends <= now);
        self.open = open;
        for Open { began, ends, fails, count } in over {
            self.took(ends.since(began).0 * 1000, count);
            if fails {
                self.failed(count);
                failed += count;
            }
        }
        failed
    }

    /// All that were open are lost with their instance; how many.
    pub(super) fn lose(&mut self) -> u64 {
        let lost: u64 = std::mem::take(&mut self.open).iter().map(|open| open.count).sum();
        self.requests += lost;
        self.errors += lost;
        lost
    }

    /// In the words of a sample, of a counting that began at `since`.
    pub(super) fn figures(&self, since: Time, now: Time) -> Figures {
        let open = self.open.iter().filter(|open| open.began >= since);
        Figures {
            requests: self.requests,
            errors: self.errors.min(self.requests),
            latency: Latency::from_counts(self.latency.iter().copied()),
            open: Latency::from_counts(open.map(|open| (now.since(open.began).0 * 1000, open.count))),
        }
    }
}
