//! What this node keeps: artifacts by digest, one small file per module and per running rollout, and an index of the
//! history. `docs/durability.md` says what is where, in which order it is written, and what a crash can cost.
//!
//! Called by the agent, the driver, the gRPC services and `cluster/local`, always from a blocking thread: every
//! method may wait for the disk, except those that only read modules, versions and running rollouts.
//!
//! It does not know the rules of rollouts: an assignment and a snapshot are JSON that it gives back as it was. It does
//! not check signatures: who commits or loads an artifact verifies it (`hot-artifact`). It has no clock for records.

mod artifacts;
mod counted;
mod counters;
mod disk;
mod doubts;
mod envelope;
mod failed;
mod files;
mod folder;
mod history;
mod index;
mod names;
mod newest;
mod opened;
mod records;
mod recover;
mod reserve;
mod small;
mod spool;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use hot_artifact::{ModuleName, Sha256, Target, Version};

pub use self::artifacts::{Collected, CommitError, Committed, Protected, RemoveError, SignAgainError};
pub use self::doubts::InDoubt;
pub(crate) use self::failed::failed;
pub use self::files::{ConfigError, MAX_CONFIG, ReleaseError, RolloutError, UpdateError};
pub use self::folder::FolderError;
pub(crate) use self::folder::{check as check_folder, prepare as prepare_folder};
pub use self::history::EventQuery;
pub use self::index::{IndexError, IndexFound};
pub use self::names::{IdError, RequestId, RolloutId};
pub use self::opened::{ArtifactError, Opened, Placed};
pub use self::records::{
    Event, ModuleRecord, NewRelease, Quarantine, Release, Removal, RolloutRecord, Sequenced, Stored,
    Tombstone, UnixMillis, VersionRecord,
};
pub use self::recover::{MovedAside, OpenError, Recovered};
pub use self::small::{Urgency, WriteError};
pub use self::spool::{Spooled, SyncError, Upload, UploadError};

use self::disk::{Disk, RealDisk};
use self::files::Files;
use self::folder::{Folder, LAST_MADE};
use self::history::{History, HistoryLimits};
use self::index::Index;
use self::spool::{Spool, SpoolLimits};

/// Keeps a small file of another room's own, in a folder of its own below the data folder: whole, mode 0600, and on the
/// disk when it returns. `None`: removes it as surely. What is there already is not written again.
pub(crate) fn keep_file(path: &Path, bytes: Option<&[u8]>) -> io::Result<()> {
    keep_file_on(&RealDisk, path, bytes)
}

fn keep_file_on(disk: &dyn Disk, path: &Path, bytes: Option<&[u8]>) -> io::Result<()> {
    let folder = disk::parent(path);
    if bytes.is_none() && !folder.exists() {
        return Ok(());
    }
    disk.create_dir(folder)?;
    disk.sync_dir(disk::parent(folder))?;
    match bytes {
        // Written nothing, but it may be from a try of which this very fsync failed.
        Some(bytes) if std::fs::read(path).is_ok_and(|there| there == bytes) => disk.sync_dir(folder),
        Some(bytes) => Ok(disk::replace(disk, path, bytes)?),
        None => disk::remove_for_good(disk, path),
    }
}

/// Bounds of a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Versions of a module that [`Store::collect`] keeps, besides what is protected.
    pub keep: usize,
    /// Bytes of an artifact.
    pub max_artifact: u64,
    /// Uploads under way, abandoned ones included.
    pub max_uploads: usize,
    /// Bytes of all uploads together.
    pub max_spool: u64,
    /// Time without a write after which an upload is thrown away.
    pub upload_age: Duration,
    /// Events that are kept.
    pub max_events: usize,
    /// Ended rollouts that are kept.
    pub max_ended_rollouts: usize,
    /// Least time between two attempts to open an index that could not be opened.
    pub index_retry: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keep: 5,
            max_artifact: 256 * 1024 * 1024,
            max_uploads: 16,
            max_spool: 1024 * 1024 * 1024,
            upload_age: Duration::from_secs(24 * 3600),
            max_events: 20_000,
            max_ended_rollouts: 1000,
            index_retry: Duration::from_secs(1),
        }
    }
}

