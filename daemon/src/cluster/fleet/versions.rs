//! The versions that the fleet has: whoever let one in tells it of that, and all read what it has.

use std::collections::BTreeSet;

use hot_artifact::{ModuleName, Version};

use super::values::{VersionValue, encode, parse};
use super::{Fleet, FleetError, State};
use crate::cluster::etcd::{Folder, Key, WriteError};
use crate::store::VersionRecord;

impl Fleet {
    /// What the fleet has of a module, or of one version of it, and nothing else: what this node has heard, and what another
    /// node may have shared a moment ago. A watch can be seconds behind.
    pub(super) async fn shared(
        &self,
        module: &ModuleName,
        only: Option<&Version>,
    ) -> Result<State, FleetError> {
        let mut shared = State::default();
        let state = self.state();
        let is_meant =
            |name: &ModuleName, version: &Version| name == module && only.is_none_or(|only| only == version);
        let heard = state.versions.iter().filter(|((name, version, _), _)| is_meant(name, version));
        shared.versions.extend(heard.map(|(key, value)| (key.clone(), value.clone())));
        for found in self.list(&Folder::Versions(module.clone(), only.cloned())).await? {
            // The watch tells of what is wrong.
            shared.put(self.keys(), &found);
        }
        Ok(shared)
    }

    /// The versions of a module that the fleet has.
    ///
    /// # Errors
    /// etcd can't be read.
    pub async fn versions(&self, module: &ModuleName) -> Result<BTreeSet<Version>, FleetError> {
        let shared = self.shared(module, None).await?;
        let there = shared.versions.iter().filter(|(_, value)| value.removed.is_none());
        Ok(there.map(|((_, version, _), _)| version.clone()).collect())
    }

    /// Whether the fleet had a version that was removed.
    #[must_use]
    pub fn has_removed(&self, module: &ModuleName, version: &Version) -> bool {
        let is_it = |((name, of, _), value): (&(ModuleName, Version, _), &VersionValue)| {
            name == module && of == version && value.removed.is_some()
        };
        self.state().versions.iter().any(is_it)
    }

    /// Tells the fleet of a version that was let in here.
    ///
    /// # Errors
    /// It is there with another digest, or was removed, or etcd can't be reached: then it is a version of this node alone.
    pub async fn share_version(&self, record: VersionRecord) -> Result<(), FleetError> {
        let key = Key::Version(record.module.clone(), record.version.clone(), record.target);
        let name = self.keys().of(&key);
        let digest = record.digest;
        let value = encode(&VersionValue { record, node: self.node().clone(), removed: None });
        let created = self.connection().create(&name, value).await?;
        match created {
            None => Ok(()),
            Some(found) => match parse::<VersionValue>(&found.key, &found.value) {
                Ok(VersionValue { record, removed: Some(removed), .. }) if record.digest == digest => {
                    let (module, version) = (record.module, record.version);
                    Err(FleetError::Removed { module, version, by: removed.by })
                }
                Ok(there) if there.record.digest == digest => Ok(()),
                Ok(_) | Err(_) => Err(WriteError::Exists { key: name }.into()),
            },
        }
    }
}
