//! Why a candidate went back: codes that stay, and sentences with the number and the limit.

mod cause;
mod foreign;
mod words;

use std::fmt;

use serde::{Deserialize, Serialize};

use self::words::{Percent, Tail, Waited};
use crate::ident::{List, Module, Node, ReleaseNumber, RolloutId};
use crate::units::{Millis, Ratio, Share};

pub use self::cause::Cause;
pub use self::foreign::{Foreign, NotForeign};
pub(crate) use self::words::rate;

/// Why a rollout goes, or went, back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A fast signal of one instance, or a node that took its candidate back.
    Fast {
        /// Where.
        node: Node,
        /// Of which module.
        module: Module,
        /// Of which release.
        release: ReleaseNumber,
        /// What it was.
        cause: Cause,
    },
    /// The candidate fails more often than stable.
    ErrorRate {
        /// Of which module.
        module: Module,
        /// Of which release.
        release: ReleaseNumber,
        /// The candidate's failed requests.
        errors: u64,
        /// The candidate's requests.
        requests: u64,
        /// Stable's failed requests over the same time, or in the last mixed step.
        stable_errors: u64,
        /// Stable's requests.
        stable_requests: u64,
        /// By how much it may exceed stable's rate.
        limit: Share,
    },
    /// The candidate is slower than stable.
    Slow {
        /// Of which module.
        module: Module,
        /// Of which release.
        release: ReleaseNumber,
        /// The candidate's p99.
        p99: Millis,
        /// The candidate's requests.
        requests: u64,
        /// Those of them that are open, and slow by how long they have been.
        #[serde(default)]
        open: u64,
        /// Stable's p99.
        stable_p99: Millis,
        /// How many times stable's it may be.
        limit: Ratio,
        /// The longest that it may be, by that and by the floor. 0: written by a version that did not say.
        #[serde(default)]
        bound: Millis,
    },
    /// The candidate has not answered anything, for longer than stable's requests take.
    Unanswered {
        /// Of which module.
        module: Module,
        /// Of which release.
        release: ReleaseNumber,
        /// Its open requests.
        requests: u64,
        /// How long the oldest has been open.
        oldest: Millis,
        /// Stable's p99.
        stable_p99: Millis,
        /// How long it may be.
        limit: Millis,
    },
    /// A node could not get ready, before any code ran.
    PrepareFailed {
        /// Where.
        node: Node,
        /// Of which module.
        module: Module,
        /// What the node said.
        text: String,
    },
    /// More nodes failed than the policy lets fail alone.
    TooManyFailed {
        /// All that did.
        nodes: Vec<Node>,
        /// How many nodes the rollout is for.
        of: u64,
        /// How many may.
        limit: u32,
        /// Why the one that was too many did.
        last: Box<Self>,
    },
    /// It took too long.
    Deadline {
        /// The deadline.
        limit: Millis,
        /// What it was waiting for; may be empty.
        waiting_on: String,
    },
    /// A person ended it.
    Aborted {
        /// Who.
        by: String,
    },
    /// A newer rollout of the same module took its place.
    Superseded {
        /// Which.
        by: RolloutId,
    },
    /// A person asked for the preceding stable.
    Rollback {
        /// Who.
        by: String,
    },
    /// Something that a newer version knows.
    #[serde(untagged)]
    Foreign(Foreign),
}

