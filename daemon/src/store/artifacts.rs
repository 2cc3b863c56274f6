//! Artifacts: from the spool to a version, and away again.
//!
//! Order of a commit: the artifact's bytes are synced in the spool; its record (with the signature) is in place; the
//! artifact is renamed into place and its folder synced; then the module's record names it. That last write is the
//! moment from which the version is there: before it, the next start removes what is left of the attempt.
//!
//! Bytes that were damaged on the disk are replaced by the same push: synced in the spool, renamed over the damaged file,
//! and the folder synced. The records that name them stay as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hot_artifact::{ModuleName, Sha256, Target, Version};
use thiserror::Error;

use super::disk::{parent, remove_for_good};
use super::files::{Files, UpdateError};
use super::records::{ModuleRecord, Removal, Stored, Tombstone, UnixMillis, VersionRecord};
use super::small::{Key, Urgency, WriteError, hint, is_full};
use super::spool::{Spooled, SyncError};

/// Releases of a module that stay in its record beyond those that are protected. The index has all.
const KEEP_RELEASES: usize = 100;
/// Removed versions whose binding is kept. Beyond it the oldest *collected* ones are forgotten, never removed ones.
const MAX_TOMBSTONES: usize = 1000;
/// Digests that stay quarantined; the oldest are forgotten.
const MAX_QUARANTINE: usize = 500;
/// Bytes of metadata and signature together in an artifact's record.
const MAX_RECORD_TEXT: usize = 128 * 1024;

/// An artifact did not become a version.
#[derive(Debug, Error)]
pub enum CommitError {
    /// The record is about other bytes.
    #[error("the record is of {record} with {size} bytes, and {digest} with {found} bytes was uploaded")]
    OtherFile {
        /// Digest in the record.
        record: Sha256,
        /// Size in the record.
        size: u64,
        /// Digest of the upload.
        digest: Sha256,
        /// Size of the upload.
        found: u64,
    },
    /// Metadata and signature are too long.
    #[error("metadata and signature have {found} bytes together, and at most {MAX_RECORD_TEXT} are kept")]
    TooLong {
        /// Bytes that they have.
        found: usize,
    },
    /// The version has another digest, for ever.
    #[error(
        "{module} {version} for {target} is {bound} already and can't become {found}: a version never changes; push \
         it under a new version"
    )]
    Bound {
        /// The module.
        module: ModuleName,
        /// The version.
        version: Version,
        /// What it was built for.
        target: Target,
        /// The digest that it has.
        bound: Sha256,
        /// The digest that was to replace it.
        found: Sha256,
    },
    /// The version was removed.
    #[error("{module} {version} was removed by {by}{}; push it under a new version", because(reason))]
    Removed {
        /// The module.
        module: ModuleName,
        /// The version.
        version: Version,
        /// Who removed it.
        by: String,
        /// Why.
        reason: String,
    },
    /// The artifact could not be put into place.
    #[error("cannot {doing} {}{}", path.display(), hint(source))]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The bytes are not on the disk.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// A record could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The module's record could not be written.
    #[error(transparent)]
    Update(#[from] UpdateError),
}

impl CommitError {
    /// Whether it is for what the bytes are, and not for the disk: another try would come to the same.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::OtherFile { .. } | Self::TooLong { .. } | Self::Bound { .. } | Self::Removed { .. } => true,
            Self::Io { .. } | Self::Sync(_) | Self::Write(_) | Self::Update(_) => false,
        }
    }

    /// Whether free space on the disk would help.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_full(source),
            Self::Sync(error) => error.is_full(),
            Self::Write(error) | Self::Update(UpdateError::Write(error)) => error.is_full(),
            Self::OtherFile { .. } | Self::TooLong { .. } | Self::Bound { .. } | Self::Removed { .. } => {
                false
            }
            Self::Update(UpdateError::TooMany) => false,
        }
    }
}

