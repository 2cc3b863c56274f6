//! How long an exchange may last: the module's own time, to which the client's waits do not count.
//!
//! Pure: who waits, and what time it is, is told by the link, which looks at all exchanges a few times a second. The host
//! has a deadline as well, so that the module can see how long there is; it is told when ours has left that one behind.

use std::time::{Duration, Instant};

/// A client that makes an exchange wait has to move so many bytes a second. Below it the time is its own affair no longer: a
/// place of the module is held for a client that gets nowhere.
const LEAST_RATE: u64 = 1024;

/// What quick bytes are worth for later, at most: a client that was quick once may not rest on that for hours.
const SAVED_AT_MOST: Duration = Duration::from_secs(30);

/// The host is told of a later deadline when its own has no more left than this: some looks.
const TELL_AHEAD: Duration = Duration::from_secs(1);

/// And is told of at least so much, so that a client that waits all the time costs a frame every few seconds. The gateway
/// ends what is over by itself.
const TELL_AT_LEAST: Duration = Duration::from_secs(5);

/// What a host is to be told of an exchange's deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) struct News {
    /// Milliseconds from now.
    pub(in crate::gateway) left_ms: u32,
    /// The module is asked for an end.
    pub(in crate::gateway) ends: bool,
}

/// Until when an exchange lasts.
#[derive(Debug)]
pub(in crate::gateway) struct Term {
    /// `None`: a stream that nobody has asked to end.
    end: Option<Instant>,
    /// How far the client's waits may still move it, and for how many bytes it was given that.
    saved: Duration,
    seen: u64,
    /// The end as the host knows it.
    told: Option<Instant>,
    is_stream: bool,
}

impl Term {
    pub(in crate::gateway) const fn new(end: Instant) -> Self {
        Self { end: Some(end), saved: Duration::ZERO, seen: 0, told: Some(end), is_stream: false }
    }

    /// The exchange has waited for its client for so long, and so many bytes of its bodies have gone through.
    pub(in crate::gateway) fn client_waited(&mut self, waited: Duration, bytes: u64) {
        let new = bytes - std::mem::replace(&mut self.seen, bytes);
        let worth = Duration::from_millis(new.saturating_mul(1000) / LEAST_RATE);
        self.saved = (self.saved + worth).min(SAVED_AT_MOST.max(waited));
        let by = waited.min(self.saved);
        if let Some(end) = self.end.as_mut().filter(|_| !self.is_stream) {
            *end += by;
            self.saved -= by;
        }
    }

    /// It is a stream that lasts as long as both sides like. The host has seen that itself.
    pub(in crate::gateway) fn begin_stream(&mut self) {
        self.end = None;
        self.told = None;
        self.is_stream = true;
    }

    pub(in crate::gateway) const fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// A stream has to end by then. The first word counts; anything else has its end already.
    pub(in crate::gateway) fn ask_to_end(&mut self, by: Instant) {
        self.end.get_or_insert(by);
    }

    /// It is a stream that has to end.
    pub(in crate::gateway) const fn is_asked_to_end(&self) -> bool {
        self.is_stream && self.end.is_some()
    }

    pub(in crate::gateway) fn is_over(&self, now: Instant) -> bool {
        self.end.is_some_and(|end| now >= end)
    }

    /// What the host is to be told now, if anything.
    pub(in crate::gateway) fn news(&mut self, now: Instant) -> Option<News> {
        let end = self.end?;
        let is_known = match self.told {
            Some(told) if self.is_stream => told == end,
            told => told.is_some_and(|told| told >= end || told > now + TELL_AHEAD),
        };
        if is_known {
            return None;
        }
        let left = end.saturating_duration_since(now);
        let left = if self.is_stream { left } else { left.max(TELL_AT_LEAST) };
        self.told = Some(if self.is_stream { end } else { now + left });
        let left_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1);
        Some(News { left_ms, ends: self.is_stream })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_for_the_client_do_not_count_as_long_as_it_gets_on() {
        let begun = Instant::now();
        let mut term = Term::new(begun + 30 * SECOND);
        assert!(!term.is_over(begun + 29 * SECOND) && term.is_over(begun + 30 * SECOND));
        // A client that reads 10 KiB/s for a minute.
        for second in 1..=60 {
            term.client_waited(SECOND, second * 10 * 1024);
        }
        assert!(!term.is_over(begun + 89 * SECOND) && term.is_over(begun + 90 * SECOND));
    }

    #[test]
    fn a_client_that_gets_nowhere_is_given_what_its_bytes_are_worth() {
        let begun = Instant::now();
        let mut term = Term::new(begun + 30 * SECOND);
        for second in 1..=60 {
            term.client_waited(SECOND, second);
        }
        assert!(term.is_over(begun + 31 * SECOND), "a byte a second is no progress");
    }

    #[test]
    fn the_host_is_told_only_when_its_own_deadline_is_near() {
        let begun = Instant::now();
        let mut term = Term::new(begun + 30 * SECOND);
        term.client_waited(20 * SECOND, 1 << 30);
        assert_eq!(term.news(begun + 28 * SECOND), None);
        assert_eq!(term.news(begun + 29 * SECOND), Some(News { left_ms: 21_000, ends: false }));
        assert_eq!(term.news(begun + 29 * SECOND), None);
        // It stands still with little left: some seconds are told at a time.
        term.client_waited(SECOND, 2 << 30);
        assert_eq!(term.news(begun + 49 * SECOND), Some(News { left_ms: 5_000, ends: false }));
        assert_eq!(term.news(begun + 52 * SECOND), None);
    }

    #[test]
    fn a_stream_has_no_end_until_it_is_asked_for() {
        let begun = Instant::now();
        let mut term = Term::new(begun + 30 * SECOND);
        term.begin_stream();
        assert_eq!(term.news(begun), None);
        assert!(!term.is_over(begun + 4000 * SECOND));
        term.client_waited(SECOND, 1 << 30);
        term.ask_to_end(begun + 10 * SECOND);
        term.ask_to_end(begun + 20 * SECOND);
        assert_eq!(term.news(begun), Some(News { left_ms: 10_000, ends: true }));
        assert_eq!(term.news(begun + 9 * SECOND), None);
        term.client_waited(SECOND, 1 << 30);
        assert!(!term.is_over(begun + 9 * SECOND) && term.is_over(begun + 10 * SECOND));
    }

    /// It began just before the flip, or after it.
    #[test]
    fn a_stream_that_is_asked_at_once_is_told() {
        let begun = Instant::now();
        let mut term = Term::new(begun + 30 * SECOND);
        term.begin_stream();
        term.ask_to_end(begun + 10 * SECOND);
        assert_eq!(term.news(begun), Some(News { left_ms: 10_000, ends: true }));
        assert_eq!(term.news(begun), None);
    }

    #[test]
    fn a_burst_does_not_pay_for_hours() {
        let begun = Instant::now();
        let mut term = Term::new(begun + 30 * SECOND);
        term.client_waited(Duration::from_millis(50), 1 << 30);
        for _ in 0..100 {
            term.client_waited(SECOND, 1 << 30);
        }
        assert!(term.is_over(begun + 61 * SECOND));
    }

    #[test]
    fn only_streams_are_asked_to_end() {
        let begun = Instant::now();
        let mut term = Term::new(begun + 30 * SECOND);
        term.ask_to_end(begun + SECOND);
        assert!(!term.is_over(begun + 29 * SECOND));
        assert_eq!(term.news(begun), None);
    }
}
