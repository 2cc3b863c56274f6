//! The truth: all small files, configs and artifacts, with a copy of every record in memory for readers.
//!
//! One writer at a time: a change is checked, written and published under one lock, which is held for the fsync of
//! small files only, never for an artifact's or the index's. Readers never wait for the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use hot_artifact::{ModuleName, Sha256};
use thiserror::Error;

use super::counters::Counters;
use super::disk::{Disk, parent, replace};
use super::history::MAX_VALUE;
use super::names::RolloutId;
use super::opened::Placed;
use super::records::{ModuleRecord, NewRelease, Release, RolloutRecord, VersionRecord};
use super::small::{Key, SmallFiles, Urgency, WriteError, hint};

/// Bytes of a config.
pub const MAX_CONFIG: usize = 64 * 1024;
/// Modules on one node.
const MAX_MODULES: usize = 4096;
/// Rollouts that run, or ended and wait for the index.
const MAX_ROLLOUTS: usize = 1024;

/// A module's record was not changed.
#[derive(Debug, Error)]
pub enum UpdateError {
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// There are too many modules.
    #[error("this node has {MAX_MODULES} modules, as many as it keeps; remove one that is not used")]
    TooMany,
}

/// A release got no number.
#[derive(Debug, Error)]
pub enum ReleaseError {
    /// Its version is not stored with this digest.
    #[error("{module} has no stored version {version} with digest {digest}; push it first")]
    NotStored {
        /// The module.
        module: ModuleName,
        /// The version that was asked for.
        version: hot_artifact::Version,
        /// The digest that was asked for.
        digest: Sha256,
    },
    /// Another release has its number.
    #[error("release {number} of {module} is on record with other contents, which never change")]
    Differs {
        /// The module.
        module: ModuleName,
        /// The number.
        number: u64,
    },
    /// Its config is too large.
    #[error("the config has {found} bytes, and at most {MAX_CONFIG} are kept")]
    ConfigTooLarge {
        /// Bytes that it has.
        found: usize,
    },
    /// Message and name of the asker are too long together.
    #[error(
        "the release's record would be {found} bytes, and at most {MAX_VALUE} are kept; shorten its message"
    )]
    TooLong {
        /// Bytes of the record.
        found: usize,
    },
    /// The config could not be written.
    #[error("cannot write {}{}", path.display(), hint(source))]
    Config {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The module's record could not be written.
    #[error(transparent)]
    Update(#[from] UpdateError),
}

/// A config can't be read.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It is not there or can't be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Its bytes have changed.
    #[error("{} is damaged: its bytes have digest {found}; restore it from another node or a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What they have become.
        found: Sha256,
    },
}

/// A rollout was not written.
#[derive(Debug, Error)]
pub enum RolloutError {
    /// Its file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The request already started another.
    #[error("the request already started rollout {rollout}")]
    RequestTaken {
        /// That rollout.
        rollout: RolloutId,
    },
    /// The rollout has ended: an end is final.
    #[error("rollout {id} has ended already")]
    Ended {
        /// That rollout.
        id: RolloutId,
    },
    /// There are too many.
    #[error("{MAX_ROLLOUTS} rollouts run, as many as this node keeps; end one first")]
    TooMany,
}

/// Everything that is known, for readers.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) modules: BTreeMap<ModuleName, Arc<ModuleRecord>>,
    pub(super) artifacts: BTreeMap<Sha256, Arc<VersionRecord>>,
    /// Of these artifacts the bytes on the disk were found to be others, or unreadable, since the start.
    pub(super) damaged: BTreeSet<Sha256>,
    /// The files that artifacts got since the start.
    pub(super) placed: BTreeMap<Sha256, Placed>,
    pub(super) last_placed: Placed,
    /// Running, and ended ones that the index does not have yet.
    pub(super) rollouts: BTreeMap<RolloutId, Arc<RolloutFile>>,
}

/// Content of `rollouts/<id>.json`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct RolloutFile {
    #[serde(flatten)]
    pub(super) record: RolloutRecord,
    /// It waits for the index to take it.
    #[serde(default)]
    pub(super) ended: bool,
}

