//! What the store does when nothing goes wrong, and what it refuses.

use std::io::Read;

use hot_artifact::{Sha256, Target};
use serde_json::json;

use super::kit::*;
use crate::store::{
    Begun, CommitError, Committed, Event, EventQuery, IndexFound, Opened, Options, Protected, Quarantine,
    ReleaseError, RemoveError, RolloutError, SignAgainError, Store, Urgency, VersionRecord,
};

#[test]
fn what_was_pushed_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (v1, v2) = (bytes(1, 100_000), bytes(2, 50));
    {
        let (store, found) = open(folder.path());
        assert_eq!((found.index, found.reserve, found.modules), (IndexFound::New, true, 0));
        assert_eq!(push(&store, "greeter", "1.0.0", &v1, 1).unwrap(), Committed::New);
        assert_eq!(push(&store, "greeter", "1.1.0", &v2, 2).unwrap(), Committed::New);
        let release =
            store.allocate_release(&name("greeter"), new_release("1.1.0", &v2, Some(b"a = 1"))).unwrap();
        assert_eq!(release.number, 1);
        assign(&store, "greeter", json!({"stable": 1}), Urgency::Normal);
    }
    let (store, found) = open(folder.path());
    assert_eq!((found.index, found.modules, found.artifacts), (IndexFound::Whole, 1, 2));
    assert_eq!((found.lost, found.removed, found.moved_aside), (vec![], vec![], vec![]));
    let mut read = Vec::new();
    let Opened { mut file, record, .. } = store.open_artifact(&Sha256::of(&v1)).unwrap();
    file.read_to_end(&mut read).unwrap();
    assert_eq!((read, record.version.to_string()), (v1, "1.0.0".to_owned()));
    let module = store.module(&name("greeter")).unwrap();
    assert_eq!(module.assignment, Some(json!({"stable": 1})));
    let release = store.release(&name("greeter"), 1).unwrap().unwrap();
    assert_eq!(store.config(&release.config.unwrap()).unwrap(), b"a = 1");
    assert_eq!(store.releases(&name("greeter"), 10), vec![release]);
    assert_eq!(store.allocate_release(&name("greeter"), new_release("1.1.0", &v2, None)).unwrap().number, 2);
    assert!(matches!(store.begin_upload(Sha256::of(&v2), 50).unwrap(), Begun::AlreadyHave));
}

#[test]
fn a_version_never_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let (v1, other) = (bytes(1, 100), bytes(2, 100));
    push(&store, "greeter", "1.0.0", &v1, 1).unwrap();
    let refused = push(&store, "greeter", "1.0.0", &other, 2);
    assert!(matches!(refused, Err(CommitError::Bound { bound, .. }) if bound == Sha256::of(&v1)));
    store.remove_version(&name("greeter"), &"1.0.0".parse().unwrap(), 3, "ops", "it leaks").unwrap();
    for bytes in [&v1, &other] {
        let refused = push(&store, "greeter", "1.0.0", bytes, 4).unwrap_err();
        let text = refused.to_string();
        assert_eq!(text, "greeter 1.0.0 was removed by ops (it leaks); push it under a new version");
    }
    let again = store.remove_version(&name("greeter"), &"1.0.0".parse().unwrap(), 3, "ops", "");
    assert!(matches!(again, Err(RemoveError::Unknown { .. })));
    drop(store);
    let (store, found) = open(folder.path());
    assert_eq!((found.artifacts, found.removed), (0, vec![]));
    assert!(matches!(push(&store, "greeter", "1.0.0", &v1, 5), Err(CommitError::Removed { .. })));
}

