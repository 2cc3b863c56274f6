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
use super::envelope;
use super::names::RolloutId;
use super::reserve::{Contents, Reserve};

/// Bytes that a record may have. A module with a hundred releases and a thousand tombstones has about 200 KiB.
const MAX_RECORD: usize = 512 * 1024;
/// The same toward stable: what grew up to the limit can still be taken back.
const MAX_URGENT: usize = 2 * MAX_RECORD;
/// The record and its envelope.
const MAX_FILE: u64 = MAX_URGENT as u64 + 1024;

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
    const fn kind(&self) -> &'static str {
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
#[derive(Debug)]
pub(super) enum ReadError {
    /// Not there.
    Missing,
    /// The system says no.
    Io(io::Error),
    /// Its content is not what was written.
    Damaged(String),
    /// A newer `hotd` wrote it.
    Newer(String),
}

/// The writer and reader of small files.
#[derive(Debug)]
pub(super) struct SmallFiles {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    generations: BTreeMap<Key, u64>,
    reserve: Reserve,
    /// Files whose newest content is not in them: the reserve has it, unless it is in doubt.
    pending: BTreeMap<Key, Newest>,
    /// Files that the reserve holds, newest or not.
    in_reserve: BTreeSet<Key>,
    /// Those pending of which a write was refused, and neither file nor reserve took what counts.
    in_doubt: BTreeSet<Key>,
}

/// What counts of a file while something else may be in it.
#[derive(Debug, Clone)]
enum Newest {
    /// These bytes.
    Is(Vec<u8>),
    /// No such file: what is there of this generation, or of an older one, was refused.
    Gone(u64),
}

/// Before the name of a file that the reserve says is gone. One that does not know this has no file of such a name.
const GONE: char = '-';

impl Newest {
    /// How the reserve says it: a name and a text.
    fn kept(&self, key: &Key) -> (String, String) {
        match self {
            Self::Is(bytes) => (key.to_string(), String::from_utf8_lossy(bytes).into_owned()),
            Self::Gone(generation) => (format!("{GONE}{key}"), generation.to_string()),
        }
    }

    fn from_kept(name: &str, text: String) -> Option<(Key, Self)> {
        match name.strip_prefix(GONE) {
            None => Some((Key::parse(name)?, Self::Is(text.into_bytes()))),
            Some(name) => Some((Key::parse(name)?, Self::Gone(text.parse().ok()?))),
        }
    }
}

impl SmallFiles {
    /// Opens the reserve. What it holds is `pending` until [`SmallFiles::drain`] or [`SmallFiles::read`] finds it old.
    pub(super) fn open(disk: Arc<dyn Disk>, root: &Path) -> Self {
        let (reserve, contents) = Reserve::open(Arc::clone(&disk), root.join("reserve"));
        let pending: BTreeMap<Key, Newest> =
            contents.into_iter().filter_map(|(name, text)| Newest::from_kept(&name, text)).collect();
        let in_reserve = pending.keys().cloned().collect();
        // What comes under the name of a file that is gone must be newer than what was.
        let gone = pending.iter().filter_map(|(key, newest)| match newest {
            Newest::Gone(generation) => Some((key.clone(), *generation)),
            Newest::Is(_) => None,
        });
        let generations = gone.collect();
        let state = State { generations, reserve, pending, in_reserve, in_doubt: BTreeSet::new() };
        Self { disk, root: root.to_owned(), state: Mutex::new(state) }
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
        self.root.join(key.to_string())
    }

    /// Whether what may be there under `key` is a write that was refused, as the reserve knows.
    pub(super) fn is_taken_back(&self, key: &Key) -> bool {
        let mut state = self.lock();
        let Some(Newest::Gone(gone)) = state.pending.get(key) else { return false };
        let (is_gone, is_stale) = match self.read_file(key) {
            Ok((generation, _)) => (generation <= *gone, generation > *gone),
            Err(ReadError::Missing) => (true, true),
            Err(ReadError::Damaged(_)) => (true, false),
            Err(ReadError::Newer(_)) => (false, true),
            Err(ReadError::Io(_)) => (false, false),
        };
        if is_stale {
            state.pending.remove(key);
        }
        is_gone
    }

    /// Whether a refused write of this file may be found by the next start.
    pub(super) fn is_in_doubt(&self, key: &Key) -> bool {
        self.lock().in_doubt.contains(key)
    }