/// Releases of one module that the history keeps: ten a day for a year, nearly.
const MAX_RELEASES: usize = 3000;

/// The beginning of an upload.
#[derive(Debug)]
pub enum Begun {
    /// A version has this digest already: nothing to send.
    AlreadyHave,
    /// Go on at [`Upload::offset`].
    Upload(Upload),
}

/// A node's store; a cheap handle. The folder is free again when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: Files,
    spool: Spool,
    history: History,
    options: Options,
    // Last, so that the lock is let go after the index was closed.
    _folder: Folder,
}

impl Store {
    /// Opens the store in `folder`, which is made if it is missing, and recovers what was left there.
    ///
    /// # Errors
    /// The folder is not ours to use, or something in it can't be read or was written by a newer `hotd`. Damage is no
    /// error: see [`Recovered`].
    pub fn open(folder: &Path, options: Options) -> Result<(Self, Recovered), OpenError> {
        Self::open_on(Arc::new(RealDisk), folder, options)
    }

    fn open_on(disk: Arc<dyn Disk>, folder: &Path, options: Options) -> Result<(Self, Recovered), OpenError> {
        let folder = Folder::open(&*disk, folder)?;
        // When that is there, the index is there already.
        let is_new = !folder.root().join(LAST_MADE).exists();
        let (index, found) = Index::open(Arc::clone(&disk), folder.root(), is_new, options.index_retry);
        let limits = HistoryLimits {
            events: options.max_events,
            rollouts: options.max_ended_rollouts,
            releases: MAX_RELEASES,
        };
        let history = History::new(index, limits);
        let (files, mut recovered) = recover::recover(&disk, &folder, Some((&history, found)))?;
        let limits = SpoolLimits {
            artifact: options.max_artifact,
            count: options.max_uploads,
            bytes: options.max_spool,
            age: options.upload_age,
        };
        let spool = Spool::new(disk, folder.root().join("spool"), limits);
        let store = Self(Arc::new(Inner { files, spool, history, options, _folder: folder }));
        if let Err(error) = store.tidy(SystemTime::now()) {
            recovered.index = IndexFound::Unavailable { why: error.to_string() };
        }
        Ok((store, recovered))
    }

    /// Housekeeping, for the daemon to call every few seconds: throws old uploads away, moves what is in the reserve to
    /// its files and ended rollouts to the history, completes the history, and syncs it.
    ///
    /// # Errors
    /// The history is not available now. Everything else was done.
    pub fn tidy(&self, now: SystemTime) -> Result<(), IndexError> {
        let Inner { files, spool, history, .. } = &*self.0;
        spool.sweep(now);
        files.small.drain();
        let modules = files.known().modules.clone();
        history.complete(modules.iter().flat_map(|(name, m)| m.releases.values().map(move |r| (name, r))))?;
        for ended in files.ended_rollouts() {
            self.archive(&ended.record)?;
        }
        history.flush()
    }

    /// Bytes that are here of an upload of `total` bytes with this digest. Changes nothing.
    ///
    /// # Errors
    /// See [`UploadError`]: it could not go on.
    pub fn uploaded(&self, digest: Sha256, total: u64) -> Result<u64, UploadError> {
        if self.0.files.sound_artifact(&digest).is_some() {
            return Ok(total);
        }
        self.0.spool.uploaded(digest, total)
    }

    /// Starts an upload of `total` bytes with this digest, or goes on with it.
    ///
    /// # Errors
    /// See [`UploadError`]; nothing was written.
    pub fn begin_upload(&self, digest: Sha256, total: u64) -> Result<Begun, UploadError> {
        if self.0.files.sound_artifact(&digest).is_some() {
            return Ok(Begun::AlreadyHave);
        }
        self.0.spool.begin(digest, total, SystemTime::now()).map(Begun::Upload)
    }

    /// Makes a version of bytes that the caller verified, or puts them in the place of the version's own where those were
    /// [found damaged](Self::found_damaged). When it returns `Ok`, it is there for good.
    ///
    /// # Errors
    /// See [`CommitError`]; the version is not there then, and the bytes are still in the spool, unless the disk did not
    /// take them.
    pub fn commit(&self, spooled: &Spooled, record: VersionRecord) -> Result<Committed, CommitError> {
        self.0.files.commit(spooled, record)
    }

