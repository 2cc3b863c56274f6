//! What the node obeys, written to its own file: before it takes effect, or after where it goes toward stable.

use std::time::{Duration, Instant, SystemTime};

use hot_rollout::{Direction, Module};

use super::Agent;
use super::orders::{Orders, Word};
use super::slot::Slot;
use crate::ledger::{LedgerError, Obeyed};

impl Agent {
    /// Writes down what the node obeys of `module` when this is its turn. Nothing of a module that is forgotten.
    pub(super) async fn keep(&self, module: &Module, direction: Direction) -> Result<(), LedgerError> {
        let _in_order = self.shared.keeping.lock().await;
        let obeyed = self.lock().get_mut(module).and_then(Slot::begin_keeping);
        let Some(obeyed) = obeyed else { return Ok(()) };
        let written = self.write(obeyed, direction).await;
        if let Err(error) = &written
            && let Some(slot) = self.lock().get_mut(module)
        {
            slot.not_kept(crate::store::failed(error).0, SystemTime::now());
        }
        self.shared.note_change();
        written
    }

    /// As [`Agent::keep`], by and by: what is in effect already. Where it can't be written, the clock tries again.
    pub(super) fn keep_later(&self, module: &Module) {
        let (agent, module) = (self.clone(), module.clone());
        self.shared.tasks.spawn(async move {
            if let Err(error) = agent.keep(&module, Direction::TowardStable).await {
                tracing::error!(%module, error = %crate::describe(&error), "what is in effect is not on disk yet");
            }
        });
    }

    /// Tries again what could not be written of these modules, unless something is being written right now: a disk that
    /// hangs must not gather tries.
    pub(super) fn keep_again(&self, modules: Vec<Module>) {
        if modules.is_empty() || self.shared.keeping.try_lock().is_err() {
            return;
        }
        let agent = self.clone();
        self.shared.tasks.spawn(async move {
            for module in modules {
                match agent.keep(&module, Direction::TowardStable).await {
                    Ok(()) => tracing::info!(%module, "what is in effect is on disk now"),
                    Err(error) => {
                        tracing::debug!(%module, error = %crate::describe(&error), "it still can't be written")
                    }
                }
            }
        });
    }

    /// Writes down what is in effect and not on disk, and waits for what is being written, at most `deadline`: for a node
    /// that goes down. What was only ordered by [`Agent::keep_later`] is not lost with its task.
    pub async fn keep_all(&self, deadline: Duration) {
        let all = async {
            for module in self.unkept().await {
                if let Err(error) = self.keep(&module, Direction::TowardStable).await {
                    tracing::error!(%module, error = %crate::describe(&error), "what is in effect is not on disk");
                }
            }
        };
        if tokio::time::timeout(deadline, all).await.is_err() {
            tracing::error!("not all that is in effect could be written down before the end");
        }
    }

    /// The modules of which the record says another thing than what is in effect.
    async fn unkept(&self) -> Vec<Module> {
        // Nothing is being written: what is on record is on disk.
        let _in_order = self.shared.keeping.lock().await;
        let kept = self.shared.parts.ledger.obeyed();
        let differs = |slot: &Slot| slot.orders.obeyed().is_some_and(|obeyed| !kept.contains(&obeyed));
        self.slots(|slots| slots.iter().filter(|(_, slot)| differs(slot)).map(|(it, _)| it.clone()).collect())
    }

    /// Writes down what the node obeys once it takes `word`, then takes it. If it takes the candidate back
    /// meanwhile, that is written after it.
    pub(super) async fn keep_and_accept(&self, word: Word, direction: Direction) -> Result<(), LedgerError> {
        let _in_order = self.shared.keeping.lock().await;
        let (next, now) = (word.clone(), Instant::now());
        let next = self.slots(|slots| match slots.get(&word.assignment.module) {
            Some(slot) => slot.orders.with(next, now),
            None => Orders::default().with(next, now),
        });
        if let Some(next) = next {
            self.write(next, direction).await?;
        }
        self.accept(word);
        Ok(())
    }

    pub(super) async fn write(&self, obeyed: Obeyed, direction: Direction) -> Result<(), LedgerError> {
        let (ledger, written) = (self.shared.parts.ledger.clone(), obeyed.clone());
        crate::blocking(move || ledger.obey(&written, direction)).await?;
        if let Some(slot) = self.lock().get_mut(&obeyed.assignment.module) {
            slot.kept(&obeyed);
        }
        Ok(())
    }
}
