//! Whether this node could run a release, found out before any code of it runs.

use hot_rollout::{Event, Module, ReleaseNumber};

use super::{Agent, Parts};
use crate::ledger::LedgerError;

impl Agent {
    /// Checks that these releases could run here, without running anything, and reports. They are checked again when
    /// they are loaded, which is soon: their bytes are held until then.
    pub fn prepare(&self, modules: &[(Module, ReleaseNumber)]) {
        for (module, release) in modules.iter().cloned() {
            let agent = self.clone();
            self.shared.tasks.spawn(async move {
                let node = agent.shared.parts.node.clone();
                let event = match agent.could_run(&module, release).await {
                    Ok(()) => Event::Prepared { node, module },
                    Err(error) => Event::PrepareFailed { node, module, text: crate::describe(&error) },
                };
                // Not restated by the clock, so it waits for room.
                drop(agent.shared.reports.send(event).await);
            });
        }
    }

    /// Whether a release could run here, found out without running anything of it.
    pub async fn could_run(&self, module: &Module, release: ReleaseNumber) -> Result<(), LedgerError> {
        let Parts { ledger, trust, max_artifact, .. } = &self.shared.parts;
        let (ledger, trusted, max_size, name) =
            (ledger.clone(), trust.fresh().await, *max_artifact, module.clone());
        crate::blocking(move || {
            let runnable = ledger.runnable(&name, release)?;
            let verified = ledger.verified(&name, &runnable, &trusted, max_size)?;
            ledger.config(&runnable)?;
            ledger.hold(verified);
            Ok(())
        })
        .await
    }
}
