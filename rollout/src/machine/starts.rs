//! How many nodes start the candidate at once. Where the policy has a bound, the nodes of a step wait in a queue, in the
//! order of their names, and each that gets ready, or is out of it, lets the next one start.
//!
//! It bounds when nodes are told to start. Not the preparation, which runs no code; not a promotion, in which only those
//! start that carried no step; and nothing toward stable.

use std::collections::BTreeSet;

use super::{Action, Direction, NodeFacts, Phase, Rollout};
use crate::ident::{Module, Node};
use crate::units::Weight;

impl Rollout {
    /// Tells the next nodes of the queue to start, with the present revision.
    pub(super) fn start_next(&mut self, out: &mut Vec<Action>) {
        for node in self.next_to_start() {
            for module in self.modules() {
                if self.untold(&node, &module) {
                    self.give(&node, &module, Some(Weight::ZERO), Direction::Onward, out);
                }
            }
        }
    }

    /// Those that may be told to start now. One that starts already, another module, takes no place of its own.
    pub(super) fn next_to_start(&self) -> Vec<Node> {
        let queue = self.queue();
        let Some(most) = self.spec.policy.spec().max_parallel else { return queue };
        let most = usize::try_from(most.get()).unwrap_or(usize::MAX);
        let starting = self.nodes.values().filter(|facts| facts.up && facts.starts()).count();
        if starting > most {
            // After a resume those that were ready count until they say so again, and who comes back does.
            return Vec::new();
        }
        let (mut next, others): (Vec<Node>, Vec<Node>) =
            queue.into_iter().partition(|node| self.starts(node));
        next.extend(others.into_iter().take(most - starting));
        next
    }

    /// The step's nodes that can be reached and were not told to start yet.
    pub(super) fn queue(&self) -> Vec<Node> {
        self.lagging(|_, facts| facts.weight.is_none())
    }

    /// The node was told to start and is not ready.
    fn starts(&self, node: &Node) -> bool {
        self.nodes.get(node).is_some_and(NodeFacts::starts)
    }

    /// The node carries the module's candidate in this step and has none.
    fn untold(&self, node: &Node, module: &Module) -> bool {
        self.carries(module, node) && self.facts(node, module).is_some_and(|facts| facts.weight.is_none())
    }

    /// A node cannot be reached any more. Under a bound, one that was starting goes back into the queue: when it is there
    /// again it would start beside those that took its place.
    pub(super) fn queue_again(&mut self, node: &Node, out: &mut Vec<Action>) {
        let bounded = self.spec.policy.spec().max_parallel.is_some();
        if !bounded || !matches!(self.phase, Phase::Starting { .. }) || !self.starts(node) {
            return;
        }
        self.next_revision();
        for module in self.modules() {
            if self.facts(node, &module).is_some_and(|facts| facts.weight == Some(Weight::ZERO)) {
                self.give(node, &module, None, Direction::TowardStable, out);
            }
        }
    }

    /// Before the step gets its weights: who was never told to start, since it could not be reached, is left out of it.
    pub(super) fn leave_out_untold(&mut self) {
        let untold = |first: bool| -> BTreeSet<Node> {
            let untold = self
                .each_fact()
                .filter(|(node, module, _)| self.is_first(module) == first && self.untold(node, module));
            untold.map(|(node, _, _)| node.clone()).collect()
        };
        let (of_weights, of_targets) = (untold(false), untold(true));
        self.weights.retain(|node, _| !of_weights.contains(node));
        self.targets.retain(|node| !of_targets.contains(node));
    }
}