    /// Keeps another signature of a version's artifact, which the caller verified, in the place of the one that it has.
    /// When it returns `Ok`, it is there for good. What was known before, if anything has changed.
    ///
    /// # Errors
    /// See [`SignAgainError`]; the former signature counts.
    pub fn sign_again(
        &self,
        digest: &Sha256,
        signature: &str,
        principal: &str,
    ) -> Result<Option<Arc<VersionRecord>>, SignAgainError> {
        self.0.files.sign_again(digest, signature, principal)
    }

    /// Opens a version's artifact. The caller verifies it again: its bytes may have changed on the disk.
    ///
    /// # Errors
    /// No version has it, or its file can't be opened.
    pub fn open_artifact(&self, digest: &Sha256) -> Result<Opened, ArtifactError> {
        self.0.files.open_artifact(digest)
    }

    /// Whoever read this file of an artifact found that its bytes are others, or can't be read. Until they are pushed again
    /// the node takes them as if it had none. If they were since, nothing changes.
    pub fn found_damaged(&self, digest: &Sha256, read: Placed) {
        self.0.files.found_damaged(digest, read);
    }

    /// As [`Store::artifact`], unless its bytes were [found damaged](Self::found_damaged) and have to be pushed again.
    #[must_use]
    pub fn sound_artifact(&self, digest: &Sha256) -> Option<Arc<VersionRecord>> {
        self.0.files.sound_artifact(digest)
    }

    /// Writes that were refused and may be on the disk all the same, out of memory.
    #[must_use]
    pub fn in_doubt(&self) -> Vec<InDoubt> {
        self.0.files.small.in_doubt()
    }

    /// What is known of an artifact that is here.
    #[must_use]
    pub fn artifact(&self, digest: &Sha256) -> Option<Arc<VersionRecord>> {
        self.0.files.known().artifacts.get(digest).cloned()
    }

    /// Modules that have a record, by name.
    #[must_use]
    pub fn modules(&self) -> Vec<ModuleName> {
        self.0.files.known().modules.keys().cloned().collect()
    }

    /// A module's record as it is now.
    #[must_use]
    pub fn module(&self, name: &ModuleName) -> Option<Arc<ModuleRecord>> {
        self.0.files.module(name)
    }

    /// The versions of a module whose artifacts are here, by version and target.
    #[must_use]
    pub fn versions(&self, name: &ModuleName) -> Vec<Arc<VersionRecord>> {
        let known = self.0.files.known();
        let Some(module) = known.modules.get(name) else { return Vec::new() };
        let stored = module.versions.values().flat_map(|targets| targets.values());
        stored.filter_map(|stored| known.artifacts.get(&stored.digest).cloned()).collect()
    }

    /// One version of a module, for each target that is here.
    #[must_use]
    pub fn version(&self, name: &ModuleName, version: &Version) -> Vec<Arc<VersionRecord>> {
        let mut versions = self.versions(name);
        versions.retain(|record| record.version == *version);
        versions
    }

    /// Removes a version and leaves a tombstone, so that it can't come back. The caller knows that nothing runs it.
    ///
    /// # Errors
    /// There is no such version, or the module's record can't be written; it is still there then.
    pub fn remove_version(
        &self,
        module: &ModuleName,
        version: &Version,
        at: UnixMillis,
        by: &str,
        reason: &str,
    ) -> Result<Vec<Sha256>, RemoveError> {
        self.0.files.remove_version(module, version, at, by, reason)
    }

    /// Takes over that a version was removed elsewhere, whether or not this node has it. The caller knows that nothing runs it.
    ///
    /// # Errors
    /// The module's record can't be written; nothing has changed then.
    pub fn adopt_removal(
        &self,
        module: &ModuleName,
        version: &Version,
        bound: (Target, Sha256),
        at: UnixMillis,
        by: &str,
    ) -> Result<(), UpdateError> {
        self.0.files.adopt_removal(module, version, bound, at, by)
    }

