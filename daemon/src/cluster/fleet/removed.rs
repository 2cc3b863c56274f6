//! Versions that people take out of the fleet: the leader says so under each version's key, and every node lets go of its own
//! files and keeps a tombstone, also one that never had them.

use std::collections::BTreeSet;

use hot_artifact::{ModuleName, Version};
use hot_rollout::{Module, Node, ReleaseNumber, Role, RolloutId};

use super::values::{RemovedValue, VersionValue, encode};
use super::{Fleet, FleetError, State};
use crate::cluster::etcd::{Key, MAX_OPERATIONS, Write};

impl Fleet {
    /// The releases that nodes are told to run, and as what; as the leader knows.
    #[must_use]
    pub fn roles(&self, module: &Module) -> Vec<(ReleaseNumber, Role)> {
        let written = self.written();
        let given = written.assignments.iter().filter(|((_, of), _)| of.as_str() == module.as_str());
        let given = given.filter_map(|(_, value)| value.given.as_ref());
        given.flat_map(|given| given.assignment.weights()).map(|(it, role, _)| (it, role)).collect()
    }

    /// Has no node run anything of `module`, and nothing of it be stable. No rollout moves it.
    ///
    /// # Errors
    /// This node does not lead, or etcd can't be written: some nodes may run it then, and the call can be made once more.
    pub async fn withdraw_everywhere(&self, module: &Module, rollout: &RolloutId) -> Result<(), FleetError> {
        // First: whoever comes meanwhile is given nothing.
        self.set_stable(module, None).await?;
        let told: Vec<Node> = {
            let written = self.written();
            let of = written.assignments.keys().filter(|(_, of)| of.as_str() == module.as_str());
            of.map(|(node, _)| node.clone()).collect()
        };
        for node in told {
            self.withdraw(&node, module, rollout).await?;
        }
        Ok(())
    }

    /// Takes a version out of the fleet, or all that it has of a module. Gives those that went now; nodes follow.
    ///
    /// # Errors
    /// As [`Fleet::withdraw_everywhere`].
    pub async fn remove_versions(
        &self,
        module: &ModuleName,
        only: Option<&Version>,
        removed: &RemovedValue,
    ) -> Result<BTreeSet<Version>, FleetError> {
        self.term()?;
        let shared = self.shared(module, only).await?;
        let meant: Vec<_> = shared.versions.iter().filter(|(_, value)| value.removed.is_none()).collect();
        let writes: Vec<Write> = meant
            .iter()
            .map(|((name, version, target), value)| {
                let value = VersionValue { removed: Some(removed.clone()), ..(*value).clone() };
                Write::Put(Key::Version(name.clone(), version.clone(), *target), encode(&value))
            })
            .collect();
        for some in writes.chunks(MAX_OPERATIONS / 2) {
            self.lead(some.to_vec()).await?;
        }
        let gone: BTreeSet<Version> = meant.iter().map(|((_, version, _), _)| version.clone()).collect();
        self.hear(|state: &std::sync::Arc<State>| {
            let of = state
                .versions
                .iter()
                .filter(|((name, version, _), _)| name == module && gone.contains(version));
            of.into_iter().all(|(_, value)| value.removed.is_some())
        })
        .await;
        Ok(gone)
    }
}