/// The files of a store.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) root: PathBuf,
    pub(super) small: SmallFiles,
    pub(super) counters: Mutex<Counters>,
    known: RwLock<Known>,
    writer: Mutex<()>,
}

impl Files {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        root: &Path,
        small: SmallFiles,
        counters: Counters,
        known: Known,
    ) -> Self {
        let counters = Mutex::new(counters);
        Self {
            disk,
            root: root.to_owned(),
            small,
            counters,
            known: RwLock::new(known),
            writer: Mutex::default(),
        }
    }

    pub(super) fn known(&self) -> RwLockReadGuard<'_, Known> {
        // What is published is whole: records are swapped by pointer.
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change_known(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The right to change files. Taken once per change, never inside another lock of the store.
    pub(super) fn writing(&self) -> MutexGuard<'_, ()> {
        // The files are whole after each step, so a panic under it spoils nothing.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn module(&self, name: &ModuleName) -> Option<Arc<ModuleRecord>> {
        self.known().modules.get(name).cloned()
    }

    /// Changes a module's record, which is made if it is not there.
    pub(super) fn update_module<R>(
        &self,
        name: &ModuleName,
        urgency: Urgency,
        change: impl FnOnce(&mut ModuleRecord) -> R,
    ) -> Result<R, UpdateError> {
        let _writing = self.writing();
        self.update_while_writing(name, urgency, change)
    }

    /// [`Files::update_module`] for callers that hold the writer's lock.
    pub(super) fn update_while_writing<R>(
        &self,
        name: &ModuleName,
        urgency: Urgency,
        change: impl FnOnce(&mut ModuleRecord) -> R,
    ) -> Result<R, UpdateError> {
        let (count, former) = {
            let known = self.known();
            (known.modules.len(), known.modules.get(name).cloned())
        };
        if former.is_none() && count >= MAX_MODULES {
            return Err(UpdateError::TooMany);
        }
        let mut record = former.as_deref().cloned().unwrap_or_default();
        let result = change(&mut record);
        if former.is_some_and(|former| *former == record) {
            return Ok(result);
        }
        self.small.write(&Key::Module(name.clone()), &record, urgency)?;
        self.change_known(|known| {
            known.modules.insert(name.clone(), Arc::new(record));
        });
        Ok(result)
    }

    /// Numbers a release. The config is on the disk before the record that points to it.
    pub(super) fn allocate_release(
        &self,
        module: &ModuleName,
        new: NewRelease,
    ) -> Result<Release, ReleaseError> {
        let NewRelease { version, digest, config, at, by, message, on } = new;
        if let Some(found) = config.as_ref().map(Vec::len).filter(|len| *len > MAX_CONFIG) {
            return Err(ReleaseError::ConfigTooLarge { found });
        }
        let config_digest = config.as_deref().map(Sha256::of);
        // The longest number stands for the one that it will get.
        let mut release =
            Release { number: u64::MAX, version, digest, config: config_digest, at, by, message, on };
        let found = serde_json::to_vec(&release).map_or(usize::MAX, |bytes| bytes.len());
        if found > MAX_VALUE {
            return Err(ReleaseError::TooLong { found });
        }
        let _writing = self.writing();
        let stored = self.module(module).is_some_and(|record| {
            let targets = record.versions.get(&release.version);
            targets.is_some_and(|targets| targets.values().any(|stored| stored.digest == digest))
        });
        if !stored {
            return Err(ReleaseError::NotStored { module: module.clone(), version: release.version, digest });
        }
        if let (Some(digest), Some(bytes)) = (config_digest, config) {
            self.write_config(&digest, &bytes)?;
        }
        self.update_while_writing(module, Urgency::Normal, |record| {
            release.number = record.last_release + 1;
            record.last_release = release.number;
            record.releases.insert(release.number, release.clone());
        })?;
        Ok(release)
    }

    /// Takes a release that was numbered elsewhere, whether or not its artifact is here. False: it was here already.
    pub(super) fn adopt_release(
        &self,
        module: &ModuleName,
        release: Release,
        config: Option<&[u8]>,
    ) -> Result<bool, ReleaseError> {
        let found = serde_json::to_vec(&release).map_or(usize::MAX, |bytes| bytes.len());
        if found > MAX_VALUE {
            return Err(ReleaseError::TooLong { found });
        }
        let _writing = self.writing();
        let there = self.module(module).and_then(|record| record.releases.get(&release.number).cloned());
        if let Some(there) = there {
            let differs = ReleaseError::Differs { module: module.clone(), number: release.number };
            return if there == release { Ok(false) } else { Err(differs) };
        }
        if let (Some(digest), Some(bytes)) = (release.config, config) {
            self.write_config(&digest, bytes)?;
        }
        self.update_while_writing(module, Urgency::Normal, |record| {
            record.last_release = record.last_release.max(release.number);
            record.releases.insert(release.number, release);
        })?;
        Ok(true)
    }

    fn write_config(&self, digest: &Sha256, bytes: &[u8]) -> Result<(), ReleaseError> {
        let path = self.config_path(digest);
        let written = if self.config(digest).is_ok_and(|there| there == bytes) {
            // It may be from a try of which this very fsync failed.
            self.disk.sync_dir(parent(&path))
        } else {
            replace(&*self.disk, &path, bytes).map_err(io::Error::from)
        };
        written.map_err(|source| ReleaseError::Config { path, source })
    }

    /// The bytes of a config, checked.
    pub(super) fn config(&self, digest: &Sha256) -> Result<Vec<u8>, ConfigError> {
        let path = self.config_path(digest);
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(MAX_CONFIG as u64 + 1).read_to_end(&mut bytes))
            .map_err(|source| ConfigError::Io { path: path.clone(), source })?;
        let found = Sha256::of(&bytes);
        if found == *digest { Ok(bytes) } else { Err(ConfigError::Damaged { path, found }) }
    }

    fn config_path(&self, digest: &Sha256) -> PathBuf {
        self.root.join("configs").join(digest.to_string())
    }

    /// Removes the configs that no release names any more.
    pub(super) fn collect_configs(&self) -> io::Result<usize> {
        let _writing = self.writing();
        let used: BTreeSet<Sha256> = {
            let known = self.known();
            let releases = known.modules.values().flat_map(|m| m.releases.values());
            releases.filter_map(|r| r.config).collect()
        };
        let mut removed = 0;
        for entry in std::fs::read_dir(self.root.join("configs"))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<Sha256>().ok());
            if name.is_none_or(|digest| !used.contains(&digest)) {
                self.disk.remove(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Writes a rollout's snapshot.
    pub(super) fn put_rollout(
        &self,
        record: RolloutRecord,
        ended: bool,
        urgency: Urgency,
    ) -> Result<(), RolloutError> {
        let _writing = self.writing();
        {
            let known = self.known();
            let there = known.rollouts.get(&record.id);
            if there.is_some_and(|there| there.ended) && !ended {
                return Err(RolloutError::Ended { id: record.id });
            }
            let mut others = known.rollouts.values().filter(|other| other.record.id != record.id);
            let taken =
                others.find(|other| record.request.is_some() && other.record.request == record.request);
            if let Some(other) = taken {
                return Err(RolloutError::RequestTaken { rollout: other.record.id.clone() });
            }
            if there.is_none() && known.rollouts.len() >= MAX_ROLLOUTS {
                return Err(RolloutError::TooMany);
            }
        }
        let file = RolloutFile { record, ended };
        self.small.write(&Key::Rollout(file.record.id.clone()), &file, urgency)?;
        self.change_known(|known| {
            known.rollouts.insert(file.record.id.clone(), Arc::new(file));
        });
        Ok(())
    }

    /// Forgets a rollout that the index has taken.
    pub(super) fn drop_rollout(&self, id: &RolloutId) -> Result<(), WriteError> {
        let _writing = self.writing();
        self.small.remove(&Key::Rollout(id.clone()))?;
        self.change_known(|known| {
            known.rollouts.remove(id);
        });
        Ok(())
    }

    /// Ended rollouts that still have their file.
    pub(super) fn ended_rollouts(&self) -> Vec<Arc<RolloutFile>> {
        self.known().rollouts.values().filter(|file| file.ended).cloned().collect()
    }
}
