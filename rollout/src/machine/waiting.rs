//! What a rollout waits for, as data and in words.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ident::{List, Node};
use crate::units::{Millis, Share};
use crate::verdict::Missing;

/// Why nothing moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// Nodes get and verify the artifacts.
    Prepare {
        /// Which have not.
        nodes: Vec<Node>,
    },
    /// Instances start and must pass their checks.
    Start {
        /// Where they have not.
        nodes: Vec<Node>,
        /// How many nodes more are told to start when these are ready.
        #[serde(default)]
        more: usize,
    },
    /// Nodes must apply their weights.
    Apply {
        /// Which have not.
        nodes: Vec<Node>,
    },
    /// The step is watched.
    Bake {
        /// Its share.
        share: Share,
        /// How long it still takes.
        left: Millis,
    },
    /// The step's time is over, but something is missing for a verdict.
    Verdict {
        /// What is missing.
        missing: Missing,
        /// What comes of it if it stays so.
        end: HoldEnd,
    },
    /// Somebody paused it.
    Person {
        /// Who.
        by: String,
    },
    /// No node of the step can be reached and follows.
    Nodes {
        /// Which can't be reached.
        nodes: Vec<Node>,
        /// Which were rolled back alone. Both are empty if the fleet has none.
        #[serde(default)]
        alone: Vec<Node>,
    },
    /// Nodes must confirm that they went back.
    Back {
        /// Which have not.
        nodes: Vec<Node>,
    },
    /// Nodes must follow a promotion.
    Follow {
        /// Which have not.
        nodes: Vec<Node>,
        /// Which of them were rolled back alone.
        #[serde(default)]
        alone: Vec<Node>,
    },
}

/// How the wait for what a verdict lacks ends, if that does not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldEnd {
    /// The step is passed without it: the policy's patience is over.
    GoesOn {
        /// In so long.
        left: Millis,
    },
    /// The rollout goes back: its deadline is over.
    GoesBack {
        /// In so long.
        left: Millis,
    },
}

impl Waiting {
    /// What is waited for, without how long still.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::Verdict { missing, .. } => format!("holding: {missing}"),
            Self::Prepare { .. }
            | Self::Start { .. }
            | Self::Apply { .. }
            | Self::Bake { .. }
            | Self::Person { .. }
            | Self::Nodes { .. }
            | Self::Back { .. }
            | Self::Follow { .. } => self.to_string(),
        }
    }
}

/// Whole seconds: nobody waits for a fraction of one, and it would be news a thousand times a second.
fn whole(left: Millis) -> Millis {
    Millis::seconds(left.0.div_ceil(1000))
}

/// Nodes that a person set aside, and what ends that.
struct Alone<'a>(&'a [Node]);

impl fmt::Display for Alone<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (were, follow) = if self.0.len() == 1 { ("was", "follows") } else { ("were", "follow") };
        write!(
            f,
            "{} {were} rolled back alone and {follow} no rollout until `hotctl rollback MODULE --lift` ends that",
            List(self.0)
        )
    }
}

impl fmt::Display for HoldEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GoesOn { left } => write!(f, "goes on with what there is in {}", whole(*left)),
            Self::GoesBack { left } => {
                write!(f, "goes back in {} unless that changes or somebody promotes it", whole(*left))
            }
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare { nodes } => {
                write!(f, "waiting for {} to get and verify the artifact", List(nodes))
            }
            Self::Start { nodes, more } => {
                write!(f, "waiting for the new release to start and pass its checks on {}", List(nodes))?;
                match more {
                    0 => Ok(()),
                    1 => f.write_str("; 1 more node follows"),
                    more => write!(f, "; {more} more nodes follow"),
                }
            }
            Self::Apply { nodes } => {
                write!(f, "waiting for {} to apply the weights of this step", List(nodes))
            }
            Self::Bake { share, left } => {
                write!(f, "watching {share} of the traffic, {} to go", whole(*left))
            }
            Self::Verdict { missing, end } => write!(f, "holding: {missing}; {end}"),
            Self::Person { by } => write!(f, "paused by {by}, until it is resumed, promoted or aborted"),
            Self::Nodes { nodes, alone } if nodes.is_empty() && alone.is_empty() => {
                f.write_str("waiting for a node: none can be reached")
            }
            Self::Nodes { nodes, alone } if nodes.is_empty() => {
                write!(f, "waiting for a node: {}", Alone(alone))
            }
            Self::Nodes { nodes, alone } => {
                write!(f, "waiting for {}, which cannot be reached", List(nodes))?;
                if alone.is_empty() { Ok(()) } else { write!(f, "; {}", Alone(alone)) }
            }
            Self::Back { nodes } => {
                write!(f, "waiting for {} to confirm the way back to stable", List(nodes))
            }
            Self::Follow { nodes, alone } => {
                write!(f, "waiting for {} to serve the stable release", List(nodes))?;
                if alone.is_empty() { Ok(()) } else { write!(f, "; {}", Alone(alone)) }
            }
        }
    }
}