#[test]
fn what_was_removed_elsewhere_is_refused_here_whether_it_was_here_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let (here, elsewhere) = (bytes(1, 100), bytes(2, 100));
    push(&store, "greeter", "1.0.0", &here, 1).unwrap();
    let adopt = |store: &Store, version: &str, bytes: &[u8]| {
        let bound = (Target::native(), Sha256::of(bytes));
        store.adopt_removal(&name("greeter"), &version.parse().unwrap(), bound, 3, "ops").unwrap();
    };
    adopt(&store, "1.0.0", &here);
    adopt(&store, "1.1.0", &elsewhere);
    adopt(&store, "1.1.0", &elsewhere);
    drop(store);
    let (store, found) = open(folder.path());
    assert_eq!((found.artifacts, found.removed), (0, vec![]));
    for (version, bytes) in [("1.0.0", &here), ("1.1.0", &elsewhere), ("1.1.0", &here)] {
        assert!(matches!(push(&store, "greeter", version, bytes, 5), Err(CommitError::Removed { .. })));
    }
    let record = store.module(&name("greeter")).unwrap();
    assert!(record.has_removed(&"1.1.0".parse().unwrap(), Target::native()));
    assert!(!record.has_removed(&"1.2.0".parse().unwrap(), Target::native()));
    push(&store, "greeter", "1.2.0", &elsewhere, 6).unwrap();
}

#[test]
fn another_signature_takes_the_place_of_the_former_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let v1 = bytes(1, 100);
    push(&store, "greeter", "1.0.0", &v1, 1).unwrap();
    let first = record("greeter", "1.0.0", &v1, 1);
    let digest = first.digest;
    assert!(store.sign_again(&digest, &first.signature, &first.principal).unwrap().is_none(), "the same");
    let former = store.sign_again(&digest, "by eve", "eve").unwrap().unwrap();
    assert_eq!(*former, first);
    let second = VersionRecord { signature: "by eve".to_owned(), principal: "eve".to_owned(), ..first };
    assert_eq!(*store.artifact(&digest).unwrap(), second, "and nothing else has changed");
    let too_long = store.sign_again(&digest, &"x".repeat(200_000), "eve");
    assert!(matches!(too_long, Err(SignAgainError::TooLong { .. })));
    let unknown = store.sign_again(&Sha256::of(b"other"), "by eve", "eve");
    assert!(matches!(unknown, Err(SignAgainError::Unknown(_))));
    drop(store);
    let (store, found) = open(folder.path());
    assert_eq!(found.lost, Vec::<String>::new());
    assert_eq!(*store.artifact(&digest).unwrap(), second);
}

#[test]
fn a_record_of_other_bytes_and_a_release_of_no_version_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let (v1, other) = (bytes(1, 100), bytes(2, 100));
    let spooled = upload(&store, &v1);
    let refused = store.commit(&spooled, record("greeter", "1.0.0", &other, 1));
    assert!(matches!(refused, Err(CommitError::OtherFile { .. })));
    let mut long = record("greeter", "1.0.0", &v1, 1);
    long.signature = "x".repeat(200_000);
    assert!(matches!(store.commit(&spooled, long), Err(CommitError::TooLong { .. })));
    let refused = store.allocate_release(&name("greeter"), new_release("1.0.0", &v1, None));
    assert!(matches!(refused, Err(ReleaseError::NotStored { .. })));
    store.commit(&spooled, record("greeter", "1.0.0", &v1, 1)).unwrap();
    let refused = store.allocate_release(&name("greeter"), new_release("1.0.0", &v1, Some(&[0; 70_000])));
    assert!(matches!(refused, Err(ReleaseError::ConfigTooLarge { found: 70_000 })));
    let mut long = new_release("1.0.0", &v1, None);
    long.message = "\u{1}".repeat(1000);
    assert!(matches!(store.allocate_release(&name("greeter"), long), Err(ReleaseError::TooLong { .. })));
    assert_eq!(store.module(&name("greeter")).unwrap().last_release(), 0);
}

