//! What can't be rolled out or gone back to, and why. Reads what is in memory and changes nothing.

use hot_artifact::{ModuleName, Sha256, Version};
use hot_rollout::{Module, ReleaseNumber};

use super::{Push, Refusal, To};
use crate::ledger::{Ledger, runs_here};
use crate::store::{ModuleRecord, Removal};

/// A release that a rollout under way tries.
pub(super) type Tried = (Module, ReleaseNumber);

/// Whether these pushes can be rolled out on this node at all.
pub(super) fn check(ledger: &Ledger, tried: &[Tried], pushes: &[Push], retry: bool) -> Result<(), Refusal> {
    let mut wanted = Vec::new();
    for push in pushes {
        let record = ledger.module(&push.module).ok_or_else(|| Refusal::NoModule(push.module.clone()))?;
        let digest = digest_of(&record, push)?;
        match may_run(&record, &push.module, &push.version, &digest) {
            Err(Refusal::Quarantined { .. }) if retry => above_floor(&record, &push.module, &push.version)?,
            other => other?,
        }
        wanted.push((push.module.clone(), ledger.routes(&digest).unwrap_or_default()));
    }
    conflicts(ledger, tried, &wanted).into_iter().next().map_or(Ok(()), Err)
}

/// The digest of the version that this node can run.
pub(super) fn digest_of(record: &ModuleRecord, push: &Push) -> Result<Sha256, Refusal> {
    let (module, version) = (push.module.clone(), push.version.clone());
    let Some(digest) = runs_here(record, &version) else {
        return Err(gone(record, module, version));
    };
    let stored = |meant: &Sha256| {
        let targets = record.versions().get(&version);
        targets.is_some_and(|targets| targets.values().any(|stored| stored.digest == *meant))
    };
    match push.digests.iter().find(|meant| !stored(meant)) {
        Some(meant) => Err(Refusal::OtherDigest { module, version, digest: *meant }),
        None => Ok(digest),
    }
}

/// A version that is not stored, and why not as far as that is remembered.
fn gone(record: &ModuleRecord, module: ModuleName, version: Version) -> Refusal {
    let Some(tombstone) = record.tombstones().get(&version) else {
        return Refusal::NoVersion { module, version };
    };
    let at = jiff::Timestamp::from_second(i64::try_from(tombstone.at / 1000).unwrap_or(i64::MAX));
    let at = at.unwrap_or(jiff::Timestamp::MAX);
    match &tombstone.why {
        Removal::Collected => Refusal::Dropped { module, version, at },
        Removal::Removed { by, .. } => Refusal::Removed { module, version, by: by.clone(), at },
    }
}

/// Whether bytes of a version may run again: they did not fail before, and the version is not too old.
pub(super) fn may_run(
    record: &ModuleRecord,
    module: &ModuleName,
    version: &Version,
    digest: &Sha256,
) -> Result<(), Refusal> {
    if let Some(quarantine) = record.quarantine.get(digest) {
        let (module, version) = (module.clone(), version.clone());
        return Err(Refusal::Quarantined { module, version, reason: quarantine.reason.clone() });
    }
    above_floor(record, module, version)
}

/// Whether the version is not too old.
pub(super) fn above_floor(
    record: &ModuleRecord,
    module: &ModuleName,
    version: &Version,
) -> Result<(), Refusal> {
    let (module, version) = (module.clone(), version.clone());
    match record.floor.clone().filter(|floor| version < *floor) {
        Some(floor) => Err(Refusal::BelowFloor { module, version, floor }),
        None => Ok(()),
    }
}

/// Two modules must not claim one route: those that are wanted, and of what other modules serve or try.
pub(super) fn conflicts(
    ledger: &Ledger,
    tried: &[Tried],
    wanted: &[(ModuleName, Vec<String>)],
) -> Vec<Refusal> {
    let mut routes: Vec<(String, String)> = Vec::new();
    for (name, record) in ledger.modules() {
        let module = Module(name.to_string());
        let tried = tried.iter().filter(|(of, _)| *of == module).map(|(_, release)| *release);
        let serves = Ledger::stable(&record).into_iter().chain(Ledger::candidate(&record));
        for release in serves.chain(tried) {
            if let Ok(runnable) = ledger.runnable(&module, release) {
                routes.extend(runnable.routes.into_iter().map(|route| (name.to_string(), route)));
            }
        }
    }
    for (name, of) in wanted {
        routes.extend(of.iter().map(|route| (name.to_string(), route.clone())));
    }
    let pairs = routes.iter().map(|(module, route)| (module.as_str(), route.as_str()));
    crate::gateway::conflicts(pairs).into_iter().map(Refusal::from).collect()
}

