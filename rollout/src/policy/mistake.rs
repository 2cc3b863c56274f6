//! What can be wrong with a policy, each with its field and what to do.

use std::fmt;

use super::{MAX_LABEL, MAX_SPAN, MAX_STEPS, MIN_EXPIRY};
use crate::units::{Millis, Ratio, Share};

/// One thing that is wrong with a [`PolicySpec`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyMistake {
    /// There is no step.
    #[error("steps: there are none; expected at least one, the last at 100%")]
    NoSteps,
    /// There are more steps than anybody means.
    #[error("steps: {0} of them; expected at most {MAX_STEPS}")]
    TooManySteps(usize),
    /// A step without a share.
    #[error("steps: step {0} has a share of 0%; expected more")]
    ZeroShare(usize),
    /// Shares do not rise.
    #[error("steps: step {step} has {share}, not more than the {before} before it; shares must rise")]
    NotRising {
        /// Which step, from 1.
        step: usize,
        /// Its share.
        share: Share,
        /// The share before it.
        before: Share,
    },
    /// The last step is not the whole.
    #[error("steps: the last is {0}; it must be 100%")]
    NotWhole(Share),
    /// The ratio would refuse an equal candidate.
    #[error("p99_ratio: {0}; expected at least 1.0 times")]
    RatioBelowOne(Ratio),
    /// A count that must not be zero is.
    #[error("{field}: is 0; expected at least 1")]
    Zero {
        /// The field's name.
        field: &'static str,
    },
    /// The bakes are as long as the rollout's deadline or longer, so the deadline would always come first: they begin later.
    #[error(
        "steps: their bakes come to {found} ({steps} steps), and what is not promoted within the deadline of {deadline} goes \
         back; expected less than {deadline} in all: bake for less time, take fewer steps, or raise `deadline` under [policy] \
         in the node's config"
    )]
    BakesBeyondDeadline {
        /// How many steps there are.
        steps: usize,
        /// Their bakes together.
        found: Millis,
        /// The rollout's deadline.
        deadline: Millis,
    },
    /// A span is longer than the rollout's deadline, so the deadline would always come first.
    #[error(
        "{field}: {found} is longer than the deadline of {deadline}, after which a rollout goes back; lower it, or raise \
         `deadline`"
    )]
    BeyondDeadline {
        /// The field's name.
        field: &'static str,
        /// What was found.
        found: Millis,
        /// The rollout's deadline.
        deadline: Millis,
    },
    /// A span is too long to be meant.
    #[error("{field}: {found}; expected at most {MAX_SPAN} (31 days)")]
    TooLong {
        /// The field's name.
        field: &'static str,
        /// What was found.
        found: Millis,
    },
    /// A name that no label has.
    #[error(
        "{field}: `{found}` is no label of a node; expected 1 to {MAX_LABEL} letters, digits, `-`, `_`, `.` and `/`, e.g. \
         `zone`"
    )]
    NoLabel {
        /// The field's name.
        field: &'static str,
        /// What was found.
        found: String,
    },
    /// The expiry leaves no time to renew it.
    #[error("expiry: {0}; expected at least {MIN_EXPIRY}, which leaves time for three renewals")]
    ExpiryTooShort(Millis),
}

impl PolicyMistake {
    /// The field that is wrong, as it is written.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::NoSteps
            | Self::TooManySteps(_)
            | Self::ZeroShare(_)
            | Self::NotRising { .. }
            | Self::NotWhole(_)
            | Self::BakesBeyondDeadline { .. } => "steps",
            Self::RatioBelowOne(_) => "p99_ratio",
            Self::Zero { field }
            | Self::BeyondDeadline { field, .. }
            | Self::TooLong { field, .. }
            | Self::NoLabel { field, .. } => field,
            Self::ExpiryTooShort(_) => "expiry",
        }
    }
}

/// All that is wrong with a [`PolicySpec`], so that it can be mended in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// At least one.
    pub mistakes: Vec<PolicyMistake>,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the rollout policy cannot be used: ")?;
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyError {}