    /// Removes the versions of each module beyond the newest [`Options::keep`], and configs that no release names any
    /// more; nothing that is protected.
    pub fn collect(&self, protected: &Protected, at: UnixMillis) -> Collected {
        let collected = self.0.files.collect(protected, self.keep(), at);
        if collected.failed.is_none()
            && let Err(error) = self.0.files.collect_configs()
        {
            tracing::warn!(%error, "configs that nothing names any more could not be removed");
        }
        collected
    }

    /// Versions of a module that are kept besides what is protected.
    #[must_use]
    pub fn keep(&self) -> usize {
        self.0.options.keep
    }

    /// Changes a module's record, which is made if it is not there; on the disk when it returns `Ok`, unchanged if not.
    /// `change` works on a copy.
    ///
    /// # Errors
    /// See [`UpdateError`].
    pub fn update_module<R>(
        &self,
        name: &ModuleName,
        urgency: Urgency,
        change: impl FnOnce(&mut ModuleRecord) -> R,
    ) -> Result<R, UpdateError> {
        self.0.files.update_module(name, urgency, change)
    }

    /// Gives a release its number; on the disk when it returns `Ok`.
    ///
    /// # Errors
    /// See [`ReleaseError`].
    pub fn allocate_release(&self, module: &ModuleName, new: NewRelease) -> Result<Release, ReleaseError> {
        let release = self.0.files.allocate_release(module, new)?;
        if let Err(error) = self.0.history.put_releases(std::iter::once((module, &release))) {
            tracing::warn!(%error, %module, release = release.number, "the history gets the release later");
        }
        Ok(release)
    }

    /// Takes a release that was numbered elsewhere, with the bytes of its config; its artifact may come later. False: it is
    /// here already, or was and is history.
    ///
    /// # Errors
    /// See [`ReleaseError`]: above all, another release has its number.
    pub fn adopt_release(
        &self,
        module: &ModuleName,
        release: Release,
        config: Option<&[u8]>,
    ) -> Result<bool, ReleaseError> {
        let known = self.module(module).is_some_and(|record| {
            record.last_release >= release.number && !record.releases.contains_key(&release.number)
        });
        if known && self.0.history.release(module, release.number).ok().flatten().is_some() {
            return Ok(false);
        }
        let new = self.0.files.adopt_release(module, release.clone(), config)?;
        if let Err(error) = self.0.history.put_releases(std::iter::once((module, &release))) {
            tracing::warn!(%error, %module, release = release.number, "the history gets the release later");
        }
        Ok(new)
    }

    /// A release: from the module's record, else from the history.
    ///
    /// # Errors
    /// It is not in the record, and the history is not available.
    pub fn release(&self, module: &ModuleName, number: u64) -> Result<Option<Release>, IndexError> {
        match self.module(module).and_then(|record| record.releases.get(&number).cloned()) {
            Some(release) => Ok(Some(release)),
            None => self.0.history.release(module, number),
        }
    }

    /// Releases of a module, newest first. Without a history those of the module's record, which are the newest.
    #[must_use]
    pub fn releases(&self, module: &ModuleName, limit: usize) -> Vec<Release> {
        let kept = self.module(module).map(|m| m.releases.values().rev().take(limit).cloned().collect());
        let kept: Vec<Release> = kept.unwrap_or_default();
        let all = self.0.history.releases(module, limit).unwrap_or_default();
        if all.len() > kept.len() { all } else { kept }
    }

    /// The bytes of a release's config.
    ///
    /// # Errors
    /// They can't be read, or have changed.
    pub fn config(&self, digest: &Sha256) -> Result<Vec<u8>, ConfigError> {
        self.0.files.config(digest)
    }

    /// Writes the snapshot of a running rollout; on the disk when it returns `Ok`, and then it is the truth.
    ///
    /// # Errors
    /// See [`RolloutError`]; the former snapshot counts.
    pub fn put_rollout(&self, record: RolloutRecord, urgency: Urgency) -> Result<(), RolloutError> {
        self.0.files.put_rollout(record, false, urgency)
    }

