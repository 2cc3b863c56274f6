//! What is kept under each key, as types and as JSON. Members are only added, and those that are not known are left out.
//!
//! What does not parse is a [`Malformed`] and nothing else: who reads it says so and goes on without it.

use std::collections::BTreeMap;

use hot_artifact::{Sha256, Target, Version};
use hot_rollout::{Assignment, Direction, Event, Labels, Module, Node, ReleaseNumber, Revision};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::{Quarantine, Release, VersionRecord};

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeValue {
    /// What it runs.
    pub target: Target,
    /// What its operator says of it, e.g. `zone = "a"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
    /// Where other nodes call it: a URL.
    pub grpc: String,
    /// Where users call it.
    pub http: String,
    /// Semver of its hotd.
    pub hotd: String,
    /// Since when that runs.
    pub since: u64,
}

/// That a node is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliveValue {
    /// Since when its hotd runs: another one has begun since, where this differs.
    pub since: u64,
    /// Names the data folder that it has on its machine: a hotd with another one is another node, whatever its name is.
    /// Empty: one of before has not said it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub home: String,
}

/// Who keeps a node out of rollouts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CordonValue {
    /// Who.
    pub by: String,
    /// Since when.
    pub at: u64,
    /// Why; may be empty.
    #[serde(default)]
    pub reason: String,
    /// It tells load balancers to go away, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drain: bool,
}

/// What the fleet knows of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleValue {
    /// The releases that were named stable and not taken back since, oldest first; the last one is stable.
    #[serde(default)]
    pub served: Vec<u64>,
    /// Digests that failed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quarantine: BTreeMap<Sha256, Quarantine>,
    /// Versions below it are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Version>,
}

/// A numbered release. Each target has an artifact of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseValue {
    /// The version that it runs.
    pub version: Version,
    /// The artifact of that version for each target.
    pub digests: BTreeMap<Target, Sha256>,
    /// Names the bytes of its config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Sha256>,
    /// When it was made.
    pub at: u64,
    /// Who asked for it.
    pub by: String,
    /// Why; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The labels that a node must have to run it, all of them; empty: every node does.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub on: Labels,
}

/// What a version is for a target, and who took it in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionValue {
    /// What is known of its artifact.
    pub record: VersionRecord,
    /// The node that has it first.
    pub node: Node,
    /// That a person removed it; nobody runs it from then on. The only member that is ever written anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<RemovedValue>,
}

/// That a person removed a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedValue {
    /// Who.
    pub by: String,
    /// When.
    pub at: u64,
}

/// A rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutValue {
    /// The request that began it; empty: none.
    #[serde(default)]
    pub request: String,
    /// It is over: kept for those who ask.
    #[serde(default)]
    pub ended: bool,
    /// The driver's record, opaque here.
    pub snapshot: Value,
}

/// Up to which revision the assignments of a rollout are renewed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalValue {
    /// Of these modules.
    pub modules: Vec<Module>,
    /// Up to here.
    pub revision: Revision,
}

/// What a node is to do for a module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentValue {
    /// The leader's epoch.
    pub epoch: i64,
    /// The release that it is to get ready for: fetch, verify, run nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepare: Option<ReleaseNumber>,
    /// What it is to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<Given>,
}

/// An assignment, and which way it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// What the node is to run.
    pub assignment: Assignment,
    /// Which way that goes.
    pub direction: Direction,
}

/// What a node says of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportValue {
    /// What came of getting ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared: Option<Prepared>,
    /// What is so, in the order in which it is to be told.
    #[serde(default)]
    pub states: Vec<Event>,
    /// Instances that failed, numbered from the start of the node's hotd.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<(u64, Event)>,
}

/// What came of getting ready for a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// Which.
    pub release: ReleaseNumber,
    /// Why the node can't run it; none: it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Counted from the start of the node's hotd: the same answer to the same question, asked again, is another one.
    #[serde(default)]
    pub answer: u64,
}

/// A value that is not what its key says.
#[derive(Debug, thiserror::Error)]
#[error("the value of {key} is not in the form that it must have")]
pub struct Malformed {
    /// Its key.
    pub key: String,
    /// What is wrong with it.
    pub source: serde_json::Error,
}

/// Reads a value.
///
/// # Errors
/// It is none of this type.
pub fn parse<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(value)
        .map_err(|source| Malformed { key: String::from_utf8_lossy(key).into_owned(), source })
}

/// Writes a value. What is in these types can always be written.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

