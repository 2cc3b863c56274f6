//! What the fleet shares, as far as this node has heard: pure bookkeeping of what a watch tells.

use std::collections::{BTreeMap, BTreeSet};

use hot_artifact::{ModuleName, Target, Version};
use hot_rollout::{Event, Labels, Left, Module, Node};

use super::values::{
    AliveValue, CordonValue, Malformed, ModuleValue, NodeValue, ReleaseValue, VersionValue, parse,
};
use crate::cluster::etcd::{Found, Key, Keys, Leader};
use crate::ledger::LocalRollback;

/// Keys that are remembered as wrong. More are only counted.
const MAX_WRONG: usize = 64;

/// What a node knows of its fleet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Every node that ever joined and did not leave.
    pub nodes: BTreeMap<Node, NodeValue>,
    /// Those that are there.
    pub alive: BTreeMap<Node, AliveValue>,
    /// Those that are kept out of rollouts.
    pub cordons: BTreeMap<Node, CordonValue>,
    /// Where a person went back on a node alone.
    pub local: BTreeMap<(Node, ModuleName), LocalRollback>,
    /// Who leads, and its epoch.
    pub leader: Option<(Node, i64)>,
    /// What the fleet knows of each module.
    pub modules: BTreeMap<ModuleName, ModuleValue>,
    /// Every release.
    pub releases: BTreeMap<(ModuleName, u64), ReleaseValue>,
    /// Every version that can be fetched.
    pub versions: BTreeMap<(ModuleName, Version, Target), VersionValue>,
    /// Values that are not what they should be, by their keys, with what is wrong.
    pub wrong: BTreeMap<String, String>,
}

/// What a word of the watch changed, for those who act on it.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A node came, went, is back with another hotd, says something else of itself, is kept out or not, or was rolled back
    /// alone or is not any more.
    Node(Node),
    /// Somebody leads, or nobody does.
    Leader,
    /// Something else is known of a module.
    Module(ModuleName),
    /// There is a new release.
    Release(ModuleName, u64),
    /// There is a new version for a target, or it was removed.
    Version(ModuleName, Version, Target),
    /// A value is not what its key says; it is left out.
    Wrong(String),
}

impl State {
    /// Takes in that a key has a value. `None`: that is no news, or not ours.
    pub fn put(&mut self, keys: &Keys, found: &Found) -> Option<Change> {
        let key = keys.parse(&found.key)?;
        let name = keys.of(&key);
        match self.take(key, found) {
            Ok(change) => {
                self.wrong.remove(&name);
                change
            }
            Err(malformed) => {
                let text = crate::describe(&malformed);
                if self.wrong.len() < MAX_WRONG {
                    self.wrong.insert(name, text.clone());
                }
                Some(Change::Wrong(text))
            }
        }
    }

    fn take(&mut self, key: Key, found: &Found) -> Result<Option<Change>, Malformed> {
        let (name, value) = (&found.key, &found.value);
        Ok(match key {
            Key::Node(node) => set(&mut self.nodes, node.clone(), parse(name, value)?, Change::Node(node)),
            Key::Alive(node) => set(&mut self.alive, node.clone(), parse(name, value)?, Change::Node(node)),
            Key::Cordon(node) => {
                set(&mut self.cordons, node.clone(), parse(name, value)?, Change::Node(node))
            }
            Key::LocalRollback(node, module) => {
                let change = Change::Node(node.clone());
                set(&mut self.local, (node, module), parse(name, value)?, change)
            }
            Key::Leader => {
                let Leader { node } = parse(name, value)?;
                // Without a lease it is of nobody who leads.
                let leader = (found.lease != 0).then_some((node, found.created));
                (std::mem::replace(&mut self.leader, leader.clone()) != leader).then_some(Change::Leader)
            }
            Key::Module(module) => {
                set(&mut self.modules, module.clone(), parse(name, value)?, Change::Module(module))
            }
            // Written once: what is known already is not changed by another value.
            Key::Release(module, number) => {
                let value: ReleaseValue = parse(name, value)?;
                let id = (module.clone(), number);
                once(&mut self.releases, id, value, &keys_text(name), Change::Release(module, number))
            }
            Key::Version(module, version, target) => {
                let value: VersionValue = parse(name, value)?;
                let id = (module.clone(), version.clone(), target);
                let change = Change::Version(module, version, target);
                if self.versions.get(&id).is_some_and(|there| value.removes(there)) {
                    self.versions.insert(id, value);
                    return Ok(Some(change));
                }
                once(&mut self.versions, id, value, &keys_text(name), change)
            }
            Key::Rollout(_) | Key::Renewal(_) | Key::Assignment(..) | Key::Report(..) | Key::Holder(..) => {
                None
            }
        })
    }

