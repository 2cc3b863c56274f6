//! What the node obeys for a module, as it is kept in the module's own file.

use hot_rollout::{Assignment, Cause, ReleaseNumber, Revision};

use crate::store::ModuleRecord;

/// What the node obeys for a module. Daemons before a member ignore it, and leave it out; of a cause that only a newer one
/// knows see [`hot_rollout::Foreign`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Obeyed {
    /// The assignment.
    pub assignment: Assignment,
    /// That the node took a candidate back which this assignment's rollout gave to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_back: Option<TookBack>,
    /// What served as stable before, as long as the assignment's stable has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stands_in: Option<ReleaseNumber>,
    /// The revision of etcd that wrote the assignment; none: this node's own driver gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<i64>,
    /// That a person went back on this node alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalRollback>,
    /// A word of the fleet was not taken for that, and none has been since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passed_over: bool,
}

/// The node took its candidate back by itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TookBack {
    /// Out of which assignment.
    pub revision: Revision,
    /// Which release; a daemon before this member did not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseNumber>,
    /// Why.
    pub cause: Cause,
}

/// A person went back on this node alone, while its fleet could not be told. It stands until the fleet goes the same way,
/// or somebody lifts it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LocalRollback {
    /// What traffic left.
    pub from: ReleaseNumber,
    /// That was only being tried.
    #[serde(default)]
    pub tried: bool,
    /// Where traffic went.
    pub to: ReleaseNumber,
    /// Who.
    pub by: String,
    /// When, milliseconds since 1970.
    pub at: u64,
    /// Why; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Obeyed {
    /// An assignment that is obeyed as it was given by this node's own driver.
    #[must_use]
    pub const fn whole(assignment: Assignment) -> Self {
        Self { assignment, took_back: None, stands_in: None, written: None, local: None, passed_over: false }
    }
}

impl LocalRollback {
    /// Whether an assignment goes the same way: it serves what the person went back to, and does not try what the person
    /// went away from.
    #[must_use]
    pub fn allows(&self, assignment: &Assignment) -> bool {
        let tries = assignment.candidate.as_ref().map(|candidate| candidate.release);
        assignment.stable == Some(self.to) && tries != Some(self.from)
    }
}

pub(super) fn obeyed(record: &ModuleRecord) -> Option<Obeyed> {
    let value = record.assignment.clone()?;
    match serde_json::from_value::<Obeyed>(value) {
        Ok(obeyed) => Some(obeyed),
        Err(error) => {
            tracing::error!(%error, "an assignment that was accepted can't be read and is ignored");
            None
        }
    }
}
