//! What the fleet knows of modules, kept in this node's ledger, so that the node is whole when etcd is gone.

use hot_artifact::{ModuleName, Target};
use hot_rollout::RolloutId;

use super::values::{ModuleValue, ReleaseValue, RolloutValue, parse};
use super::{Fleet, FleetError};
use crate::cluster::etcd::Key;

impl Fleet {
    /// Keeps what the fleet knows of a module.
    pub(super) async fn adopt_module(
        &self,
        module: &ModuleName,
        value: ModuleValue,
    ) -> Result<(), FleetError> {
        let (ledger, module) = (self.ledger().clone(), module.clone());
        let adopt = move || {
            let ModuleValue { served, quarantine, floor } = value;
            ledger.adopt_module(&module, &served, quarantine, floor.as_ref())
        };
        Ok(crate::blocking(adopt).await?)
    }

    /// Keeps what the fleet knows of a module, as far as this node has heard.
    pub(super) async fn keep_module(&self, module: &ModuleName) -> Result<(), FleetError> {
        let _keeping = self.0.keeping.lock().await;
        match self.state().modules.get(module) {
            Some(value) => self.adopt_module(module, value.clone()).await,
            None => Ok(()),
        }
    }

    /// Keeps what the fleet knows of all modules, as far as this node has heard.
    pub async fn keep_modules(&self) {
        for module in self.state().modules.keys() {
            if let Err(error) = self.keep_module(module).await {
                tracing::warn!(%module, error = %crate::describe(&error), "what the fleet knows is not on this node yet");
            }
        }
    }

    /// Keeps a release that this node could run; one for other machines is not for it, and one with a config is refused: in
    /// etcd anybody can pair a good module with a bad config.
    pub(super) async fn adopt_release(
        &self,
        module: &ModuleName,
        number: u64,
        value: &ReleaseValue,
    ) -> Result<(), FleetError> {
        let Some(release) = value.on(number, Target::native()) else { return Ok(()) };
        if release.config.is_some() {
            return Err(FleetError::UnsignedConfig { module: module.clone(), number });
        }
        let (ledger, module) = (self.ledger().clone(), module.clone());
        crate::blocking(move || ledger.adopt_release(&module, release, None)).await?;
        Ok(())
    }

    /// Keeps a release that this node is told of before it has heard of it.
    pub(super) async fn fetch_release(&self, module: &ModuleName, number: u64) -> Result<(), FleetError> {
        let record = self.ledger().module(module);
        if let Some(here) = record.as_ref().and_then(|record| record.releases().get(&number)) {
            let state = self.state();
            let there = state.releases.get(&(module.clone(), number));
            let there = there.and_then(|value| value.on(number, Target::native()));
            return match there {
                Some(there) if there != *here => Err(FleetError::Differs { module: module.clone(), number }),
                Some(_) | None => Ok(()),
            };
        }
        let key = self.keys().of(&Key::Release(module.clone(), number));
        let Some(found) = self.connection().get(&key).await? else { return Ok(()) };
        match parse::<ReleaseValue>(&found.key, &found.value) {
            Ok(value) => self.adopt_release(module, number, &value).await,
            Err(malformed) => {
                self.alarm(&malformed);
                Ok(())
            }
        }
    }

    /// Keeps a rollout that ended in this node's history.
    pub(super) async fn keep_ended(&self, id: RolloutId, value: RolloutValue) {
        let ledger = self.ledger().clone();
        let kept = crate::blocking(move || match ledger.rollout(&id)? {
            Some(_) => Ok(()),
            None => ledger.end_rollout(&id, &value.request, value.snapshot),
        });
        if let Err(error) = kept.await {
            tracing::warn!(error = %crate::describe(&error), "a rollout that ended is not in this node's history");
        }
    }
}