    /// Takes in that a key is gone.
    pub fn gone(&mut self, keys: &Keys, name: &[u8]) -> Option<Change> {
        let key = keys.parse(name)?;
        self.wrong.remove(&keys.of(&key));
        match key {
            Key::Node(node) => self.nodes.remove(&node).map(|_| Change::Node(node)),
            Key::Alive(node) => self.alive.remove(&node).map(|_| Change::Node(node)),
            Key::Cordon(node) => self.cordons.remove(&node).map(|_| Change::Node(node)),
            Key::LocalRollback(node, module) => {
                self.local.remove(&(node.clone(), module)).map(|_| Change::Node(node))
            }
            Key::Leader => self.leader.take().map(|_| Change::Leader),
            Key::Version(module, version, target) => {
                self.versions.remove(&(module, version, target));
                None
            }
            // Each node has it on record: what is gone in etcd is no order to forget it.
            Key::Release(module, number) => {
                self.releases.remove(&(module, number));
                None
            }
            Key::Module(_)
            | Key::Rollout(_)
            | Key::Renewal(_)
            | Key::Assignment(..)
            | Key::Report(..)
            | Key::Holder(..) => None,
        }
    }

    /// The nodes that rollouts may use, whether or not they are there.
    #[must_use]
    pub fn usable(&self) -> BTreeSet<Node> {
        self.nodes.keys().filter(|node| !self.cordons.contains_key(*node)).cloned().collect()
    }

    /// Why a node is none of them.
    #[must_use]
    pub fn why_left(&self, node: &Node) -> Left {
        if self.nodes.contains_key(node) { Left::Cordoned } else { Left::Fleet }
    }

    /// The nodes that are there.
    #[must_use]
    pub fn is_up(&self, node: &Node) -> bool {
        self.alive.contains_key(node)
    }

    /// Where a person went back on this node alone, and who.
    pub fn local_rollbacks(&self, node: &Node) -> impl Iterator<Item = (&ModuleName, &LocalRollback)> {
        let of = self.local.iter().filter(move |((of, _), _)| of == node);
        of.map(|((_, module), local)| (module, local))
    }

    /// The same, as it is told to a rollout.
    pub fn local_rollback_events(&self, node: &Node) -> impl Iterator<Item = Event> {
        self.local_rollbacks(node).map(move |(module, local)| Event::LocalRollback {
            node: node.clone(),
            module: Module(module.to_string()),
            by: local.by.clone(),
        })
    }

    /// The labels of a node.
    #[must_use]
    pub fn labels(&self, node: &Node) -> Labels {
        self.nodes.get(node).map(|value| value.labels.clone()).unwrap_or_default()
    }

    /// What this node would run of a version.
    #[must_use]
    pub fn best(&self, module: &ModuleName, version: &Version) -> Option<&VersionValue> {
        let target = Target::best_for(self.targets(module, version).into_keys(), Target::native())?;
        self.versions.get(&(module.clone(), version.clone(), target))
    }

