//! The store in the words of rollouts: which release runs which artifact, what a node obeys, which rollouts run.
//!
//! The store keeps records without knowing what they mean, and `hot-rollout` speaks of releases without knowing where
//! they are kept; here the one becomes the other, and nowhere else. All calls block: callers in async code go through
//! [`crate::blocking`], except for those that only read what is in memory, which say so.

mod obeyed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use hot_artifact::trust::{JudgeError, Trust};
use hot_artifact::{
    Checks, Metadata, ModuleName, Node, OnRecord, Sha256, Target, Verified, VerifyError, Version,
};
use hot_rollout::{Direction, Module, ReleaseNumber, RolloutId};
use serde_json::Value;

use self::obeyed::obeyed;
pub use self::obeyed::{LocalRollback, Obeyed, TookBack};
use crate::held::Held;
use crate::store::{
    ArtifactError, ConfigError, ModuleRecord, NewRelease, Opened, Placed, Protected, Quarantine, Release,
    ReleaseError, RequestId, RolloutError, RolloutRecord, Store, UpdateError, Urgency,
};
use crate::trust::Judged;

/// What is needed to start an instance of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runnable {
    /// Its version.
    pub version: Version,
    /// Its artifact on this node.
    pub digest: Sha256,
    /// Path prefixes that it serves.
    pub routes: Vec<String>,
    /// Names its config.
    pub config: Option<Sha256>,
}

