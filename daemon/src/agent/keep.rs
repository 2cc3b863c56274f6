//! What the node obeys, written to its own file: before it takes effect, or after where it goes toward stable.

use std::time::Instant;

use hot_rollout::{Assignment, Direction, Module};

use super::Agent;
use super::orders::Orders;
use crate::ledger::LedgerError;

impl Agent {
    /// Writes down what the node obeys of `module` when this is its turn. Nothing of a module that is forgotten.
    pub(super) async fn keep(&self, module: &Module, direction: Direction) -> Result<(), LedgerError> {
        let _in_order = self.shared.keeping.lock().await;
        let obeyed = self.slots(|slots| slots.get(module)?.orders.obeyed());
        let Some(obeyed) = obeyed else { return Ok(()) };
        let ledger = self.shared.parts.ledger.clone();
        crate::blocking(move || ledger.obey(&obeyed, direction)).await
    }

    /// As [`Agent::keep`], by and by: what is in effect already.
    pub(super) fn keep_later(&self, module: &Module) {
        let (agent, module) = (self.clone(), module.clone());
        self.shared.tasks.spawn(async move {
            if let Err(error) = agent.keep(&module, Direction::TowardStable).await {
                tracing::error!(error = %crate::describe(&error), "what is in effect is not on disk");
            }
        });
    }

    /// Writes down what the node obeys once it takes `assignment`, then takes it. If it takes the candidate back
    /// meanwhile, that is written after it.
    pub(super) async fn keep_and_accept(
        &self,
        assignment: Assignment,
        direction: Direction,
    ) -> Result<(), LedgerError> {
        let _in_order = self.shared.keeping.lock().await;
        let (next, now) = (assignment.clone(), Instant::now());
        let next = self.slots(|slots| match slots.get(&assignment.module) {
            Some(slot) => slot.orders.with(next, now),
            None => Orders::default().with(next, now),
        });
        if let Some(next) = next {
            let ledger = self.shared.parts.ledger.clone();
            crate::blocking(move || ledger.obey(&next, direction)).await?;
        }
        self.accept(assignment);
        Ok(())
    }
}
