//! What people took out of the fleet goes from this node, too: its files and all, and a tombstone stays. What this node still
//! runs stays until it does not: a removal is no order to stop.

use std::time::Duration;

use hot_artifact::{ModuleName, Sha256, Target, Version};
use hot_rollout::Module;

use super::MemberParts;
use crate::agent::Agent;
use crate::cluster::fleet::values::{RemovedValue, VersionValue};
use crate::ledger::Ledger;
use crate::store::UpdateError;

/// Between two tries where something could not go yet.
const AGAIN: Duration = Duration::from_secs(1);

impl super::Member {
    /// Lets go of what was removed, whenever that is news.
    pub(super) async fn follow_removed(self) {
        let MemberParts { fleet, agent, .. } = &*self.parts;
        let mut states = fleet.states();
        loop {
            let state = states.borrow_and_update().clone();
            let mut waits = false;
            for ((module, version, target), VersionValue { record, removed, .. }) in &state.versions {
                let Some(removed) = removed else { continue };
                match let_go(fleet.ledger(), agent, (module, version, *target), record.digest, removed).await
                {
                    Ok(gone) => waits |= !gone,
                    Err(error) => {
                        tracing::warn!(%module, %version, error = %crate::describe(&error), "a version that was removed is still here");
                        waits = true;
                    }
                }
            }
            // Whoever holds it while the next word comes has all of it copied.
            drop(state);
            let changed = tokio::select! {
                changed = states.changed() => changed,
                () = tokio::time::sleep(AGAIN), if waits => Ok(()),
            };
            if changed.is_err() {
                return;
            }
        }
    }
}

/// Has a version gone from this node. False: it runs here, and can't go yet.
async fn let_go(
    ledger: &Ledger,
    agent: &Agent,
    (module, version, target): (&ModuleName, &Version, Target),
    digest: Sha256,
    removed: &RemovedValue,
) -> Result<bool, UpdateError> {
    let record = ledger.module(module);
    if record.as_ref().is_some_and(|record| record.has_removed(version, target)) {
        return Ok(true);
    }
    let runs = |number: u64| {
        let release = record.as_ref().and_then(|record| record.releases().get(&number));
        release.is_some_and(|release| release.version == *version)
    };
    if agent.roles(&Module(module.to_string())).into_iter().any(|(release, _)| runs(release.0)) {
        return Ok(false);
    }
    let (store, module, version, removed) =
        (ledger.store().clone(), module.clone(), version.clone(), removed.clone());
    crate::blocking(move || {
        store.adopt_removal(&module, &version, (target, digest), removed.at, &removed.by)
    })
    .await?;
    Ok(true)
}