#[test]
fn keep_n_spares_what_is_protected_and_what_went_may_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let all: Vec<_> = (0..6).map(|n| bytes(n, 100)).collect();
    for (n, bytes) in (0_u64..).zip(&all) {
        push(&store, "greeter", &format!("1.{n}.0"), bytes, n).unwrap();
        store
            .allocate_release(&name("greeter"), new_release(&format!("1.{n}.0"), bytes, Some(bytes)))
            .unwrap();
    }
    let reason = "it crashed".to_owned();
    store
        .update_module(&name("greeter"), Urgency::Normal, |module| {
            module.quarantine.insert(Sha256::of(&all[5]), Quarantine { at: 5, reason });
        })
        .unwrap();
    let protected = Protected { digests: [Sha256::of(&all[1])].into(), ..Protected::default() };
    let gone = store.collect(&protected, 10).gone;
    let gone: Vec<_> = gone.iter().map(|(_, version)| version.to_string()).collect();
    assert_eq!(gone, ["1.2.0", "1.0.0", "1.5.0"], "two are kept, and not the one that failed");
    assert!(store.open_artifact(&Sha256::of(&all[0])).is_err());
    assert!(store.open_artifact(&Sha256::of(&all[1])).is_ok());
    assert_eq!(std::fs::read_dir(folder.path().join("artifacts")).unwrap().count(), 6);
    assert!(matches!(push(&store, "greeter", "1.0.0", &bytes(9, 9), 11), Err(CommitError::Bound { .. })));
    assert_eq!(push(&store, "greeter", "1.0.0", &all[0], 12).unwrap(), Committed::New);
    assert!(store.module(&name("greeter")).unwrap().tombstones().get(&"1.0.0".parse().unwrap()).is_none());
}

#[test]
fn old_releases_leave_the_record_with_their_configs_and_stay_in_the_history() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let v1 = bytes(1, 100);
    push(&store, "greeter", "1.0.0", &v1, 1).unwrap();
    for n in 0..120_u32 {
        let config = n.to_le_bytes();
        store.allocate_release(&name("greeter"), new_release("1.0.0", &v1, Some(&config))).unwrap();
    }
    let protected = Protected { releases: [(name("greeter"), [3].into())].into(), ..Protected::default() };
    assert!(store.collect(&protected, 2).failed.is_none());
    let module = store.module(&name("greeter")).unwrap();
    let kept: Vec<u64> = module.releases().keys().copied().collect();
    assert_eq!((kept.len(), kept[0], kept[1], module.last_release()), (101, 3, 21, 120));
    assert_eq!(store.releases(&name("greeter"), 1000).len(), 120);
    let old = store.release(&name("greeter"), 2).unwrap().unwrap();
    assert!(store.config(&old.config.unwrap()).is_err());
    let third = store.release(&name("greeter"), 3).unwrap().unwrap();
    assert_eq!(store.config(&third.config.unwrap()).unwrap(), 2_u32.to_le_bytes());
}

#[test]
fn a_request_is_one_rollout_and_an_end_is_final() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    store.put_rollout(rollout("r1", Some("q1"), 1), Urgency::Normal).unwrap();
    store.put_rollout(rollout("r1", Some("q1"), 2), Urgency::Normal).unwrap();
    let taken = store.put_rollout(rollout("r2", Some("q1"), 1), Urgency::Normal);
    assert!(matches!(taken, Err(RolloutError::RequestTaken { rollout }) if rollout.as_str() == "r1"));
    assert_eq!(store.rollouts(), vec![rollout("r1", Some("q1"), 2)]);
    store.end_rollout(rollout("r1", Some("q1"), 3)).unwrap();
    assert_eq!(store.rollouts(), vec![]);
    drop(store);
    let (store, found) = open(folder.path());
    assert_eq!(found.rollouts, 0);
    assert_eq!(store.rollout_of(&"q1".parse().unwrap()).unwrap().unwrap().as_str(), "r1");
    assert_eq!(store.rollout(&"r1".parse().unwrap()).unwrap(), Some(rollout("r1", Some("q1"), 3)));
    for n in 0..25 {
        store.end_rollout(rollout(&format!("x{n}"), Some(&format!("y{n}")), n)).unwrap();
    }
    let ended = store.ended_rollouts(100).unwrap();
    assert_eq!((ended.len(), ended[0].id.as_str(), ended[19].id.as_str()), (20, "x24", "x5"));
    assert_eq!(store.rollout_of(&"q1".parse().unwrap()).unwrap(), None);
}