    /// Writes the last snapshot of a rollout; on the disk when it returns `Ok`, and it is not running any more. The
    /// history takes it then or, if that is not available, later.
    ///
    /// # Errors
    /// See [`RolloutError`]; the rollout is still running.
    pub fn end_rollout(&self, record: RolloutRecord) -> Result<(), RolloutError> {
        self.0.files.put_rollout(record.clone(), true, Urgency::TowardStable)?;
        if let Err(error) = self.archive(&record) {
            tracing::warn!(%error, rollout = %record.id, "the history gets the ended rollout later");
        }
        Ok(())
    }

    /// Running rollouts, by id.
    #[must_use]
    pub fn rollouts(&self) -> Vec<RolloutRecord> {
        let known = self.0.files.known();
        known.rollouts.values().filter(|file| !file.ended).map(|file| file.record.clone()).collect()
    }

    /// Ended rollouts, newest first.
    ///
    /// # Errors
    /// The history is not available now.
    pub fn ended_rollouts(&self, limit: usize) -> Result<Vec<RolloutRecord>, IndexError> {
        let waiting: Vec<_> = self.0.files.ended_rollouts().iter().map(|file| file.record.clone()).collect();
        let mut found = waiting;
        for record in self.0.history.rollouts(limit)? {
            if !found.iter().any(|there| there.id == record.id) {
                found.push(record);
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// The ids of ended rollouts, newest first.
    ///
    /// # Errors
    /// The history is not available now.
    pub fn ended_rollout_ids(&self, limit: usize) -> Result<Vec<RolloutId>, IndexError> {
        let mut found: Vec<RolloutId> =
            self.0.files.ended_rollouts().iter().map(|file| file.record.id.clone()).collect();
        let kept = self.0.history.rollout_ids(limit)?;
        let waiting = found.len();
        found.extend(kept.into_iter().filter(|id| !found[..waiting].contains(id)).collect::<Vec<_>>());
        found.truncate(limit);
        Ok(found)
    }

    /// A rollout, running or ended.
    ///
    /// # Errors
    /// It is not running, and the history is not available now.
    pub fn rollout(&self, id: &RolloutId) -> Result<Option<RolloutRecord>, IndexError> {
        let there = self.0.files.known().rollouts.get(id).map(|file| file.record.clone());
        if there.is_some() { Ok(there) } else { self.0.history.rollout(id) }
    }

    /// The rollout that a request started, so that the same request twice is one rollout.
    ///
    /// # Errors
    /// No running rollout has it, and the history is not available now.
    pub fn rollout_of(&self, request: &RequestId) -> Result<Option<RolloutId>, IndexError> {
        let has_it = |record: &RolloutRecord| record.request.as_ref() == Some(request);
        let there = {
            let known = self.0.files.known();
            known.rollouts.values().find(|file| has_it(&file.record)).map(|file| file.record.id.clone())
        };
        if there.is_some() { Ok(there) } else { self.0.history.rollout_of(request) }
    }

    /// Records an event and returns its number. It is on the disk within a second, or after [`Store::tidy`]; while the
    /// history is not available, the newest 1024 wait in memory.
    ///
    /// # Errors
    /// No number could be given, because neither the disk nor the reserve took the next block of them.
    pub fn append_event(&self, event: &Event) -> Result<u64, WriteError> {
        let seq = self.next_event()?;
        self.0.history.append(seq, event);
        Ok(seq)
    }

    /// Events that match, oldest first.
    ///
    /// # Errors
    /// The history is not available now.
    pub fn events(&self, query: &EventQuery) -> Result<Vec<Sequenced>, IndexError> {
        self.0.history.events(query)
    }

    fn next_event(&self) -> Result<u64, WriteError> {
        let Inner { files, .. } = &*self.0;
        // Numbers are taken from memory one by one; a panic can at most leave one out.
        files.counters.lock().unwrap_or_else(PoisonError::into_inner).next_event(&files.small)
    }

    /// Moves an ended rollout from its file to the history.
    fn archive(&self, record: &RolloutRecord) -> Result<(), IndexError> {
        let unavailable = |error: WriteError| IndexError::Unavailable { why: error.to_string() };
        let order = self.next_event().map_err(unavailable)?;
        self.0.history.put_rollout(record, order)?;
        self.0.files.drop_rollout(&record.id).map_err(unavailable)
    }
}
