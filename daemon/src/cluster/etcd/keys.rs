//! Where things are in etcd: the layout of the keys, and nothing of the values.
//!
//! A key is the prefix of the fleet, the version of the layout, and the names of what it is about, with `/` between; none
//! of these names can have a `/`. Below `fleet/` is what every node watches, so that must be little and change seldom. The
//! other folders are watched by the one node that they are about, by the leader, or by nobody.

use std::fmt;

use hot_artifact::{ModuleName, Sha256, Target, Version};
use hot_rollout::{Node, RolloutId};

/// The version of the layout. Within it keys and members of values are only added; a layout that an older `hotd` would
/// misread gets another number, and both are served side by side as long as both kinds of nodes are there.
pub const LAYOUT: &str = "v1";

/// Digits of a release's number: they are listed in the order of their numbers.
const DIGITS: usize = 10;

/// The keys of one fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// `PREFIX/v1/`.
    root: String,
}

/// What a key is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Who leads; with the leader's lease.
    Leader,
    /// What a node says of itself; it stays when the node goes.
    Node(Node),
    /// That a node is there; with its lease.
    Alive(Node),
    /// Who keeps a node out of rollouts.
    Cordon(Node),
    /// That a person went back on a node alone; it stays when the node goes.
    LocalRollback(Node, ModuleName),
    /// What is stable of a module, and what may not run.
    Module(ModuleName),
    /// A numbered release, written once.
    Release(ModuleName, u64),
    /// What a version is for a target, written once.
    Version(ModuleName, Version, Target),
    /// The snapshot of a rollout.
    Rollout(RolloutId),
    /// Up to which revision the assignments of a rollout are renewed.
    Renewal(RolloutId),
    /// What a node is to run of a module.
    Assignment(Node, ModuleName),
    /// What a node says of a module; with its lease.
    Report(ModuleName, Node),
    /// That a node has an artifact; with its lease.
    Holder(Sha256, Node),
}

/// Keys that are read or watched together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Folder {
    /// What every node watches.
    Fleet,
    /// The renewals of all rollouts, which every node watches, too.
    Renewals,
    /// What one node is to run.
    Assignments(Node),
    /// What all nodes are to run.
    AllAssignments,
    /// What nodes say of all modules.
    AllReports,
    /// The rollouts.
    Rollouts,
    /// The releases of a module.
    Releases(ModuleName),
    /// The versions of a module, or what one of them is for all targets.
    Versions(ModuleName, Option<Version>),
    /// Who has an artifact.
    Holders(Sha256),
}

impl Keys {
    /// The keys of the fleet with this prefix, which has no `/` at its ends.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self { root: format!("{prefix}/{LAYOUT}/") }
    }

    /// The name of a key in etcd.
    #[must_use]
    pub fn of(&self, key: &Key) -> String {
        format!("{}{key}", self.root)
    }

    /// What the names of all keys of a folder begin with.
    #[must_use]
    pub fn folder(&self, folder: &Folder) -> String {
        format!("{}{folder}", self.root)
    }

    /// What a name is about. `None`: a newer `hotd` or somebody else wrote it.
    #[must_use]
    pub fn parse(&self, name: &[u8]) -> Option<Key> {
        let path = std::str::from_utf8(name).ok()?.strip_prefix(&self.root)?;
        let parts: Vec<&str> = path.split('/').collect();
        let key = match *parts.as_slice() {
            ["fleet", "leader"] => Key::Leader,
            ["fleet", "nodes", node] => Key::Node(named(node)?),
            ["fleet", "alive", node] => Key::Alive(named(node)?),
            ["fleet", "cordons", node] => Key::Cordon(named(node)?),
            ["fleet", "rollbacks", node, module] => Key::LocalRollback(named(node)?, module.parse().ok()?),
            ["fleet", "modules", module] => Key::Module(module.parse().ok()?),
            ["fleet", "releases", module, number] if number.len() == DIGITS => {
                Key::Release(module.parse().ok()?, number.parse().ok()?)
            }
            ["fleet", "versions", module, version, target] => {
                Key::Version(module.parse().ok()?, version.parse().ok()?, target.parse().ok()?)
            }
            ["rollouts", id] => Key::Rollout(rollout(id)?),
            ["renewals", id] => Key::Renewal(rollout(id)?),
            ["assignments", node, module] => Key::Assignment(named(node)?, module.parse().ok()?),
            ["reports", module, node] => Key::Report(module.parse().ok()?, named(node)?),
            ["holders", digest, node] => Key::Holder(digest.parse().ok()?, named(node)?),
            _ => return None,
        };
        // Only the one way to write a key is that key.
        (self.of(&key).as_bytes() == name).then_some(key)
    }
}

/// A node's name out of a key: what the config takes for one.
fn named(node: &str) -> Option<Node> {
    crate::config::is_node_name(node).then(|| Node(node.to_owned()))
}