    /// The record under `key`: from the file or from the reserve, whichever is newer.
    pub(super) fn read(&self, key: &Key) -> Result<Vec<u8>, ReadError> {
        let mut state = self.lock();
        let kept = state.pending.get(key).and_then(|newest| {
            let Newest::Is(bytes) = newest else { return None };
            let (generation, record) = envelope::open(key.kind(), bytes).ok()?;
            Some((generation, record.to_vec()))
        });
        let (generation, record) = match (self.read_file(key), kept) {
            (Ok(file), Some(kept)) if kept.0 > file.0 => kept,
            (Ok(file), _) => {
                state.pending.remove(key);
                file
            }
            // A file that a newer hotd wrote is never replaced by what an older one left in the reserve.
            (Err(ReadError::Missing | ReadError::Damaged(_)), Some(kept)) => kept,
            (Err(error), _) => return Err(error),
        };
        state.generations.insert(key.clone(), generation);
        Ok(record)
    }

    fn read_file(&self, key: &Key) -> Result<(u64, Vec<u8>), ReadError> {
        let file = File::open(self.path(key)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ReadError::Missing,
            _ => ReadError::Io(error),
        })?;
        let bytes = read_all(file)?;
        let (generation, record) = open_envelope(key, &bytes)?;
        Ok((generation, record.to_vec()))
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
        if urgency == Urgency::Normal {
            self.settle(&mut state)?;
        }
        let bytes = envelope::seal(key.kind(), state.next_generation(key), &record);
        // Held over the rename, so that it can be put back.
        let former = File::open(&path);
        match replace(&*self.disk, &path, &bytes) {
            Ok(()) => {
                state.pending.remove(key);
                state.in_doubt.remove(key);
                self.drain_into_files(&mut state);
                Ok(())
            }
            Err(error) if urgency == Urgency::TowardStable => {
                let source = error.into();
                let former = state.pending.insert(key.clone(), Newest::Is(bytes));
                let Err(reserve) = state.keep_pending() else { return Ok(()) };
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
                return tracing::error!(file = %key, ?why, "a refused write can't be taken back: what was there can't be read");
            }
        };
        state.pending.insert(key.clone(), newest);
        self.drain_into_files(state);
        if state.pending.contains_key(key)
            && let Err(error) = state.keep_pending()
        {
            state.in_doubt.insert(key.clone());
            tracing::error!(file = %key, %error, "a refused write may be on the disk, and can't be taken back yet");
        }
    }

    /// Takes back what could not be taken back so far. Until that is done nothing new is written: it could depend on what a
    /// restart does not find, or contradict what it finds.
    fn settle(&self, state: &mut State) -> Result<(), WriteError> {
        if !state.in_doubt.is_empty() {
            self.drain_into_files(state);
        }
        let Some(path) = state.in_doubt.first().map(|key| self.path(key)) else { return Ok(()) };
        state.keep_pending().map_err(|source| WriteError::Io { path, source })
    }

    /// Removes a file for good.
    pub(super) fn remove(&self, key: &Key) -> Result<(), WriteError> {
        let mut state = self.lock();
        let path = self.path(key);
        let failed = |source| WriteError::Io { path: path.clone(), source };
        // Of two copies the older one goes first: a crash in between must not bring it back.
        let reserve_is_newer = state.pending.contains_key(key);
        if state.in_reserve.contains(key) && !reserve_is_newer {
            state.keep_pending().map_err(failed)?;
        }
        remove_for_good(&*self.disk, &path).map_err(failed)?;
        if let Some(former) = state.pending.remove(key)
            && let Err(source) = state.keep_pending()
        {
            state.pending.insert(key.clone(), former);
            return Err(failed(source));
        }
        state.in_doubt.remove(key);
        state.generations.remove(key);
        Ok(())
    }

    /// Moves what is in the reserve into the files that it belongs to, as far as the disk lets it.
    pub(super) fn drain(&self) {
        self.drain_into_files(&mut self.lock());
    }

    fn drain_into_files(&self, state: &mut State) {
        state.reserve.prepare();
        while let Some((key, newest)) = state.pending.first_key_value() {
            let path = self.path(key);
            let done = match newest {
                Newest::Is(bytes) => replace(&*self.disk, &path, bytes).map_err(io::Error::from),
                Newest::Gone(_) => remove_for_good(&*self.disk, &path),
            };
            if done.is_err() {
                return;
            }
            state.in_doubt.remove(key);
            state.pending.pop_first();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Every step leaves the state whole, so a panic elsewhere under the lock does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Makes the reserve hold exactly what is pending.
    fn keep_pending(&mut self) -> io::Result<()> {
        let contents: Contents = self.pending.iter().map(|(key, newest)| newest.kept(key)).collect();
        self.reserve.store(&contents)?;
        self.in_reserve = self.pending.keys().cloned().collect();
        self.in_doubt.clear();
        Ok(())
    }

    /// The generation of the next write of a file. Counted even if that fails: it may have reached the disk after all, and
    /// the next one must be newer.
    fn next_generation(&mut self, key: &Key) -> u64 {
        let generation = self.generations.entry(key.clone()).or_default();
        *generation += 1;
        *generation
    }
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
