//! The small files: written whole or not at all, and from the reserve when the disk is full.
//!
//! A write that fails once the file has its new name may be on the disk all the same. It is taken back before it is refused:
//! what counted is written again, as the newest, into its file or else into the reserve.
//!
//! It knows names, generations and envelopes, not what is in a record.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hot_artifact::{ModuleName, Sha256};
use thiserror::Error;

use super::disk::{Disk, ReplaceError, remove_for_good, replace};
use super::doubts::{Doubts, InDoubt};
use super::envelope;
use super::failed::failed;
use super::names::RolloutId;
use super::newest::Newest;
use super::recover::OpenError;
use super::reserve::{Contents, Reserve};

/// Bytes that a record may have. A module with a hundred releases and a thousand tombstones has about 200 KiB.
const MAX_RECORD: usize = 512 * 1024;
/// The same toward stable: what grew up to the limit can still be taken back.
const MAX_URGENT: usize = 2 * MAX_RECORD;
/// The record and its envelope.
const MAX_FILE: u64 = MAX_URGENT as u64 + 1024;

/// The file of the reserve, below the folder of the store.
const RESERVE: &str = "reserve";

/// The name of a small file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// `modules/<name>.json`
    Module(ModuleName),
    /// `rollouts/<id>.json`
    Rollout(RolloutId),
    /// `artifacts/<digest>.json`
    Artifact(Sha256),
    /// `counters.json`
    Counters,
}

impl Key {
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Module(_) => "module",
            Self::Rollout(_) => "rollout",
            Self::Artifact(_) => "artifact",
            Self::Counters => "counters",
        }
    }

    /// The key of a file, given its name within the store.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let name = name.strip_suffix(".json")?;
        match name.split_once('/') {
            None => (name == "counters").then_some(Self::Counters),
            Some(("modules", name)) => name.parse().ok().map(Self::Module),
            Some(("rollouts", id)) => id.parse().ok().map(Self::Rollout),
            Some(("artifacts", digest)) => digest.parse().ok().map(Self::Artifact),
            Some(_) => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module(name) => write!(f, "modules/{name}.json"),
            Self::Rollout(id) => write!(f, "rollouts/{id}.json"),
            Self::Artifact(digest) => write!(f, "artifacts/{digest}.json"),
            Self::Counters => f.write_str("counters.json"),
        }
    }
}

/// How much a write is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Fails on a full disk.
    Normal,
    /// Goes toward stable: uses the reserve when the file itself can't be written.
    TowardStable,
}

/// A record was not written; what was there before counts.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The disk is full, broken or read-only.
    #[error("cannot write {}{}", path.display(), hint(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Neither the file nor the reserve took it.
    #[error("cannot write {} ({source}), and the reserve did not take it either ({reserve})", path.display())]
    Reserve {
        /// The file.
        path: PathBuf,
        /// Why the file could not be written.
        source: io::Error,
        /// Why the reserve could not.
        reserve: io::Error,
    },
    /// The record has grown past what is kept in one file.
    #[error("{} would be {found} bytes, and at most {limit} are kept", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes it would have.
        found: usize,
        /// Bytes it may have.
        limit: usize,
    },
    /// The record can't be said in JSON.
    #[error("cannot encode {}", path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// What can't be encoded.
        source: serde_json::Error,
    },
}

impl WriteError {
    /// Whether free space on the disk would help.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } | Self::Reserve { source, .. } => is_full(source),
            Self::TooLarge { .. } | Self::Encode { .. } => false,
        }
    }
}

/// Whether an error means that there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What to do about an error, as the end of its sentence.
pub(super) fn hint(error: &io::Error) -> &'static str {
    if is_full(error) { ": free some space on its disk and try again" } else { "" }
}

/// A small file could not be read.
#[derive(Debug, Error)]
pub(super) enum ReadError {
    /// Not there.
    #[error("it is not there")]
    Missing,
    /// The system says no.
    #[error("{0}")]
    Io(io::Error),
    /// Its content is not what was written.
    #[error("{0}")]
    Damaged(String),
    /// A newer `hotd` wrote it.
    #[error("{0}")]
    Newer(String),
}

