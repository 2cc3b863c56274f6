//! What users see of a dying host: which requests are sent again, where, and how many. Pure: the caller says what
//! happened and does what is answered.
//!
//! A request of which no byte was written to a host was not handed over, nor was one that a host refused because it was
//! told to stop: it is placed anew, whatever its method, as long as none of its body was taken from the client. Any other
//! refusal is the host's word alone, and no more than its death. One that was handed over may have been executed, so only
//! GET, HEAD and OPTIONS are sent again: once, to stable, while the budget lasts, and only if they had no body and no
//! byte of the response has come.

use http::Method;

/// How far a request got before its host was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Progress {
    /// No byte of it was written to the host.
    Unsent,
    /// It was handed over; no byte of the response has come.
    Sent,
    /// The response's head has come.
    Answered,
}

/// A request, as the rules see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) struct Attempt {
    /// GET, HEAD or OPTIONS.
    pub safe: bool,
    /// It came with a body, known to the end or not.
    pub has_body: bool,
    /// Part of that body was taken from the client, so that it can't be sent again.
    pub body_taken: bool,
    /// It was already sent once more.
    pub retried: bool,
}

impl Attempt {
    /// A request that was not sent yet.
    #[must_use]
    pub(in crate::gateway) fn first(method: &Method, has_body: bool) -> Self {
        let safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        Self { safe, has_body, body_taken: false, retried: false }
    }
}

/// What to do with a request whose host was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Next {
    /// Place it anew, as if it had just come.
    Place,
    /// Send it once more, to stable, if [`Budget::take`] allows.
    Retry,
    /// End it: 502, or the end of the connection if its response has begun.
    Fail,
}

/// The rule for a request whose host was lost.
#[must_use]
pub(in crate::gateway) fn after_loss(attempt: Attempt, progress: Progress) -> Next {
    match progress {
        Progress::Unsent if !attempt.body_taken => Next::Place,
        Progress::Sent if attempt.safe && !attempt.has_body && !attempt.retried => Next::Retry,
        Progress::Unsent | Progress::Sent | Progress::Answered => Next::Fail,
    }
}

/// How many retries a module may cause: one for each ten requests, saved up to a bound, and one for each request that
/// was in flight at a host that died. So the requests of a crash are all tried again, and a fault that comes with
/// every request adds a tenth to the load at most.
#[derive(Debug, Clone)]
pub(in crate::gateway) struct Budget {
    /// In tenths of a retry.
    tenths: u32,
}

/// Retries that can be saved up: those of the last thousand requests. More would let a long quiet time pay for a storm.
const MOST_SAVED: u32 = 100;

/// Retries at hand from the start, so that a module with little traffic has some.
const AT_START: u32 = 10;

/// The most that the deaths of hosts can add: the requests that a gateway has in flight at once. More is a crash loop,
/// which the tenth pays for.
const MOST_FROM_DEATHS: u32 = 10_000;

impl Default for Budget {
    fn default() -> Self {
        Self { tenths: AT_START * 10 }
    }
}

impl Budget {
    /// So many requests came.
    pub(in crate::gateway) fn requests(&mut self, count: u64) {
        let room = (MOST_SAVED * 10).saturating_sub(self.tenths);
        self.tenths += u32::try_from(count).unwrap_or(u32::MAX).min(room);
    }

    /// A host died with this many requests in flight.
    pub(in crate::gateway) fn host_died(&mut self, in_flight: u32) {
        let most = (MOST_SAVED + MOST_FROM_DEATHS) * 10;
        self.tenths = self.tenths.saturating_add(in_flight.saturating_mul(10)).min(most);
    }

    /// Takes one retry, or answers that none is left.
    #[must_use]
    pub(in crate::gateway) fn take(&mut self) -> bool {
        let Some(rest) = self.tenths.checked_sub(10) else { return false };
        self.tenths = rest;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GET: Attempt = Attempt { safe: true, has_body: false, body_taken: false, retried: false };
    const POST: Attempt = Attempt { safe: false, has_body: true, body_taken: false, retried: false };

    #[test]
    fn only_safe_methods_are_sent_once_more() {
        for (method, safe) in [
            (Method::GET, true),
            (Method::HEAD, true),
            (Method::OPTIONS, true),
            (Method::POST, false),
            (Method::PUT, false),
            (Method::DELETE, false),
            (Method::PATCH, false),
            (Method::TRACE, false),
        ] {
            let next = after_loss(Attempt::first(&method, false), Progress::Sent);
            assert_eq!(next == Next::Retry, safe, "{method}");
        }
    }

    #[test]
    fn a_get_is_tried_once_and_only_without_body_and_answer() {
        assert_eq!(after_loss(GET, Progress::Sent), Next::Retry);
        assert_eq!(after_loss(Attempt { retried: true, ..GET }, Progress::Sent), Next::Fail);
        assert_eq!(after_loss(Attempt { has_body: true, ..GET }, Progress::Sent), Next::Fail);
        assert_eq!(after_loss(GET, Progress::Answered), Next::Fail);
    }

    #[test]
    fn what_was_not_handed_over_is_placed_anew_unless_its_body_is_gone() {
        assert_eq!(after_loss(POST, Progress::Unsent), Next::Place);
        assert_eq!(after_loss(Attempt { retried: true, ..GET }, Progress::Unsent), Next::Place);
        assert_eq!(after_loss(Attempt { body_taken: true, ..POST }, Progress::Unsent), Next::Fail);
        assert_eq!(after_loss(POST, Progress::Sent), Next::Fail);
    }

    #[test]
    fn a_death_pays_for_all_in_flight() {
        let mut budget = Budget::default();
        while budget.take() {}
        budget.host_died(500);
        assert_eq!((0..1_000).filter(|_| budget.take()).count(), 500);
    }

    proptest! {
        /// Whatever comes in which order, retries are at most what is there at the start, a tenth of the requests, and
        /// the requests in flight at deaths.
        #[test]
        fn retries_stay_within_the_budget(events in prop::collection::vec(0u32..60, 0..2_000)) {
            let mut budget = Budget::default();
            let (mut requests, mut died, mut retries) = (0, 0, 0);
            for event in events {
                match event {
                    0..=30 => { budget.requests(1); requests += 1; }
                    31..=55 => retries += u32::from(budget.take()),
                    in_flight => { budget.host_died(in_flight); died += in_flight; }
                }
            }
            prop_assert!(retries <= AT_START + requests / 10 + died + 1);
        }
    }
}
