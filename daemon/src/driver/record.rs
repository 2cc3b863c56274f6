//! A rollout as the driver keeps it: the machine's snapshot, and beside it what only people ask for.

use hot_rollout::{DecodeError, Outcome, PhaseName, Rollout, RolloutId, Status, Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What people ask of a rollout and the machine need not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// The caller's intention, so that the same call again is the same rollout; empty: none.
    #[serde(default)]
    pub request: String,
    /// What that call asked for, so that another call under the same name is noticed.
    #[serde(default)]
    pub asked: String,
    /// The request name of the rollback that aborted it; empty: none.
    #[serde(default)]
    pub aborting_request: String,
    /// Why, as the caller said.
    #[serde(default)]
    pub message: String,
    /// When something about it changed last.
    pub updated: Time,
    /// When it ended.
    #[serde(default)]
    pub ended: Option<Time>,
    /// How it ended.
    #[serde(default)]
    pub outcome: Option<Outcome>,
}

/// A rollout with its meta: what is stored. A newer `hotd` may add members; this one ignores those it does not know.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    meta: Meta,
    machine: Value,
}

/// A rollout that runs or ran.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub meta: Meta,
    pub machine: Rollout,
}

/// A rollout at one moment, for those who ask.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    pub meta: Meta,
    pub status: Status,
    /// Where it was paused, while it is.
    pub paused_in: Option<PhaseName>,
    /// Releases that it moves, whether or not it is over.
    pub spec: hot_rollout::machine::Spec,
    pub steps: Vec<hot_rollout::Step>,
}

/// Why a stored rollout can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// It is no record of a rollout.
    #[error("the record of a rollout can't be read")]
    Malformed(#[from] serde_json::Error),
    /// The machine's part is not for this version.
    #[error(transparent)]
    Snapshot(#[from] DecodeError),
}

impl Record {
    pub(super) fn encode(&self) -> Result<Value, serde_json::Error> {
        let machine = serde_json::from_slice(&self.machine.encode()?)?;
        serde_json::to_value(Stored { meta: self.meta.clone(), machine })
    }

    pub(crate) fn decode(value: Value) -> Result<Self, RecordError> {
        let Stored { meta, machine } = serde_json::from_value(value)?;
        let machine = Rollout::decode(&serde_json::to_vec(&machine)?)?;
        Ok(Self { meta, machine })
    }

    pub(crate) fn id(&self) -> &RolloutId {
        &self.machine.spec().id
    }

    pub(crate) fn view(&self) -> View {
        View {
            meta: self.meta.clone(),
            status: self.machine.status(),
            paused_in: self.machine.paused().map(|_| self.machine.phase().name()),
            spec: self.machine.spec().clone(),
            steps: self.machine.steps().to_vec(),
        }
    }
}