/// The writer and reader of small files.
#[derive(Debug)]
pub(super) struct SmallFiles {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    state: Mutex<State>,
    /// Files of which a write was refused, and neither file nor reserve took what counts.
    in_doubt: Doubts,
}

#[derive(Debug)]
struct State {
    generations: BTreeMap<Key, u64>,
    reserve: Reserve,
    /// Files whose newest content is not in them: the reserve has it, unless it is in doubt.
    pending: BTreeMap<Key, Newest>,
    /// Files that the reserve holds. Those that are not pending have been written since, and are to be forgotten.
    in_reserve: BTreeSet<Key>,
    /// It could not be made to forget them when that was last tried.
    is_stuck: bool,
}

impl SmallFiles {
    /// Opens the reserve. What it holds and is in the files by now does not count any more. Where that can't be told, since a
    /// file can't be read although it may be good, nothing is changed.
    pub(super) fn open(disk: Arc<dyn Disk>, root: &Path) -> Result<Self, OpenError> {
        let path = root.join(RESERVE);
        let opened = Reserve::open(Arc::clone(&disk), path.clone());
        let (reserve, contents) = opened.map_err(|source| OpenError::Io { path, source })?;
        let mut pending: BTreeMap<Key, Newest> =
            contents.into_iter().filter_map(|(name, text)| Newest::from_kept(&name, text)).collect();
        let in_reserve = pending.keys().cloned().collect();
        // What comes under the name of a file that is gone must be newer than what was.
        let gone = pending.iter().filter_map(|(key, newest)| match newest {
            Newest::Gone(generation) => Some((key.clone(), *generation)),
            Newest::Is(_) => None,
        });
        let generations = gone.collect();
        let mut unreadable = None;
        pending.retain(|key, newest| {
            let path = path_in(root, key);
            let found = read_file(&path, key);
            let counts = newest.counts_beside(key, &found);
            if let Err(ReadError::Io(source)) = found {
                unreadable = Some(OpenError::Io { path, source });
            }
            counts
        });
        if let Some(unreadable) = unreadable {
            return Err(unreadable);
        }
        let state = State { generations, reserve, pending, in_reserve, is_stuck: false };
        Ok(Self { disk, root: root.to_owned(), state: Mutex::new(state), in_doubt: Doubts::default() })
    }

    /// Whether the reserve has its space.
    pub(super) fn has_reserve(&self) -> bool {
        self.lock().reserve.is_ready()
    }

    /// The files whose newest content is in the reserve.
    pub(super) fn pending(&self) -> Vec<Key> {
        self.lock().pending.keys().cloned().collect()
    }

    /// Where a file is.
    pub(super) fn path(&self, key: &Key) -> PathBuf {
        path_in(&self.root, key)
    }

    /// Whether what may be there under `key` is a write that was refused, as the reserve knows.
    pub(super) fn is_taken_back(&self, key: &Key) -> bool {
        matches!(self.lock().pending.get(key), Some(Newest::Gone(_)))
    }

    /// What is wrong with a file that is damaged and costs nothing: the reserve has what was written last.
    pub(super) fn damage_beside_reserve(&self, key: &Key) -> Option<String> {
        if !matches!(self.lock().pending.get(key), Some(Newest::Is(_))) {
            return None;
        }
        match read_file(&self.path(key), key) {
            Err(ReadError::Damaged(why)) => Some(why),
            _ => None,
        }
    }

    /// Whether a refused write of this file may be found by the next start.
    pub(super) fn is_in_doubt(&self, key: &Key) -> bool {
        self.in_doubt.has(key)
    }

    /// The writes that were refused and may be found by the next start.
    pub(super) fn in_doubt(&self) -> Vec<InDoubt> {
        self.in_doubt.all()
    }

    /// The record under `key`: from the reserve where that has the newest one, else from the file.
    pub(super) fn read(&self, key: &Key) -> Result<Vec<u8>, ReadError> {
        let mut state = self.lock();
        let (generation, record) = match state.pending.get(key) {
            Some(Newest::Is(bytes)) => open_envelope(key, bytes).map(|(it, record)| (it, record.to_vec()))?,
            Some(Newest::Gone(_)) | None => read_file(&self.path(key), key)?,
        };
        state.generations.insert(key.clone(), generation);
        Ok(record)
    }

