//! What a rollout is told. Every event may come late, twice or out of order.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::figures::Figures;
use crate::ident::{Labels, Module, Node, ReleaseNumber, Revision, RolloutId};
use crate::reason::Cause;
use crate::units::Time;

/// Something that a rollout must know.
///
/// Events state what is so, not what changed, wherever that can be: saying one twice is the same as saying it once,
/// and one that was overtaken by a newer is ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The node is there and its agent can be told things. A node that the rollout does not know joins it. After it,
    /// tell anew what the node says of its instances: what was known of them is forgotten when a node goes down. That a
    /// node which joins serves the fleet's stable releases is not the rollout's business.
    NodeUp {
        /// Which.
        node: Node,
        /// What it is labelled with now.
        #[serde(default, skip_serializing_if = "Labels::is_empty")]
        labels: Labels,
    },
    /// The node cannot be reached.
    NodeDown {
        /// Which.
        node: Node,
    },
    /// The node takes no part any more; nothing waits for it. Its last word is to go back to stable.
    NodeLeft {
        /// Which.
        node: Node,
        /// Why.
        #[serde(default)]
        why: Left,
    },
    /// The node has the artifact of the module's candidate, verified and compatible, and room for it.
    Prepared {
        /// Where.
        node: Node,
        /// Of which module.
        module: Module,
    },
    /// The node refused the candidate before any code ran.
    PrepareFailed {
        /// Where.
        node: Node,
        /// Of which module.
        module: Module,
        /// Why, in the node's words.
        text: String,
    },
    /// An instance changed its state. Only those of the release that the rollout moves to matter to it.
    Instance {
        /// Where.
        node: Node,
        /// Of which module.
        module: Module,
        /// Of which release.
        release: ReleaseNumber,
        /// What it is now.
        state: InstanceState,
    },
    /// What the node counted.
    Sample(Sample),
    /// The node's gateway picks by the assignment with this revision: a candidate that has weight is ready.
    Applied {
        /// Where.
        node: Node,
        /// Of which module.
        module: Module,
        /// Of which assignment.
        revision: Revision,
        /// Stable is ready, too. If not, it failed, and the node tries it again by and by.
        serves: bool,
    },
    /// The node moved toward stable by itself. Tell it before anything else that comes from that node.
    TookBack {
        /// Where.
        node: Node,
        /// Of which module.
        module: Module,
        /// The assignment that it took its candidate out of; those of another rollout are ignored, and an expiry is
        /// when the node has been given a newer one since.
        revision: Revision,
        /// Why.
        cause: Cause,
    },
    /// A person went back on the node alone, while its fleet could not be told: it takes nothing of the module that goes
    /// another way until somebody lifts that. After it, [`Event::NodeUp`] says that it was lifted.
    LocalRollback {
        /// Where.
        node: Node,
        /// Of which module.
        module: Module,
        /// Who.
        by: String,
    },
    /// A person, or another rollout, wants something.
    Command(Command),
    /// [`super::Rollout::next_timeout`] is due. Too early is harmless.
    Timeout,
}

impl Event {
    /// The module that it is about; `None`: it is about the node, or the rollout.
    #[must_use]
    pub fn module(&self) -> Option<&Module> {
        match self {
            Self::Prepared { module, .. }
            | Self::PrepareFailed { module, .. }
            | Self::Instance { module, .. }
            | Self::Applied { module, .. }
            | Self::TookBack { module, .. }
            | Self::LocalRollback { module, .. } => Some(module),
            Self::Sample(sample) => Some(&sample.module),
            Self::NodeUp { .. }
            | Self::NodeDown { .. }
            | Self::NodeLeft { .. }
            | Self::Command(_)
            | Self::Timeout => None,
        }
    }
}

/// Why a node takes no part in a rollout any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Left {
    /// It left the fleet for good.
    #[default]
    Fleet,
    /// A person keeps it out of rollouts for now.
    Cordoned,
    /// Its labels are not those that the candidates are for.
    Labels,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fleet => "left the fleet",
            Self::Cordoned => "is cordoned and goes on with stable",
            Self::Labels => "is out of this rollout: its labels are not those that it is for",
        })
    }
}

/// What an instance is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Its host runs, its checks have not passed yet.
    Starting,
    /// Its checks have passed.
    Ready,
    /// It ended, or must be ended, by its own fault.
    Failed(Cause),
    /// It was ended on purpose, as when its node shuts down.
    Ended,
}

/// What one node counted for one module since it applied an assignment.
///
/// Counts are cumulative from `since` to `until`, so a sample that is lost, late or repeated does no harm. A node
/// starts to count anew, with a later `since`, when it applies an assignment with another revision, and when its daemon
/// restarted; the rollout adds up the countings of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Where.
    pub node: Node,
    /// Of which module.
    pub module: Module,
    /// The assignment whose being applied began the counting.
    pub revision: Revision,
    /// When the counting began, on the node's clock.
    pub since: Time,
    /// Up to when it counted, on the node's clock.
    pub until: Time,
    /// The candidate's requests.
    pub candidate: Figures,
    /// Stable's requests.
    pub stable: Figures,
}

/// What somebody wants of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Go on without waiting for the bake of this step, or with `full` of any step. Steps are gone through, not
    /// skipped: hosts must still start and pass their checks on every node. Ends a pause.
    Promote {
        /// Who.
        by: String,
        /// All the way.
        full: bool,
    },
    /// Stay in this step, watching, until somebody resumes. The rollout's deadline goes on.
    Pause {
        /// Who.
        by: String,
    },
    /// End a pause.
    Resume {
        /// Who.
        by: String,
    },
    /// Back to stable, now.
    Abort {
        /// Who.
        by: String,
    },
    /// Back to stable, now, to make room for another rollout.
    Supersede {
        /// Which.
        by: RolloutId,
    },
}
