//! Flipped bits, missing files and what a power cut does to sled's own files: the node starts, says what is lost, and
//! nothing that is damaged is taken for good.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hot_artifact::Sha256;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::kit::*;
use crate::store::{
    ArtifactError, Begun, Committed, ConfigError, Event, EventQuery, IndexFound, OpenError, Store, Urgency,
};

/// A store with a bit of everything, closed.
fn prepare(root: &Path) {
    let (store, _) = open(root);
    push(&store, "a", "1.0.0", &bytes(1, 5000), 1).unwrap();
    push(&store, "b", "1.0.0", &bytes(2, 5000), 1).unwrap();
    for module in ["a", "b"] {
        let seed = if module == "a" { 1 } else { 2 };
        let new = new_release("1.0.0", &bytes(seed, 5000), Some(module.as_bytes()));
        store.allocate_release(&name(module), new).unwrap();
        assign(&store, module, json!({ "stable": 1 }), Urgency::Normal);
    }
    store.put_rollout(rollout("r1", Some("q1"), 1), Urgency::Normal).unwrap();
    store.end_rollout(rollout("r0", Some("q0"), 1)).unwrap();
    store.append_event(&event("before")).unwrap();
    store.tidy(std::time::SystemTime::now()).unwrap();
}

fn event(text: &str) -> Event {
    Event {
        at: 1,
        module: None,
        rollout: None,
        kind: "test".to_owned(),
        text: text.to_owned(),
        fields: serde_json::Map::new(),
    }
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn is_whole(store: &Store, module: &str) -> bool {
    let versions = store.versions(&name(module));
    let record = store.module(&name(module)).unwrap();
    versions.len() == 1 && record.assignment == Some(json!({ "stable": 1 })) && record.last_release() == 1
}

#[test]
fn a_damaged_record_of_a_module_is_rebuilt_and_the_other_module_sees_nothing() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    flip(&folder.path().join("modules/a.json"));
    let (store, found) = open(folder.path());
    assert_eq!(found.moved_aside.len(), 1);
    assert_eq!(found.moved_aside[0].what, "modules/a.json");
    assert!(found.moved_aside[0].to.exists());
    assert_eq!(found.lost.len(), 1);
    assert!(
        found.lost[0].contains("module a") && found.lost[0].contains("1 versions and 1 releases"),
        "{found:?}"
    );
    assert!(is_whole(&store, "b"));
    let record = store.module(&name("a")).unwrap();
    assert_eq!(
        (record.assignment.as_ref(), record.last_release(), store.versions(&name("a")).len()),
        (None, 1, 1)
    );
    drop(store);
    let (store, found) = open(folder.path());
    assert_eq!((found.lost, found.moved_aside), (vec![], vec![]));
    let next = store.allocate_release(&name("a"), new_release("1.0.0", &bytes(1, 5000), None)).unwrap();
    assert_eq!(next.number, 2, "a number is not given twice");
}

#[test]
fn a_record_of_an_older_day_is_told_of_once() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let (record, older) = (folder.path().join("modules/a.json"), folder.path().join("older"));
    fs::copy(&record, &older).unwrap();
    let (store, _) = open(folder.path());
    store.allocate_release(&name("a"), new_release("1.0.0", &bytes(1, 5000), Some(b"more"))).unwrap();
    drop(store);
    fs::copy(&older, &record).unwrap();
    let (store, found) = open(folder.path());
    assert!(found.lost.len() == 1 && found.lost[0].contains("releases 2 to 2"), "{found:?}");
    drop(store);
    let (store, found) = open(folder.path());
    assert_eq!(found.lost, [""; 0]);
    let next = store.allocate_release(&name("a"), new_release("1.0.0", &bytes(1, 5000), None)).unwrap();
    assert_eq!(next.number, 3, "a number is not given twice");
    assert!(is_whole(&store, "b"));
}

#[test]
fn a_damaged_artifact_config_or_rollout_is_noticed_and_pushed_again() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let (v1, v2) = (bytes(1, 5000), bytes(2, 5000));
    fs::write(folder.path().join(format!("artifacts/{}.so", Sha256::of(&v1))), b"short").unwrap();
    flip(&folder.path().join(format!("artifacts/{}.json", Sha256::of(&v2))));
    flip(&folder.path().join(format!("configs/{}", Sha256::of(b"a"))));
    flip(&folder.path().join("rollouts/r1.json"));
    flip(&folder.path().join("counters.json"));
    let (store, found) = open(folder.path());
    assert_eq!(found.lost.len(), 3, "{found:?}");
    assert_eq!((found.artifacts, found.rollouts), (0, 0));
    for bytes in [&v1, &v2] {
        let missing = store.open_artifact(&Sha256::of(bytes));
        assert!(matches!(missing, Err(ArtifactError::Unknown(_))));
    }
    assert!(matches!(store.config(&Sha256::of(b"a")), Err(ConfigError::Damaged { .. })));
    assert!(
        store.append_event(&event("after")).unwrap() > 1_000_000,
        "numbers go on beyond all that were given"
    );
    push(&store, "a", "1.0.0", &v1, 1).unwrap();
    push(&store, "b", "1.0.0", &v2, 1).unwrap();
    store.allocate_release(&name("a"), new_release("1.0.0", &v1, Some(b"a"))).unwrap();
    assert_eq!(store.config(&Sha256::of(b"a")).unwrap(), b"a");
    drop(store);
    let (_, found) = open(folder.path());
    assert_eq!((found.lost, found.artifacts), (vec![], 2));
}