/// The release that serves and the one to go back to, if it can run and no other module has its routes by now.
pub(super) fn way_back(
    ledger: &Ledger,
    tried: &[Tried],
    module: &ModuleName,
    to: &To,
) -> Result<(ReleaseNumber, ReleaseNumber), Refusal> {
    let record = ledger.module(module).ok_or_else(|| Refusal::NoModule(module.clone()))?;
    let (from, to, digest) = choose(&record, module, to)?;
    let wanted = (module.clone(), ledger.routes(&digest).unwrap_or_default());
    match conflicts(ledger, tried, &[wanted]).into_iter().next() {
        Some(conflict) => Err(conflict),
        None => Ok((from, to)),
    }
}

/// Whether two releases run the same artifact with the same config.
fn same(record: &ModuleRecord, one: u64, other: u64) -> bool {
    let content =
        |number: u64| record.releases().get(&number).map(|release| (release.digest, release.config));
    content(one).is_some_and(|one| Some(one) == content(other))
}

/// The release that serves, and one that was stable before it, was not taken back and can still run.
fn choose(
    record: &ModuleRecord,
    module: &ModuleName,
    to: &To,
) -> Result<(ReleaseNumber, ReleaseNumber, Sha256), Refusal> {
    let nothing = |why: String| Refusal::NothingToReturnTo { module: module.clone(), why };
    let Some((&stable, before)) = record.served().split_last() else {
        return Err(nothing("nothing of it was ever promoted".to_owned()));
    };
    let version_of = |release: &u64| record.releases().get(release).map(|release| &release.version);
    let found = match to {
        // The same again, as after a push that was repeated, would be no way back.
        To::Preceding => before.iter().rev().find(|release| !same(record, **release, stable)),
        To::Release(wanted) if wanted.0 == stable => {
            return Err(nothing(format!("release {wanted} is stable already")));
        }
        To::Release(wanted) => before.iter().find(|number| **number == wanted.0),
        To::Version(wanted) => before.iter().rev().find(|release| version_of(release) == Some(wanted)),
    };
    let Some(found) = found else {
        return Err(nothing(match to {
            To::Preceding => format!("nothing else was stable before release {stable}"),
            To::Release(wanted) => {
                format!("release {wanted} was not stable before release {stable}, or was taken back")
            }
            To::Version(wanted) => {
                format!("no release of version {wanted} was stable before release {stable}")
            }
        }));
    };
    let Some(release) = record.releases().get(found) else {
        return Err(nothing(format!("release {found} is too old and no longer kept")));
    };
    let (version, digest) = (&release.version, release.digest);
    may_run(record, module, version, &digest)?;
    let targets = record.versions().get(version);
    if !targets.is_some_and(|targets| targets.values().any(|stored| stored.digest == digest)) {
        return Err(gone(record, module.clone(), version.clone()));
    }
    Ok((ReleaseNumber(stable), ReleaseNumber(*found), digest))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Quarantine;

    fn digest(of: u64) -> Sha256 {
        Sha256::of(&of.to_be_bytes())
    }

    /// Releases 1 to 4 of versions 1.0.0 to 4.0.0, of which 1, 2 and 3 were stable and 2.0.0 was removed.
    fn record() -> ModuleRecord {
        let releases: serde_json::Map<String, serde_json::Value> = (1..=4)
            .map(|number| {
                let version = format!("{number}.0.0");
                let release = json!({
                    "number": number, "version": version, "digest": digest(number), "at": 1, "by": "ann",
                });
                (number.to_string(), release)
            })
            .collect();
        let target = hot_artifact::Target::native();
        let stored = |number: u64| json!({ target.to_string(): { "digest": digest(number), "at": 1 } });
        serde_json::from_value(json!({
            "served": [1, 2, 3],
            "last_release": 4,
            "releases": releases,
            "versions": { "1.0.0": stored(1), "3.0.0": stored(3), "4.0.0": stored(4) },
            "tombstones": { "2.0.0": {
                "digests": { target.to_string(): digest(2) },
                "at": 2900,
                "why": { "how": "removed", "by": "ann", "reason": "" },
            } },
        }))
        .unwrap()
    }

    fn chosen(record: &ModuleRecord, to: &To) -> Result<u64, Refusal> {
        let (from, to, _) = choose(record, &"greeter".parse().unwrap(), to)?;
        assert_eq!(from, ReleaseNumber(3));
        Ok(to.0)
    }

    #[test]
    fn a_way_back_goes_only_where_something_can_run() {
        let mut record = record();
        let version = |text: &str| To::Version(text.parse().unwrap());
        assert_eq!(chosen(&record, &To::Release(ReleaseNumber(1))), Ok(1));
        assert_eq!(chosen(&record, &version("1.0.0")), Ok(1));
        assert!(matches!(chosen(&record, &To::Preceding), Err(Refusal::Removed { .. })));
        assert!(matches!(chosen(&record, &version("2.0.0")), Err(Refusal::Removed { .. })));
        for never_stable in [To::Release(ReleaseNumber(4)), version("4.0.0"), version("9.0.0")] {
            let refused = chosen(&record, &never_stable);
            assert!(
                matches!(refused, Err(Refusal::NothingToReturnTo { .. })),
                "{never_stable:?}: {refused:?}"
            );
        }
        let already = chosen(&record, &To::Release(ReleaseNumber(3))).unwrap_err();
        assert!(already.to_string().contains("stable already"), "{already}");
        let bad = Quarantine { at: 1, reason: "crashed".to_owned() };
        record.quarantine.insert(digest(1), bad);
        let refused = chosen(&record, &To::Release(ReleaseNumber(1)));
        assert!(matches!(refused, Err(Refusal::Quarantined { .. })), "{refused:?}");
        record.quarantine.clear();
        record.floor = Some("1.0.1".parse().unwrap());
        let refused = chosen(&record, &To::Release(ReleaseNumber(1)));
        assert!(matches!(refused, Err(Refusal::BelowFloor { .. })), "{refused:?}");
    }

    #[test]
    fn what_was_taken_back_is_no_way_back() {
        let mut record = record();
        record.set_stable(Some(1));
        let refused = choose(&record, &"greeter".parse().unwrap(), &To::Release(ReleaseNumber(3)));
        assert!(matches!(refused, Err(Refusal::NothingToReturnTo { .. })), "{refused:?}");
    }

    #[test]
    fn what_made_room_is_told_from_what_a_person_removed() {
        let mut record = record();
        let release = To::Release(ReleaseNumber(2));
        let said = |record: &ModuleRecord| chosen(record, &release).unwrap_err().to_string();
        assert_eq!(said(&record), "version 2.0.0 of greeter was removed by ann at 1970-01-01T00:00:02Z");
        let mut value = serde_json::to_value(&record).unwrap();
        value["tombstones"]["2.0.0"]["why"] = json!({ "how": "collected" });
        record = serde_json::from_value(value).unwrap();
        let expected = "version 2.0.0 of greeter was dropped at 1970-01-01T00:00:02Z by `keep` under [store], as newer \
                        versions came";
        assert_eq!(said(&record), expected);
        let mut value = serde_json::to_value(&record).unwrap();
        value["tombstones"] = json!({});
        record = serde_json::from_value(value).unwrap();
        assert_eq!(said(&record), "greeter has no version 2.0.0", "of very many the oldest are forgotten");
    }

    #[test]
    fn every_digest_that_is_meant_must_be_the_versions() {
        let record = record();
        let push = |version: &str, digests: &[u64]| Push {
            module: "greeter".parse().unwrap(),
            version: version.parse().unwrap(),
            digests: digests.iter().map(|of| digest(*of)).collect(),
        };
        assert_eq!(digest_of(&record, &push("3.0.0", &[])), Ok(digest(3)));
        assert_eq!(digest_of(&record, &push("3.0.0", &[3])), Ok(digest(3)));
        assert!(matches!(digest_of(&record, &push("3.0.0", &[3, 1])), Err(Refusal::OtherDigest { .. })));
        assert!(matches!(digest_of(&record, &push("2.0.0", &[])), Err(Refusal::Removed { .. })));
        assert!(matches!(digest_of(&record, &push("9.0.0", &[])), Err(Refusal::NoVersion { .. })));
    }
}
