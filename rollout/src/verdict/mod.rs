//! The judgement of one candidate against stable, from what was counted.
//!
//! Owns the slow signals: error rates and latencies, compared over the same time. The fast ones (crash, hang, health)
//! need no judgement and end a step when they arrive. Knows nothing of time or of steps: the machine asks [`judge`]
//! after every sample, so what is plainly broken is found long before a bake ends, and again when the bake is over.
//!
//! The comparison is plain: rates count as different only when a bound on their difference says so (see
//! [`proportion`]). [`judge`] is the one door, so a better one can take its place without anybody noticing.

mod proportion;
mod slowness;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::figures::{Figures, as_f64};
use crate::ident::{List, Module, Node, ReleaseNumber};
use crate::policy::PolicySpec;
use crate::reason::{Reason, rate};
use crate::units::{Millis, Share, WHOLE};

/// Standard deviations by which a difference must be clear before it takes a candidate back: 1 in 740 looks at equal
/// sides would go that far by chance, and the limit of the policy comes on top.
const SURE: f64 = 3.0;
/// Standard deviations at which a difference is worth waiting for more requests.
const SUSPECT: f64 = 1.0;
/// From this error rate on stable is sick itself: services that are well stay far below.
const SICK: Share = Share::percent(10);
/// A candidate beside a sick stable is to blame only if it fails this many times as often.
const BLAME: f64 = 3.0;

/// What was counted on both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The candidate's requests in this step.
    pub candidate: Figures,
    /// Stable's over the same time on the same nodes; where none ran beside, those of the last mixed step.
    pub stable: Figures,
    /// Whether stable served beside the candidate.
    pub beside: bool,
}

/// The result of looking at the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing speaks against it.
    Healthy(Basis),
    /// It is worse than stable.
    Unhealthy(Reason),
    /// It cannot be said yet.
    Undecided(Missing),
}

/// What a good verdict rests on, from the firmest ground to the weakest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// It was compared with stable.
    Compared,
    /// There was nothing to compare it with: fast signals alone.
    NothingBeside,
    /// There was no traffic at all: health alone.
    NoTraffic,
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compared => "compared with stable",
            Self::NoTraffic => "there was no traffic at all, so this rests on health alone",
            Self::NothingBeside => {
                "there is no stable to compare it with, so this rests on fast signals alone"
            }
        })
    }
}

/// What is missing for a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// Nodes that carry the candidate have not said what they counted: silence is not success.
    Samples {
        /// Of which module.
        module: Module,
        /// Which nodes.
        nodes: Vec<Node>,
    },
    /// Stable has traffic and the candidate has none: no data is not success.
    CandidateTraffic {
        /// Of which module.
        module: Module,
        /// Stable's requests meanwhile.
        stable: u64,
    },
    /// Too few requests on the candidate.
    Requests {
        /// Of which module.
        module: Module,
        /// Its requests that have ended.
        have: u64,
        /// How many are needed.
        need: u64,
        /// Its requests that have not ended. A snapshot of before does not have it.
        #[serde(default)]
        open: u64,
    },
    /// Too few requests on stable to compare with.
    StableRequests {
        /// Of which module.
        module: Module,
        /// Its requests.
        have: u64,
        /// How many are needed.
        need: u64,
    },
    /// No request has ended on either side, so nothing tells a long answer from none.
    Answers {
        /// Of which module.
        module: Module,
        /// The candidate's open requests.
        candidate: u64,
        /// Stable's open requests.
        stable: u64,
        /// How long the candidate's oldest has been open.
        oldest: Millis,
    },
    /// Both sides fail: the candidate is not to blame.
    BothSick {
        /// Of which module.
        module: Module,
        /// The candidate's failed requests and all.
        candidate: (u64, u64),
        /// Stable's failed requests and all.
        stable: (u64, u64),
    },
    /// It looks worse, but not clearly: more requests will tell.
    Clarity {
        /// Of which module.
        module: Module,
        /// What looks worse, with numbers.
        suspicion: String,
    },
}

impl Missing {
    /// Whether a step goes on without it once the policy's patience is over. Not where going on could do harm that
    /// nobody would see: with no data, or while everything fails.
    #[must_use]
    pub fn yields_to_patience(&self) -> bool {
        match self {
            Self::Requests { .. }
            | Self::StableRequests { .. }
            | Self::Answers { .. }
            | Self::Clarity { .. } => true,
            Self::Samples { .. } | Self::CandidateTraffic { .. } | Self::BothSick { .. } => false,
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Samples { module, nodes } => {
                write!(f, "{module}: no word from {} of what was counted in this step", List(nodes))
            }
            Self::CandidateTraffic { module, stable } => {
                write!(f, "{module}: the candidate has had no request while stable had {stable}")
            }
            Self::Requests { module, have, need, open: 0 } => {
                write!(f, "{module}: the candidate has answered {have} of the {need} requests needed")
            }
            Self::Requests { module, have, need, open } => write!(
                f,
                "{module}: the candidate has answered {have} of the {need} requests needed, and has {open} open"
            ),
            Self::StableRequests { module, have, need } => {
                write!(f, "{module}: stable has had {have} of the {need} requests needed to compare with")
            }
            Self::Answers { module, candidate, stable, oldest } => write!(
                f,
                "{module}: no request has ended; the candidate has {candidate} open, the oldest for {oldest}, stable \
                 has {stable}"
            ),
            Self::BothSick { module, candidate, stable } => {
                let (candidate, stable) = (counted(*candidate), counted(*stable));
                write!(
                    f,
                    "{module}: candidate and stable both fail ({} and {} of requests), the candidate is not to blame",
                    rate(&candidate),
                    rate(&stable)
                )
            }
            Self::Clarity { module, suspicion } => {
                write!(f, "{module}: the candidate looks worse, but not clearly yet: {suspicion}")
            }
        }
    }
}