#[test]
fn bytes_that_were_found_damaged_are_replaced_by_the_same_push_for_good() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let (v1, digest) = (bytes(1, 5000), Sha256::of(&bytes(1, 5000)));
    let path = folder.path().join(format!("artifacts/{digest}.so"));
    let (store, _) = open(folder.path());
    let before = store.artifact(&digest);
    flip(&path);
    assert!(matches!(store.begin_upload(digest, 5000), Ok(Begun::AlreadyHave)), "nobody knows it yet");
    let damaged = store.open_artifact(&digest).unwrap().placed;
    store.found_damaged(&digest, damaged);
    assert!(store.sound_artifact(&digest).is_none());
    assert_eq!(store.artifact(&digest), before, "what is known of it stays");
    assert_eq!(push(&store, "a", "1.0.0", &v1, 7).unwrap(), Committed::Mended);
    assert_eq!(fs::read(&path).unwrap(), v1);
    assert_eq!((store.sound_artifact(&digest), store.artifact(&digest)), (before.clone(), before.clone()));
    assert!(matches!(store.begin_upload(digest, 5000), Ok(Begun::AlreadyHave)));
    // Somebody who had the damaged file open is late.
    store.found_damaged(&digest, damaged);
    assert!(matches!(store.begin_upload(digest, 5000), Ok(Begun::AlreadyHave)), "it was mended meanwhile");
    // One that is cut short or not there is noticed by whoever opens it.
    for damage in [|path: &Path| fs::write(path, b"short"), |path: &Path| fs::remove_file(path)] {
        damage(&path).unwrap();
        drop(store.open_artifact(&digest));
        assert_eq!(push(&store, "a", "1.0.0", &v1, 8).unwrap(), Committed::Mended);
    }
    // What is removed is damaged no more.
    let placed = store.open_artifact(&digest).unwrap().placed;
    store.found_damaged(&digest, placed);
    store.remove_version(&name("a"), &"1.0.0".parse().unwrap(), 9, "ops", "").unwrap();
    store.found_damaged(&digest, placed);
    drop(store);
    let (store, found) = open(folder.path());
    assert_eq!((found.lost, found.moved_aside), (vec![], vec![]));
    assert!(store.artifact(&digest).is_none());
}

#[test]
fn what_a_newer_hotd_wrote_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let path = folder.path().join("modules/a.json");
    let text = fs::read_to_string(&path).unwrap();
    let (head, record) = text.split_once('\n').unwrap();
    // A member that is unknown here is kept over a change.
    let record = record.trim_end().replacen('{', "{\"from_the_future\":[1],", 1);
    let generation = serde_json::from_str::<serde_json::Value>(head).unwrap()["generation"].as_u64().unwrap();
    fs::write(&path, crate::store::envelope::seal("module", generation, record.as_bytes())).unwrap();
    let (store, _) = open(folder.path());
    assign(&store, "a", json!({ "stable": 2 }), Urgency::Normal);
    drop(store);
    assert!(fs::read_to_string(&path).unwrap().contains("\"from_the_future\":[1]"));
    // A record that makes no sense here stops the start, and stays.
    let strange = crate::store::envelope::seal("module", generation + 9, b"{\"versions\":7}");
    fs::write(&path, &strange).unwrap();
    let refused = Store::open(folder.path(), options()).unwrap_err();
    assert!(matches!(refused, OpenError::NotUnderstood { .. }), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), strange);
}

#[test]
fn an_index_of_garbage_is_moved_aside_and_filled_again() {
    for garbage in ["db", "conf", "both"] {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        for file in ["db", "conf"].into_iter().filter(|file| garbage == "both" || garbage == *file) {
            fs::write(folder.path().join("index").join(file), bytes(7, 600_000)).unwrap();
        }
        let (store, found) = open(folder.path());
        assert!(is_whole(&store, "a") && is_whole(&store, "b"), "{garbage}");
        assert_eq!(store.rollouts(), vec![rollout("r1", Some("q1"), 1)]);
        assert_eq!(store.releases(&name("a"), 9).len(), 1, "{garbage}: {:?}", found.index);
        store.append_event(&event("after")).unwrap();
        let events = store.events(&EventQuery { limit: 9, ..EventQuery::default() }).unwrap();
        assert_eq!(events.last().unwrap().event.text, "after");
        if garbage != "conf" {
            let IndexFound::Lost { aside, .. } = &found.index else { panic!("{garbage}: {:?}", found.index) };
            assert!(aside.join("db").exists() && found.lost[0].starts_with("the history"));
            let numbers: Vec<u64> = events.iter().map(|e| e.seq).collect();
            assert!(numbers.len() == 1 && numbers[0] > 1000, "numbers are not given twice: {numbers:?}");
        }
    }
}

