//! Questions about the nodes that several rooms ask.

use super::facts::Facts;
use super::{Phase, Rollout};
use crate::ident::{Module, Node};

impl Rollout {
    pub(super) fn modules(&self) -> Vec<Module> {
        self.spec.moves.keys().cloned().collect()
    }

    /// Whether the node takes part.
    #[must_use]
    pub fn has(&self, node: &Node) -> bool {
        self.nodes.contains_key(node)
    }

    /// The nodes that take part.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.keys()
    }

    /// Whether it waits for some nodes to follow, and others have: what it goes to serves somewhere.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.phase == Phase::Incomplete && self.not_in_line(|_| true).len() < self.nodes.len()
    }

    /// The module has no stable release.
    pub(super) fn is_first(&self, module: &Module) -> bool {
        self.spec.moves.get(module).is_some_and(|releases| releases.stable.is_none())
    }

    pub(super) fn facts(&self, node: &Node, module: &Module) -> Option<&Facts> {
        self.nodes.get(node)?.modules.get(module)
    }

    pub(super) fn facts_mut(&mut self, node: &Node, module: &Module) -> Option<&mut Facts> {
        self.nodes.get_mut(node)?.modules.get_mut(module)
    }

    pub(super) fn each_fact(&self) -> impl Iterator<Item = (&Node, &Module, &Facts)> {
        self.nodes
            .iter()
            .flat_map(|(node, facts)| facts.modules.iter().map(move |(module, facts)| (node, module, facts)))
    }

    /// Whether every module has a node that carries its candidate in this step and can be reached.
    pub(super) fn carriers_up(&self) -> bool {
        self.carried_without(None)
    }

    /// The same if `lost` were gone.
    pub(super) fn carried_without(&self, lost: Option<&Node>) -> bool {
        let up = || self.nodes.iter().filter(|(node, facts)| facts.up && Some(*node) != lost);
        self.spec.moves.keys().all(|module| up().any(|(node, _)| self.carries(module, node)))
    }

    /// The step's nodes that are up and for which `lags` holds of some module.
    pub(super) fn lagging(&self, lags: impl Fn(&Module, &Facts) -> bool) -> Vec<Node> {
        let up = self.nodes.iter().filter(|(_, facts)| facts.up);
        up.filter(|(node, facts)| {
            facts.modules.iter().any(|(module, facts)| self.carries(module, node) && lags(module, facts))
        })
        .map(|(node, _)| node.clone())
        .collect()
    }

    /// The nodes that have not applied what they were last given, of those whose being up `counts`.
    pub(super) fn not_in_line(&self, counts: impl Fn(bool) -> bool) -> Vec<Node> {
        self.nodes
            .iter()
            .filter(|(_, facts)| counts(facts.up) && !facts.modules.values().all(Facts::in_line))
            .map(|(node, _)| node.clone())
            .collect()
    }
}
