//! The agent's clock: what it counts, restates and decides alone, every [`TICK`].

use std::collections::BTreeMap;
use std::time::Instant;

use hot_rollout::guard::judge;
use hot_rollout::{Cause, Module, Signals};

use tokio::sync::broadcast::error::RecvError;

use super::slot::Slot;
use super::{Agent, TICK};
use crate::gateway;
use crate::supervisor::InstanceId;

impl Agent {
    /// Runs the clock until `stopped`.
    pub async fn run(self, stopped: tokio_util::sync::CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut absence = self.shared.parts.supervisor.absence();
        let mut links = self.shared.parts.gateway.events();
        loop {
            tokio::select! {
                () = stopped.cancelled() => return,
                _ = ticks.tick() => self.tick(),
                // What waits for hot-spawn is started as soon as it is there. The sender is here.
                Ok(()) = absence.changed() => self.tick(),
                // One that was missed among very many ends no later than its instance does.
                event = links.recv() => match event {
                    Ok(gateway::Event::LinkLost { instance, end }) => self.link_lost(instance, &end),
                    Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "lost links were not looked at"),
                    // The gateway is a part of this agent.
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    /// A host never sends what is no frame, or frames that no exchange allows: something in it did, and might do so
    /// again on its other links.
    fn link_lost(&self, id: InstanceId, end: &gateway::LinkEnd) {
        if !end.is_malformed() {
            return;
        }
        let runs = |slots: &BTreeMap<Module, Slot>| {
            let run = slots.values().flat_map(|slot| &slot.runs).find(|run| run.id == id)?;
            run.instance.clone()
        };
        if let Some(instance) = self.slots(runs) {
            instance.accuse(format!("on a data link {end}"));
        }
    }

    fn tick(&self) {
        let trust = self.shared.parts.trust.latest();
        let spawn = self.absence().is_none();
        let mut slots = self.lock();
        let modules: Vec<Module> = slots.keys().cloned().collect();
        let unkept = slots.iter().filter(|(_, slot)| slot.unkept).map(|(module, _)| module.clone()).collect();
        for module in modules {
            // Each time: what was stable, and left alone, may have become the standby since.
            self.review(&mut slots, &module, &trust);
            self.take_back_if_due(&mut slots, &module);
            let Some(slot) = slots.get_mut(&module) else { continue };
            let now = Instant::now();
            self.follow_swaps(&module, slot, now);
            let standby_over = slot.orders.let_standby_go(now);
            if standby_over {
                self.keep_later(&module);
            }
            if slot.resting.is_over(now, spawn) || standby_over {
                self.reconcile(&mut slots, &module);
            }
            if let Some(slot) = slots.get_mut(&module) {
                self.restate(&module, slot);
            }
        }
        drop(slots);
        self.keep_again(unkept);
        self.shared.note_change();
    }

    /// Takes the candidate back where the node itself must.
    pub(super) fn take_back_if_due(&self, slots: &mut BTreeMap<Module, Slot>, module: &Module) {
        let Some(slot) = slots.get_mut(module) else { return };
        let Some(assignment) = slot.orders.assignment.clone().filter(|of| of.candidate.is_some()) else {
            return;
        };
        let (candidate, stable) = self.figures(slot);
        let signals = Signals {
            ends: &slot.orders.ends,
            // The supervisor ends an instance that fails its checks, so they arrive as an end.
            health_failures: 0,
            health_text: "",
            candidate: &candidate,
            stable: &stable,
            unrenewed: slot.orders.unrenewed(Instant::now()).into(),
        };
        let Some(back) = judge(&assignment, &signals) else { return };
        self.take_back(slots, module, back.reason);
    }

    /// Takes the candidate back: at once, then on disk, then told.
    pub(super) fn take_back(&self, slots: &mut BTreeMap<Module, Slot>, module: &Module, reason: Cause) {
        let Some(slot) = slots.get_mut(module) else { return };
        tracing::warn!(%module, %reason, "this node takes its candidate back by itself");
        let Some(revision) = slot.orders.take_back(reason.clone()) else { return };
        // Before anything else that is said of it.
        self.shared.report(self.shared.took_back(module, revision, reason));
        self.reconcile(slots, module);
        self.keep_later(module);
    }
}