impl AssignmentValue {
    /// The revision of what the node is to run; 0: it was told nothing yet.
    pub(super) fn revision(&self) -> Revision {
        self.given.as_ref().map_or(Revision(0), |given| given.assignment.revision)
    }
}

impl VersionValue {
    /// Whether this is what `there` is once somebody removed it.
    #[must_use]
    pub fn removes(&self, there: &Self) -> bool {
        there.removed.is_none()
            && self.removed.is_some()
            && Self { removed: self.removed.clone(), ..there.clone() } == *self
    }
}

impl ReleaseValue {
    /// This release on a node that runs modules of `target`: the one for its own C library where several would do. None,
    /// where it has no artifact for such a node.
    #[must_use]
    pub fn on(&self, number: u64, target: Target) -> Option<Release> {
        let best = Target::best_for(self.digests.keys().copied(), target)?;
        Some(Release {
            number,
            version: self.version.clone(),
            digest: *self.digests.get(&best)?,
            config: self.config,
            at: self.at,
            by: self.by.clone(),
            message: self.message.clone(),
            on: self.on.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in etcd outlives every hotd: what this version reads of it, all later ones do.
    #[test]
    fn the_values_of_version_1() {
        let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let texts = [
            ("node", r#"{"target":"x86_64-gnu","labels":{"zone":"a"},"grpc":"https://10.0.0.1:7443","http":"10.0.0.1:80","hotd":"0.1.0","since":1}"#.to_owned()),
            ("module", format!(r#"{{"served":[1,2],"quarantine":{{"{digest}":{{"at":1,"reason":"crashed"}}}},"floor":"1.0.0"}}"#)),
            ("release", format!(r#"{{"version":"1.2.0","digests":{{"x86_64-gnu":"{digest}"}},"config":"{digest}","at":1,"by":"ann","message":"why","on":{{"zone":"a"}}}}"#)),
            ("assignment", r#"{"epoch":7,"prepare":3,"given":{"assignment":{"module":"greeter","revision":1,"rollout":"r1","stable":2,"candidate":null,"standby":null},"direction":"onward"}}"#.to_owned()),
            ("renewal", r#"{"modules":["greeter"],"revision":4}"#.to_owned()),
            ("report", r#"{"prepared":{"release":3,"answer":1},"states":[{"applied":{"node":"a","module":"greeter","revision":4,"serves":true}}]}"#.to_owned()),
        ];
        fn again<T: DeserializeOwned + Serialize>(text: &str) -> String {
            String::from_utf8(encode(&parse::<T>(b"k", text.as_bytes()).unwrap())).unwrap()
        }
        for (kind, text) in &texts {
            let again = match *kind {
                "node" => again::<NodeValue>(text),
                "module" => again::<ModuleValue>(text),
                "release" => again::<ReleaseValue>(text),
                "assignment" => again::<AssignmentValue>(text),
                "renewal" => again::<RenewalValue>(text),
                _ => again::<ReportValue>(text),
            };
            assert_eq!(again, *text, "{kind}");
        }
    }

    #[test]
    fn what_does_not_parse_names_its_key() {
        for bad in [&b"{"[..], b"[]", b"null", b"\xff", br#"{"served":-1}"#] {
            let error =
                parse::<ModuleValue>(b"hot/v1/fleet/modules/greeter", bad).map_err(|it| it.to_string());
            if bad == b"[]" {
                // serde takes a sequence for a struct; it is empty, and so is what it says.
                continue;
            }
            let error = error.unwrap_err();
            assert!(error.contains("hot/v1/fleet/modules/greeter"), "{error}");
        }
    }

    #[test]
    fn a_release_is_what_the_node_can_run() {
        let (gnu, musl) = (Sha256::of(b"gnu"), Sha256::of(b"musl"));
        let value = ReleaseValue {
            version: "1.2.0".parse().unwrap(),
            digests: [("x86_64-gnu".parse().unwrap(), gnu), ("x86_64-musl".parse().unwrap(), musl)].into(),
            config: None,
            at: 1,
            by: "ann".to_owned(),
            message: String::new(),
            on: Labels::new(),
        };
        let on = |target: &str| Some(value.on(3, target.parse().unwrap())?.digest);
        assert_eq!(on("x86_64-gnu"), Some(gnu));
        assert_eq!(on("x86_64-musl"), Some(musl));
        assert_eq!(on("aarch64-gnu"), None);
    }
}
