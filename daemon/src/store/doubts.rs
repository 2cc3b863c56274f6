//! Writes that were refused and may be on the disk all the same, because what counted before could not be put back: a restart
//! might find them. Readers do not wait for the disk.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::small::Key;

/// A write in doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InDoubt {
    /// The file, within the store.
    pub file: String,
    /// Since when.
    pub since: SystemTime,
    /// Why what counted before could not be put back.
    pub why: String,
}

/// All writes in doubt.
#[derive(Debug, Default)]
pub(super) struct Doubts(Mutex<BTreeMap<Key, InDoubt>>);

impl Doubts {
    /// A write of this file is in doubt.
    pub(super) fn begin(&self, key: &Key, why: String) {
        tracing::error!(file = %key, %why, "a refused write may be on the disk, and can't be taken back yet");
        let since = self.lock().get(key).map_or_else(SystemTime::now, |known| known.since);
        self.lock().insert(key.clone(), InDoubt { file: key.to_string(), since, why });
    }

    /// What counts of this file is on the disk.
    pub(super) fn end(&self, key: &Key) {
        if self.lock().remove(key).is_some() {
            tracing::info!(file = %key, "the refused write is taken back, or another has taken its place");
        }
    }

    /// Whether a write of this file is in doubt.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.lock().contains_key(key)
    }

    /// The files of which a write is in doubt.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.lock().keys().cloned().collect()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<InDoubt> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, InDoubt>> {
        // A map that is whole after each step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
