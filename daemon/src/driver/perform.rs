//! Does what a machine wants done, in the order that it demands.

use hot_rollout::{Action, Direction, Module, ReleaseNumber, RolloutId};

use super::actor::Actor;
use crate::journal::Entry;

impl Actor {
    /// Actions toward stable, then the snapshot, then the rest. A snapshot that can't be written holds the rest back
    /// until it can, and the expiry of its assignments stands meanwhile.
    pub(super) async fn perform(&mut self, id: &RolloutId, actions: Vec<Action>) {
        if actions.is_empty() {
            self.show();
            return;
        }
        let (back, rest): (Vec<Action>, Vec<Action>) = actions.into_iter().partition(Action::toward_stable);
        let direction = if back.is_empty() { Direction::Onward } else { Direction::TowardStable };
        for action in back {
            self.act(id, action).await;
        }
        if let Err(error) = self.persist(id, direction).await {
            tracing::error!(rollout = %id, %error, "the rollout holds: its state can't be written");
            self.undone.extend(rest.into_iter().map(|action| (id.clone(), action)));
            self.unsaved.insert(id.clone());
            self.show();
            return;
        }
        self.show();
        // What was held back for want of a snapshot comes before what is wanted now.
        let held = if self.unsaved.remove(id) { self.take_undone(id) } else { Vec::new() };
        for action in held.into_iter().chain(rest) {
            self.act(id, action).await;
        }
        self.show();
    }

    /// What is undone of one rollout, in order.
    fn take_undone(&mut self, id: &RolloutId) -> Vec<Action> {
        let (of_it, others) =
            std::mem::take(&mut self.undone).into_iter().partition(|(other, _)| other == id);
        self.undone = others;
        let of_it: Vec<(RolloutId, Action)> = of_it;
        of_it.into_iter().map(|(_, action)| action).collect()
    }

    /// Does one action; what can't be done now is tried again.
    pub(super) async fn act(&mut self, id: &RolloutId, action: Action) {
        let failed = match &action {
            Action::Prepare { node, modules } => {
                self.parts.cluster.prepare(node, modules);
                None
            }
            Action::Assign { node, assignment, direction } => {
                self.parts.cluster.assign(node, assignment.clone(), *direction).await.err()
            }
            Action::Renew { revision } => {
                let record = self.running.get(id);
                let modules: Vec<Module> = record
                    .map_or_else(Vec::new, |record| record.machine.spec().moves.keys().cloned().collect());
                self.parts.cluster.renew(&modules, *revision);
                None
            }
            Action::SetStable { module, release, direction } => {
                self.set_stable(module, *release, *direction).await.err()
            }
            Action::Quarantine { module, release, reason } => {
                let (ledger, module) = (self.parts.ledger.clone(), module.clone());
                let (release, reason) = (*release, reason.to_string());
                crate::blocking(move || ledger.quarantine(&module, release, &reason, super::now().0))
                    .await
                    .err()
            }
            Action::Note(note) => {
                let entry = Entry::of_note(self.running.get(id), id, note);
                self.parts.journal.write(entry).await;
                None
            }
            Action::Finished(outcome) => {
                let outcome = outcome.clone();
                self.finish(id, &outcome).await;
                None
            }
        };
        if let Some(error) = failed {
            tracing::error!(rollout = %id, error = %crate::grpc::chain(&error), "what the rollout wants is not done yet");
            self.undone.push((id.clone(), action));
        }
    }

    async fn set_stable(
        &self,
        module: &Module,
        release: Option<ReleaseNumber>,
        direction: Direction,
    ) -> Result<(), crate::ledger::LedgerError> {
        let (ledger, module) = (self.parts.ledger.clone(), module.clone());
        crate::blocking(move || ledger.set_stable(&module, release, direction)).await
    }
}
