//! Where what a fleet shares is kept, assignments go and reports come from: on one node the node itself, [`Local`]; of
//! several nodes in etcd, [`Fleet`].
//!
//! Does not know what assignments mean, and decides nothing.

pub mod etcd;
pub mod fleet;
mod local;

use std::collections::{BTreeMap, BTreeSet};

use hot_artifact::{ModuleName, Sha256, Version};
use hot_rollout::{
    Assignment, Direction, Event, Labels, Left, Module, Node, ReleaseNumber, Revision, RolloutId,
};
use serde_json::Value;

pub use self::fleet::{Fleet, FleetError};
pub use self::local::Local;
use crate::ledger::LedgerError;
use crate::store::NewRelease;

/// The driver's verbs: the same on one node and in a fleet, where only the leader has them.
#[derive(Clone, Debug)]
pub enum Cluster {
    /// Of one node.
    Local(Local),
    /// Of nodes that share an etcd.
    Fleet(Fleet),
}

/// Why the cluster can't keep or give something.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// This node's own record can't be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The fleet can't.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// An artifact did not come from another node.
    #[error(transparent)]
    Fetch(#[from] fleet::FetchError),
}

impl ClusterError {
    /// Whether the fleet can't be reached now, or by another node: the same may go well in a while.
    #[must_use]
    pub fn is_out_of_reach(&self) -> bool {
        match self {
            Self::Fleet(error) | Self::Fetch(fleet::FetchError::Fleet(error)) => error.is_out_of_reach(),
            Self::Ledger(_) | Self::Fetch(_) => false,
        }
    }
}

type Done = Result<(), ClusterError>;

