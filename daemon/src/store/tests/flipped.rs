//! One bit flipped, at many places of every kind of file: the start notices it, loses that file alone, and takes nothing
//! for good that was not written.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use hot_artifact::Sha256;
use serde_json::json;

use super::kit::*;
use super::power::start;
use crate::store::disk::RealDisk;
use crate::store::records::ModuleRecord;
use crate::store::{ConfigError, Store, Urgency};

/// A half of the reserve.
const HALF: usize = 2 * 1024 * 1024;

/// A store with every kind of file; the newest assignment of module `a` is in the reserve alone if that `is_needed`, and
/// else in both. The history is left out: nothing here is rebuilt from it.
fn prepare(root: &Path, is_needed: bool) {
    let (store, _) = Store::open(root, options()).unwrap();
    for (module, seed) in [("a", 1), ("b", 2)] {
        push(&store, module, "1.0.0", &bytes(seed, 5000), seed).unwrap();
        store
            .allocate_release(&name(module), new_release("1.0.0", &bytes(seed, 5000), Some(b"config")))
            .unwrap();
        assign(&store, module, json!({ "stable": 1 }), Urgency::Normal);
    }
    store.put_rollout(rollout("r1", Some("q1"), 1), Urgency::Normal).unwrap();
    store
        .append_event(&crate::store::Event {
            at: 1,
            module: None,
            rollout: None,
            kind: "test".to_owned(),
            text: String::new(),
            fields: serde_json::Map::new(),
        })
        .unwrap();
    let record = root.join("modules/a.json");
    let before = fs::read(&record).unwrap();
    // Under this name nothing can be made now, so the reserve takes it.
    fs::create_dir(root.join("modules/a.json.tmp")).unwrap();
    assign(&store, "a", json!({ "stable": 2 }), Urgency::TowardStable);
    fs::remove_dir(root.join("modules/a.json.tmp")).unwrap();
    if !is_needed {
        store.tidy(std::time::SystemTime::now()).unwrap();
    }
    drop(store);
    assert_eq!(fs::read(&record).unwrap() == before, is_needed);
    fs::remove_dir_all(root.join("index")).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for from in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

/// The first bytes of a file, of each part that `starts` says it has, its last one, and some in between.
fn places(len: usize, starts: &[usize]) -> Vec<usize> {
    let firsts = starts.iter().flat_map(|start| (0..130).step_by(3).map(move |n| start + n));
    let between = (0..10).map(|n| n * len / 10);
    firsts.chain(between).chain([len - 1]).filter(|at| *at < len).collect()
}

#[test]
fn a_flipped_bit_is_noticed_wherever_it_is_and_costs_its_file_alone() {
    let (original, config) = (fast_folder(), Sha256::of(b"config"));
    prepare(original.path(), false);
    let (held, files, _) = start(Arc::new(RealDisk), original.path());
    let whole = |module: &str| -> ModuleRecord { (*files.module(&name(module)).unwrap()).clone() };
    let (a, b) = (whole("a"), whole("b"));
    assert_eq!(a.assignment, Some(json!({ "stable": 2 })));
    let next = files.counters.lock().unwrap().next_event(&files.small).unwrap();
    let [digest, _] = [1, 2].map(|seed| Sha256::of(&bytes(seed, 5000)));
    drop((held, files));

    let mut flipped = 0;
    for (file, starts) in [
        ("modules/b.json".to_owned(), &[0][..]),
        ("rollouts/r1.json".to_owned(), &[0]),
        (format!("artifacts/{digest}.json"), &[0]),
        (format!("artifacts/{digest}.so"), &[0]),
        (format!("configs/{config}"), &[0]),
        ("counters.json".to_owned(), &[0]),
        ("reserve".to_owned(), &[0, HALF]),
    ] {
        let len = usize::try_from(fs::metadata(original.path().join(&file)).unwrap().len()).unwrap();
        for at in places(len, starts) {
            let image = fast_folder();
            copy(original.path(), image.path());
            let mut bytes = fs::read(image.path().join(&file)).unwrap();
            bytes[at] ^= 1 << (at % 8);
            fs::write(image.path().join(&file), &bytes).unwrap();
            flipped += 1;

            let (_held, files, found) = start(Arc::new(RealDisk), image.path());
            let place = format!("byte {at} of {file}: {found:?}");
            let (kind, extension) = (file.split('/').next().unwrap(), file.rsplit('.').next().unwrap());
            let is_noticed = match (kind, extension) {
                // Read by whoever loads them, and not before.
                ("artifacts", "so") => Sha256::of(&fs::read(files.artifact_path(&digest)).unwrap()) != digest,
                ("configs", _) => matches!(files.config(&config), Err(ConfigError::Damaged { .. })),
                // Nothing in it is needed.
                ("reserve", _) => found.moved_aside.is_empty() && found.from_reserve == 0,
                _ => found.moved_aside.iter().any(|moved| moved.what == file),
            };
            assert!(is_noticed, "{place}");
            let is_told = found.lost.len()
                == usize::from(matches!(
                    (kind, extension),
                    ("modules" | "rollouts", _) | ("artifacts", "json")
                ));
            assert!(is_told, "{place}");
            assert_eq!(*files.module(&name("a")).unwrap(), a, "{place}");
            let now = files.module(&name("b")).unwrap();
            assert!(kind == "modules" || *now == b, "{place}: {now:?}");
            assert_eq!(files.known().rollouts.len(), usize::from(kind != "rollouts"), "{place}");
            let event = files.counters.lock().unwrap().next_event(&files.small).unwrap();
            assert!(event >= next, "{place}: number {event} is given twice");
        }
    }
    assert!(flipped > 300, "{flipped} bits are too few to mean much");
}

/// The start after each of many flipped bits in the record of `a`, which must be noticed each time: what `a` is to run then,
/// and how much was lost.
fn flips_in_a(original: &Path, check: impl Fn(Option<&serde_json::Value>, &[String])) {
    let file = "modules/a.json";
    let len = usize::try_from(fs::metadata(original.join(file)).unwrap().len()).unwrap();
    for at in places(len, &[0]) {
        let image = fast_folder();
        copy(original, image.path());
        let mut bytes = fs::read(image.path().join(file)).unwrap();
        bytes[at] ^= 1 << (at % 8);
        fs::write(image.path().join(file), &bytes).unwrap();
        let (_held, files, found) = start(Arc::new(RealDisk), image.path());
        let moved: Vec<&str> = found.moved_aside.iter().map(|moved| moved.what.as_str()).collect();
        assert_eq!(moved, [file], "byte {at}");
        check(files.module(&name("a")).unwrap().assignment.as_ref(), &found.lost);
    }
}

#[test]
fn what_the_reserve_had_once_takes_no_damaged_files_place() {
    let original = fast_folder();
    prepare(original.path(), false);
    let (store, _) = Store::open(original.path(), options()).unwrap();
    assign(&store, "a", json!({ "stable": 3 }), Urgency::Normal);
    drop(store);
    flips_in_a(original.path(), |assignment, lost| {
        assert_eq!(assignment, None, "nothing says that this is the newest");
        assert!(lost.len() == 1 && lost[0].starts_with("the record of module a: its assignment"), "{lost:?}");
    });
}

#[test]
fn what_the_reserve_has_takes_a_damaged_files_place_and_that_is_told() {
    let (newer, same) = (fast_folder(), fast_folder());
    prepare(newer.path(), true);
    // As after a kill when it is in its file and the reserve is not emptied yet.
    copy(newer.path(), same.path());
    drop(Store::open(same.path(), options()).unwrap());
    fs::copy(newer.path().join("reserve"), same.path().join("reserve")).unwrap();
    let record = |folder: &Path| fs::read(folder.join("modules/a.json")).unwrap();
    assert_ne!(record(newer.path()), record(same.path()));
    for original in [newer, same] {
        flips_in_a(original.path(), |assignment, lost| {
            assert_eq!((assignment, lost), (Some(&json!({ "stable": 2 })), &[][..]));
        });
    }
}

/// It may be good, and newer than what the reserve has.
#[test]
fn beside_a_file_that_cannot_be_read_nothing_counts_and_nothing_changes() {
    for newest in [2, 3] {
        let folder = fast_folder();
        prepare(folder.path(), true);
        let [file, elsewhere, reserve] =
            ["modules/a.json", "elsewhere", "reserve"].map(|name| folder.path().join(name));
        let held = fs::read(&reserve).unwrap();
        if newest == 3 {
            let (store, _) = Store::open(folder.path(), options()).unwrap();
            assign(&store, "a", json!({ "stable": newest }), Urgency::Normal);
            drop(store);
            fs::write(&reserve, &held).unwrap();
        }
        fs::rename(&file, &elsewhere).unwrap();
        fs::create_dir(&file).unwrap();
        let refused = Store::open(folder.path(), options()).expect_err("a folder is no file");
        assert!(refused.to_string().contains("modules/a.json"), "{refused}");
        assert_eq!(fs::read(&reserve).unwrap(), held);
        fs::remove_dir(&file).unwrap();
        fs::rename(&elsewhere, &file).unwrap();
        let (_held, files, _) = start(Arc::new(RealDisk), folder.path());
        assert_eq!(files.module(&name("a")).unwrap().assignment.as_ref(), Some(&json!({ "stable": newest })));
    }
}

/// What a start writes for another file must not bring it back.
#[test]
fn what_the_reserve_has_of_an_older_day_takes_no_files_place() {
    let folder = fast_folder();
    prepare(folder.path(), false);
    let (store, _) = Store::open(folder.path(), options()).unwrap();
    let in_the_way = folder.path().join("rollouts/r1.json.tmp");
    fs::create_dir(&in_the_way).unwrap();
    store.put_rollout(rollout("r1", Some("q1"), 2), Urgency::TowardStable).unwrap();
    fs::remove_dir(in_the_way).unwrap();
    let (reserve, older) = (folder.path().join("reserve"), folder.path().join("older"));
    fs::copy(&reserve, &older).unwrap();
    store.put_rollout(rollout("r1", Some("q1"), 3), Urgency::Normal).unwrap();
    drop(store);
    fs::rename(older, reserve).unwrap();
    fs::write(folder.path().join("modules/b.json"), b"damaged").unwrap();
    for lost in [1, 0] {
        let (_held, files, found) = start(Arc::new(RealDisk), folder.path());
        assert_eq!(found.lost.len(), lost, "{found:?}");
        let rollouts: Vec<_> = files.known().rollouts.values().map(|file| file.record.clone()).collect();
        assert_eq!(rollouts, [rollout("r1", Some("q1"), 3)]);
    }
}

/// A flipped bit can't be told from a write that a power cut tore, after which the former content is the right one.
#[test]
fn a_flipped_bit_in_a_reserve_that_is_needed_costs_what_it_alone_has() {
    let original = fast_folder();
    prepare(original.path(), true);
    let bytes = fs::read(original.path().join("reserve")).unwrap();
    let (mut former, mut newest) = (0, 0);
    for at in places(bytes.len(), &[0, HALF]) {
        let image = fast_folder();
        copy(original.path(), image.path());
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(image.path().join("reserve"), &bytes).unwrap();
        let (_held, files, found) = start(Arc::new(RealDisk), image.path());
        assert_eq!((&found.lost, &found.moved_aside), (&vec![], &vec![]), "byte {at}");
        match &files.module(&name("a")).unwrap().assignment {
            Some(stable) if *stable == json!({ "stable": 2 }) => newest += 1,
            Some(stable) if *stable == json!({ "stable": 1 }) => former += 1,
            other => panic!("byte {at}: {other:?}"),
        }
        assert_eq!(files.known().modules.len(), 2, "byte {at}");
        assert_eq!(files.known().rollouts.len(), 1, "byte {at}");
    }
    assert!(former > 20 && newest > 20, "{former} cost it and {newest} did not");
}

/// What can't be read may be whole: nothing starts without it, and nothing takes its place.
#[test]
fn a_reserve_and_an_artifact_that_cannot_be_looked_at_are_left_as_they_are() {
    let folder = fast_folder();
    prepare(folder.path(), true);
    let artifact = format!("artifacts/{}.so", Sha256::of(&bytes(1, 5000)));
    for file in ["reserve", &artifact] {
        let (there, away) = (folder.path().join(file), folder.path().join("away"));
        fs::rename(&there, &away).unwrap();
        // Of a name that leads to itself nobody can tell what it names.
        std::os::unix::fs::symlink(&there, &there).unwrap();
        let refused = Store::open(folder.path(), options()).map(drop);
        assert!(
            matches!(&refused, Err(crate::store::OpenError::Io { path, .. }) if *path == there),
            "{file}: {refused:?}"
        );
        fs::remove_file(&there).unwrap();
        fs::rename(&away, &there).unwrap();
    }
    let (_held, files, found) = start(Arc::new(RealDisk), folder.path());
    assert_eq!((&found.lost, &found.moved_aside), (&vec![], &vec![]));
    assert_eq!(files.module(&name("a")).unwrap().assignment.as_ref(), Some(&json!({ "stable": 2 })));
}

/// A file that can't be written keeps its place in the reserve, and no other there.
#[test]
fn what_can_leave_the_reserve_does_beside_what_cannot() {
    let folder = fast_folder();
    prepare(folder.path(), false);
    let (store, _) = Store::open(folder.path(), options()).unwrap();
    let in_the_way = |module: &str| folder.path().join(format!("modules/{module}.json.tmp"));
    for module in ["a", "b"] {
        fs::create_dir(in_the_way(module)).unwrap();
        assign(&store, module, json!({ "stable": 3 }), Urgency::TowardStable);
    }
    fs::remove_dir(in_the_way("b")).unwrap();
    let record = folder.path().join("modules/b.json");
    let before = fs::read(&record).unwrap();
    store.tidy(std::time::SystemTime::now()).unwrap();
    assert_ne!(fs::read(&record).unwrap(), before);
    fs::remove_dir(in_the_way("a")).unwrap();
    drop(store);
    let (_held, files, _) = start(Arc::new(RealDisk), folder.path());
    for module in ["a", "b"] {
        let assignment = files.module(&name(module)).unwrap().assignment.clone();
        assert_eq!(assignment, Some(json!({ "stable": 3 })), "{module}");
    }
}
