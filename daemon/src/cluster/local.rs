//! A fleet of one: its only node is this one, and its only agent is at hand.

use std::collections::BTreeSet;

use hot_artifact::{ModuleName, Sha256};
use hot_rollout::{Assignment, Direction, Module, Node, ReleaseNumber, Revision, RolloutId};
use serde_json::Value;

use crate::agent::Agent;
use crate::ledger::{Ledger, LedgerError};
use crate::store::NewRelease;

/// The cluster of a node that is alone.
#[derive(Clone, Debug)]
pub struct Local {
    node: Node,
    agent: Agent,
    ledger: Ledger,
}

impl Local {
    /// The cluster of `node`, which `agent` serves.
    #[must_use]
    pub fn new(node: Node, agent: Agent, ledger: Ledger) -> Self {
        Self { node, agent, ledger }
    }

    /// Every node.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<Node> {
        BTreeSet::from([self.node.clone()])
    }

    /// Has `node` get ready to run these releases; it reports.
    pub fn prepare(&self, node: &Node, modules: &[(Module, ReleaseNumber)]) {
        if self.is_here(node) {
            self.agent.prepare(modules);
        }
    }

    /// Gives `node` an assignment. It is durable when this returns.
    pub async fn assign(
        &self,
        node: &Node,
        assignment: Assignment,
        direction: Direction,
    ) -> Result<(), LedgerError> {
        if self.is_here(node) { self.agent.obey(assignment, direction).await } else { Ok(()) }
    }

    /// Starts the expiry of assignments up to `revision` anew.
    pub fn renew(&self, modules: &[Module], revision: Revision) {
        for module in modules {
            self.agent.renew(module, revision);
        }
    }

    /// The highest revision that an assignment of `module` has.
    #[must_use]
    pub fn revision(&self, module: &Module) -> Option<Revision> {
        let kept = self.ledger.obeyed().into_iter().map(|kept| kept.assignment);
        let obeyed = self.agent.revision(module);
        kept.filter(|kept| kept.module == *module).map(|kept| kept.revision).chain(obeyed).max()
    }

    /// Numbers a release.
    pub async fn number(&self, module: ModuleName, new: NewRelease) -> Result<ReleaseNumber, LedgerError> {
        self.write(move |ledger| ledger.allocate_release(&module, new)).await
    }

    /// Names what is stable.
    pub async fn set_stable(
        &self,
        module: Module,
        release: Option<ReleaseNumber>,
        direction: Direction,
    ) -> Result<(), LedgerError> {
        self.write(move |ledger| ledger.set_stable(&module, release, direction)).await
    }

    /// Has the bytes of a release not run again, unless it is stable.
    pub async fn quarantine(
        &self,
        module: Module,
        release: ReleaseNumber,
        reason: String,
        at: u64,
    ) -> Result<(), LedgerError> {
        self.write(move |ledger| ledger.quarantine(&module, release, &reason, at)).await
    }

    /// Lets bytes that were quarantined run again; gives why they were.
    pub async fn lift_quarantine(
        &self,
        module: ModuleName,
        digest: Sha256,
    ) -> Result<Option<String>, LedgerError> {
        self.write(move |ledger| ledger.lift_quarantine(&module, &digest)).await
    }

    /// Keeps the snapshot of a rollout that runs.
    pub async fn put_rollout(
        &self,
        id: RolloutId,
        request: String,
        snapshot: Value,
        direction: Direction,
    ) -> Result<(), LedgerError> {
        self.write(move |ledger| ledger.put_rollout(&id, &request, snapshot, direction)).await
    }

    /// Keeps a rollout that ended, as history.
    pub async fn end_rollout(
        &self,
        id: RolloutId,
        request: String,
        snapshot: Value,
    ) -> Result<(), LedgerError> {
        self.write(move |ledger| ledger.end_rollout(&id, &request, snapshot)).await
    }

    /// The rollouts that have not ended.
    #[must_use]
    pub fn running_rollouts(&self) -> Vec<(RolloutId, Value)> {
        self.ledger.running_rollouts()
    }

    async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let ledger = self.ledger.clone();
        crate::blocking(move || write(&ledger)).await
    }

    fn is_here(&self, node: &Node) -> bool {
        if *node != self.node {
            // A rollout of before this node was renamed: nobody else will ever do it.
            tracing::warn!(%node, here = %self.node, "an assignment is for a node that is not in this fleet");
        }
        *node == self.node
    }
}