/// A rollout's name out of a key: what the store takes for one.
fn rollout(id: &str) -> Option<RolloutId> {
    let id: crate::store::RolloutId = id.parse().ok()?;
    Some(RolloutId(id.as_str().to_owned()))
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader => f.write_str("fleet/leader"),
            Self::Node(node) => write!(f, "fleet/nodes/{node}"),
            Self::Alive(node) => write!(f, "fleet/alive/{node}"),
            Self::Cordon(node) => write!(f, "fleet/cordons/{node}"),
            Self::LocalRollback(node, module) => write!(f, "fleet/rollbacks/{node}/{module}"),
            Self::Module(module) => write!(f, "fleet/modules/{module}"),
            Self::Release(module, number) => write!(f, "fleet/releases/{module}/{number:0DIGITS$}"),
            Self::Version(module, version, target) => {
                write!(f, "fleet/versions/{module}/{version}/{target}")
            }
            Self::Rollout(id) => write!(f, "rollouts/{id}"),
            Self::Renewal(id) => write!(f, "renewals/{id}"),
            Self::Assignment(node, module) => write!(f, "assignments/{node}/{module}"),
            Self::Report(module, node) => write!(f, "reports/{module}/{node}"),
            Self::Holder(digest, node) => write!(f, "holders/{digest}/{node}"),
        }
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fleet => f.write_str("fleet/"),
            Self::Renewals => f.write_str("renewals/"),
            Self::Assignments(node) => write!(f, "assignments/{node}/"),
            Self::AllAssignments => f.write_str("assignments/"),
            Self::AllReports => f.write_str("reports/"),
            Self::Rollouts => f.write_str("rollouts/"),
            Self::Releases(module) => write!(f, "fleet/releases/{module}/"),
            Self::Versions(module, None) => write!(f, "fleet/versions/{module}/"),
            Self::Versions(module, Some(version)) => write!(f, "fleet/versions/{module}/{version}/"),
            Self::Holders(digest) => write!(f, "holders/{digest}/"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<(Key, &'static str)> {
        let node = || Node("web-1.eu".to_owned());
        let module = || -> ModuleName { "greeter".parse().unwrap() };
        let digest = Sha256::of(b"");
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest.to_string(), empty);
        let target: Target = "x86_64-gnu".parse().unwrap();
        let id = || RolloutId("r1".to_owned());
        vec![
            (Key::Leader, "fleet/leader"),
            (Key::Node(node()), "fleet/nodes/web-1.eu"),
            (Key::Alive(node()), "fleet/alive/web-1.eu"),
            (Key::Cordon(node()), "fleet/cordons/web-1.eu"),
            (Key::LocalRollback(node(), module()), "fleet/rollbacks/web-1.eu/greeter"),
            (Key::Module(module()), "fleet/modules/greeter"),
            (Key::Release(module(), 12), "fleet/releases/greeter/0000000012"),
            (
                Key::Version(module(), "1.2.0-rc.1".parse().unwrap(), target),
                "fleet/versions/greeter/1.2.0-rc.1/x86_64-gnu",
            ),
            (Key::Rollout(id()), "rollouts/r1"),
            (Key::Renewal(id()), "renewals/r1"),
            (Key::Assignment(node(), module()), "assignments/web-1.eu/greeter"),
            (Key::Report(module(), node()), "reports/greeter/web-1.eu"),
            (
                Key::Holder(digest, node()),
                "holders/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/web-1.eu",
            ),
        ]
    }

    /// What is in etcd outlives every hotd: this list may only grow.
    #[test]
    fn the_layout_of_version_1() {
        let keys = Keys::new("hot");
        for (key, path) in all() {
            assert_eq!(keys.of(&key), format!("hot/v1/{path}"));
            assert_eq!(keys.parse(keys.of(&key).as_bytes()), Some(key));
        }
    }

    #[test]
    fn what_is_not_ours_is_no_key() {
        let keys = Keys::new("hot");
        for name in [
            "",
            "hot/v1/",
            "hot/v2/fleet/leader",
            "other/v1/fleet/leader",
            "hot/v1/fleet/leader/",
            "hot/v1/fleet/nodes/",
            "hot/v1/fleet/nodes/a/b",
            "hot/v1/fleet/nodes/-a",
            "hot/v1/fleet/modules/Greeter",
            "hot/v1/fleet/modules/..",
            "hot/v1/fleet/releases/greeter/12",
            "hot/v1/fleet/releases/greeter/+000000012",
            "hot/v1/fleet/releases/greeter/99999999999999999999",
            "hot/v1/fleet/releases/greeter/18446744073709551615",
            "hot/v1/fleet/versions/greeter/1.0/x86_64-gnu",
        ] {
            assert_eq!(keys.parse(name.as_bytes()), None, "{name}");
        }
        assert_eq!(keys.parse(b"hot/v1/fleet/nodes/\xff"), None);
    }

    #[test]
    fn a_folder_has_the_keys_that_are_watched_together() {
        let keys = Keys::new("a/b");
        let fleet = keys.folder(&Folder::Fleet);
        assert_eq!(fleet, "a/b/v1/fleet/");
        let watched = |path: &&str| format!("a/b/v1/{path}").starts_with(&fleet);
        let paths: Vec<&str> = all().into_iter().map(|(_, path)| path).collect();
        assert_eq!(paths.iter().filter(|path| watched(path)).count(), 8);
        // What one node is told does not begin with what a node of a shorter name is told.
        let node = |name: &str| keys.folder(&Folder::Assignments(Node(name.to_owned())));
        assert!(!node("web-10").starts_with(&node("web-1")));
    }
}