#[test]
fn events_are_numbered_found_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let event = |n: u64, module: &str| Event {
        at: n,
        module: Some(name(module)),
        rollout: None,
        kind: "test".to_owned(),
        text: format!("event {n}"),
        fields: serde_json::Map::new(),
    };
    let (store, _) = open(folder.path());
    let first = store.append_event(&event(0, "a")).unwrap();
    for n in 1..6000 {
        let seq = store.append_event(&event(n, if n % 2 == 0 { "a" } else { "b" })).unwrap();
        assert_eq!(seq, first + n);
    }
    let all = store.events(&EventQuery { limit: usize::MAX, ..EventQuery::default() }).unwrap();
    assert_eq!((all.len(), all[0].seq), (3000, first + 3000));
    let query =
        EventQuery { after: Some(first + 5990), module: Some(name("b")), limit: 3, ..EventQuery::default() };
    let texts = |query| store.events(&query).unwrap().into_iter().map(|e| e.event.text).collect::<Vec<_>>();
    assert_eq!(texts(query.clone()), ["event 5991", "event 5993", "event 5995"]);
    assert_eq!(texts(EventQuery { newest: true, ..query }), ["event 5995", "event 5997", "event 5999"]);
    let seqs = |back_to| {
        let query = EventQuery { kinds: &["test"], limit: 9, newest: true, back_to, ..EventQuery::default() };
        store.events(&query).unwrap().into_iter().map(|found| found.seq - first).collect::<Vec<_>>()
    };
    let started = |rollouts: &[&str]| ("started", rollouts.iter().map(|id| id.parse().unwrap()).collect());
    for (n, rollout) in [(6000, "r2"), (6002, "r1")] {
        let rollout = Some(rollout.parse().unwrap());
        store.append_event(&Event { kind: "started".to_owned(), rollout, ..event(n, "a") }).unwrap();
        store.append_event(&event(n + 1, "a")).unwrap();
    }
    assert_eq!(seqs(Some(started(&["r1"]))), [6003], "what was before it is not looked at");
    assert_eq!(seqs(Some(started(&["r1", "r2"]))), [6001, 6003]);
    assert_eq!(seqs(Some(started(&["r1", "r3"]))).len(), 9, "one is not there any more");
    assert_eq!(seqs(None).len(), 9);
    let last = first + 6003;
    drop(store);
    let (store, _) = open(folder.path());
    assert!(store.append_event(&event(0, "a")).unwrap() > last);
}

/// An older hotd kept more: what is beyond the bound goes with what comes, some at a time, so that nothing waits for it.
#[test]
fn the_events_beyond_the_bound_go_in_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let event = || Event {
        at: 0,
        module: None,
        rollout: None,
        kind: "test".to_owned(),
        text: String::new(),
        fields: serde_json::Map::new(),
    };
    let (store, _) = open(folder.path());
    for _ in 0..1000 {
        store.append_event(&event()).unwrap();
    }
    drop(store);
    let (store, _) = Store::open(folder.path(), Options { max_events: 10, ..options() }).unwrap();
    let seqs = || {
        let all = store.events(&EventQuery { limit: usize::MAX, ..EventQuery::default() }).unwrap();
        all.into_iter().map(|found| found.seq).collect::<Vec<_>>()
    };
    let mut before = seqs();
    assert_eq!(before.len(), 1000);
    while before.len() > 10 {
        let last = store.append_event(&event()).unwrap();
        let now = seqs();
        assert!(now.len() < before.len(), "{} stay {}", before.len(), now.len());
        assert!(now.len() + 300 > before.len(), "{} become {} at once", before.len(), now.len());
        assert_eq!(now.last(), Some(&last));
        assert!(now.is_sorted() && (now.len() == 10 || now.contains(before.last().unwrap())));
        before = now;
    }
}
