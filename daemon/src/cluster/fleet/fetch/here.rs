//! What artifacts this node has, and what of them the fleet was told.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};

use hot_artifact::Sha256;

use super::Fetcher;
use crate::store::{ModuleRecord, VersionRecord};

/// What became of an artifact on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster::fleet) enum Held {
    /// It is here now.
    Came,
    /// It is not here any more.
    Went,
}

impl Fetcher {
    /// Every artifact that is here; the fleet is told of all of them.
    pub(in crate::cluster::fleet) fn here(&self) -> Vec<Sha256> {
        let all: BTreeSet<Sha256> = self.stored();
        *self.told() = all.clone();
        all.into_iter().collect()
    }

    /// What is known of them.
    pub(in crate::cluster::fleet) fn records(&self) -> Vec<VersionRecord> {
        let store = self.0.ledger.store();
        let known = self.stored().into_iter().filter_map(|digest| store.artifact(&digest));
        known.map(|record| (*record).clone()).collect()
    }

    /// The artifacts that came and those that went since the fleet was told. It is told of them now.
    pub(in crate::cluster::fleet) fn news_here(&self) -> Vec<(Sha256, Held)> {
        let (here, mut told) = (self.stored(), self.told());
        let came = here.difference(&told).map(|digest| (*digest, Held::Came));
        let news: Vec<(Sha256, Held)> =
            came.chain(told.difference(&here).map(|digest| (*digest, Held::Went))).collect();
        *told = here;
        news
    }

    /// The fleet was not told of this after all.
    pub(in crate::cluster::fleet) fn untold(&self, (digest, held): (Sha256, Held)) {
        match held {
            Held::Came => self.told().remove(&digest),
            Held::Went => self.told().insert(digest),
        };
    }

    fn told(&self) -> MutexGuard<'_, BTreeSet<Sha256>> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stored(&self) -> BTreeSet<Sha256> {
        let modules = self.0.ledger.modules();
        let stored = |record: &ModuleRecord| {
            let targets = record.versions().values().flat_map(|targets| targets.values());
            targets.map(|stored| stored.digest).collect::<Vec<_>>()
        };
        modules.iter().flat_map(|(_, record)| stored(record)).collect()
    }
}