/// Judges one candidate by what was counted so far.
#[must_use]
pub fn judge(module: &Module, release: ReleaseNumber, evidence: &Evidence, policy: &PolicySpec) -> Verdict {
    let Evidence { candidate, stable, beside } = evidence;
    let need = policy.min_requests;
    if *beside && excused(candidate, stable, need) {
        return Verdict::Undecided(Missing::BothSick {
            module: module.clone(),
            candidate: (candidate.errors, candidate.requests),
            stable: (stable.errors, stable.requests),
        });
    }
    if let Some(reason) = worse(module, release, evidence, policy, SURE) {
        return Verdict::Unhealthy(reason);
    }
    if let Some(verdict) = too_few(module, evidence, need) {
        return verdict;
    }
    match worse(module, release, evidence, policy, SUSPECT) {
        Some(reason) => {
            Verdict::Undecided(Missing::Clarity { module: module.clone(), suspicion: reason.measured() })
        }
        None => Verdict::Healthy(Basis::Compared),
    }
}

/// What there is to say while one side has too few requests that have ended to compare them.
fn too_few(module: &Module, evidence: &Evidence, need: u64) -> Option<Verdict> {
    let Evidence { candidate, stable, beside } = evidence;
    let module = || module.clone();
    let missing = if candidate.requests >= need && stable.requests >= need {
        return None;
    } else if candidate.requests == 0 && *beside && stable.requests > 0 && candidate.open.is_empty() {
        Missing::CandidateTraffic { module: module(), stable: stable.requests }
    } else if candidate.requests == 0 && !candidate.open.is_empty() && stable.requests == 0 {
        Missing::Answers {
            module: module(),
            candidate: candidate.open.count(),
            stable: stable.open.count(),
            oldest: candidate.open.longest_millis().unwrap_or_default(),
        }
    } else if candidate.requests == 0 && candidate.open.is_empty() {
        return Some(Verdict::Healthy(Basis::NoTraffic));
    } else if candidate.requests < need {
        Missing::Requests { module: module(), have: candidate.requests, need, open: candidate.open.count() }
    } else if *beside {
        Missing::StableRequests { module: module(), have: stable.requests, need }
    } else {
        return Some(Verdict::Healthy(Basis::NothingBeside));
    };
    Some(Verdict::Undecided(missing))
}

/// How the candidate is worse than stable, sure to `deviations` standard deviations; `None` if it is not, or if too
/// little is known.
fn worse(
    module: &Module,
    release: ReleaseNumber,
    evidence: &Evidence,
    policy: &PolicySpec,
    deviations: f64,
) -> Option<Reason> {
    let Evidence { candidate, stable, .. } = evidence;
    let errors =
        proportion::Difference::of((candidate.errors, candidate.requests), (stable.errors, stable.requests));
    let enough = candidate.requests.min(stable.requests) >= policy.min_requests;
    if enough && errors.at_least(deviations) > policy.error_rate.fraction() {
        return Some(Reason::ErrorRate {
            module: module.clone(),
            release,
            errors: candidate.errors,
            requests: candidate.requests,
            stable_errors: stable.errors,
            stable_requests: stable.requests,
            limit: policy.error_rate,
        });
    }
    let slow = slowness::Slowness::of(evidence, policy)?;
    slow.is_clear(deviations).then(|| slow.reason(module, release))
}

/// Whether so much fails on the candidate that no comparison is needed, and stable is not as sick.
#[must_use]
pub fn over_cap(candidate: &Figures, stable: &Figures, cap: Share, min_requests: u64) -> bool {
    let errors = u128::from(candidate.errors.min(candidate.requests)) * u128::from(WHOLE);
    candidate.requests >= min_requests.max(1)
        && errors >= u128::from(candidate.requests) * u128::from(cap.basis_points())
        && !excused(candidate, stable, min_requests)
}

/// Both sides fail, and the candidate not clearly more often: something that they share is broken.
fn excused(candidate: &Figures, stable: &Figures, min_requests: u64) -> bool {
    let sick = SICK.fraction();
    stable.requests >= min_requests.max(1)
        && stable.error_rate() >= sick
        && candidate.error_rate() >= sick
        && candidate.error_rate() < BLAME * stable.error_rate()
}

fn counted((errors, requests): (u64, u64)) -> Figures {
    Figures { requests, errors, ..Figures::default() }
}

/// For tests of other rooms: the same number as [`proportion`] uses.
#[must_use]
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { as_f64(part.min(whole)) / as_f64(whole) }
}

#[cfg(test)]
mod tests;
