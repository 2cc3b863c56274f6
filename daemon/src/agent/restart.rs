//! A new instance in the place of the one that serves, by a person's word.

use hot_rollout::{Module, ReleaseNumber};

use super::slot::{Run, RunState, Slot};
use super::{Agent, TICK};
use crate::supervisor::InstanceId;

impl Agent {
    /// Replaces the instance of a module's stable release by a new one: traffic moves when the new one is ready. The
    /// number of instances that were replaced.
    pub(crate) async fn restart(&self, module: &Module) -> Result<u32, RestartError> {
        let (old, release) = {
            let mut slots = self.lock();
            let slot = slots.get_mut(module).ok_or_else(|| RestartError::NotRunning(module.clone()))?;
            let stable = slot.orders.stable().ok_or_else(|| RestartError::NotRunning(module.clone()))?;
            let old = slot.run_of(stable).map(|run| run.id);
            let coming = slot
                .runs
                .iter()
                .any(|run| run.release == stable && Some(run.id) > old && run.state == RunState::Starting);
            if !coming {
                self.launch(module, slot, stable).map_err(|cause| RestartError::Failed(cause.to_string()))?;
            }
            (old, stable)
        };
        let replaced = async {
            let mut changes = self.changes();
            loop {
                let state = self.slots(|slots| replacement(slots.get(module)?, release, old));
                match state {
                    None => {}
                    Some(Ok(())) => return Ok(1),
                    Some(Err(reason)) => return Err(self.not_replaced(module, reason)),
                }
                if changes.changed().await.is_err() {
                    return Err(RestartError::NotRunning(module.clone()));
                }
            }
        };
        let deadline = self.shared.parts.bounds.start_deadline + TICK;
        tokio::time::timeout(deadline, replaced).await.unwrap_or_else(|_elapsed| {
            let reason = format!("was not ready within {} s", deadline.as_secs());
            Err(self.not_replaced(module, reason))
        })
    }

    fn not_replaced(&self, module: &Module, reason: String) -> RestartError {
        if self.slots(|slots| slots.get(module).is_some_and(Slot::is_ready)) {
            RestartError::Failed(reason)
        } else {
            RestartError::NothingServes(reason)
        }
    }
}

/// Why instances were not replaced. What served goes on serving.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestartError {
    /// There is nothing to replace.
    #[error("{0} has no stable release on this node")]
    NotRunning(Module),
    /// The new instance did not come up, and there is an old one.
    #[error("the new instance failed, and the old one goes on serving: it {0}")]
    Failed(String),
    /// The new instance did not come up, and there was no old one.
    #[error("the new instance failed, and no other one serves: it {0}")]
    NothingServes(String),
}

/// How far the replacement of `old` is; `None`: it is under way.
fn replacement(slot: &Slot, release: ReleaseNumber, old: Option<InstanceId>) -> Option<Result<(), String>> {
    if slot.run_of(release).is_some_and(|run| run.state == RunState::Ready && Some(run.id) > old) {
        return Some(Ok(()));
    }
    let newer = |run: &&Run| run.release == release && Some(run.id) > old;
    let failed = slot.instances().filter(newer).find(|run| run.state == RunState::Ended)?;
    Some(Err(failed.reason.clone()))
}