#[test]
fn unfinished_and_damaged_snapshots_of_sled_cost_nothing() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let index = folder.path().join("index");
    let survives = |expected: IndexFound| {
        let (store, found) = open(folder.path());
        assert_eq!((&found.index, &found.lost), (&expected, &vec![]));
        let texts = store.events(&EventQuery { limit: 9, ..EventQuery::default() }).unwrap();
        assert_eq!(texts.len(), 1);
        assert!(store.rollout(&"r0".parse().unwrap()).unwrap().is_some());
    };
    fs::write(index.join("snap.FFFFFFFFFFFFFFF0.generating"), b"half").unwrap();
    survives(IndexFound::Whole);
    fs::write(index.join("snap.FFFFFFFFFFFFFFF0"), b"").unwrap();
    survives(IndexFound::Salvaged);
    fs::write(index.join("snap.FFFFFFFFFFFFFFF0"), bytes(1, 900)).unwrap();
    survives(IndexFound::Salvaged);
    let aside = fs::read_dir(folder.path().join("aside")).unwrap().count();
    assert!((3..=8).contains(&aside), "{aside} things aside");
}

/// The files below a folder.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file());
    files.map(|path| (path.file_name().unwrap().into(), fs::read(&path).unwrap())).collect()
}

/// After a sync, sled goes on writing; the power goes, and of the pages written since the sync any may be there. What
/// was synced must be found again.
#[test]
fn pages_that_sled_wrote_after_a_sync_may_get_lost() {
    const PAGE: usize = 4096;
    let folder = fast_folder();
    prepare(folder.path());
    let mut rng = SmallRng::seed_from_u64(5);
    let (mut differing, mut rebuilt) = (0, 0);
    for round in 0..30_u64 {
        let (store, _) = open(folder.path());
        let id = format!("e{round}");
        store.end_rollout(rollout(&id, None, round)).unwrap();
        let synced = snapshot(&folder.path().join("index"));
        for n in 0..rng.random_range(1..200) {
            store.append_event(&event(&format!("{round}.{n} {}", "y".repeat(1000)))).unwrap();
        }
        let later = snapshot(&folder.path().join("index"));
        drop(store);

        let (old, new) = (&synced[Path::new("db")], &later[Path::new("db")]);
        let mut image = Vec::new();
        for at in (0..new.len()).step_by(PAGE) {
            let new = &new[at..new.len().min(at + PAGE)];
            let mut page = old.get(at..old.len().min(at + PAGE)).unwrap_or_default().to_vec();
            page.resize(new.len(), 0);
            differing += u32::from(page != new);
            image.extend(if rng.random() { new.to_vec() } else { page });
        }
        if rng.random() {
            image.truncate(old.len().max(image.len() / PAGE * PAGE - PAGE));
        }
        fs::remove_dir_all(folder.path().join("index")).unwrap();
        fs::create_dir(folder.path().join("index")).unwrap();
        for (name, bytes) in &later {
            fs::write(folder.path().join("index").join(name), bytes).unwrap();
        }
        fs::write(folder.path().join("index/db"), image).unwrap();

        let (store, found) = open(folder.path());
        assert!(is_whole(&store, "a") && is_whole(&store, "b"), "round {round}");
        let ended = store.rollout(&id.parse().unwrap()).unwrap();
        if matches!(found.index, IndexFound::Lost { .. }) {
            rebuilt += 1;
        } else {
            assert_eq!(ended, Some(rollout(&id, None, round)), "round {round}: {:?}", found.index);
        }
        assert_eq!(store.rollouts(), vec![rollout("r1", Some("q1"), 1)], "round {round}");
    }
    assert!(differing > 100, "only {differing} pages were at stake");
    assert_eq!(rebuilt, 0, "the history was lost {rebuilt} times, which its syncs should prevent");
}

#[test]
fn leftovers_of_a_push_that_was_never_acknowledged_go() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let stray = Sha256::of(b"stray");
    for name in [
        format!("artifacts/{stray}.so"),
        format!("artifacts/{stray}.json.tmp"),
        "modules/c.json.tmp".to_owned(),
        "artifacts/notes.txt".to_owned(),
    ] {
        fs::write(folder.path().join(name), b"stray").unwrap();
    }
    let (store, found) = open(folder.path());
    assert_eq!((found.removed.len(), found.lost.len()), (4, 0), "{found:?}");
    assert!(matches!(store.begin_upload(stray, 5), Ok(Begun::Upload(_))));
    assert!(is_whole(&store, "a"));
}
