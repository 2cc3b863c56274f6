//! Who has an artifact, as etcd says.

use std::collections::BTreeSet;

use hot_rollout::Node;

use crate::cluster::etcd::{Folder, Key};
use crate::cluster::fleet::values::VersionValue;
use crate::cluster::fleet::{Fleet, FleetError};

impl Fleet {
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
}
