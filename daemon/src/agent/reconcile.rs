//! One step toward the assignment at a time: who serves, what starts, what stops.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hot_rollout::{Cause, Module, ReleaseNumber, Role};

use super::Agent;
use super::plan::Serving;
use super::slot::Slot;
use crate::gateway::{Backend, ModuleTable, Table};
use crate::supervisor::InstanceId;

/// A step of one module of which the gateway is still to be told.
struct Step {
    applied: bool,
    stop: Vec<ReleaseNumber>,
    refused: Vec<(ReleaseNumber, Cause)>,
}

impl Agent {
    /// Makes one step toward the assignment: tells the gateway who serves, starts what is missing, stops what is not
    /// wanted. Called again at every change, so each call does what can be done now.
    pub(super) fn reconcile(&self, slots: &mut BTreeMap<Module, Slot>, module: &Module) {
        let Some(step) = self.set_out(slots, module) else { return };
        // Before anything stops, nothing goes there any more.
        let published = self.publish(slots);
        self.carry_on(slots, module, step, published);
    }

    /// One step of each module, with one table for all: the gateway knows every route from its first table on.
    pub(super) fn reconcile_all(&self, slots: &mut BTreeMap<Module, Slot>) {
        let modules: Vec<Module> = slots.keys().cloned().collect();
        let steps: Vec<Option<Step>> = modules.iter().map(|module| self.set_out(slots, module)).collect();
        let published = self.publish(slots);
        for (module, step) in modules.iter().zip(steps) {
            if let Some(step) = step {
                self.carry_on(slots, module, step, published);
            }
        }
    }

    /// Says who serves, and starts what is missing.
    fn set_out(&self, slots: &mut BTreeMap<Module, Slot>, module: &Module) -> Option<Step> {
        let slot = slots.get_mut(module)?;
        let plan = slot.plan()?;
        if slot.serving != plan.serve {
            slot.serving.clone_from(&plan.serve);
            self.count_anew(slot);
        }
        let refused: Vec<(ReleaseNumber, Cause)> = plan
            .start
            .into_iter()
            .filter_map(|release| Some((release, self.launch(module, slot, release).err()?)))
            .collect();
        Some(Step { applied: plan.applied, stop: plan.stop, refused })
    }

    /// What may be done once the gateway knows.
    fn carry_on(
        &self,
        slots: &mut BTreeMap<Module, Slot>,
        module: &Module,
        step: Step,
        published: (Instant, Duration),
    ) {
        let Some(slot) = slots.get_mut(module) else { return };
        self.note_flip(module, slot, published);
        if step.applied && slot.orders.is_applied_now(Instant::now()) {
            // Each revision is counted for itself, even where the weights stay.
            self.count_anew(slot);
            self.report_applied(module, slot);
        }
        if slot.is_ready() && slot.orders.stable_serves() {
            self.keep_later(module);
        }
        let superseded = slot.superseded();
        let stop: Vec<InstanceId> = slot
            .runs
            .iter()
            .filter(|run| step.stop.contains(&run.release) || superseded.contains(&run.id))
            .map(|run| run.id)
            .collect();
        for id in stop {
            self.stop(module, slot, id);
        }
        for (release, cause) in step.refused {
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

    /// Gives the gateway all modules as they are to be served now. When that began, and how long it took.
    pub(super) fn publish(&self, slots: &BTreeMap<Module, Slot>) -> (Instant, Duration) {
        let began = Instant::now();
        let bounds = &self.shared.parts.bounds;
        let modules =
            slots.iter().filter(|(_, slot)| slot.orders.assignment.is_some()).map(|(module, slot)| {
                ModuleTable {
                    module: module.0.clone(),
                    deadline: bounds.deadline,
                    max_in_flight: bounds.max_in_flight,
                    max_waiting: bounds.max_waiting,
                    max_streams: bounds.max_streams,
                    backends: slot.backends(),
                }
            });
        self.shared.parts.gateway.publish(Table { modules: modules.collect() });
        (began, began.elapsed())
    }
}

impl Slot {
    /// The gateway's view of this module. A release that is to serve and has no host at present keeps its routes, so
    /// that its requests wait for the next one instead of being unknown. Of a stable that is not even on record any more
    /// the routes are unknown: it keeps its share of those that the others have.
    fn backends(&self) -> Vec<Backend> {
        let all_routes = || {
            let runs = self.serving.iter().filter_map(|(release, ..)| self.known(*release));
            let routes: BTreeSet<&String> = runs.flat_map(|run| &run.routes).collect();
            routes.into_iter().cloned().collect()
        };
        let backend = |&(release, role, weight): &Serving| {
            let run = self.known(release);
            if run.is_none() && role != Role::Stable {
                return None;
            }
            Some(Backend {
                // Instances are numbered by the clock: there is none with this number.
                instance: run.map_or(InstanceId(0), |run| run.id),
                release: release.0,
                version: run.map(|run| run.version.to_string()).unwrap_or_default(),
                role: role.into(),
                weight: weight.basis_points(),
                routes: run.map_or_else(all_routes, |run| run.routes.clone()),
            })
        };
        self.serving.iter().filter_map(backend).collect()
    }
}

impl From<Role> for crate::gateway::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Stable => Self::Stable,
            Role::Candidate => Self::Candidate,
            Role::Standby => Self::Standby,
        }
    }
}
