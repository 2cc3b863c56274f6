//! Uploads: resumed, wrong, too many, abandoned.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Barrier};
use std::time::{Duration, SystemTime};

use hot_artifact::Sha256;

use super::kit::*;
use super::recorder::{Recorder, Step};
use crate::store::{Begun, CommitError, Committed, Store, SyncError, Upload, UploadError};

fn begin(store: &Store, bytes: &[u8]) -> Result<Upload, UploadError> {
    match store.begin_upload(Sha256::of(bytes), bytes.len() as u64)? {
        Begun::Upload(upload) => Ok(upload),
        Begun::AlreadyHave => panic!("it is there already"),
    }
}

#[test]
fn an_upload_goes_on_where_it_stopped_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = bytes(1, 100_000);
    for cut in [0, 1, 40_000, 99_999] {
        let (store, _) = open(folder.path());
        let upload = begin(&store, &bytes).unwrap();
        let from = usize::try_from(upload.offset()).unwrap();
        assert!(matches!(upload.clone().finish(), Err(UploadError::Incomplete { total: 100_000, .. })));
        assert_eq!(upload.write(from as u64, &bytes[from..cut]).unwrap(), cut as u64);
        // Again within the same run.
        drop(upload);
        assert_eq!(begin(&store, &bytes).unwrap().offset(), cut as u64);
    }
    let (store, _) = open(folder.path());
    assert_eq!(push(&store, "greeter", "1.0.0", &bytes, 1).unwrap(), Committed::New);
    assert_eq!(std::fs::read_dir(folder.path().join("spool")).unwrap().count(), 0);
}

#[test]
fn two_at_once_share_one_upload() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let bytes = bytes(1, 1000);
    let (one, two) = (begin(&store, &bytes).unwrap(), begin(&store, &bytes).unwrap());
    one.write(0, &bytes[..600]).unwrap();
    let wrong = two.write(0, &bytes[..600]).unwrap_err();
    assert!(matches!(wrong, UploadError::WrongOffset { expected: 600, found: 0 }));
    assert_eq!(wrong.to_string(), "the piece starts at byte 0; go on at byte 600");
    two.write(600, &bytes[600..]).unwrap();
    assert!(matches!(one.write(1000, &[1]), Err(UploadError::TooMuch { total: 1000, found: 1001 })));
    let other = store.begin_upload(Sha256::of(&bytes), 999);
    assert!(matches!(other, Err(UploadError::OtherTotal { there: 1000, total: 999, .. })));
    let (one, two) = (one.finish().unwrap(), two.finish().unwrap());
    assert_eq!(store.commit(&one, record("greeter", "1.0.0", &bytes, 1)).unwrap(), Committed::New);
    assert_eq!(std::io::read_to_string(two.open().unwrap()).ok(), String::from_utf8(bytes.clone()).ok());
    let second = store.commit(&two, record("greeter", "1.0.0", &bytes, 1)).unwrap();
    assert_eq!(second, Committed::AlreadyThere);
    two.discard();
    assert_eq!(store.versions(&name("greeter")).len(), 1);
}

/// The spool does not look into the bytes. Whoever did says so, and they go.
#[test]
fn other_bytes_than_announced_become_no_version() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let (announced, sent) = (bytes(1, 1000), bytes(2, 1000));
    let upload = begin(&store, &announced).unwrap();
    upload.write(0, &sent).unwrap();
    let spooled = upload.finish().unwrap();
    let refused = store.commit(&spooled, record("greeter", "1.0.0", &sent, 1)).unwrap_err();
    assert!(matches!(refused, CommitError::OtherFile { .. }), "{refused}");
    spooled.discard();
    assert_eq!(begin(&store, &announced).unwrap().offset(), 0);
    assert_eq!(push(&store, "greeter", "1.0.0", &announced, 1).unwrap(), Committed::New);
}

#[test]
fn other_bytes_than_announced_are_thrown_away_for_all_who_share_them() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let (announced, sent) = (bytes(1, 1000), bytes(2, 1000));
    let [one, two, three] = [(); 3].map(|()| begin(&store, &announced).unwrap());
    one.write(0, &sent).unwrap();
    let (one, two) = (one.finish().unwrap(), two.finish().unwrap());
    two.sync().unwrap();
    one.throw_away();
    assert_eq!(store.uploaded(Sha256::of(&announced), 1000).unwrap(), 0);
    let again = begin(&store, &announced).unwrap();
    assert_eq!(again.write(0, &announced[..500]).unwrap(), 500);
    // The second one must neither take the name away that others have now, nor make a version of what they write.
    let refused = store.commit(&two, record("greeter", "1.0.0", &announced, 1)).unwrap_err();
    assert!(matches!(refused, CommitError::Sync(SyncError::ThrownAway(_))), "{refused}");
    two.throw_away();
    three.finish().unwrap().discard();
    assert_eq!(begin(&store, &announced).unwrap().offset(), 500);
    assert_eq!(push(&store, "greeter", "1.0.0", &announced, 1).unwrap(), Committed::New);
}

