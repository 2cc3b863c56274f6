//! A new instance in the place of the one that serves, by a person's word.

use hot_rollout::Module;

use super::slot::{RunState, Slot};
use super::{Agent, TICK};
use crate::supervisor::InstanceId;

impl Agent {
    /// Replaces the instance of a module's stable release by a new one: traffic moves when the new one is ready. The
    /// number of instances that were replaced.
    pub(crate) async fn restart(&self, module: &Module) -> Result<u32, RestartError> {
        let new = self.launch_anew(module)?;
        let replaced = async {
            let mut changes = self.changes();
            loop {
                let state = self.slots(|slots| replacement(slots.get(module)?, new));
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

    /// Starts an instance of the stable release, unless one starts already.
    fn launch_anew(&self, module: &Module) -> Result<InstanceId, RestartError> {
        let mut slots = self.lock();
        let slot = slots.get_mut(module).ok_or_else(|| RestartError::NotRunning(module.clone()))?;
        let stable = slot.orders.stable().ok_or_else(|| RestartError::NotRunning(module.clone()))?;
        let serves = slot.run_of(stable).filter(|run| run.state == RunState::Ready).map(|run| run.id);
        let comes = |run: &&super::Run| {
            run.release == stable && run.state == RunState::Starting && Some(run.id) > serves
        };
        if let Some(coming) = slot.runs.iter().rfind(comes) {
            return Ok(coming.id);
        }
        self.launch(module, slot, stable).map_err(|cause| failed(slot, cause.to_string()))
    }

    fn not_replaced(&self, module: &Module, reason: String) -> RestartError {
        self.slots(|slots| match slots.get(module) {
            Some(slot) => failed(slot, reason),
            None => RestartError::NotRunning(module.clone()),
        })
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

fn failed(slot: &Slot, reason: String) -> RestartError {
    if slot.is_ready() { RestartError::Failed(reason) } else { RestartError::NothingServes(reason) }
}

/// How far the instance `new` is; `None`: it is under way.
fn replacement(slot: &Slot, new: InstanceId) -> Option<Result<(), String>> {
    let Some(run) = slot.instances().find(|run| run.id == new) else {
        return Some(Err("has ended".to_owned()));
    };
    match run.state {
        RunState::Starting => None,
        RunState::Ready => Some(Ok(())),
        RunState::Stopping | RunState::Ended if run.reason.is_empty() => {
            Some(Err("was told to stop before it was ready".to_owned()))
        }
        RunState::Stopping | RunState::Ended => Some(Err(run.reason.clone())),
    }
}

#[cfg(test)]
mod tests {
    use hot_rollout::ReleaseNumber;

    use super::super::slot::tests::run;
    use super::*;

    const R1: ReleaseNumber = ReleaseNumber(1);

    /// Stable crashed, and a new instance was started by hand.
    #[test]
    fn what_ended_before_is_not_taken_for_the_new_one() {
        let (mut slot, new) = (Slot::default(), InstanceId(2));
        slot.runs.push(run(1, R1, RunState::Ready));
        slot.runs[0].reason = "crashed with SIGSEGV".to_owned();
        slot.bury(InstanceId(1));
        slot.runs.push(run(2, R1, RunState::Starting));
        assert_eq!(replacement(&slot, new), None);
        slot.runs[0].state = RunState::Ready;
        assert_eq!(replacement(&slot, new), Some(Ok(())));
        slot.runs[0].reason = "was refused".to_owned();
        slot.bury(new);
        assert_eq!(replacement(&slot, new), Some(Err("was refused".to_owned())));
    }

    #[test]
    fn one_that_is_stopped_or_forgotten_is_not_waited_for() {
        let mut slot = Slot::default();
        slot.runs.push(run(2, R1, RunState::Stopping));
        let told = Some(Err("was told to stop before it was ready".to_owned()));
        assert_eq!(replacement(&slot, InstanceId(2)), told);
        assert!(matches!(replacement(&slot, InstanceId(3)), Some(Err(_))));
    }
}