impl Reason {
    /// A stable word for scripts: for fast signals that of the [`Cause`].
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Fast { cause, .. } => cause.code(),
            Self::ErrorRate { .. } => "error_rate",
            Self::Slow { .. } => "slow",
            Self::Unanswered { .. } => "hung",
            Self::PrepareFailed { .. } => "prepare_failed",
            Self::TooManyFailed { .. } => "too_many_failed",
            Self::Deadline { .. } => "deadline",
            Self::Aborted { .. } => "aborted",
            Self::Superseded { .. } => "superseded",
            Self::Rollback { .. } => "rollback",
            Self::Foreign(_) => "unknown",
        }
    }

    /// The release whose digest this reason puts into quarantine. Of nodes that failed it is what the one that was too
    /// many says: the others were let fail.
    #[must_use]
    pub fn blamed(&self) -> Option<(&Module, ReleaseNumber)> {
        match self {
            Self::Fast { module, release, cause, .. } => cause.blames_release().then_some((module, *release)),
            Self::ErrorRate { module, release, .. }
            | Self::Slow { module, release, .. }
            | Self::Unanswered { module, release, .. } => Some((module, *release)),
            Self::TooManyFailed { last, .. } => last.blamed(),
            Self::PrepareFailed { .. }
            | Self::Deadline { .. }
            | Self::Aborted { .. }
            | Self::Superseded { .. }
            | Self::Rollback { .. }
            | Self::Foreign(_) => None,
        }
    }

    /// For a slow signal what was measured and the limit, without what it is about; else nothing.
    pub(crate) fn measured(&self) -> String {
        match self {
            Self::ErrorRate { errors, requests, stable_errors, stable_requests, limit, .. } => format!(
                "error rate {} of {requests} requests, stable {}, limit {:.1}% above stable",
                Percent { part: *errors, whole: *requests },
                Percent { part: *stable_errors, whole: *stable_requests },
                limit.fraction() * 100.0,
            ),
            Self::Slow { p99, requests, open, stable_p99, limit, bound, .. } => {
                let (at_least, unanswered) = match open {
                    0 => ("", String::new()),
                    open => ("at least ", format!(", {open} of them not answered yet")),
                };
                let limit = match bound {
                    Millis(0) => format!("{limit} stable"),
                    Millis(bound) => format!("{bound} ms"),
                };
                format!(
                    "p99 {at_least}{} ms of {requests} requests{unanswered}, limit {limit}, stable's p99 is {} ms",
                    p99.0, stable_p99.0
                )
            }
            Self::Unanswered { requests, oldest, stable_p99, limit, .. } => format!(
                "none of {requests} requests answered, the oldest waits for {} ms, limit {} ms, stable's p99 is {} ms",
                oldest.0, limit.0, stable_p99.0
            ),
            Self::Fast { .. }
            | Self::PrepareFailed { .. }
            | Self::TooManyFailed { .. }
            | Self::Deadline { .. }
            | Self::Aborted { .. }
            | Self::Superseded { .. }
            | Self::Rollback { .. }
            | Self::Foreign(_) => String::new(),
        }
    }

    /// Whether a person wanted it, so that it is no failure of anything.
    #[must_use]
    pub fn by_person(&self) -> bool {
        match self {
            Self::Aborted { .. } | Self::Superseded { .. } | Self::Rollback { .. } => true,
            Self::Fast { cause, .. } => matches!(cause, Cause::ByHand { .. }),
            Self::ErrorRate { .. }
            | Self::Slow { .. }
            | Self::Unanswered { .. }
            | Self::PrepareFailed { .. }
            | Self::TooManyFailed { .. }
            | Self::Deadline { .. }
            | Self::Foreign(_) => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fast { node, module, release, cause } => {
                write!(f, "{module} release {release} on {node}: {cause}")
            }
            Self::ErrorRate { module, release, .. }
            | Self::Slow { module, release, .. }
            | Self::Unanswered { module, release, .. } => {
                write!(f, "{module} release {release}: {}", self.measured())
            }
            Self::PrepareFailed { node, module, text } => {
                write!(f, "{module} cannot run on {node}{}; no code of it has run", Tail(text))
            }
            Self::TooManyFailed { nodes, of, last, .. } if nodes.len() as u64 >= *of => {
                write!(f, "all {of} nodes failed: {last}")
            }
            Self::TooManyFailed { nodes, of, limit, last } => {
                let (count, nodes) = (nodes.len(), List(nodes));
                write!(f, "{count} of {of} nodes failed ({nodes}), at most {limit} may: {last}")
            }
            Self::Deadline { limit, waiting_on } => {
                write!(f, "not promoted within {limit}{}", Waited(waiting_on))
            }
            Self::Aborted { by } => write!(f, "aborted by {by}"),
            Self::Superseded { by } => write!(f, "superseded by rollout {by}"),
            Self::Rollback { by } => write!(f, "rollback asked for by {by}"),
            Self::Foreign(what) => write!(f, "a reason that this version does not know ({what})"),
        }
    }
}

#[cfg(test)]
mod tests;
