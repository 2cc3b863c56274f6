//! What the agent says to the driver. Events state what is so, so saying one twice is saying it once, and one that is
//! lost is said again at the next tick.

use hot_rollout::{Cause, Event, InstanceState, Module, ReleaseNumber, Revision, Sample, Time};

use super::slot::{RunState, Slot};
use super::{Agent, Shared};
use crate::clock;
use crate::journal::Entry;
use crate::ledger::TookBack;

impl Agent {
    /// Says again what is so.
    pub(super) fn restate(&self, module: &Module, slot: &mut Slot) {
        let Some(assignment) = slot.orders.assignment.as_ref() else { return };
        if let Some(TookBack { revision, cause, .. }) = slot.orders.took_back.clone() {
            self.shared.report(self.shared.took_back(module, revision, cause));
        }
        let wanted = assignment.weights();
        for run in &slot.runs {
            let state = match run.state {
                RunState::Starting => InstanceState::Starting,
                RunState::Ready => InstanceState::Ready,
                RunState::Stopping | RunState::Ended => continue,
            };
            if wanted.iter().any(|(release, ..)| *release == run.release) {
                self.shared.report(self.shared.instance_event(module, run.release, state));
            }
        }
        let lost: Vec<ReleaseNumber> =
            slot.resting.lost().filter(|lost| wanted.iter().any(|(release, ..)| release == lost)).collect();
        if !lost.is_empty() {
            // Each time anew: as long as hot-spawn is gone, no time runs in which they should be ready. And with them gone
            // the assignment is not true, whatever was said before.
            for release in lost {
                self.shared.report(self.shared.instance_event(module, release, InstanceState::Ended));
            }
            return;
        }
        let tries = assignment.candidate.is_some();
        let Some(revision) = self.report_applied(module, slot).filter(|_| tries) else { return };
        let (candidate, stable) = self.figures(slot);
        let since = slot.baseline.as_ref().map_or(Time(0), |baseline| baseline.since);
        self.shared.report(Event::Sample(Sample {
            node: self.shared.parts.node.clone(),
            module: module.clone(),
            revision,
            since,
            until: clock::counted(),
            candidate,
            stable,
        }));
    }

    /// Says of which revision the assignment is true, if it is, and whether stable serves by it.
    pub(super) fn report_applied(&self, module: &Module, slot: &Slot) -> Option<Revision> {
        let revision = slot.orders.assignment.as_ref()?.revision;
        slot.orders.applied.filter(|(applied, _)| *applied == revision && slot.orders.is_whole())?;
        let node = self.shared.parts.node.clone();
        let serves = slot.is_ready();
        self.shared.report(Event::Applied { node, module: module.clone(), revision, serves });
        Some(revision)
    }
}

impl Agent {
    /// Writes down for people what happened to an instance of `module`, by and by.
    pub(super) fn tell(&self, kind: &'static str, module: &Module, text: String) {
        let (journal, module) = (self.shared.parts.journal.clone(), module.to_string());
        self.shared.tasks.spawn(async move {
            journal.write(Entry { kind, module, text, ..Entry::default() }).await;
        });
    }
}

impl Shared {
    /// Best effort: what is lost here is said again at the next tick.
    pub(super) fn report(&self, event: Event) {
        if self.reports.try_send(event).is_err() {
            tracing::debug!("a report waits for the next tick");
        }
    }

    pub(super) fn note_change(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn instance_event(
        &self,
        module: &Module,
        release: ReleaseNumber,
        state: InstanceState,
    ) -> Event {
        Event::Instance { node: self.parts.node.clone(), module: module.clone(), release, state }
    }

    pub(super) fn took_back(&self, module: &Module, revision: Revision, cause: Cause) -> Event {
        Event::TookBack { node: self.parts.node.clone(), module: module.clone(), revision, cause }
    }
}
