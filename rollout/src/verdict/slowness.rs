//! Whether a candidate takes longer than stable, told from requests that have ended and from those that have not.
//!
//! A request that is still open takes at least as long as it has been. Where that is beyond the limit already it is
//! slow, however it ends; where it is not, nothing is known of it and it does not count. So a candidate that never
//! answers is found once its requests are older than stable's are long, and not when they run into their deadline.
//! Stable's own open requests count in the same way: where both sides have long ones, as streams are, nobody is blamed.

use super::proportion::Difference;
use super::{Evidence, PolicySpec};
use crate::ident::{Module, ReleaseNumber};
use crate::reason::Reason;
use crate::units::Millis;

/// The part of requests that may be slower than the p99 limit: that is what p99 means.
const BEYOND_P99: f64 = 0.01;

/// Requests that took this long, or have been open for so long, weigh more than others: [`FEW`] of them are enough, since
/// a handful of clients that wait for their answers never sends more to a candidate that gives none.
const VERY_LONG: u64 = 10_000_000;
/// How many of those. Fewer than one stall of a process can delay are no sign of anything.
const FEW: u64 = 3;

/// Both sides, against the longest that the candidate's p99 may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slowness<'a> {
    evidence: &'a Evidence,
    policy: &'a PolicySpec,
    /// Stable's p99 and the limit that follows from it, microseconds.
    stable_p99: u64,
    limit: u64,
    /// The candidate's requests that are known to be slower than the limit or not.
    known: u64,
    difference: Difference,
}

impl<'a> Slowness<'a> {
    /// `None` if too little is known of either side.
    ///
    /// The limit is the ratio times stable's p99, and at least the floor above it. Counting the requests beyond it,
    /// instead of comparing two percentiles, gives a number whose chance error is known.
    pub(super) fn of(evidence: &'a Evidence, policy: &'a PolicySpec) -> Option<Self> {
        let Evidence { candidate, stable, .. } = evidence;
        let stable_p99 = stable.p99()?;
        let Millis(floor) = policy.p99_floor;
        let limit =
            policy.p99_ratio.of(stable_p99).max(stable_p99.saturating_add(floor.saturating_mul(1000)));
        let need = policy.min_requests;
        let beyond = |limit: u64| {
            let (left, right) = (candidate.slower_than(limit), stable.slower_than(limit));
            let enough = left.1 >= need || (limit >= VERY_LONG && left.0 >= FEW);
            let difference = Difference::of(left, right);
            (enough && right.1 >= need).then_some(Self {
                evidence,
                policy,
                stable_p99,
                limit,
                known: left.1,
                difference,
            })
        };
        beyond(limit).or_else(|| beyond(limit.max(VERY_LONG)))
    }

    /// More of the candidate's requests are beyond the limit than may be, sure to `deviations` standard deviations.
    pub(super) fn is_clear(&self, deviations: f64) -> bool {
        self.difference.at_least(deviations) > BEYOND_P99
    }

    /// In the words of a rollout: the candidate is slow, or has never answered.
    pub(super) fn reason(&self, module: &Module, release: ReleaseNumber) -> Reason {
        let candidate = &self.evidence.candidate;
        let (module, stable_p99) = (module.clone(), Millis::of_micros(self.stable_p99));
        if candidate.requests == 0 {
            return Reason::Unanswered {
                module,
                release,
                requests: candidate.open.count(),
                oldest: candidate.open.longest_millis().unwrap_or_default(),
                stable_p99,
                limit: Millis::of_micros(self.limit),
            };
        }
        Reason::Slow {
            module,
            release,
            p99: candidate.p99().map(Millis::of_micros).unwrap_or_default(),
            requests: self.known,
            open: candidate.open.above(self.limit),
            stable_p99,
            limit: self.policy.p99_ratio,
            bound: Millis::of_micros(self.limit),
        }
    }
}
