//! A disk that is really full.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use hot_artifact::Sha256;
use serde_json::json;

use super::kit::*;
use crate::small_disk;
use crate::store::{Begun, Committed, Event, EventQuery, Options, Store, Urgency};

#[test]
fn a_full_disk_refuses_pushes_takes_the_way_back_and_recovers_without_a_restart() {
    small_disk::run("12m", "store::tests::full::inside");
}

/// Takes every byte that is left, and gives them back when it is dropped.
struct Ballast(PathBuf);

impl Ballast {
    fn fill(folder: &Path) -> Self {
        let path = folder.join("ballast");
        let mut file = File::create(&path).unwrap();
        for piece in [64 * 1024, 4096, 1] {
            while file.write_all(&vec![1; piece]).is_ok() {}
        }
        Self(path)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

fn event(n: u64) -> Event {
    Event {
        at: n,
        module: None,
        rollout: None,
        kind: "test".to_owned(),
        text: format!("{n}:{}", "x".repeat(2000)),
        fields: serde_json::Map::new(),
    }
}

#[test]
#[ignore = "started by the test above, where it may mount"]
fn inside() {
    let disk = small_disk::here();
    let root = disk.join("store");
    let a = name("a");
    let (v1, v2) = (bytes(1, 300_000), bytes(2, 300_000));
    let (store, found) = open(&root);
    assert!(found.reserve, "the reserve fits");
    push(&store, "a", "1.0.0", &v1, 1).unwrap();
    assign(&store, "a", json!({ "stable": 1, "candidate": 2 }), Urgency::Normal);
    store.put_rollout(rollout("r1", Some("q1"), 1), Urgency::Normal).unwrap();
    let spooled = upload(&store, &v2);

    let ballast = Ballast::fill(&disk);
    refuses(&store, &spooled, &v2);
    // The way back, and again: a second rollback, and the end of the rollout.
    assign(&store, "a", json!({ "stable": 1 }), Urgency::TowardStable);
    store.put_rollout(rollout("r1", Some("q1"), 2), Urgency::TowardStable).unwrap();
    store.end_rollout(rollout("r1", Some("q1"), 3)).unwrap();
    // More than sled buffers, so that it notices; what can't be written waits in memory.
    let seqs: Vec<u64> = (0..1000).map(|n| store.append_event(&event(n)).unwrap()).collect();
    let failed = store.tidy(std::time::SystemTime::now());
    assert!(failed.is_err(), "the history took two megabytes on a full disk");
    assert_eq!(store.module(&a).unwrap().assignment, Some(json!({ "stable": 1 })));
    assert_eq!(store.rollouts(), vec![]);

    // Space again, and no restart: at once everything works.
    drop(ballast);
    assert_eq!(store.commit(&spooled, record("a", "1.1.0", &v2, 2)).unwrap(), Committed::New);
    store.tidy(std::time::SystemTime::now()).unwrap();
    check(&store, &seqs);
    drop(store);
    let (store, found) = open(&root);
    assert_eq!((&found.lost, found.from_reserve), (&vec![], 0));
    check(&store, &seqs);
    drop((store, spooled));

    boots_while_full(&disk, &root);
}

fn refuses(store: &Store, spooled: &crate::store::Spooled, v2: &[u8]) {
    let refused = store.commit(spooled, record("a", "1.1.0", v2, 2)).unwrap_err().to_string();
    assert!(refused.starts_with("cannot write "), "{refused}");
    assert!(refused.ends_with(": free some space on its disk and try again"), "{refused}");
    let refused = store.begin_upload(Sha256::of(b"x"), 300_000).unwrap_err();
    assert!(refused.is_full() && refused.to_string().contains("free some space"), "{refused}");
    let refused = store.put_rollout(rollout("r2", None, 1), Urgency::Normal).unwrap_err();
    assert!(refused.to_string().contains("free some space"), "{refused}");
    assert!(store.module(&name("a")).unwrap().versions().len() == 1, "a refused push is not there");
}

fn check(store: &Store, seqs: &[u64]) {
    assert_eq!(store.module(&name("a")).unwrap().assignment, Some(json!({ "stable": 1 })));
    assert_eq!(store.versions(&name("a")).len(), 2);
    let ended = store.rollout(&"r1".parse().unwrap()).unwrap();
    assert_eq!(ended, Some(rollout("r1", Some("q1"), 3)));
    assert_eq!(store.ended_rollouts(9).unwrap().len(), 1);
    let events = store.events(&EventQuery { limit: usize::MAX, ..EventQuery::default() }).unwrap();
    assert_eq!(events.iter().map(|e| e.seq).collect::<Vec<_>>(), seqs);
}

/// A machine that comes up with a full disk serves what it was told, also what only the reserve has.
fn boots_while_full(disk: &Path, root: &Path) {
    let (store, _) = open(root);
    let ballast = Ballast::fill(disk);
    assign(&store, "a", json!({ "stable": 9 }), Urgency::TowardStable);
    drop(store);
    let (store, found) =
        Store::open(root, Options { index_retry: std::time::Duration::ZERO, ..options() }).unwrap();
    assert_eq!((&found.lost, found.from_reserve, found.reserve), (&vec![], 1, true));
    assert_eq!(store.module(&name("a")).unwrap().assignment, Some(json!({ "stable": 9 })));
    assign(&store, "a", json!({ "stable": 10 }), Urgency::TowardStable);
    assert!(matches!(store.begin_upload(Sha256::of(&bytes(1, 300_000)), 300_000), Ok(Begun::AlreadyHave)));
    drop(ballast);
    store.tidy(std::time::SystemTime::now()).unwrap();
    drop(store);
    let (store, found) = open(root);
    assert_eq!((&found.lost, found.from_reserve), (&vec![], 0));
    assert_eq!(store.module(&name("a")).unwrap().assignment, Some(json!({ "stable": 10 })));
}