impl Cluster {
    /// The nodes that a rollout may use.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<Node> {
        match self {
            Self::Local(local) => local.nodes(),
            Self::Fleet(fleet) => fleet.state().usable(),
        }
    }

    /// Their labels.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<Node, Labels> {
        match self {
            Self::Local(_) => BTreeMap::new(),
            Self::Fleet(fleet) => {
                let state = fleet.state();
                state.usable().into_iter().map(|node| (node.clone(), state.labels(&node))).collect()
            }
        }
    }

    /// Why a node is none that a rollout may use.
    #[must_use]
    pub fn why_left(&self, node: &Node) -> Left {
        match self {
            Self::Local(_) => Left::Fleet,
            Self::Fleet(fleet) => fleet.state().why_left(node),
        }
    }

    /// The node that leads, as far as that is known.
    #[must_use]
    pub fn leader(&self) -> Option<Node> {
        match self {
            Self::Local(local) => local.nodes().into_iter().next(),
            Self::Fleet(fleet) => fleet.state().leader.as_ref().map(|(node, _)| node.clone()),
        }
    }

    /// Why this node does not hear its fleet, where it does not.
    #[must_use]
    pub fn unheard(&self) -> Option<String> {
        match self {
            Self::Local(_) => None,
            Self::Fleet(fleet) => fleet.unheard(),
        }
    }

    /// What a rollout that begins has to know of them: which are not there, and which were rolled back alone.
    #[must_use]
    pub fn absences(&self) -> Vec<Event> {
        match self {
            Self::Local(_) => Vec::new(),
            Self::Fleet(fleet) => {
                let state = fleet.state();
                let of = |node: Node| -> Vec<Event> {
                    if state.is_up(&node) {
                        state.local_rollback_events(&node).collect()
                    } else {
                        vec![Event::NodeDown { node }]
                    }
                };
                state.usable().into_iter().flat_map(of).collect()
            }
        }
    }

    /// Has a version at hand that is to be rolled out: in a fleet another node may have taken it in.
    pub async fn have(&self, module: &ModuleName, version: &Version) -> Done {
        match self {
            Self::Local(_) => Ok(()),
            Self::Fleet(fleet) => Ok(fleet.fetch_version(module, version).await?),
        }
    }

    /// Has `node` get ready to run these releases; it reports.
    pub async fn prepare(&self, node: &Node, modules: &[(Module, ReleaseNumber)]) -> Done {
        match self {
            Self::Local(local) => local.prepare(node, modules),
            Self::Fleet(fleet) => fleet.prepare(node, modules).await?,
        }
        Ok(())
    }

    /// Gives `node` an assignment. It is durable when this returns.
    pub async fn assign(&self, node: &Node, assignment: Assignment, direction: Direction) -> Done {
        match self {
            Self::Local(local) => local.assign(node, assignment, direction).await?,
            Self::Fleet(fleet) => fleet.assign(node, assignment, direction).await?,
        }
        Ok(())
    }

    /// Has a node that is in no rollout of `module` serve what is stable.
    pub async fn catch_up(
        &self,
        node: &Node,
        module: &Module,
        stable: ReleaseNumber,
        rollout: &RolloutId,
    ) -> Done {
        match self {
            // The only node is in every rollout.
            Self::Local(_) => {}
            Self::Fleet(fleet) => fleet.catch_up(node, module, stable, rollout).await?,
        }
        Ok(())
    }

    /// Has a node that is in no rollout of `module` run nothing of it: its labels are not those that it is for.
    pub async fn withdraw(&self, node: &Node, module: &Module, rollout: &RolloutId) -> Done {
        match self {
            // What the only node serves is for it.
            Self::Local(_) => {}
            Self::Fleet(fleet) => fleet.withdraw(node, module, rollout).await?,
        }
        Ok(())
    }

    /// Starts the expiry of a rollout's assignments up to `revision` anew.
    pub async fn renew(&self, id: &RolloutId, modules: Vec<Module>, revision: Revision) -> Done {
        match self {
            Self::Local(local) => local.renew(&modules, revision),
            Self::Fleet(fleet) => fleet.renew(id, modules, revision).await?,
        }
        Ok(())
    }

    /// The highest revision that an assignment of `module` has.
    #[must_use]
    pub fn revision(&self, module: &Module) -> Option<Revision> {
        match self {
            Self::Local(local) => local.revision(module),
            Self::Fleet(fleet) => fleet.revision(module),
        }
    }

    /// Numbers a release.
    pub async fn number(&self, module: ModuleName, new: NewRelease) -> Result<ReleaseNumber, ClusterError> {
        Ok(match self {
            Self::Local(local) => local.number(module, new).await?,
            Self::Fleet(fleet) => fleet.number(module, new).await?,
        })
    }

    /// Names what is stable.
    pub async fn set_stable(
        &self,
        module: Module,
        release: Option<ReleaseNumber>,
        direction: Direction,
    ) -> Done {
        match self {
            Self::Local(local) => local.set_stable(module, release, direction).await?,
            Self::Fleet(fleet) => fleet.set_stable(&module, release).await?,
        }
        Ok(())
    }

    /// Has the bytes of a release not run again, unless it is stable.
    pub async fn quarantine(&self, module: Module, release: ReleaseNumber, reason: String, at: u64) -> Done {
        match self {
            Self::Local(local) => local.quarantine(module, release, reason, at).await?,
            Self::Fleet(fleet) => fleet.quarantine(&module, release, &reason, at).await?,
        }
        Ok(())
    }

    /// Lets bytes that were quarantined run again; gives why they were.
    pub async fn lift_quarantine(
        &self,
        module: ModuleName,
        digest: Sha256,
    ) -> Result<Option<String>, ClusterError> {
        Ok(match self {
            Self::Local(local) => local.lift_quarantine(module, digest).await?,
            Self::Fleet(fleet) => fleet.lift_quarantine(&module, &digest).await?,
        })
    }

    /// Keeps the snapshot of a rollout that runs.
    pub async fn put_rollout(
        &self,
        id: RolloutId,
        request: String,
        snapshot: Value,
        direction: Direction,
    ) -> Done {
        match self {
            Self::Local(local) => local.put_rollout(id, request, snapshot, direction).await?,
            Self::Fleet(fleet) => fleet.put_rollout(id, request, snapshot).await?,
        }
        Ok(())
    }

    /// Keeps a rollout that ended, as history.
    pub async fn end_rollout(&self, id: RolloutId, request: String, snapshot: Value) -> Done {
        match self {
            Self::Local(local) => local.end_rollout(id, request, snapshot).await?,
            Self::Fleet(fleet) => fleet.end_rollout(id, request, snapshot).await?,
        }
        Ok(())
    }

    /// Forgets a rollout that was refused, where it may have been written all the same.
    pub async fn unwrite_rollout(&self, id: RolloutId) -> Done {
        match self {
            // A write to this node's own disk that failed was not made.
            Self::Local(_) => {}
            Self::Fleet(fleet) => fleet.unwrite_rollout(id).await?,
        }
        Ok(())
    }
}
