//! What a rollout wants done, and in which order it must take effect.

use serde::{Deserialize, Serialize};

use super::event::Command;
use crate::assignment::Assignment;
use crate::ident::{Module, Node, ReleaseNumber, Revision};
use crate::reason::Reason;

/// Something that the driver has to do.
///
/// # The order is part of the contract
///
/// Actions come in the order in which they must take effect, and those toward stable come first. The driver
/// 1. does all actions for which [`Action::toward_stable`] holds, **before** anything is written: the way back waits
///    for no disk and no cluster store;
/// 2. persists the snapshot ([`super::Rollout::encode`]);
/// 3. does the rest, in order. An acknowledgement to whoever gave a command comes after 2.
///
/// When there is nothing to do there is nothing to persist: what such a call wrote down (a sample, an instance that got
/// ready) the nodes say again.
///
/// So a candidate never gets traffic that the snapshot does not know of, and a driver that dies between any two of
/// these does them again by [`super::Rollout::resume`]. Every action is idempotent. One that cannot be done (the
/// cluster store is down) is tried again by its driver until it can, or until a later one [takes its place](Action::overtakes).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Have the node fetch and verify the artifacts and make room, without running anything. It answers with
    /// [`super::Event::Prepared`] or [`super::Event::PrepareFailed`] for each module.
    Prepare {
        /// Where.
        node: Node,
        /// What.
        modules: Vec<(Module, ReleaseNumber)>,
    },
    /// Give the node this assignment.
    Assign {
        /// Where.
        node: Node,
        /// What it is to run.
        assignment: Assignment,
        /// Which way this goes.
        direction: Direction,
    },
    /// Start the expiry of this rollout's assignments anew on every node that has one of this revision or a lower one.
    Renew {
        /// The highest that was given out.
        revision: Revision,
    },
    /// The fleet's stable release of the module is this one from now on; `None` means that it has none.
    SetStable {
        /// Of which module.
        module: Module,
        /// Which.
        release: Option<ReleaseNumber>,
        /// Which way this goes.
        direction: Direction,
    },
    /// The release's digest may not be rolled out again without a person's leave.
    Quarantine {
        /// Of which module.
        module: Module,
        /// Which.
        release: ReleaseNumber,
        /// Why.
        reason: Reason,
    },
    /// Tell people.
    Note(Note),
    /// The rollout ended; said once for each outcome ([`Outcome::Incomplete`] may be followed by [`Outcome::Done`]).
    Finished(Outcome),
}

/// Which way a change goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// It takes traffic from a candidate to stable, or to the preceding stable at a person's rollback. It needs
    /// nobody's leave.
    TowardStable,
    /// Anything else: only once it is persisted.
    Onward,
}

impl Action {
    /// Whether it is done before the snapshot is persisted.
    #[must_use]
    pub fn toward_stable(&self) -> bool {
        match self {
            Self::Assign { direction, .. } | Self::SetStable { direction, .. } => {
                *direction == Direction::TowardStable
            }
            Self::Prepare { .. }
            | Self::Renew { .. }
            | Self::Quarantine { .. }
            | Self::Note(_)
            | Self::Finished(_) => false,
        }
    }

    /// Whether it takes the place of one that waits to be done: a candidate must not become stable after it was taken back.
    #[must_use]
    pub fn overtakes(&self, waiting: &Self) -> bool {
        match (self, waiting) {
            (
                Self::Assign { node, assignment, .. },
                Self::Assign { node: waiting_node, assignment: waiting, .. },
            ) => node == waiting_node && assignment.module == waiting.module,
            (Self::SetStable { module, .. }, Self::SetStable { module: waiting, .. }) => module == waiting,
            (Self::Prepare { node, .. }, Self::Prepare { node: waiting, .. }) => node == waiting,
            // An incomplete one may become done before it was written down that it is incomplete.
            (Self::Renew { .. }, Self::Renew { .. }) | (Self::Finished(_), Self::Finished(_)) => true,
            _ => false,
        }
    }
}

/// Something for the log: a sentence, and what it is about for machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What it is about.
    pub kind: NoteKind,
    /// The sentence, with its numbers.
    pub text: String,
}

/// What a [`Note`] is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// The rollout began.
    Started,
    /// Instances start for a step, from 0.
    Starting {
        /// Which.
        step: usize,
    },
    /// A step serves at its share and is watched.
    Baking {
        /// Which.
        step: usize,
    },
    /// A step's bake ended well.
    Passed {
        /// Which.
        step: usize,
    },
    /// A step is over but something is missing.
    Holding,
    /// The candidates become stable.
    Promoting,
    /// It goes back.
    RollingBack {
        /// Why.
        reason: Reason,
    },
    /// Somebody did something.
    Command(Command),
    /// A command came that changes nothing any more.
    Ignored(Command),
    /// A node came, went or left.
    Node {
        /// Which.
        node: Node,
    },
    /// A node failed, and the others go on.
    NodeFailed {
        /// Which.
        node: Node,
        /// Why.
        reason: Reason,
    },
    /// It ended.
    Finished,
}

/// How a rollout ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every node serves what was wanted.
    Done,
    /// It was promoted, or moved to the preceding stable, but these nodes could not be reached. It becomes
    /// [`Outcome::Done`] when they have followed.
    Incomplete {
        /// Which.
        nodes: Vec<Node>,
    },
    /// Stable has all the traffic again.
    RolledBack {
        /// Why.
        reason: Reason,
        /// Nodes that have not confirmed it; their candidates ended by their expiry.
        unconfirmed: Vec<Node>,
    },
    /// It failed and there was nothing to go back to, or a rollback failed and what served goes on serving.
    Failed {
        /// Why.
        reason: Reason,
    },
    /// Another rollout goes on: from stable, or from the new stable if this one was promoted already.
    Superseded {
        /// Why: which other one.
        reason: Reason,
    },
}

impl Outcome {
    /// A stable word for scripts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Incomplete { .. } => "incomplete",
            Self::RolledBack { .. } => "rolled_back",
            Self::Failed { .. } => "failed",
            Self::Superseded { .. } => "superseded",
        }
    }
}
