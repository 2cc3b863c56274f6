//! One step toward the assignment at a time: who serves, what starts, what stops.

use std::collections::BTreeMap;
use std::time::Instant;

use hot_rollout::{Cause, Module, ReleaseNumber};

use super::Agent;
use super::plan::Serving;
use super::slot::Slot;
use crate::gateway::{Backend, ModuleTable, Table};
use crate::supervisor::InstanceId;

impl Agent {
    /// Makes one step toward the assignment: tells the gateway who serves, starts what is missing, stops what is not
    /// wanted. Called again at every change, so each call does what can be done now.
    pub(super) fn reconcile(&self, slots: &mut BTreeMap<Module, Slot>, module: &Module) {
        let Some(slot) = slots.get_mut(module) else { return };
        let Some(plan) = slot.plan() else { return };
        if slot.serving != plan.serve {
            slot.serving.clone_from(&plan.serve);
            self.count_anew(slot);
        }
        let refused: Vec<(ReleaseNumber, Cause)> = plan
            .start
            .into_iter()
            .filter_map(|release| Some((release, self.launch(module, slot, release).err()?)))
            .collect();
        // Before anything stops, nothing goes there any more.
        self.publish(slots);
        let Some(slot) = slots.get_mut(module) else { return };
        if plan.applied && slot.orders.is_applied_now(Instant::now()) {
            // Each revision is counted for itself, even where the weights stay.
            self.count_anew(slot);
            self.report_applied(module, slot);
        }
        let superseded = slot.superseded();
        let stop: Vec<InstanceId> = slot
            .runs
            .iter()
            .filter(|run| plan.stop.contains(&run.release) || superseded.contains(&run.id))
            .map(|run| run.id)
            .collect();
        for id in stop {
            self.stop(module, slot, id);
        }
        for (release, cause) in refused {
            self.blame(slots, module, release, &cause);
        }
    }

    pub(super) fn stop_all(&self, slots: &mut BTreeMap<Module, Slot>, module: &Module) {
        let Some(slot) = slots.get_mut(module) else { return };
        let ids: Vec<InstanceId> = slot.runs.iter().map(|run| run.id).collect();
        for id in ids {
            self.stop(module, slot, id);
        }
    }

    /// Gives the gateway all modules as they are to be served now.
    pub(super) fn publish(&self, slots: &BTreeMap<Module, Slot>) {
        let bounds = &self.shared.parts.bounds;
        let modules =
            slots.iter().filter(|(_, slot)| slot.orders.assignment.is_some()).map(|(module, slot)| {
                ModuleTable {
                    module: module.0.clone(),
                    deadline: bounds.deadline,
                    max_in_flight: bounds.max_in_flight,
                    max_waiting: bounds.max_waiting,
                    backends: slot.backends(),
                }
            });
        self.shared.parts.gateway.publish(Table { modules: modules.collect() });
    }
}

impl Slot {
    /// The gateway's view of this module. A release that is to serve and has no host at present keeps its routes, so
    /// that its requests wait for the next one instead of being unknown.
    fn backends(&self) -> Vec<Backend> {
        let backend = |&(release, role, weight): &Serving| {
            let run = self
                .run_of(release)
                .or_else(|| self.former.iter().rev().find(|run| run.release == release))?;
            Some(Backend {
                instance: run.id,
                release: release.0,
                version: run.version.to_string(),
                role: role.into(),
                weight: weight.basis_points(),
                routes: run.routes.clone(),
            })
        };
        self.serving.iter().filter_map(backend).collect()
    }
}

impl From<hot_rollout::Role> for crate::gateway::Role {
    fn from(role: hot_rollout::Role) -> Self {
        match role {
            hot_rollout::Role::Stable => Self::Stable,
            hot_rollout::Role::Candidate => Self::Candidate,
            hot_rollout::Role::Standby => Self::Standby,
        }
    }
}
