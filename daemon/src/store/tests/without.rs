//! The power cuts of `power` with one step of the store left out or taken too early: each must cost something that was
//! acknowledged, or `power` could not see that it is needed.
//!
//! What a power cut can't miss is held in its place by the end-to-end tests (`tests/tests/order.rs`): two fsyncs that a later
//! one covers (of `artifacts/` after an artifact's record, and after its removal), and the order of fsync and rename of a
//! config, which nothing names before both are done.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::power::play;
use super::recorder::{Cut, Recorder, Step};
use crate::store::disk::Disk;

/// What is done wrong, with the files of a folder of the store (empty: of any) whose names end so.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    /// The bytes of such a file are not synced.
    NoSync(&'static str, &'static str),
    /// A folder is not synced after such a file got its name.
    NoSyncAfterRename(&'static str, &'static str),
    /// A folder is not synced after such a file was removed.
    NoSyncAfterRemove(&'static str, &'static str),
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
        self.recorder.create_dir(path)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
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

#[test]
fn a_power_cut_finds_each_step_that_is_left_out() {
    use Wrong::{NoSync, NoSyncAfterRemove, NoSyncAfterRename, OneHalf, RenameFirst, SyncFolderFirst};
    for wrong in [
        NoSync("modules", ".tmp"),
        NoSync("rollouts", ".tmp"),
        NoSync("artifacts", ".tmp"),
        NoSync("configs", ".tmp"),
        NoSync("", "counters.json.tmp"),
        NoSync("spool", ".part"),
        NoSync("", "reserve"),
        NoSyncAfterRename("modules", ".json"),
        NoSyncAfterRename("rollouts", ".json"),
        NoSyncAfterRename("artifacts", ".so"),
        NoSyncAfterRename("configs", ""),
        NoSyncAfterRename("", "counters.json"),
        NoSyncAfterRemove("rollouts", ".json"),
        RenameFirst("modules", ".tmp"),
        RenameFirst("rollouts", ".tmp"),
        RenameFirst("artifacts", ".tmp"),
        RenameFirst("", "counters.json.tmp"),
        SyncFolderFirst("modules", ".json"),
        SyncFolderFirst("rollouts", ".json"),
        SyncFolderFirst("artifacts", ".so"),
        SyncFolderFirst("configs", ""),
        SyncFolderFirst("", "counters.json"),
        OneHalf,
    ] {
        let mut disk = None;
        let played = play(|recorder| {
            let made = Arc::new(WrongDisk { recorder, wrong, state: Mutex::default() });
            disk = Some(Arc::clone(&made));
            made
        });
        let first = disk.unwrap().state.lock().unwrap().first;
        let first = first.unwrap_or_else(|| panic!("{wrong:?} was never done"));
        // Up to there all is right.
        let cuts = [Cut::AllUnsynced, Cut::Bytes, Cut::Names, Cut::HalfOfBytes];
        let lost = played.cut(|at| if at < first { Vec::new() } else { cuts.to_vec() });
        assert!(lost.is_err(), "{wrong:?} costs nothing");
    }
}