    /// Writes a record; on the disk when it returns `Ok`. If not, what was there before counts, now and after a restart.
    pub(super) fn write(
        &self,
        key: &Key,
        record: &impl serde::Serialize,
        urgency: Urgency,
    ) -> Result<(), WriteError> {
        let path = self.path(key);
        let record =
            serde_json::to_vec(record).map_err(|source| WriteError::Encode { path: path.clone(), source })?;
        let limit = if urgency == Urgency::TowardStable { MAX_URGENT } else { MAX_RECORD };
        if record.len() > limit {
            return Err(WriteError::TooLarge { path, found: record.len(), limit });
        }
        let mut state = self.lock();
        match urgency {
            Urgency::Normal => {
                self.settle(&mut state)?;
                self.leave_reserve(&mut state, key)
                    .map_err(|source| WriteError::Io { path: self.root.join(RESERVE), source })?;
            }
            // It waits for nothing. What is not forgotten now is so with the next write, or by and by.
            Urgency::TowardStable => drop(self.forget_old_copy(&mut state, key)),
        }
        let bytes = envelope::seal(key.kind(), state.next_generation(key), &record);
        // Held over the rename, so that it can be put back.
        let former = File::open(&path);
        match replace(&*self.disk, &path, &bytes) {
            Ok(()) => {
                state.pending.remove(key);
                self.in_doubt.end(key);
                self.drain_into_files(&mut state);
                Ok(())
            }
            Err(error) if urgency == Urgency::TowardStable => {
                let source = error.into();
                let former = state.pending.insert(key.clone(), Newest::Is(bytes));
                let Err(reserve) = self.keep_pending(&mut state) else { return Ok(()) };
                match former {
                    Some(former) => state.pending.insert(key.clone(), former),
                    None => state.pending.remove(key),
                };
                Err(WriteError::Reserve { path, source, reserve })
            }
            Err(ReplaceError::Not(source)) => Err(WriteError::Io { path, source }),
            Err(ReplaceError::InDoubt(source)) => {
                self.take_back(&mut state, key, former);
                Err(WriteError::Io { path, source })
            }
        }
    }