    /// What is known of the artifact of a version that has this digest, and was not removed.
    #[must_use]
    pub fn named(
        &self,
        module: &ModuleName,
        version: &Version,
        digest: hot_artifact::Sha256,
    ) -> Option<&VersionValue> {
        let is_it = |(name, of, _): &(ModuleName, Version, Target), value: &VersionValue| {
            name == module && of == version && value.record.digest == digest && value.removed.is_none()
        };
        self.versions.iter().find(|(key, value)| is_it(key, value)).map(|(_, value)| value)
    }

    /// The artifacts of a version, by target; not those that were removed.
    #[must_use]
    pub fn targets(&self, module: &ModuleName, version: &Version) -> BTreeMap<Target, hot_artifact::Sha256> {
        let is_of = |(name, of, _): &(ModuleName, Version, Target), value: &VersionValue| {
            name == module && of == version && value.removed.is_none()
        };
        let of = self.versions.iter().filter(|(key, value)| is_of(key, value));
        of.map(|((_, _, target), value)| (*target, value.record.digest)).collect()
    }
}

fn keys_text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn set<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: V, change: Change) -> Option<Change> {
    if map.get(&key) == Some(&value) {
        return None;
    }
    map.insert(key, value);
    Some(change)
}

fn once<K: Ord, V: PartialEq>(
    map: &mut BTreeMap<K, V>,
    key: K,
    value: V,
    name: &str,
    change: Change,
) -> Option<Change> {
    match map.get(&key) {
        None => {
            map.insert(key, value);
            Some(change)
        }
        Some(there) if *there == value => None,
        Some(_) => Some(Change::Wrong(format!(
            "{name} is written once, and somebody has changed it; what was first counts"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::new("hot")
    }

    fn put(state: &mut State, key: &Key, value: &str) -> Option<Change> {
        let key = keys().of(key).into_bytes();
        state.put(&keys(), &Found { key, value: value.into(), created: 7, modified: 9, lease: 3 })
    }

    fn gone(state: &mut State, key: &Key) -> Option<Change> {
        state.gone(&keys(), keys().of(key).as_bytes())
    }

    fn node(name: &str) -> Node {
        Node(name.to_owned())
    }

    const NODE: &str =
        r#"{"target":"x86_64-gnu","grpc":"unix:/a","http":"127.0.0.1:80","hotd":"0.1.0","since":1}"#;

    #[test]
    fn nodes_come_and_go_and_are_kept_out() {
        let mut state = State::default();
        let (a, b) = (node("a"), node("b"));
        for name in [&a, &b] {
            assert_eq!(put(&mut state, &Key::Node(name.clone()), NODE), Some(Change::Node(name.clone())));
        }
        assert_eq!(put(&mut state, &Key::Node(a.clone()), NODE), None, "that is known");
        assert!(!state.is_up(&a));
        assert_eq!(put(&mut state, &Key::Alive(a.clone()), r#"{"since":1}"#), Some(Change::Node(a.clone())));
        assert!(state.is_up(&a));
        let again = put(&mut state, &Key::Alive(a.clone()), r#"{"since":2}"#);
        assert_eq!(again, Some(Change::Node(a.clone())), "its hotd began anew");
        put(&mut state, &Key::Cordon(b.clone()), r#"{"by":"ann","at":1}"#);
        assert_eq!(state.usable(), [a.clone()].into());
        assert_eq!(gone(&mut state, &Key::Cordon(b.clone())), Some(Change::Node(b.clone())));
        assert_eq!(gone(&mut state, &Key::Alive(a.clone())), Some(Change::Node(a.clone())));
        assert_eq!(gone(&mut state, &Key::Alive(a.clone())), None);
        assert_eq!(state.usable(), [a, b].into());
    }

    #[test]
    fn a_leaders_epoch_is_when_its_key_came_to_be() {
        let mut state = State::default();
        assert_eq!(put(&mut state, &Key::Leader, r#"{"node":"a"}"#), Some(Change::Leader));
        assert_eq!(state.leader, Some((node("a"), 7)));
        assert_eq!(gone(&mut state, &Key::Leader), Some(Change::Leader));
        assert_eq!(state.leader, None);
        // One without a lease is of nobody, and would stay for ever.
        let key = keys().of(&Key::Leader).into_bytes();
        let forged = Found { key, value: br#"{"node":"a"}"#.to_vec(), created: 7, modified: 9, lease: 0 };
        assert_eq!(state.put(&keys(), &forged), None);
        assert_eq!(state.leader, None);
    }

    #[test]
    fn what_does_not_parse_is_left_out_and_said_until_it_is_mended() {
        let mut state = State::default();
        let key = Key::Module("greeter".parse().unwrap());
        put(&mut state, &key, r#"{"served":[1]}"#);
        let before = state.modules.clone();
        let change = put(&mut state, &key, r#"{"served":"all"}"#);
        assert!(
            matches!(&change, Some(Change::Wrong(text)) if text.contains("fleet/modules/greeter")),
            "{change:?}"
        );
        assert_eq!(state.modules, before, "what was known counts");
        assert_eq!(state.wrong.len(), 1);
        put(&mut state, &key, r#"{"served":[1,2]}"#);
        assert!(state.wrong.is_empty());
        for number in 0..1000 {
            put(&mut state, &Key::Node(node(&format!("n{number}"))), "{");
        }
        assert_eq!(state.wrong.len(), MAX_WRONG);
        let foreign =
            Found { key: b"hot/v1/else".to_vec(), value: vec![], created: 1, modified: 1, lease: 0 };
        assert_eq!(state.put(&keys(), &foreign), None);
    }

    #[test]
    fn a_version_is_changed_by_its_removal_alone() {
        let mut state = State::default();
        let (module, version): (ModuleName, Version) = ("greeter".parse().unwrap(), "1.0.0".parse().unwrap());
        let target: Target = "x86_64-gnu".parse().unwrap();
        let key = Key::Version(module.clone(), version.clone(), target);
        let value = |bytes: &str, more: &str| {
            let digest = hot_artifact::Sha256::of(bytes.as_bytes());
            format!(
                r#"{{"record":{{"module":"greeter","version":"1.0.0","target":"x86_64-gnu","digest":"{digest}","size":1,
                "metadata":"","principal":"ann","signature":"","at":1,"by":"ann"}},"node":"a"{more}}}"#
            )
        };
        let removed = r#","removed":{"by":"ann","at":2}"#;
        let news = Some(Change::Version(module.clone(), version.clone(), target));
        assert_eq!(put(&mut state, &key, &value("good", "")), news);
        assert!(matches!(put(&mut state, &key, &value("bad", removed)), Some(Change::Wrong(_))));
        assert_eq!(state.targets(&module, &version).len(), 1);
        assert_eq!(put(&mut state, &key, &value("good", removed)), news);
        assert!(state.targets(&module, &version).is_empty() && state.best(&module, &version).is_none());
        // Nobody takes that back.
        assert!(matches!(put(&mut state, &key, &value("good", "")), Some(Change::Wrong(_))));
        assert!(state.targets(&module, &version).is_empty());
    }

    #[test]
    fn a_release_is_never_changed() {
        let mut state = State::default();
        let module: ModuleName = "greeter".parse().unwrap();
        let key = Key::Release(module.clone(), 1);
        let value = |config: &str| {
            let digest = hot_artifact::Sha256::of(config.as_bytes());
            format!(r#"{{"version":"1.0.0","digests":{{}},"config":"{digest}","at":1,"by":"ann"}}"#)
        };
        assert_eq!(put(&mut state, &key, &value("good")), Some(Change::Release(module, 1)));
        assert_eq!(put(&mut state, &key, &value("good")), None);
        let before = state.releases.clone();
        assert!(matches!(put(&mut state, &key, &value("bad")), Some(Change::Wrong(_))));
        assert_eq!(state.releases, before);
        assert_eq!(gone(&mut state, &key), None);
        assert!(state.releases.is_empty(), "the leader let go of it");
    }
}
