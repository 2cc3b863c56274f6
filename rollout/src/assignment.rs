//! What one node is to run for one module, and what it does by itself when nobody speaks to it any more.

use serde::{Deserialize, Serialize};

use crate::ident::{Module, ReleaseNumber, Revision, RolloutId};
use crate::policy::Policy;
use crate::units::{Millis, Share, Weight};

/// What a node is to run for a module.
///
/// How a node obeys:
/// - It takes the assignment with the highest revision and keeps it in a file of its own. The same revision again
///   changes nothing.
/// - An instance gets traffic only once it is ready. Until the stable release of an assignment is ready, what served
///   before goes on serving: an assignment never leaves a gap.
/// - For every revision it reports `Applied` when the gateway picks by [`Assignment::weights`]: a candidate
///   that has weight is ready, and so is stable, or it failed and is tried again by and by.
/// - What it took back for a broken limit stays back: it does not obey another assignment of the same rollout with that
///   candidate, but reports `TookBack` once more. What only expired may be given to it again.
/// - It asks [`crate::guard::judge`] and moves toward stable by itself, to [`Assignment::without_candidate`]; never
///   away from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Of which module.
    pub module: Module,
    /// Orders the assignments of this module.
    pub revision: Revision,
    /// The rollout that gave it.
    pub rollout: RolloutId,
    /// What the fleet serves; `None` while a first release is tried, and after it failed.
    pub stable: Option<ReleaseNumber>,
    /// What is tried beside it on this node.
    pub candidate: Option<Candidate>,
    /// What is kept running without traffic.
    pub standby: Option<Standby>,
}

/// A release that is tried on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Which release.
    pub release: ReleaseNumber,
    /// Its part of this node's traffic; 0 means start it and check it.
    pub weight: Weight,
    /// When the node takes it back by itself.
    pub limits: FastLimits,
    /// How long the node goes on with it without a renewal, on the node's own clock; no restart prolongs it.
    pub expiry: Millis,
}

/// A release that is kept running with weight 0 for an instant way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standby {
    /// Which release.
    pub release: ReleaseNumber,
    /// For how long after the node applied the assignment.
    pub keep: Millis,
}

/// What makes a node take a candidate back without asking anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FastLimits {
    /// Ends of its instances (crash, exit, hang, failed start) that are allowed.
    pub ends: u32,
    /// Failed health checks in a row that are too many.
    pub health_failures: u32,
    /// The share of errors that is too much.
    pub error_rate: Share,
    /// From how many requests on the share of errors counts.
    pub min_requests: u64,
    /// From the command to start an instance to its being ready.
    pub start_deadline: Millis,
    /// Between two health checks.
    pub health_interval: Millis,
    /// From how long on a request that is not answered counts as failed where stable answers within that time.
    #[serde(default = "hung_after")]
    pub hung_after: Millis,
}

/// Long enough for a stall of the whole machine to pass, and far below the deadline of a request (30 s).
fn hung_after() -> Millis {
    Millis::seconds(5)
}

impl FastLimits {
    /// The fast limits of a policy.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        let spec = policy.spec();
        Self {
            ends: 0,
            health_failures: spec.health_threshold,
            error_rate: spec.error_cap,
            min_requests: spec.min_requests,
            start_deadline: spec.start_deadline,
            health_interval: spec.health_interval,
            hung_after: hung_after(),
        }
    }
}

/// What a release is to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// What the fleet serves.
    Stable,
    /// What is tried.
    Candidate,
    /// What is kept for the way back.
    Standby,
}

impl Assignment {
    /// Every release that is to run, with its role and weight. The weights sum up to 10,000 basis points, or to 0
    /// where nothing serves yet: a first release that is still being checked.
    #[must_use]
    pub fn weights(&self) -> Vec<(ReleaseNumber, Role, Weight)> {
        let candidate = self.candidate.as_ref();
        let given = candidate.map_or(Weight::ZERO, |candidate| candidate.weight);
        let stable = self.stable.map(|release| (release, Role::Stable, given.rest()));
        let candidate = candidate.map(|candidate| (candidate.release, Role::Candidate, given));
        let standby = self.standby.map(|standby| (standby.release, Role::Standby, Weight::ZERO));
        stable.into_iter().chain(candidate).chain(standby).collect()
    }

    /// The same without its candidate: where a node goes by itself. The revision stays, so that any later word of the
    /// driver still counts.
    #[must_use]
    pub fn without_candidate(&self) -> Self {
        Self { candidate: None, ..self.clone() }
    }
}