impl ModuleRecord {
    /// Whether these bytes may be this version of the module `name`, whose record this is.
    ///
    /// # Errors
    /// When the version was removed by a person, or is bound to other bytes.
    pub fn may_become(
        &self,
        name: &ModuleName,
        version: &Version,
        target: Target,
        digest: Sha256,
    ) -> Result<(), CommitError> {
        let (module, version) = (name.clone(), version.clone());
        if let Some(Removal::Removed { by, reason }) = self.tombstones.get(&version).map(|t| &t.why) {
            return Err(CommitError::Removed { module, version, by: by.clone(), reason: reason.clone() });
        }
        match self.bound(&version, target) {
            Some(bound) if bound != digest => {
                Err(CommitError::Bound { module, version, target, bound, found: digest })
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({reason})") }
}

/// What a commit found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It is a version now.
    New,
    /// The same digest was that version already.
    AlreadyThere,
    /// It was that version already, and its bytes on the disk were damaged: these took their place.
    Mended,
}

/// An artifact got no other signature.
#[derive(Debug, Error)]
pub enum SignAgainError {
    /// No version has it any more.
    #[error("no version on this node has digest {0}; push it again")]
    Unknown(Sha256),
    /// Metadata and signature are too long.
    #[error("metadata and signature have {found} bytes together, and at most {MAX_RECORD_TEXT} are kept")]
    TooLong {
        /// Bytes that they have.
        found: usize,
    },
    /// The artifact's record could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A version was not removed.
#[derive(Debug, Error)]
pub enum RemoveError {
    /// It is not there.
    #[error("{module} has no version {version}")]
    Unknown {
        /// The module.
        module: ModuleName,
        /// The version.
        version: Version,
    },
    /// The module's record could not be written.
    #[error(transparent)]
    Update(#[from] UpdateError),
}

/// What a collection came to.
#[derive(Debug)]
pub struct Collected {
    /// The versions that went.
    pub gone: Vec<(ModuleName, Version)>,
    /// Why it ended early: the record of a module can't be written.
    pub failed: Option<UpdateError>,
}

/// What may not be collected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Protected {
    /// Artifacts: stable, candidates, standbys, pinned.
    pub digests: BTreeSet<Sha256>,
    /// Releases, by module: those, and what a rollback would go to.
    pub releases: BTreeMap<ModuleName, BTreeSet<u64>>,
}

impl Files {
    /// Makes a version of verified bytes; on the disk when it returns `Ok`.
    pub(super) fn commit(&self, spooled: &Spooled, record: VersionRecord) -> Result<Committed, CommitError> {
        let (digest, found) = (spooled.digest(), spooled.size());
        if record.digest != digest || record.size != found {
            return Err(CommitError::OtherFile { record: record.digest, size: record.size, digest, found });
        }
        let text = record.metadata.len() + record.signature.len();
        if text > MAX_RECORD_TEXT {
            return Err(CommitError::TooLong { found: text });
        }
        if self.check_binding(&record)? == Committed::AlreadyThere {
            return Ok(Committed::AlreadyThere);
        }
        // The long wait, outside the lock.
        spooled.sync()?;

        let _writing = self.writing();
        let becomes = self.check_binding(&record)?;
        if becomes == Committed::AlreadyThere {
            return Ok(Committed::AlreadyThere);
        }
        // Another caller may have thrown the bytes away meanwhile, and begun to write others under their name.
        let _synced = spooled.synced()?;
        if becomes == Committed::Mended {
            self.replace_damaged(spooled)?;
            return Ok(Committed::Mended);
        }
        let key = Key::Artifact(digest);
        self.small.write(&key, &record, Urgency::Normal)?;
        let done = self.put_in_place(spooled).and_then(|()| {
            self.update_while_writing(&record.module, Urgency::Normal, |module| bind(module, &record))?;
            Ok(())
        });
        if let Err(error) = done {
            // Back to the spool, so that the bytes need not be sent again. What this can't undo, the next start does. Where
            // that may find that the module's record names them, they stay: a version is there whole or not at all.
            if !self.small.is_in_doubt(&Key::Module(record.module.clone())) {
                self.disk.rename(&self.artifact_path(&digest), spooled.path()).ok();
                self.small.remove(&key).ok();
            }
            return Err(error);
        }
        self.change_known(|known| {
            known.place(digest);
            known.artifacts.insert(digest, Arc::new(record));
        });
        Ok(Committed::New)
    }

    /// Gives the spooled bytes their name among the artifacts, for good when it returns `Ok`.
    fn put_in_place(&self, spooled: &Spooled) -> Result<(), CommitError> {
        let (from, to) = (spooled.path(), self.artifact_path(&spooled.digest()));
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| CommitError::Io { doing, path, source }
        };
        self.disk.rename(from, &to).map_err(failed("rename", from))?;
        self.disk.sync_dir(parent(&to)).map_err(failed("sync the folder of", &to))
    }

    /// Puts the spooled bytes in the place of damaged ones. Where that fails these are not put back: until it is done the
    /// next upload is taken as well.
    fn replace_damaged(&self, spooled: &Spooled) -> Result<(), CommitError> {
        self.put_in_place(spooled)?;
        self.change_known(|known| {
            known.place(spooled.digest());
            known.damaged.remove(&spooled.digest());
        });
        Ok(())
    }

    fn check_binding(&self, record: &VersionRecord) -> Result<Committed, CommitError> {
        let VersionRecord { module: name, version, target, digest, .. } = record;
        let Some(module) = self.module(name) else { return Ok(Committed::New) };
        module.may_become(name, version, *target, *digest)?;
        // A version whose artifact was lost or collected is brought back by pushing the same bytes.
        let known = self.known();
        let is_there = module.bound(version, *target).is_some() && known.artifacts.contains_key(digest);
        Ok(match is_there {
            false => Committed::New,
            true if known.damaged.contains(digest) => Committed::Mended,
            true => Committed::AlreadyThere,
        })
    }

    /// Keeps another signature of an artifact; on the disk when it returns `Ok`. What was known before, if that changed.
    pub(super) fn sign_again(
        &self,
        digest: &Sha256,
        signature: &str,
        principal: &str,
    ) -> Result<Option<Arc<VersionRecord>>, SignAgainError> {
        let _writing = self.writing();
        let former = self.known().artifacts.get(digest).cloned().ok_or(SignAgainError::Unknown(*digest))?;
        let (signature, principal) = (signature.to_owned(), principal.to_owned());
        let record = VersionRecord { signature, principal, ..(*former).clone() };
        if record == *former {
            return Ok(None);
        }
        let found = record.metadata.len() + record.signature.len();
        if found > MAX_RECORD_TEXT {
            return Err(SignAgainError::TooLong { found });
        }
        self.small.write(&Key::Artifact(*digest), &record, Urgency::Normal)?;
        self.change_known(|known| {
            known.artifacts.insert(*digest, Arc::new(record));
        });
        Ok(Some(former))
    }

    /// Removes a version for good and leaves a tombstone; the digests that went.
    pub(super) fn remove_version(
        &self,
        module: &ModuleName,
        version: &Version,
        at: UnixMillis,
        by: &str,
        reason: &str,
    ) -> Result<Vec<Sha256>, RemoveError> {
        let _writing = self.writing();
        if !self.module(module).is_some_and(|m| m.versions.contains_key(version)) {
            return Err(RemoveError::Unknown { module: module.clone(), version: version.clone() });
        }
        let why = Removal::Removed { by: by.to_owned(), reason: reason.to_owned() };
        let digests = self.update_while_writing(module, Urgency::Normal, |m| bury(m, version, at, why))?;
        self.drop_artifacts(&digests);
        Ok(digests)
    }

    /// Takes over that a version was removed elsewhere: what is here of it goes, and its digest is bound.
    pub(super) fn adopt_removal(
        &self,
        module: &ModuleName,
        version: &Version,
        (target, digest): (Target, Sha256),
        at: UnixMillis,
        by: &str,
    ) -> Result<(), UpdateError> {
        let _writing = self.writing();
        let why = Removal::Removed { by: by.to_owned(), reason: String::new() };
        let digests = self.update_while_writing(module, Urgency::Normal, |record| {
            let digests = bury(record, version, at, why);
            if let Some(tombstone) = record.tombstones.get_mut(version) {
                tombstone.digests.entry(target).or_insert(digest);
            }
            digests
        })?;
        self.drop_artifacts(&digests);
        Ok(())
    }

    /// Removes the versions of each module beyond the newest `keep`, and old releases, but nothing that is protected.
    pub(super) fn collect(&self, protected: &Protected, keep: usize, at: UnixMillis) -> Collected {
        let names: Vec<ModuleName> = self.known().modules.keys().cloned().collect();
        let mut gone = Vec::new();
        for name in names {
            let _writing = self.writing();
            let collected = self.update_while_writing(&name, Urgency::Normal, |module| {
                let versions = beyond(module, protected, keep);
                let digests: Vec<Sha256> = versions
                    .iter()
                    .flat_map(|version| bury(module, version, at, Removal::Collected))
                    .collect();
                prune(module, protected.releases.get(&name));
                (versions, digests)
            });
            match collected {
                Ok((versions, digests)) => {
                    self.drop_artifacts(&digests);
                    gone.extend(versions.into_iter().map(|version| (name.clone(), version)));
                }
                Err(error) => return Collected { gone, failed: Some(error) },
            }
        }
        Collected { gone, failed: None }
    }

    /// Removes files that no record names any more. What can't be removed now is removed by the next start.
    pub(super) fn drop_artifacts(&self, digests: &[Sha256]) {
        self.change_known(|known| {
            for digest in digests {
                known.artifacts.remove(digest);
                known.damaged.remove(digest);
                known.placed.remove(digest);
            }
        });
        for digest in digests {
            remove_for_good(&*self.disk, &self.artifact_path(digest)).ok();
            self.small.remove(&Key::Artifact(*digest)).ok();
        }
    }
}

/// Names an artifact in the module's record.
pub(super) fn bind(module: &mut ModuleRecord, record: &VersionRecord) {
    let stored = Stored { digest: record.digest, at: record.at };
    module.versions.entry(record.version.clone()).or_default().insert(record.target, stored);
    // It was collected and is back. Bindings of its other targets must not be lost with the tombstone.
    if let Some(tombstone) = module.tombstones.get_mut(&record.version) {
        tombstone.digests.remove(&record.target);
        if tombstone.digests.is_empty() {
            module.tombstones.remove(&record.version);
        }
    }
}

fn bury(module: &mut ModuleRecord, version: &Version, at: UnixMillis, why: Removal) -> Vec<Sha256> {
    let targets = module.versions.remove(version).unwrap_or_default();
    let digests: Vec<Sha256> = targets.values().map(|stored| stored.digest).collect();
    let mut bound: BTreeMap<_, _> =
        targets.into_iter().map(|(target, stored)| (target, stored.digest)).collect();
    bound.extend(module.tombstones.remove(version).map(|t| t.digests).unwrap_or_default());
    module.tombstones.insert(version.clone(), Tombstone { digests: bound, at, why });
    while module.tombstones.len() > MAX_TOMBSTONES {
        let collected = module.tombstones.iter().filter(|(_, t)| t.why == Removal::Collected);
        let Some(oldest) = collected.min_by_key(|(_, t)| t.at).map(|(version, _)| version.clone()) else {
            break;
        };
        module.tombstones.remove(&oldest);
    }
    digests
}

/// The versions that may go: of those that are not protected all but the newest `keep`. One that is quarantined takes no
/// place from one that is not: nobody can go back to it.
fn beyond(module: &ModuleRecord, protected: &Protected, keep: usize) -> Vec<Version> {
    let any = |targets: &BTreeMap<Target, Stored>, is: &dyn Fn(&Sha256) -> bool| {
        targets.values().any(|stored| is(&stored.digest))
    };
    let rank = |targets: &BTreeMap<Target, Stored>| {
        let is_good = !any(targets, &|digest| module.quarantine.contains_key(digest));
        (is_good, targets.values().map(|stored| stored.at).max())
    };
    let free = module.versions.iter().filter(|(_, t)| !any(t, &|digest| protected.digests.contains(digest)));
    let mut versions: Vec<_> = free.map(|(version, targets)| (rank(targets), version)).collect();
    versions.sort();
    versions.into_iter().rev().skip(keep).map(|(_, version)| version.clone()).collect()
}

/// Takes old releases and quarantined digests out of the record; not what is a way back.
fn prune(module: &mut ModuleRecord, protected: Option<&BTreeSet<u64>>) {
    while module.quarantine.len() > MAX_QUARANTINE {
        let Some(oldest) = module.quarantine.iter().min_by_key(|(_, q)| q.at).map(|(d, _)| *d) else { break };
        module.quarantine.remove(&oldest);
    }
    let Some(first_kept) = module.releases.keys().rev().nth(KEEP_RELEASES - 1).copied() else { return };
    let served = &module.served;
    let is_protected = |n: &u64| served.contains(n) || protected.is_some_and(|p| p.contains(n));
    module.releases.retain(|number, _| *number >= first_kept || is_protected(number));
}
