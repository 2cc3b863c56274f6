//! Where a rollout stands.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ident::Node;
use crate::reason::Reason;
use crate::units::Time;

/// Where a rollout stands. A pause is beside it: a paused rollout is still in its step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Every node gets the artifacts; no code has run.
    Preparing,
    /// Instances start on this step's nodes; those of the step before keep their weights.
    Starting {
        /// Which step, from 0.
        step: usize,
    },
    /// The step's nodes serve at their weights and are watched.
    Baking {
        /// Which step, from 0.
        step: usize,
        /// When all of them had applied their weights; until then the bake has not begun.
        since: Option<Time>,
    },
    /// The candidates are the stable releases; every node is told so.
    Promoting {
        /// Since when.
        since: Time,
    },
    /// Every node serves what was wanted.
    Done,
    /// Every node is told to go back.
    RollingBack {
        /// Why.
        reason: Reason,
        /// Since when.
        since: Time,
    },
    /// Stable has all the traffic again.
    RolledBack {
        /// Why.
        reason: Reason,
        /// Nodes that have not confirmed it.
        unconfirmed: Vec<Node>,
    },
    /// It failed and there was nothing to go back to, or a rollback failed.
    Failed {
        /// Why.
        reason: Reason,
    },
    /// Another rollout goes on from here: from stable, or from the new stable if it was promoted already.
    Superseded {
        /// Which other one.
        reason: Reason,
    },
    /// Promoted, but some nodes have not followed yet; each of them makes it `Done` in the end.
    Incomplete,
}

/// A phase in one word, as people and scripts see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseName {
    /// See [`Phase::Preparing`].
    Preparing,
    /// See [`Phase::Starting`].
    Starting,
    /// See [`Phase::Baking`].
    Baking,
    /// It stays in its step until somebody resumes it.
    Paused,
    /// See [`Phase::Promoting`].
    Promoting,
    /// See [`Phase::Done`].
    Done,
    /// See [`Phase::RollingBack`].
    RollingBack,
    /// See [`Phase::RolledBack`].
    RolledBack,
    /// See [`Phase::Failed`].
    Failed,
    /// See [`Phase::Superseded`].
    Superseded,
    /// See [`Phase::Incomplete`].
    Incomplete,
}

impl Phase {
    /// Its word.
    #[must_use]
    pub fn name(&self) -> PhaseName {
        match self {
            Self::Preparing => PhaseName::Preparing,
            Self::Starting { .. } => PhaseName::Starting,
            Self::Baking { .. } => PhaseName::Baking,
            Self::Promoting { .. } => PhaseName::Promoting,
            Self::Done => PhaseName::Done,
            Self::RollingBack { .. } => PhaseName::RollingBack,
            Self::RolledBack { .. } => PhaseName::RolledBack,
            Self::Failed { .. } => PhaseName::Failed,
            Self::Superseded { .. } => PhaseName::Superseded,
            Self::Incomplete => PhaseName::Incomplete,
        }
    }

    /// The step that it is in.
    #[must_use]
    pub fn step(&self) -> Option<usize> {
        match self {
            Self::Starting { step } | Self::Baking { step, .. } => Some(*step),
            Self::Preparing
            | Self::Promoting { .. }
            | Self::Done
            | Self::RollingBack { .. }
            | Self::RolledBack { .. }
            | Self::Failed { .. }
            | Self::Superseded { .. }
            | Self::Incomplete => None,
        }
    }

    /// Nothing changes it any more.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.name().is_final()
    }

    /// Why it goes, or went, back.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::RollingBack { reason, .. }
            | Self::RolledBack { reason, .. }
            | Self::Failed { reason }
            | Self::Superseded { reason } => Some(reason),
            Self::Preparing
            | Self::Starting { .. }
            | Self::Baking { .. }
            | Self::Promoting { .. }
            | Self::Done
            | Self::Incomplete => None,
        }
    }
}

impl PhaseName {
    /// Nothing changes it any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Done | Self::RolledBack | Self::Failed | Self::Superseded => true,
            Self::Preparing
            | Self::Starting
            | Self::Baking
            | Self::Paused
            | Self::Promoting
            | Self::RollingBack
            | Self::Incomplete => false,
        }
    }

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Baking => "baking",
            Self::Paused => "paused",
            Self::Promoting => "promoting",
            Self::Done => "done",
            Self::RollingBack => "rolling_back",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
            Self::Incomplete => "incomplete",
        }
    }
}

impl fmt::Display for PhaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
