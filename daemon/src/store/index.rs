//! sled 0.34, held so that its traps hurt nobody:
//!
//! - its `flush` does not reach the disk on Linux (`sync_file_range`), so [`Index::flush`] syncs the database file
//!   through a descriptor of our own afterwards;
//! - a crash while it writes a snapshot leaves a `*.generating` file that stops the next open: moved aside first. Any
//!   other snapshot that stops it is moved aside as well before the history is given up: snapshots only save time;
//! - after an IO error it refuses every write until it is reopened, even with space freed: reopened here, beneath the
//!   callers;
//! - it panics on some IO errors, and on some damaged files: caught here, and treated like an error;
//! - its cache is a gigabyte unless told, and more than it was told: see [`CACHE`];
//! - its trees don't know how many entries they have: see [`Counted`];
//! - a database file of garbage is no error to it: it opens as an empty one, so what should have been there and was not
//!   recovered counts as damage here.
//!
//! What can't be opened is moved aside and made anew. It does not know what is in the trees: that is `history`. Nothing
//! that goes toward stable comes here.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::counted::Counted;
use super::disk::Disk;
use super::folder::set_aside;

/// Bytes of sled's page cache, which nothing here needs for its speed. It is a wish: sled parts its pages among 256 caches
/// of an equal part of this, looks at one of them once in 64 reads and writes of its pages, and leaves it one page at least.
/// So it comes to some 4 MiB with any lower figure too, and what reads a whole tree has all of it in memory for a while.
const CACHE: u64 = 1024 * 1024;
/// Time between two of sled's own flushes, which bounds how many events a crash of the process can lose.
const FLUSH_EVERY_MS: u64 = 500;
/// How long to wait for the lock of the database file. From fork to exec takes milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// The index can't be asked now.
#[derive(Debug, Error)]
pub enum IndexError {
    /// It could not be opened or failed, and will be tried again.
    #[error("the history is not available now ({why}); what runs is not affected")]
    Unavailable {
        /// What went wrong last.
        why: String,
    },
}

/// How the index was found when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexFound {
    /// There was none.
    New,
    /// As it was left.
    Whole,
    /// Opened after damaged snapshots were moved aside: nothing is lost.
    Salvaged,
    /// It could not be read and was moved to this place: history is lost.
    Lost {
        /// Why it could not be read.
        why: String,
        /// Where it is now.
        aside: PathBuf,
    },
    /// It can't be opened now, and will be tried again: the disk is full, for example.
    Unavailable {
        /// Why.
        why: String,
    },
}

/// The trees, open.
#[derive(Debug)]
pub(super) struct Trees {
    db: sled::Db,
    /// A descriptor of our own of the database file, for its fsync.
    file: File,
    pub(super) releases: sled::Tree,
    pub(super) rollouts: sled::Tree,
    pub(super) order: Counted,
    pub(super) requests: sled::Tree,
    pub(super) events: Counted,
}

/// A database that is open most of the time.
#[derive(Debug)]
pub(super) struct Index {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    retry: Duration,
    state: Mutex<State>,
    /// It was opened since somebody last asked: what was written before may be missing.
    opened: AtomicBool,
}

#[derive(Debug)]
enum State {
    Open(Trees),
    Down { why: String, since: Instant },
}

impl Index {
    /// Opens `root/index`. Never fails: what can't be opened now is tried again, at most once per `retry`. A folder that
    /// is not `new` should have an index with something in it.
    pub(super) fn open(disk: Arc<dyn Disk>, root: &Path, new: bool, retry: Duration) -> (Self, IndexFound) {
        let (state, found) = open_state(&*disk, root, new);
        (
            Self {
                disk,
                root: root.to_owned(),
                retry,
                state: Mutex::new(state),
                opened: AtomicBool::new(true),
            },
            found,
        )
    }

