//! The power cuts of `power` with one step of the store left out or taken too early: each must cost something that was
//! acknowledged, or `power` could not see that it is needed.
//!
//! What a power cut can't miss is held in its place by the end-to-end tests (`tests/tests/order.rs`): two fsyncs that a later
//! one covers (of `artifacts/` after an artifact's record, and after its removal), and the order of fsync and rename of a
//! config, which nothing names before both are done.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::failing::is_missed_by_a_start;
use super::kit::*;
use super::power::{DATA, Scene, play, start};
use super::recorder::{Cut, Model, Recorder, Step};
use crate::store::disk::{Disk, RealDisk};
use crate::store::{Urgency, keep_file_on};

/// What is done wrong, with the files of a folder of the store (empty: of any) whose names end so.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    /// The bytes of such a file are not synced.
    NoSync(&'static str, &'static str),
    /// A folder is not synced after such a file got its name.
    NoSyncAfterRename(&'static str, &'static str),
    /// A folder is not synced after such a file was removed.
    NoSyncAfterRemove(&'static str, &'static str),
    /// A folder is not synced after such a file was made in it.
    NoSyncAfterCreate(&'static str, &'static str),
    /// A folder is not synced after a folder of this name was made in it.
    NoSyncAfterMkdir(&'static str),
    /// A folder of this name is never synced.
    NeverSync(&'static str),
    /// Such a file gets its name before its bytes are synced.
    RenameFirst(&'static str, &'static str),
    /// The folder is synced before such a file gets its name.
    SyncFolderFirst(&'static str, &'static str),
    /// The reserve has one half.
    OneHalf,
}

/// A disk that does one thing wrong.
#[derive(Debug)]
struct WrongDisk {
    recorder: Arc<Recorder>,
    wrong: Wrong,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The next fsync of a folder is left out.
    skip: bool,
    /// The file whose fsync comes after its new name.
    late: Option<File>,
    /// Steps that had been taken when the wrong was first done.
    first: Option<usize>,
}

impl WrongDisk {
    /// Whether this is such a file. A start is right: what it makes counts as little as what is not there.
    fn is(&self, path: &Path, folder: &str, end: &str) -> bool {
        let within = path.parent().and_then(Path::file_name).is_some_and(|name| name == folder);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let started = |step: &Step| matches!(step, Step::Acknowledged(_));
        (within || folder.is_empty())
            && name.ends_with(end)
            && self.recorder.steps.lock().unwrap().iter().any(started)
    }

    fn note(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap();
        let steps = self.recorder.steps.lock().unwrap().len();
        state.first.get_or_insert(steps);
        change(&mut state);
    }
}

impl Disk for WrongDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if let Wrong::NoSyncAfterMkdir(name) = self.wrong
            && path.ends_with(name)
            && !path.is_dir()
        {
            self.note(|state| state.skip = true);
        }
        self.recorder.create_dir(path)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        if let Wrong::NoSyncAfterCreate(folder, end) = self.wrong
            && self.is(path, folder, end)
        {
            self.note(|state| state.skip = true);
        }
        self.recorder.create(path)
    }

    fn write_at(&self, path: &Path, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        /// Where the second half of the reserve begins.
        const HALF: u64 = 2 * 1024 * 1024;
        if matches!(self.wrong, Wrong::OneHalf)
            && path.ends_with("reserve")
            && offset == HALF
            && bytes[0] != 0
        {
            self.note(|_| ());
            return self.recorder.write_at(path, file, 0, bytes);
        }
        self.recorder.write_at(path, file, offset, bytes)
    }

    fn set_len(&self, path: &Path, file: &File, len: u64) -> io::Result<()> {
        self.recorder.set_len(path, file, len)
    }

    fn sync(&self, path: &Path, file: &File) -> io::Result<()> {
        match self.wrong {
            Wrong::NoSync(folder, end) if self.is(path, folder, end) => {
                self.note(|_| ());
                Ok(())
            }
            Wrong::RenameFirst(folder, end) if self.is(path, folder, end) => {
                let late = Some(file.try_clone()?);
                self.note(|state| state.late = late);
                Ok(())
            }
            _ => self.recorder.sync(path, file),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if let Wrong::SyncFolderFirst(folder, end) = self.wrong
            && self.is(to, folder, end)
        {
            self.note(|state| state.skip = true);
            self.recorder.sync_dir(to.parent().unwrap())?;
        }
        self.recorder.rename(from, to)?;
        let late = self.state.lock().unwrap().late.take();
        if let Some(late) = late {
            self.recorder.sync(to, &late)?;
        }
        if let Wrong::NoSyncAfterRename(folder, end) = self.wrong
            && self.is(to, folder, end)
        {
            self.note(|state| state.skip = true);
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if std::mem::take(&mut self.state.lock().unwrap().skip) {
            return Ok(());
        }
        if let Wrong::NeverSync(name) = self.wrong
            && path.ends_with(name)
        {
            self.note(|_| ());
            return Ok(());
        }
        self.recorder.sync_dir(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.recorder.remove(path)?;
        if let Wrong::NoSyncAfterRemove(folder, end) = self.wrong
            && self.is(path, folder, end)
        {
            self.note(|state| state.skip = true);
        }
        Ok(())
    }
}

/// A disk that does `wrong`, kept in `disk`.
fn wrong_disk(recorder: Arc<Recorder>, wrong: Wrong, disk: &mut Option<Arc<WrongDisk>>) -> Arc<dyn Disk> {
    let made = Arc::new(WrongDisk { recorder, wrong, state: Mutex::default() });
    *disk = Some(Arc::clone(&made));
    made
}

#[test]
fn a_power_cut_finds_each_step_that_is_left_out() {
    use Wrong::{
        NoSync, NoSyncAfterCreate, NoSyncAfterMkdir, NoSyncAfterRemove, NoSyncAfterRename, OneHalf,
        RenameFirst, SyncFolderFirst,
    };
    for (scene, wrong) in [
        (Scene::Story, NoSync("modules", ".tmp")),
        (Scene::Story, NoSync("rollouts", ".tmp")),
        (Scene::Story, NoSync("artifacts", ".tmp")),
        (Scene::Story, NoSync("configs", ".tmp")),
        (Scene::Story, NoSync("", "counters.json.tmp")),
        (Scene::Story, NoSync("spool", ".part")),
        (Scene::Story, NoSync("", "reserve")),
        (Scene::Story, NoSyncAfterRename("modules", ".json")),
        (Scene::Story, NoSyncAfterRename("rollouts", ".json")),
        (Scene::Story, NoSyncAfterRename("artifacts", ".so")),
        (Scene::Story, NoSyncAfterRename("configs", "")),
        (Scene::Story, NoSyncAfterRename("", "counters.json")),
        (Scene::Story, NoSyncAfterRemove("rollouts", ".json")),
        (Scene::Story, RenameFirst("modules", ".tmp")),
        (Scene::Story, RenameFirst("rollouts", ".tmp")),
        (Scene::Story, RenameFirst("artifacts", ".tmp")),
        (Scene::Story, RenameFirst("", "counters.json.tmp")),
        (Scene::Story, SyncFolderFirst("modules", ".json")),
        (Scene::Story, SyncFolderFirst("rollouts", ".json")),
        (Scene::Story, SyncFolderFirst("artifacts", ".so")),
        (Scene::Story, SyncFolderFirst("configs", "")),
        (Scene::Story, SyncFolderFirst("", "counters.json")),
        (Scene::Story, OneHalf),
        (Scene::Story, NoSyncAfterMkdir(DATA)),
        (Scene::NoConfigs, NoSyncAfterMkdir("configs")),
        (Scene::LateReserve, NoSyncAfterCreate("", "reserve")),
    ] {
        let mut disk = None;
        let played = play(scene, |recorder| wrong_disk(recorder, wrong, &mut disk));
        let first = disk.unwrap().state.lock().unwrap().first;
        let first = first.unwrap_or_else(|| panic!("{wrong:?} was never done"));
        // Up to there all is right.
        let cuts = [Cut::AllUnsynced, Cut::Bytes, Cut::Names, Cut::HalfOfBytes];
        let lost = played.cut(|at| if at < first { Vec::new() } else { cuts.to_vec() });
        assert!(lost.is_err(), "{wrong:?} costs nothing");
    }
}

#[test]
fn a_power_cut_after_a_start_finds_what_that_did_not_sync() {
    for wrong in [
        Wrong::NeverSync("modules"),
        Wrong::NeverSync("rollouts"),
        Wrong::NeverSync("artifacts"),
        Wrong::NoSync("", "reserve"),
    ] {
        let is_missed = is_missed_by_a_start(|recorder| wrong_disk(recorder, wrong, &mut None));
        assert!(is_missed, "{wrong:?} costs nothing");
    }
}

/// A start takes a damaged file out of the way on a disk that does `wrong`; what is then under its old name, and what
/// aside, after everything that was not synced is gone.
fn set_aside(wrong: Option<Wrong>) -> (bool, usize) {
    let folder = fast_folder();
    let root = folder.path().join(DATA);
    let (held, files, _) = start(Arc::new(RealDisk), &root);
    files.put_rollout(rollout("r1", None, 1), false, Urgency::Normal).unwrap();
    drop((held, files));
    fs::write(root.join("rollouts/r1.json"), b"damaged").unwrap();
    let mut model = Model::of(folder.path());
    let recorder = Arc::new(Recorder::new(folder.path()));
    recorder.acknowledge(0);
    let disk: Arc<dyn Disk> = match wrong {
        Some(wrong) => wrong_disk(Arc::clone(&recorder), wrong, &mut None),
        None => Arc::clone(&recorder) as Arc<dyn Disk>,
    };
    let (_held, _files, recovered) = start(disk, &root);
    assert_eq!(recovered.moved_aside.len(), 1);
    recorder.steps.lock().unwrap().iter().for_each(|step| model.apply(step));
    let image = fast_folder();
    model.image(Cut::AllUnsynced, image.path());
    let at = |name: &str| image.path().join(DATA).join(name);
    (at("rollouts/r1.json").exists(), fs::read_dir(at("aside")).unwrap().count())
}

#[test]
fn what_is_taken_out_of_the_way_is_neither_lost_nor_found_twice() {
    assert_eq!(set_aside(None), (false, 1));
    assert_eq!(set_aside(Some(Wrong::NoSyncAfterRename("aside", ".json"))), (false, 0), "it is lost");
    assert_eq!(set_aside(Some(Wrong::NeverSync("rollouts"))), (true, 1), "it is back");
}

/// Keeps a file of trust, and another in its place, on a disk that does `wrong` and fails at a step; what is left of it
/// after everything that was not synced is gone.
fn kept(wrong: Option<Wrong>, fails_at: usize) -> Option<Vec<u8>> {
    let folder = fast_folder();
    let recorder = Arc::new(Recorder::new(folder.path()));
    recorder.acknowledge(0);
    let disk: Arc<dyn Disk> = match wrong {
        Some(wrong) => wrong_disk(Arc::clone(&recorder), wrong, &mut None),
        None => Arc::clone(&recorder) as Arc<dyn Disk>,
    };
    recorder.fails_at.store(fails_at, Ordering::Relaxed);
    let path = folder.path().join("trust/allowed_signers");
    for _ in 0..2 {
        if keep_file_on(&*disk, &path, Some(b"ada")).is_ok() {
            break;
        }
    }
    let mut model = Model::default();
    recorder.steps.lock().unwrap().iter().for_each(|step| model.apply(step));
    let image = fast_folder();
    model.image(Cut::AllUnsynced, image.path());
    fs::read(image.path().join("trust/allowed_signers")).ok()
}

#[test]
fn a_file_of_trust_is_kept_whichever_step_failed_before() {
    for fails_at in 0..8 {
        assert_eq!(kept(None, fails_at).as_deref(), Some(&b"ada"[..]), "step {fails_at}");
    }
    for wrong in [
        Wrong::NoSyncAfterMkdir("trust"),
        Wrong::NoSyncAfterRename("trust", "allowed_signers"),
        Wrong::NoSync("trust", ".tmp"),
    ] {
        assert_ne!(kept(Some(wrong), usize::MAX).as_deref(), Some(&b"ada"[..]), "{wrong:?}");
    }
}