/// A store in a folder in memory, on a disk that fails on demand.
fn recorded() -> (tempfile::TempDir, Arc<Recorder>, Store) {
    let folder = fast_folder();
    let disk = Arc::new(Recorder::new(folder.path()));
    let (store, _) = Store::open_on(Arc::clone(&disk) as _, folder.path(), options()).unwrap();
    (folder, disk, store)
}

/// The system says once that it lost bytes, and has them in memory still.
#[test]
fn what_the_disk_did_not_take_is_uploaded_anew() {
    let (_folder, disk, store) = recorded();
    let bytes = bytes(1, 1000);
    let two = begin(&store, &bytes).unwrap();
    let (one, two) = (upload(&store, &bytes), two.finish().unwrap());
    disk.fails_at.store(disk.count.load(Ordering::Relaxed), Ordering::Relaxed);
    let failed = one.sync().unwrap_err();
    assert!(matches!(failed, SyncError::Io { .. }), "{failed}");
    for shared in [one, two] {
        let failed = store.commit(&shared, record("greeter", "1.0.0", &bytes, 1)).unwrap_err();
        assert!(matches!(failed, CommitError::Sync(SyncError::ThrownAway(_))), "{failed}");
        assert_eq!(begin(&store, &bytes).unwrap().offset(), 0, "also while they are shared");
    }
    let before = disk.steps.lock().unwrap().len();
    assert_eq!(push(&store, "greeter", "1.0.0", &bytes, 1).unwrap(), Committed::New);
    let steps = disk.steps.lock().unwrap();
    let written =
        steps[before..].iter().position(|step| matches!(step, Step::Write(_, 0, all) if *all == bytes));
    let synced =
        steps[before..].iter().position(|step| matches!(step, Step::Sync(path) if path.starts_with("spool")));
    assert!(written.unwrap() < synced.unwrap());
}

#[test]
fn nobody_waits_for_the_fsync_of_another_upload() {
    let (_folder, disk, store) = recorded();
    let (large, small) = (bytes(1, 1000), bytes(2, 100));
    let spooled = upload(&store, &large);
    let pause = Arc::new(Barrier::new(2));
    *disk.pause.lock().unwrap() = Some(Arc::clone(&pause));
    std::thread::scope(|scope| {
        let synced = scope.spawn(|| spooled.sync());
        pause.wait();
        assert_eq!(begin(&store, &small).unwrap().write(0, &small).unwrap(), 100);
        assert_eq!(store.uploaded(Sha256::of(&large), 1000).unwrap(), 1000);
        assert_eq!(begin(&store, &large).unwrap().offset(), 1000);
        pause.wait();
        synced.join().unwrap().unwrap();
    });
}

#[test]
fn sizes_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let digest = Sha256::of(b"");
    assert!(matches!(store.begin_upload(digest, 0), Err(UploadError::Empty)));
    assert!(matches!(store.begin_upload(digest, u64::MAX), Err(UploadError::TooLarge { .. })));
    assert!(matches!(store.begin_upload(digest, 1 << 20), Ok(Begun::Upload(_))));
}

#[test]
fn ten_thousand_abandoned_uploads_block_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    for n in 0..10_000 {
        let upload = begin(&store, &bytes(n, 100)).unwrap();
        upload.write(0, &bytes(n, 50)).unwrap();
    }
    let spool = folder.path().join("spool");
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), options().max_uploads);
    let live: Vec<_> = (0..4).map(|n| begin(&store, &bytes(n, 1000)).unwrap()).collect();
    assert!(matches!(begin(&store, &bytes(9, 100)), Err(UploadError::TooMany { count: 4 })));
    drop(live);
    // In bytes, too: three of a mebibyte are as many as fit.
    let large: Vec<_> = (0..3).map(|n| begin(&store, &bytes(20 + n, 1 << 20)).unwrap()).collect();
    assert!(matches!(begin(&store, &bytes(9, 100)), Err(UploadError::TooMany { count: 3 })));
    drop(large);
    begin(&store, &bytes(9, 100)).unwrap();
}

#[test]
fn old_uploads_expire_and_new_ones_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let (old, held) = (bytes(1, 100), bytes(2, 100));
    begin(&store, &old).unwrap().write(0, &old[..50]).unwrap();
    let held_upload = begin(&store, &held).unwrap();
    held_upload.write(0, &held[..50]).unwrap();
    store.tidy(SystemTime::now() + Duration::from_secs(1800)).unwrap();
    assert_eq!(begin(&store, &old).unwrap().offset(), 50);
    store.tidy(SystemTime::now() + Duration::from_secs(2 * 3600)).unwrap();
    assert_eq!(begin(&store, &old).unwrap().offset(), 0);
    assert_eq!(begin(&store, &held).unwrap().offset(), 50, "somebody is still writing it");
}