    /// Does `work` on the trees. After an error they are opened again and it is done a second time, so doing it twice
    /// must be as good as once.
    pub(super) fn with<T>(&self, work: impl Fn(&Trees) -> sled::Result<T>) -> Result<T, IndexError> {
        let mut state = self.lock();
        let mut why = match &*state {
            State::Open(trees) => match guarded(|| work(trees)) {
                Ok(done) => return Ok(done),
                Err(why) => why,
            },
            State::Down { why, since } if since.elapsed() < self.retry => {
                return Err(IndexError::Unavailable { why: why.clone() });
            }
            State::Down { why, .. } => why.clone(),
        };
        // sled holds a lock on its file until the last handle is gone.
        close(std::mem::replace(&mut *state, State::Down { why: why.clone(), since: Instant::now() }));
        let (opened, _) = open_state(&*self.disk, &self.root, true);
        *state = opened;
        self.opened.store(true, Ordering::Relaxed);
        if let State::Open(trees) = &*state {
            match guarded(|| work(trees)) {
                Ok(done) => return Ok(done),
                Err(again) => why = again,
            }
            close(std::mem::replace(&mut *state, State::Down { why: why.clone(), since: Instant::now() }));
        } else if let State::Down { why: now, .. } = &*state {
            why.clone_from(now);
        }
        Err(IndexError::Unavailable { why })
    }

    /// Returns once everything that was written is on the disk.
    pub(super) fn flush(&self) -> Result<(), IndexError> {
        self.with(flush)
    }

    /// Whether it was opened since this was last asked.
    pub(super) fn take_opened(&self) -> bool {
        self.opened.swap(false, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Panics of sled are caught inside.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let mut state = self.lock();
        close(std::mem::replace(
            &mut *state,
            State::Down { why: "closed".to_owned(), since: Instant::now() },
        ));
    }
}

/// Makes what was written to the trees durable.
pub(super) fn flush(trees: &Trees) -> sled::Result<()> {
    trees.db.flush()?;
    Ok(trees.file.sync_all()?)
}

/// Drops the handles; sled writes and syncs then, and panics if it can't.
fn close(state: State) {
    if catch_unwind(AssertUnwindSafe(|| drop(state))).is_err() {
        tracing::warn!("the index panicked while it was closed; it is opened again");
    }
}

fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_panic) => Err("the index panicked".to_owned()),
    }
}

/// Why an open failed.
enum OpenFailure {
    /// Time or space will mend it.
    Passing(String),
    /// Its file is locked.
    Locked(String),
    /// The files are damaged.
    Damaged(String),
}

fn open_state(disk: &dyn Disk, root: &Path, new: bool) -> (State, IndexFound) {
    let folder = root.join("index");
    let is_new = !folder.join("db").exists();
    let passing = |why: String| {
        let found = IndexFound::Unavailable { why: why.clone() };
        (State::Down { why, since: Instant::now() }, found)
    };
    if let Err(error) = snapshots_aside(disk, root, |name| name.ends_with(".generating")) {
        return passing(format!("an unfinished snapshot can't be moved aside: {error}"));
    }
    // sled syncs no folder: without this, a power cut may take the names of files whose bytes are on the disk.
    let keep_names = || disk.sync_dir(&folder).and_then(|()| disk.sync_dir(root));
    let why = match open_trees(&folder) {
        Ok(trees) if is_new => {
            return match keep_names() {
                Ok(()) => (State::Open(trees), IndexFound::New),
                Err(error) => {
                    close(State::Open(trees));
                    passing(format!("its folder can't be synced: {error}"))
                }
            };
        }
        Ok(trees) if new || trees.db.was_recovered() => return (State::Open(trees), IndexFound::Whole),
        Ok(trees) => {
            close(State::Open(trees));
            "nothing in it could be read".to_owned()
        }
        Err(OpenFailure::Passing(why) | OpenFailure::Locked(why)) => return passing(why),
        Err(OpenFailure::Damaged(why)) => why,
    };
    if snapshots_aside(disk, root, |_| true).is_ok_and(|moved| moved > 0) {
        match open_trees(&folder) {
            Ok(trees) => return (State::Open(trees), IndexFound::Salvaged),
            Err(OpenFailure::Passing(why) | OpenFailure::Locked(why)) => return passing(why),
            Err(OpenFailure::Damaged(_)) => {}
        }
    }
    let aside = match set_aside(disk, root, &folder) {
        Ok(aside) => aside,
        Err(error) => return passing(format!("it is damaged ({why}) and can't be moved aside: {error}")),
    };
    match open_trees(&folder) {
        Ok(trees) => {
            // Where it fails what is lost may be lost again with the power: it is history, which is told as lost already.
            keep_names().ok();
            (State::Open(trees), IndexFound::Lost { why, aside })
        }
        Err(OpenFailure::Passing(now) | OpenFailure::Locked(now) | OpenFailure::Damaged(now)) => {
            (State::Down { why: now, since: Instant::now() }, IndexFound::Lost { why, aside })
        }
    }
}

