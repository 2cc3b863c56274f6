//! What is kept, as types. The rules that bind them (a digest is written once, a release number is never used twice)
//! are in `modules` and `artifacts`; what an assignment or a rollout's snapshot means is not known here.
//!
//! Members that this version does not know are kept in a module's record (`other`), so that an older `hotd` does not
//! destroy what a newer one wrote, and ignored everywhere else.

use std::collections::BTreeMap;

use hot_artifact::{ModuleName, Sha256, Target, Version};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::names::RolloutId;

/// Milliseconds since 1970 UTC, as the caller's clock says: the store has no clock of its own for records.
pub type UnixMillis = u64;

/// Stable releases of a module that are remembered as a way back.
const MAX_SERVED: usize = 50;

/// All that can't be rebuilt about one module: the content of `modules/<name>.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModuleRecord {
    /// The assignment that this node obeys; opaque here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<Value>,
    /// Versions below it are refused by those who check; the store only keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Version>,
    /// Digests that failed and are not to run again unless a person says so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quarantine: BTreeMap<Sha256, Quarantine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) served: Vec<u64>,
    #[serde(default)]
    pub(super) last_release: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) releases: BTreeMap<u64, Release>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) versions: BTreeMap<Version, BTreeMap<Target, Stored>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tombstones: BTreeMap<Version, Tombstone>,
    #[serde(flatten)]
    pub(super) other: Map<String, Value>,
}

impl ModuleRecord {
    /// The number that was given last; 0 if there was no release yet.
    #[must_use]
    pub const fn last_release(&self) -> u64 {
        self.last_release
    }

    /// The releases that were named stable and not taken back since, oldest first; the last one is stable.
    #[must_use]
    pub fn served(&self) -> &[u64] {
        &self.served
    }

    /// Names the stable release. One that was stable before is gone back to: those after it are forgotten. `None`:
    /// nothing is stable. Of the older ones a bounded number is remembered.
    pub fn set_stable(&mut self, release: Option<u64>) {
        let Some(release) = release else { return self.served.clear() };
        match self.served.iter().position(|served| *served == release) {
            Some(at) => self.served.truncate(at + 1),
            None => self.served.push(release),
        }
        let over = self.served.len().saturating_sub(MAX_SERVED);
        self.served.drain(..over);
    }

    /// Takes over what was named stable elsewhere, oldest first.
    pub fn set_served(&mut self, served: &[u64]) {
        self.served = served[served.len().saturating_sub(MAX_SERVED)..].to_vec();
    }

    /// The releases that can still be gone back to, by number. Older ones are in the history only.
    #[must_use]
    pub const fn releases(&self) -> &BTreeMap<u64, Release> {
        &self.releases
    }

    /// The versions that are stored, each with its digest for every target.
    #[must_use]
    pub const fn versions(&self) -> &BTreeMap<Version, BTreeMap<Target, Stored>> {
        &self.versions
    }

    /// The versions that were removed.
    #[must_use]
    pub const fn tombstones(&self) -> &BTreeMap<Version, Tombstone> {
        &self.tombstones
    }

    /// Whether a person removed a version, of which nothing is left, and what it was for `target` is known.
    #[must_use]
    pub fn has_removed(&self, version: &Version, target: Target) -> bool {
        let known = self.tombstones.get(version).is_some_and(|tombstone| {
            matches!(tombstone.why, Removal::Removed { .. }) && tombstone.digests.contains_key(&target)
        });
        known && !self.versions.contains_key(version)
    }

    /// The digest that (version, target) was bound to, stored or removed.
    #[must_use]
    pub fn bound(&self, version: &Version, target: Target) -> Option<Sha256> {
        let stored = self.versions.get(version).and_then(|targets| targets.get(&target)).map(|s| s.digest);
        stored.or_else(|| self.tombstones.get(version).and_then(|t| t.digests.get(&target)).copied())
    }
}

/// A version's artifact for one target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stored {
    /// Names the artifact.
    pub digest: Sha256,
    /// When it was committed.
    pub at: UnixMillis,
}

/// A version with its config, numbered per module from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Unique and growing within the module; numbers may be left out.
    pub number: u64,
    /// The version that it runs.
    pub version: Version,
    /// The artifact of that version.
    pub digest: Sha256,
    /// Names the bytes of its config ([`super::Store::config`]); none: no config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Sha256>,
    /// When it was made.
    pub at: UnixMillis,
    /// Who asked for it.
    pub by: String,
    /// Why, in the words of whoever asked; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The labels that a node must have to run it, all of them; empty: every node does.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub on: BTreeMap<String, String>,
}

/// A release that has no number yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRelease {
    /// The version that it runs.
    pub version: Version,
    /// The artifact of that version; must be stored.
    pub digest: Sha256,
    /// Its config, at most [`super::MAX_CONFIG`] bytes.
    pub config: Option<Vec<u8>>,
    /// When it was asked for.
    pub at: UnixMillis,
    /// Who asked for it.
    pub by: String,
    /// Why; at most [`super::MAX_TEXT`] bytes.
    pub message: String,
    /// The labels that a node must have to run it, all of them; empty: every node does.
    pub on: BTreeMap<String, String>,
}

/// A version that is gone. What it was bound to stays bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The digest of each target.
    pub digests: BTreeMap<Target, Sha256>,
    /// When it was removed.
    pub at: UnixMillis,
    /// Whether it may come back.
    pub why: Removal,
}

/// How a version went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "how")]
pub enum Removal {
    /// It was beyond the number of versions to keep. The same digest may be pushed again.
    Collected,
    /// Somebody removed it. It is refused from then on.
    Removed {
        /// Who.
        by: String,
        /// Why; may be empty.
        reason: String,
    },
}

/// Why a digest is not to run again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Since when.
    pub at: UnixMillis,
    /// The reason that its rollout ended with.
    pub reason: String,
}

/// What is known of an artifact: the content of `artifacts/<digest>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// Name of the module, as its metadata says.
    pub module: ModuleName,
    /// Version, as its metadata says.
    pub version: Version,
    /// What it was built for.
    pub target: Target,
    /// SHA-256 of the file.
    pub digest: Sha256,
    /// Bytes of the file.
    pub size: u64,
    /// Its metadata, TOML.
    pub metadata: String,
    /// Whose signature it is.
    pub principal: String,
    /// SSHSIG of the file, armoured.
    pub signature: String,
    /// When it was committed.
    pub at: UnixMillis,
    /// Who uploaded it.
    pub by: String,
}

/// A rollout as the store keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// Names it.
    pub id: RolloutId,
    /// The request that started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<super::RequestId>,
    /// The machine's versioned snapshot; opaque here.
    pub snapshot: Value,
}

/// One thing that happened, for people: history, never truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: UnixMillis,
    /// Which module it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<ModuleName>,
    /// Which rollout it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutId>,
    /// What kind, e.g. `rollout_step`.
    pub kind: String,
    /// One sentence.
    pub text: String,
    /// Figures and names for programs.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
}

/// An event and its place. Numbers grow and are never used twice, though some are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequenced {
    /// Its number.
    pub seq: u64,
    /// What happened.
    pub event: Event,
}
