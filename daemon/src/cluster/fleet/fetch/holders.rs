//! Who has an artifact, as etcd says, and that this node has one.

use std::collections::BTreeSet;

use hot_artifact::{ModuleName, Version};
use hot_rollout::Node;

use crate::cluster::etcd::{Folder, Key, WriteError};
use crate::cluster::fleet::values::{VersionValue, encode, parse};
use crate::cluster::fleet::{Fleet, FleetError, State};
use crate::store::VersionRecord;

impl Fleet {
    /// What the fleet has of a version, and nothing else: what this node has heard, and what another node may have shared
    /// a moment ago. A watch can be seconds behind.
    pub(in crate::cluster::fleet) async fn shared(
        &self,
        module: &ModuleName,
        version: &Version,
    ) -> Result<State, FleetError> {
        let mut shared = State::default();
        let state = self.state();
        let heard = state.versions.iter().filter(|((name, of, _), _)| name == module && of == version);
        shared.versions.extend(heard.map(|(key, value)| (key.clone(), value.clone())));
        for found in self.list(&Folder::Versions(module.clone(), version.clone())).await? {
            // The watch tells of what is wrong.
            shared.put(self.keys(), &found);
        }
        Ok(shared)
    }

    /// Who is there and has an artifact, and where each is called: in an order of its own, so that not all ask the same.
    pub(super) async fn holders(&self, version: &VersionValue) -> Result<Vec<(Node, String)>, FleetError> {
        let state = self.state();
        let folder = Folder::Holders(version.record.digest);
        let listed = self.list(&folder).await?;
        let holds = listed.iter().filter_map(|found| match self.keys().parse(&found.key)? {
            Key::Holder(_, node) => Some(node),
            _ => None,
        });
        let mut nodes: BTreeSet<Node> = holds.collect();
        nodes.insert(version.node.clone());
        let mut urls: Vec<(Node, String)> = nodes
            .into_iter()
            .filter(|node| node != self.node() && state.is_up(node))
            .filter_map(|node| Some((node.clone(), state.nodes.get(&node)?.grpc.clone())))
            .collect();
        urls.sort_by_cached_key(|_| rand::random::<u64>());
        Ok(urls)
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