/// Moves the snapshot files that `which` picks by name aside; how many.
fn snapshots_aside(disk: &dyn Disk, root: &Path, which: impl Fn(&str) -> bool) -> io::Result<usize> {
    let folder = root.join("index");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e),
    };
    let mut moved = 0;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("snap.") && which(&name) {
            set_aside(disk, root, &path)?;
            moved += 1;
        }
    }
    Ok(moved)
}

/// Opens the database, and waits while somebody else has its lock: that is a child of ours between fork and exec.
fn open_trees(folder: &Path) -> Result<Trees, OpenFailure> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match try_open_trees(folder) {
            Err(OpenFailure::Locked(_)) if Instant::now() < deadline => std::thread::sleep(LOCK_WAIT / 100),
            Err(OpenFailure::Locked(why)) => return Err(OpenFailure::Passing(why)),
            done => return done,
        }
    }
}

fn try_open_trees(folder: &Path) -> Result<Trees, OpenFailure> {
    let open = || {
        let db = sled::Config::new()
            .path(folder)
            .cache_capacity(CACHE)
            .flush_every_ms(Some(FLUSH_EVERY_MS))
            .print_profile_on_drop(false)
            .open()?;
        let trees = Trees {
            file: File::open(folder.join("db"))?,
            releases: db.open_tree("releases")?,
            rollouts: db.open_tree("rollouts")?,
            order: Counted::new(db.open_tree("order")?),
            requests: db.open_tree("requests")?,
            events: Counted::new(db.open_tree("events")?),
            db,
        };
        // From here on it is never empty.
        flush(&trees)?;
        Ok(trees)
    };
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok(trees)) => Ok(trees),
        // It has no kind of its own.
        Ok(Err(sled::Error::Io(error))) if error.to_string().contains("could not acquire lock") => {
            Err(OpenFailure::Locked(error.to_string()))
        }
        Ok(Err(sled::Error::Io(error))) if is_passing(&error) => Err(OpenFailure::Passing(error.to_string())),
        Ok(Err(error)) => Err(OpenFailure::Damaged(error.to_string())),
        Err(_panic) => Err(OpenFailure::Damaged("the index panicked while it was opened".to_owned())),
    }
}

/// Errors that say nothing about what is in the files.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    let by_kind = matches!(
        error.kind(),
        K::StorageFull
            | K::QuotaExceeded
            | K::ReadOnlyFilesystem
            | K::PermissionDenied
            | K::OutOfMemory
            | K::WouldBlock
            | K::Interrupted
    );
    // Too many descriptors, in this process or on this machine, have no kind of their own.
    let descriptors =
        [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE].map(rustix::io::Errno::raw_os_error);
    by_kind || error.raw_os_error().is_some_and(|code| descriptors.contains(&code))
}
