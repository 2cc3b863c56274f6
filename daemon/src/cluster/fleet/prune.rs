//! What of a module is not kept in etcd any more: releases that are old, and the versions that only these named. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use hot_artifact::{ModuleName, Sha256};
use hot_rollout::Time;

use super::State;
use super::values::{ReleaseValue, VersionValue};
use crate::cluster::etcd::Key;
use crate::store::VersionRecord;

/// Releases of a module that are kept, besides those that can be gone back to. Each node has a history of its own.
const KEPT: usize = 100;
/// Of what was stable so many are kept: more ways back than anybody takes.
const SERVED: usize = 10;

/// How long a version stays that no release names: its push is under way, or never came to a rollout.
const UNNAMED: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether the fleet is to have a version that a node has: some release names it, or it may be of a push that is under way.
pub(super) fn is_wanted(state: &State, record: &VersionRecord, now: Time) -> bool {
    let names = |value: &ReleaseValue| value.digests.values().any(|digest| *digest == record.digest);
    let mut releases = state.releases.iter().filter(|((of, _), _)| *of == record.module);
    is_new(record, now) || releases.any(|(_, value)| names(value))
}

fn is_new(record: &VersionRecord, now: Time) -> bool {
    Duration::from(now.since(Time(record.at))) < UNNAMED
}

/// The keys that may go, the oldest first, at most so many.
pub(super) fn beyond(state: &State, module: &ModuleName, now: Time, most: usize) -> Vec<Key> {
    let of = state.releases.iter().filter(|((of, _), _)| of == module);
    let numbers: Vec<u64> = of.map(|((_, number), _)| *number).collect();
    let served = state.modules.get(module).map(|value| value.served.as_slice()).unwrap_or_default();
    let served: BTreeSet<u64> = served.iter().rev().take(SERVED).copied().collect();
    let over = numbers.len().saturating_sub(KEPT);
    let old: BTreeSet<u64> =
        numbers.iter().take(over).filter(|number| !served.contains(number)).copied().collect();
    let digests = |wanted: &dyn Fn(u64) -> bool| -> BTreeSet<Sha256> {
        let of = state.releases.iter().filter(|((of, number), _)| of == module && wanted(*number));
        of.flat_map(|(_, value)| value.digests.values().copied()).collect()
    };
    let kept = digests(&|number| !old.contains(&number));
    let left = digests(&|number| old.contains(&number));
    // What a person removed is kept: without it the version could be made again.
    let goes = |value: &VersionValue| {
        let is_old = left.contains(&value.record.digest) || !is_new(&value.record, now);
        value.removed.is_none() && is_old && !kept.contains(&value.record.digest)
    };
    let versions = state.versions.iter().filter(|((of, ..), value)| of == module && goes(value));
    let versions =
        versions.map(|((module, version, target), _)| Key::Version(module.clone(), version.clone(), *target));
    let releases = old.iter().map(|number| Key::Release(module.clone(), *number));
    releases.chain(versions).take(most).collect()
}

/// The versions among keys, with their artifacts.
pub(super) fn versions(state: &State, keys: &[Key]) -> Vec<(Key, Sha256)> {
    let digest = |key: &Key| {
        let Key::Version(module, version, target) = key else { return None };
        let value = state.versions.get(&(module.clone(), version.clone(), *target))?;
        Some((key.clone(), value.record.digest))
    };
    keys.iter().filter_map(digest).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::fleet::values::{ReleaseValue, RemovedValue};

    /// Releases 1 to `count` of versions of their own, of which 3 and the last one were stable.
    fn state(count: u64) -> State {
        let (mut state, module) = (State::default(), module());
        for number in 1..=count {
            let (version, digest) = (format!("{number}.0.0"), Sha256::of(&number.to_be_bytes()));
            let release =
                json!({ "version": version, "digests": { "x86_64-gnu": digest }, "at": 1, "by": "ann" });
            let release: ReleaseValue = serde_json::from_value(release).unwrap();
            state.releases.insert((module.clone(), number), release);
            let value = json!({
                "record": {
                    "module": "greeter", "version": version, "target": "x86_64-gnu", "digest": digest, "size": 1,
                    "metadata": "", "principal": "ann", "signature": "", "at": 1, "by": "ann",
                },
                "node": "a",
            });
            let value: VersionValue = serde_json::from_value(value).unwrap();
            let (version, target) = (value.record.version.clone(), value.record.target);
            state.versions.insert((module.clone(), version, target), value);
        }
        let served = json!({ "served": [3, count] });
        state.modules.insert(module, serde_json::from_value(served).unwrap());
        state
    }

    fn module() -> ModuleName {
        "greeter".parse().unwrap()
    }

    /// What goes, as the names of keys.
    fn goes(state: &State, now: Time) -> Vec<String> {
        beyond(state, &module(), now, 9).iter().map(ToString::to_string).collect()
    }

    const NOW: Time = Time(2);

    #[test]
    fn what_is_old_goes_with_its_versions_but_no_way_back_does() {
        let none: [String; 0] = [];
        assert_eq!(goes(&state(100), NOW), none);
        assert_eq!(beyond(&state(103), &"other".parse().unwrap(), NOW, 9), []);
        let names = goes(&state(103), NOW);
        let expected = [
            "fleet/releases/greeter/0000000001",
            "fleet/releases/greeter/0000000002",
            "fleet/versions/greeter/1.0.0/x86_64-gnu",
            "fleet/versions/greeter/2.0.0/x86_64-gnu",
        ];
        assert_eq!(names, expected, "3 was stable");
        assert_eq!(goes(&state(200), NOW).len(), 9);
    }

    #[test]
    fn a_version_that_was_removed_stays_though_nothing_names_it() {
        let mut state = state(101);
        let removed = RemovedValue { by: "ann".to_owned(), at: 2 };
        state.versions.values_mut().for_each(|value| value.removed = Some(removed.clone()));
        let names = goes(&state, NOW);
        assert_eq!(names, ["fleet/releases/greeter/0000000001"]);
    }

    #[test]
    fn a_version_that_another_release_names_stays_and_so_does_one_that_none_names() {
        let mut state = state(101);
        let again = state.releases[&(module(), 1)].clone();
        state.releases.insert((module(), 102), again);
        state.releases.remove(&(module(), 50));
        let names = goes(&state, NOW);
        assert_eq!(names, ["fleet/releases/greeter/0000000001"]);
    }

    #[test]
    fn a_version_that_never_came_to_a_release_goes_after_a_day() {
        let mut state = state(2);
        state.releases.remove(&(module(), 1));
        let later = NOW.plus(UNNAMED.into());
        let none: [String; 0] = [];
        assert_eq!(goes(&state, NOW), none);
        assert_eq!(goes(&state, later), ["fleet/versions/greeter/1.0.0/x86_64-gnu"]);
        let wanted = |version: usize, now: Time| {
            is_wanted(&state, &state.versions.values().nth(version).unwrap().record, now)
        };
        assert!(wanted(0, NOW) && !wanted(0, later) && wanted(1, later));
    }
}
