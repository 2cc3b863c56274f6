//! Instances that hot-spawn took along, or could not be asked for. Nothing that a module did ended them: nothing is held
//! against it, no rollout fails by it, and it is started again as soon as hot-spawn is there.

use std::sync::Arc;

use hot_rollout::{InstanceState, Module};

use super::Agent;
use super::slot::RunState;
use crate::supervisor::{Absence, InstanceId};

impl Agent {
    /// Why nothing runs on this node, while hot-spawn is gone.
    pub(crate) fn absence(&self) -> Option<Arc<Absence>> {
        self.shared.parts.supervisor.absence().borrow().clone()
    }

    /// An instance that ran is gone with hot-spawn.
    pub(super) fn lost(&self, module: &Module, id: InstanceId) {
        // Heard late, when hot-spawn is there again, there is nothing to wait for.
        let waits = self.absence().is_some();
        self.gone(module, id, "was lost with hot-spawn", waits);
    }

    /// An instance could not be started without hot-spawn. It waits for the clock to find it there, which is a pause even
    /// if it is back by now.
    pub(super) fn not_started(&self, module: &Module, id: InstanceId) {
        self.gone(module, id, "was not started, as hot-spawn is not there", true);
    }

    fn gone(&self, module: &Module, id: InstanceId, how: &str, waits: bool) {
        self.shared.parts.gateway.detach(id);
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(module) else { return };
        let Some(run) = slot.run_mut(id) else { return };
        let release = run.release;
        if run.state != RunState::Stopping {
            self.tell_end(module, run, how);
            if waits {
                slot.resting.wait_for_spawn(release);
            }
        }
        self.bury(module, slot, id);
        self.shared.report(self.shared.instance_event(module, release, InstanceState::Ended));
        self.reconcile(&mut slots, module);
        drop(slots);
        self.shared.note_change();
    }
}
