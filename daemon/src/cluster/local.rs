//! A fleet of one: its only node is this one, and its only agent is at hand.

use std::collections::BTreeSet;

use hot_rollout::{Assignment, Direction, Module, Node, ReleaseNumber, Revision};

use crate::agent::Agent;
use crate::ledger::{Ledger, LedgerError};

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

    fn is_here(&self, node: &Node) -> bool {
        if *node != self.node {
            // A rollout of before this node was renamed: nobody else will ever do it.
            tracing::warn!(%node, here = %self.node, "an assignment is for a node that is not in this fleet");
        }
        *node == self.node
    }
}
