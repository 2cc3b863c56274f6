//! Why a call to the driver is not done. Which status that is, is decided in `grpc/status` and its neighbours.

use std::sync::Arc;

use hot_artifact::{ModuleName, Sha256, Version};
use hot_rollout::{Node, ReleaseNumber, RolloutId};

use crate::cluster::{Cluster, ClusterError};
use crate::supervisor::Absence;
use crate::trust::Frozen;

/// Why a call to the driver changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The version was never uploaded.
    #[error("{module} has no version {version}")]
    NoVersion { module: ModuleName, version: Version },
    /// A person removed the version.
    #[error("version {version} of {module} was removed by {by} at {at}")]
    Removed { module: ModuleName, version: Version, by: String, at: jiff::Timestamp },
    /// The version made room for newer ones.
    #[error(
        "version {version} of {module} was dropped at {at} by `keep` under [store], as newer versions came"
    )]
    Dropped { module: ModuleName, version: Version, at: jiff::Timestamp },
    /// The caller means other bytes.
    #[error("version {version} of {module} has no artifact with digest {digest}")]
    OtherDigest { module: ModuleName, version: Version, digest: Sha256 },
    /// Its digest failed before.
    #[error("{module} {version} is quarantined: {reason}")]
    Quarantined { module: ModuleName, version: Version, reason: String },
    /// The module takes only later versions.
    #[error("version {version} of {module} is below its floor {floor}")]
    BelowFloor { module: ModuleName, version: Version, floor: Version },
    /// Another module has one of its routes.
    #[error("{0}")]
    Route(#[from] crate::gateway::Conflict),
    /// Who may sign is not known now.
    #[error("{0}")]
    Frozen(Arc<Frozen>),
    /// Nothing can be started now.
    #[error("hot-spawn is lost on this node, and nothing can be started without it: {}", .0.text)]
    NoSpawn(Arc<Absence>),
    /// The same request name was used for something else.
    #[error("request id {0} was used for another rollout")]
    RequestReused(String),
    /// There is no such rollout.
    #[error("no rollout is named {0}")]
    NoRollout(String),
    /// It is over.
    #[error("rollout {0} is over")]
    Over(RolloutId),
    /// It is past the point where the command means something.
    #[error("rollout {rollout} is {phase}, and the command changes nothing any more")]
    TooLate { rollout: RolloutId, phase: String },
    /// A later word took its place before it began.
    #[error("a later call took this one's place before it began: rollout {by}")]
    Overtaken { by: RolloutId },
    /// No node has the labels that it is for.
    #[error("no node that rollouts may use has {on}; {}", if there.is_empty() { "none has a label".to_owned() } else { format!("there are {there}") })]
    NoNodes {
        /// What was asked for.
        on: String,
        /// What the nodes have.
        there: String,
    },
    /// No node has the label over which steps are to be spread.
    #[error(
        "no node has the label `{}` to spread over; {}",
        label.escape_debug(),
        if there.is_empty() { "none has a label".to_owned() } else { format!("there are {there}") }
    )]
    NoDomains {
        /// The label.
        label: String,
        /// What labels the nodes have.
        there: String,
    },
    /// A node that is alone has no labels.
    #[error("it is to run on nodes with {on}, and this node is in no fleet and has no labels")]
    NoFleet {
        /// What was asked for.
        on: String,
    },
    /// A call under the same request name has just begun it.
    #[error("an earlier call with this request id began rollout {0}")]
    Begun(RolloutId),
    /// The release to go back to could not serve: what served goes on serving.
    #[error("{module} did not go back to release {to}: {why}")]
    NotGoneBack { module: ModuleName, to: ReleaseNumber, why: String },
    /// The module has no rollout.
    #[error("no rollout of {0} runs")]
    NothingRuns(String),
    /// There is nothing to go back to.
    #[error("{module} has nothing to return to: {why}")]
    NothingToReturnTo { module: ModuleName, why: String },
    /// The module does not exist.
    #[error("no module is named {0}")]
    NoModule(ModuleName),
    /// So many wait that one more is not taken.
    #[error("many rollouts wait already for those that they supersede")]
    TooManyWait,
    /// It could not be read or kept: nothing has changed.
    #[error("{why}")]
    Store {
        why: String,
        /// The disk is full.
        full: bool,
    },
    /// It has taken effect here but is not on disk.
    #[error("rollout {rollout} goes that way here, but that can't be written down: {why}")]
    NotDurable {
        rollout: RolloutId,
        why: String,
        /// The disk is full.
        full: bool,
    },
    /// What is stable changed while the leader was asked.
    #[error(
        "something else of {module} became stable while the leader was asked, which has not answered: the fleet may go back already, \
         and this node did nothing alone"
    )]
    MovedMeanwhile { module: ModuleName },
    /// Nobody but this node knows of it, and so nothing was done.
    #[error("the fleet can't be told: {why}")]
    Untold { why: String },
    /// This node went back alone, and that is not on disk.
    #[error("{module} went back on this node alone, but that can't be written down: {why}")]
    AloneNotDurable {
        module: ModuleName,
        why: String,
        /// The disk is full.
        full: bool,
    },
    /// It does not end.
    #[error("rollout {0} has not gone back yet")]
    StillRuns(RolloutId),
    /// Nothing is in its way, and yet it is not done: a disk that hangs, as a rule.
    #[error("this node has not done it within {} s; it goes on with it", hot_proto::WAY_BACK_WITHIN.as_secs())]
    NotInTime,
    /// Another node leads the fleet, or none.
    #[error("{}", not_leader(leader.as_ref(), unheard.as_deref()))]
    NotLeader {
        /// Who does.
        leader: Option<Node>,
        /// Why this node does not hear its fleet, where it does not.
        unheard: Option<String>,
    },
    /// The node shuts down.
    #[error("this node is shutting down")]
    ShuttingDown,
}

impl Refusal {
    /// Another node leads, as far as this one knows.
    pub(crate) fn not_leader(cluster: &Cluster) -> Self {
        Self::NotLeader { leader: cluster.leader(), unheard: cluster.unheard() }
    }
}

fn not_leader(leader: Option<&Node>, unheard: Option<&str>) -> String {
    match (unheard, leader) {
        (Some(why), _) => format!("this node does not hear its fleet: {why}"),
        (None, Some(leader)) => format!("{leader} leads the fleet, and this node does not"),
        (None, None) => "no node leads the fleet now, so nothing can be rolled out".to_owned(),
    }
}

/// The refusal of what the cluster could not read or keep.
pub(super) fn unkept(error: &ClusterError) -> Refusal {
    if error.is_out_of_reach() { Refusal::Untold { why: crate::describe(error) } } else { stored(error) }
}

/// The refusal of what the store could not read or keep.
pub(super) fn stored(error: &(dyn std::error::Error + 'static)) -> Refusal {
    let (why, full) = crate::grpc::disk(error);
    Refusal::Store { why, full }
}