/// Why the ledger can't answer or write.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The name is none that a module could have.
    #[error("no module is named {0}")]
    NoModule(Module),
    /// The release is not on record.
    #[error("{module} has no release {release} on this node")]
    NoRelease {
        /// The module.
        module: Module,
        /// The release.
        release: ReleaseNumber,
    },
    /// Its digest failed before.
    #[error("the artifact is quarantined: {0}")]
    Quarantined(String),
    /// Its version is below the floor.
    #[error("version {version} is below the floor {floor} of this module")]
    BelowFloor {
        /// The version.
        version: Version,
        /// The floor.
        floor: Version,
    },
    /// Its artifact is not here.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The artifact does not pass its checks any more.
    #[error("the artifact is refused")]
    Refused(#[from] VerifyError),
    /// Its config is not here.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The module's record can't be written.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// A release can't be numbered.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// A rollout can't be written.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// A record is not in the form that it must have.
    #[error("a record of {0} can't be read or written")]
    Form(String, #[source] serde_json::Error),
    /// The history can't be read.
    #[error("the history can't be read")]
    History(#[from] crate::store::IndexError),
}

/// A handle to the ledger; clones are the same.
#[derive(Clone, Debug)]
pub struct Ledger {
    store: Store,
    machine: Arc<Node>,
    judged: Arc<Judged>,
    held: Arc<Held<Verified>>,
}

impl Ledger {
    /// The ledger of this store, on this machine.
    #[must_use]
    pub fn new(store: Store, machine: Arc<Node>) -> Self {
        Self { store, machine, judged: Arc::default(), held: Arc::default() }
    }

    /// The record of a module, out of memory.
    #[must_use]
    pub fn module(&self, module: &ModuleName) -> Option<Arc<ModuleRecord>> {
        self.store.module(module)
    }

    /// All modules, out of memory.
    #[must_use]
    pub fn modules(&self) -> Vec<(ModuleName, Arc<ModuleRecord>)> {
        let names = self.store.modules();
        names.into_iter().filter_map(|name| Some((name.clone(), self.store.module(&name)?))).collect()
    }

    /// What it takes to start `release`, out of memory.
    pub fn runnable(&self, module: &Module, release: ReleaseNumber) -> Result<Runnable, LedgerError> {
        let record = self.record(module)?;
        let missing = || LedgerError::NoRelease { module: module.clone(), release };
        let Release { version, digest, config, .. } =
            record.releases().get(&release.0).ok_or_else(missing)?.clone();
        let routes = self.routes(&digest)?;
        Ok(Runnable { version, digest, routes, config })
    }

    /// Path prefixes that an artifact serves, out of memory.
    pub fn routes(&self, digest: &Sha256) -> Result<Vec<String>, LedgerError> {
        let record = self.store.artifact(digest).ok_or(ArtifactError::Unknown(*digest))?;
        // It was parsed when it was let in; a record that does not parse has no routes, and its load is refused.
        let metadata = Metadata::parse(record.metadata.as_bytes());
        Ok(metadata
            .map(|of| of.routes.iter().map(|route| route.as_str().to_owned()).collect())
            .unwrap_or_default())
    }

    /// The bytes of a release's artifact, checked again: digest, signer, quarantine, floor. The time in which a key
    /// is allowed does not count here. They come from the disk, or out of memory where they are held: once.
    pub fn verified(
        &self,
        module: &Module,
        runnable: &Runnable,
        trust: &Trust,
        max_size: u64,
    ) -> Result<Verified, LedgerError> {
        let record = self.record(module)?;
        if let Some(quarantine) = record.quarantine.get(&runnable.digest) {
            return Err(LedgerError::Quarantined(quarantine.reason.clone()));
        }
        if let Some(floor) = record.floor.clone().filter(|floor| runnable.version < *floor) {
            return Err(LedgerError::BelowFloor { version: runnable.version.clone(), floor });
        }
        let Opened { file, placed, record: version } = self.store.open_artifact(&runnable.digest)?;
        let checks = Checks { trust, node: &self.machine, max_size };
        let (name, digest) = (&parse(module)?, runnable.digest);
        let expected = OnRecord { digest, module: name, version: &runnable.version };
        let signature = version.signature.as_bytes();
        Ok(match self.held.take(&digest, Instant::now()) {
            Some(held) => held.again(expected, signature, &checks)?,
            None => Verified::reload(file, expected, signature, &checks)
                .inspect_err(|error| self.note_damage(&digest, placed, error))?,
        })
    }

    /// Remembers what a check of stored bytes found wrong with them, so that the next push of the same file mends them.
    pub fn note_damage(&self, digest: &Sha256, read: Placed, found: &VerifyError) {
        if found.is_damage() {
            self.store.found_damaged(digest, read);
        }
    }

    /// Holds bytes that were verified and are soon to be loaded, so that they are not read and hashed again for that;
    /// unless they are very many.
    pub fn hold(&self, verified: Verified) {
        self.held.hold(verified.digest(), verified.size(), verified, Instant::now());
    }

    /// Lets go of bytes that were held and not loaded in time.
    pub fn tidy(&self) {
        self.held.tidy(Instant::now());
    }

    /// Whether the signer of a release still counts, out of memory: what a load would say of the signature and of who
    /// made it, without the bytes. Of what is not on record only a load speaks.
    pub fn still_signed(
        &self,
        module: &Module,
        release: ReleaseNumber,
        trust: &Arc<Trust>,
    ) -> Result<(), JudgeError> {
        let Ok(name) = parse(module) else { return Ok(()) };
        let digest = self.store.module(&name).and_then(|of| Some(of.releases().get(&release.0)?.digest));
        match digest.and_then(|digest| self.store.artifact(&digest)) {
            Some(record) => self.judged.counts(&name, &record, trust),
            None => Ok(()),
        }
    }

    /// That the bytes of a release are quarantined, and why, if they are.
    pub fn quarantined(&self, module: &Module, release: ReleaseNumber) -> Option<String> {
        let record = self.record(module).ok()?;
        let digest = record.releases().get(&release.0)?.digest;
        let quarantine = record.quarantine.get(&digest)?;
        Some(LedgerError::Quarantined(quarantine.reason.clone()).to_string())
    }

    /// The bytes of a release's config; empty without one.
    pub fn config(&self, runnable: &Runnable) -> Result<Vec<u8>, LedgerError> {
        runnable.config.map_or_else(|| Ok(Vec::new()), |digest| Ok(self.store.config(&digest)?))
    }

    /// The config of the release that serves now: what a push without one takes.
    pub fn stable_config(&self, module: &ModuleName) -> Result<Option<Vec<u8>>, LedgerError> {
        let record = self.store.module(module);
        let stable = record.as_ref().and_then(|record| record.releases().get(record.served().last()?));
        let digest = stable.and_then(|release| release.config);
        digest.map(|digest| self.store.config(&digest)).transpose().map_err(LedgerError::from)
    }

    /// Keeps what the node obeys, in the place of what it obeyed before. Toward stable may use the space that is
    /// reserved for it.
    pub fn obey(&self, obeyed: &Obeyed, direction: Direction) -> Result<(), LedgerError> {
        let module = &obeyed.assignment.module;
        let form = |error| LedgerError::Form(module.to_string(), error);
        let value = serde_json::to_value(obeyed).map_err(form)?;
        let keep = |record: &mut ModuleRecord| record.assignment = Some(value);
        self.store.update_module(&parse(module)?, urgency(direction), keep)?;
        Ok(())
    }

    /// What the node obeys, out of memory.
    #[must_use]
    pub fn obeyed(&self) -> Vec<Obeyed> {
        self.modules().into_iter().filter_map(|(_, record)| obeyed(&record)).collect()
    }

    /// The candidate that the node tries of a module, out of memory.
    #[must_use]
    pub fn candidate(record: &ModuleRecord) -> Option<ReleaseNumber> {
        Some(obeyed(record)?.assignment.candidate?.release)
    }

    /// The release that the node obeys as stable of a module, out of memory.
    #[must_use]
    pub fn obeyed_stable(record: &ModuleRecord) -> Option<ReleaseNumber> {
        obeyed(record)?.assignment.stable
    }

    /// The release that serves as stable, out of memory.
    #[must_use]
    pub fn stable(record: &ModuleRecord) -> Option<ReleaseNumber> {
        record.served().last().copied().map(ReleaseNumber)
    }

    /// Names the stable release. One that was stable before is gone back to: what came after it is no way back any
    /// more. `None`: nothing is stable.
    pub fn set_stable(
        &self,
        module: &Module,
        release: Option<ReleaseNumber>,
        direction: Direction,
    ) -> Result<(), LedgerError> {
        let name = parse(module)?;
        self.store
            .update_module(&name, urgency(direction), |record| record.set_stable(release.map(|it| it.0)))?;
        Ok(())
    }

    /// Keeps a release's digest from being rolled out again.
    pub fn quarantine(
        &self,
        module: &Module,
        release: ReleaseNumber,
        reason: &str,
        at: u64,
    ) -> Result<(), LedgerError> {
        let name = parse(module)?;
        // It belongs to the way back: what failed must not be tried again because the disk was full.
        self.store.update_module(&name, Urgency::TowardStable, |record| {
            Self::quarantine_in(record, release, reason, at);
        })?;
        Ok(())
    }

    /// Puts the digest of a release into the quarantine of a record.
    pub fn quarantine_in(record: &mut ModuleRecord, release: ReleaseNumber, reason: &str, at: u64) {
        let digest = record.releases().get(&release.0).map(|release| release.digest);
        // Stable's own bytes under another config are not to blame for what the config did.
        let stable =
            Self::stable(record).and_then(|stable| record.releases().get(&stable.0)).map(|it| it.digest);
        if let Some(digest) = digest.filter(|digest| Some(*digest) != stable) {
            record.quarantine.entry(digest).or_insert_with(|| Quarantine { at, reason: reason.to_owned() });
        }
    }

    /// Lets a digest be rolled out again. Why it could not be, if that was so.
    pub fn lift_quarantine(
        &self,
        module: &ModuleName,
        digest: &Sha256,
    ) -> Result<Option<String>, LedgerError> {
        let known = self.store.module(module).is_some_and(|record| record.quarantine.contains_key(digest));
        if !known {
            return Ok(None);
        }
        let mut lifted = None;
        self.store
            .update_module(module, Urgency::Normal, |record| lifted = record.quarantine.remove(digest))?;
        Ok(lifted.map(|quarantine| quarantine.reason))
    }

    /// Nothing of the module is stable any more, and the node obeys no assignment of it.
    pub fn forget(&self, module: &ModuleName) -> Result<(), LedgerError> {
        self.store.update_module(module, Urgency::Normal, |record| {
            record.assignment = None;
            record.set_stable(None);
        })?;
        Ok(())
    }

    /// Numbers a release.
    pub fn allocate_release(
        &self,
        module: &ModuleName,
        new: NewRelease,
    ) -> Result<ReleaseNumber, LedgerError> {
        Ok(ReleaseNumber(self.store.allocate_release(module, new)?.number))
    }

    /// Takes a release that the fleet has numbered. False: it is here already.
    pub fn adopt_release(
        &self,
        module: &ModuleName,
        release: Release,
        config: Option<&[u8]>,
    ) -> Result<bool, LedgerError> {
        Ok(self.store.adopt_release(module, release, config)?)
    }

    /// Takes over what the fleet knows of a module. A floor never falls.
    pub fn adopt_module(
        &self,
        module: &ModuleName,
        served: &[u64],
        quarantine: BTreeMap<Sha256, Quarantine>,
        floor: Option<&Version>,
    ) -> Result<(), LedgerError> {
        self.store.update_module(module, Urgency::TowardStable, |record| {
            record.set_served(served);
            record.quarantine = quarantine;
            if floor > record.floor.as_ref() {
                record.floor = floor.cloned();
            }
        })?;
        Ok(())
    }

    /// Keeps the snapshot of a running rollout.
    pub fn put_rollout(
        &self,
        id: &RolloutId,
        request: &str,
        snapshot: Value,
        direction: Direction,
    ) -> Result<(), LedgerError> {
        self.store.put_rollout(record_of(id, request, snapshot)?, urgency(direction))?;
        Ok(())
    }

    /// Keeps a rollout that ended, as history.
    pub fn end_rollout(&self, id: &RolloutId, request: &str, snapshot: Value) -> Result<(), LedgerError> {
        self.store.end_rollout(record_of(id, request, snapshot)?)?;
        Ok(())
    }

    /// One rollout.
    pub fn rollout(&self, id: &RolloutId) -> Result<Option<Value>, LedgerError> {
        let Ok(id) = id.as_str().parse() else { return Ok(None) };
        Ok(self.store.rollout(&id)?.map(|record| record.snapshot))
    }

    /// Rollouts that have not ended, out of memory.
    #[must_use]
    pub fn running_rollouts(&self) -> Vec<(RolloutId, Value)> {
        let id = |record: &RolloutRecord| RolloutId(record.id.as_str().to_owned());
        self.store.rollouts().into_iter().map(|record| (id(&record), record.snapshot)).collect()
    }

    /// The ids of rollouts that ended, newest first, at most `limit`.
    pub fn ended_ids(&self, limit: usize) -> Result<Vec<RolloutId>, LedgerError> {
        let ids = self.store.ended_rollout_ids(limit)?;
        Ok(ids.into_iter().map(|id| RolloutId(id.as_str().to_owned())).collect())
    }

    /// The rollout that a request began.
    pub fn rollout_of_request(&self, request: &str) -> Result<Option<RolloutId>, LedgerError> {
        let found = self.store.rollout_of(&request_id(request))?;
        Ok(found.map(|id| RolloutId(id.as_str().to_owned())))
    }

    /// What must not be collected: what is stable, tried or standby, and what a rollback would go to.
    #[must_use]
    pub fn protected(&self) -> Protected {
        let mut protected = Protected::default();
        for (name, record) in self.modules() {
            let obeyed = obeyed(&record);
            let obeyed = obeyed.iter().flat_map(|of| of.assignment.weights()).map(|(release, ..)| release.0);
            let before = record.served().iter().rev().take(2).copied();
            // One that was numbered for a rollout which is only beginning.
            let newest = record.releases().keys().next_back().copied();
            let releases: BTreeSet<u64> = obeyed.chain(before).chain(newest).collect();
            let digests = releases.iter().filter_map(|number| Some(record.releases().get(number)?.digest));
            protected.digests.extend(digests);
            protected.releases.insert(name, releases);
        }
        protected
    }

    /// What this machine has for modules.
    #[must_use]
    pub fn machine(&self) -> &Node {
        &self.machine
    }

    /// The store beneath, for what needs no translation: uploads, versions, events.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    fn record(&self, module: &Module) -> Result<Arc<ModuleRecord>, LedgerError> {
        self.store.module(&parse(module)?).ok_or_else(|| LedgerError::NoModule(module.clone()))
    }
}

/// What this node runs of a version: where several of its targets would do, the one for its own C library.
#[must_use]
pub fn runs_here(record: &ModuleRecord, version: &Version) -> Option<Sha256> {
    let targets = record.versions().get(version)?;
    let best = Target::best_for(targets.keys().copied(), Target::native())?;
    Some(targets.get(&best)?.digest)
}

fn parse(module: &Module) -> Result<ModuleName, LedgerError> {
    module.as_str().parse().map_err(|_no_name| LedgerError::NoModule(module.clone()))
}

fn record_of(id: &RolloutId, request: &str, snapshot: Value) -> Result<RolloutRecord, LedgerError> {
    let name = id
        .as_str()
        .parse()
        .map_err(|error| LedgerError::Form(id.to_string(), serde::ser::Error::custom(error)))?;
    Ok(RolloutRecord { id: name, request: (!request.is_empty()).then(|| request_id(request)), snapshot })
}

/// Callers name their requests as they like; the store's names are of a stricter form.
fn request_id(request: &str) -> RequestId {
    RequestId::from(Sha256::of(request.as_bytes()))
}

fn urgency(direction: Direction) -> Urgency {
    match direction {
        Direction::TowardStable => Urgency::TowardStable,
        Direction::Onward => Urgency::Normal,
    }
}

#[cfg(test)]
mod tests;