    /// Makes what counted the newest again, after a write that is refused and may be on the disk all the same.
    fn take_back(&self, state: &mut State, key: &Key, file: io::Result<File>) {
        let former = match (state.pending.get(key), file) {
            (Some(Newest::Gone(_)), _) => Ok(None),
            (Some(Newest::Is(bytes)), _) => Ok(Some(bytes.clone())),
            (None, Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            (None, file) => file.map_err(ReadError::Io).and_then(read_all).map(Some),
        };
        let generation = state.next_generation(key);
        let newest = former.and_then(|former| {
            let Some(bytes) = former else { return Ok(Newest::Gone(generation)) };
            let (_, record) = open_envelope(key, &bytes)?;
            Ok(Newest::Is(envelope::seal(key.kind(), generation, record)))
        });
        let newest = match newest {
            Ok(newest) => newest,
            Err(why) => {
                return self.in_doubt.begin(key, format!("what was there before can't be read: {why}"));
            }
        };
        state.pending.insert(key.clone(), newest);
        self.drain_into_files(state);
        if state.pending.contains_key(key)
            && let Err(error) = self.keep_pending(state)
        {
            let why = format!("what was there before can't be put back: {}", failed(&error).0);
            self.in_doubt.begin(key, why);
        }
    }

    /// Takes back what could not be taken back so far. Until that is done nothing new is written: it could depend on what a
    /// restart does not find, or contradict what it finds.
    fn settle(&self, state: &mut State) -> Result<(), WriteError> {
        let in_doubt = |state: &State| {
            // Of what is not pending nobody knows what was there before.
            self.in_doubt.keys().into_iter().find(|key| state.pending.contains_key(key))
        };
        if in_doubt(state).is_some() {
            self.drain_into_files(state);
        }
        let Some(path) = in_doubt(state).map(|key| self.path(&key)) else { return Ok(()) };
        self.keep_pending(state).map_err(|source| WriteError::Io { path, source })
    }

    /// Sees to it that the reserve has nothing of a file that is to be written: once that is done it would be of an older
    /// day, and if the file is damaged then, nobody could tell.
    fn leave_reserve(&self, state: &mut State, key: &Key) -> io::Result<()> {
        if state.in_reserve.contains(key) {
            self.drain_into_files(state);
        }
        self.forget_old_copy(state, key)
    }

    /// Makes the reserve forget what it has of a file that has been written since.
    fn forget_old_copy(&self, state: &mut State, key: &Key) -> io::Result<()> {
        let is_old = state.in_reserve.contains(key) && !state.pending.contains_key(key);
        if is_old { self.keep_pending(state) } else { Ok(()) }
    }

    /// Makes the reserve hold exactly what is pending.
    fn keep_pending(&self, state: &mut State) -> io::Result<()> {
        let contents: Contents = state.pending.iter().map(|(key, newest)| newest.kept(key)).collect();
        state.reserve.store(&contents)?;
        state.in_reserve = state.pending.keys().cloned().collect();
        state.pending.keys().for_each(|key| self.in_doubt.end(key));
        Ok(())
    }

    /// Removes a file for good.
    pub(super) fn remove(&self, key: &Key) -> Result<(), WriteError> {
        let mut state = self.lock();
        let path = self.path(key);
        let failed = |source| WriteError::Io { path: path.clone(), source };
        // Of two copies the older one goes first: a crash in between must not bring it back.
        self.forget_old_copy(&mut state, key).map_err(failed)?;
        remove_for_good(&*self.disk, &path).map_err(failed)?;
        if let Some(former) = state.pending.remove(key)
            && let Err(source) = self.keep_pending(&mut state)
        {
            state.pending.insert(key.clone(), former);
            return Err(failed(source));
        }
        self.in_doubt.end(key);
        state.generations.remove(key);
        Ok(())
    }

    /// Moves what is in the reserve into the files that it belongs to, as far as the disk lets it, and empties it.
    pub(super) fn drain(&self) {
        self.drain_into_files(&mut self.lock());
    }

    fn drain_into_files(&self, state: &mut State) {
        state.reserve.prepare();
        // One that can't be written keeps its place in the reserve, and no other there.
        state.pending.retain(|key, newest| {
            let path = self.path(key);
            let done = match newest {
                Newest::Is(bytes) => replace(&*self.disk, &path, bytes).map_err(io::Error::from),
                Newest::Gone(_) => remove_for_good(&*self.disk, &path),
            };
            if done.is_ok() {
                self.in_doubt.end(key);
            }
            done.is_err()
        });
        let has_old = state.in_reserve.iter().any(|key| !state.pending.contains_key(key));
        let emptied = if has_old { self.keep_pending(state) } else { Ok(()) };
        // Once: this is tried every few seconds.
        let was_stuck = std::mem::replace(&mut state.is_stuck, emptied.is_err());
        if let Err(error) = emptied
            && !was_stuck
        {
            tracing::warn!(%error, "the reserve still has what is in the files by now, and can't be emptied");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Every step leaves the state whole, so a panic elsewhere under the lock does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The generation of the next write of a file. Counted even if that fails: it may have reached the disk after all, and
    /// the next one must be newer.
    fn next_generation(&mut self, key: &Key) -> u64 {
        let generation = self.generations.entry(key.clone()).or_default();
        *generation += 1;
        *generation
    }
}

fn path_in(root: &Path, key: &Key) -> PathBuf {
    root.join(key.to_string())
}

/// Generation and record of a file.
fn read_file(path: &Path, key: &Key) -> Result<(u64, Vec<u8>), ReadError> {
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ReadError::Missing,
        _ => ReadError::Io(error),
    })?;
    let bytes = read_all(file)?;
    let (generation, record) = open_envelope(key, &bytes)?;
    Ok((generation, record.to_vec()))
}

fn read_all(file: File) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(ReadError::Io)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(ReadError::Damaged(format!("it has more than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}

fn open_envelope<'a>(key: &Key, bytes: &'a [u8]) -> Result<(u64, &'a [u8]), ReadError> {
    envelope::open(key.kind(), bytes).map_err(|error| match error {
        envelope::EnvelopeError::Newer(_) => ReadError::Newer(error.to_string()),
        envelope::EnvelopeError::Damaged(why) => ReadError::Damaged(why),
    })
}
