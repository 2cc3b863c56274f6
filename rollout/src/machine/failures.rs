//! Nodes that fail alone. Up to so many as the policy has it are left out, each by itself; one more sends all back.
//!
//! A node that fails goes back to stable and has no part in the rollout until its promotion. The other nodes of the step go
//! on as they are: their weights stay, what was counted on them stays, and no further node gets a candidate that has just
//! failed somewhere. So a step may carry a bit less than its share, never more. Only where it has nobody left is it placed
//! anew. What was counted on a node that failed goes with it: it was let fail alone, so it does not speak against the
//! release by its figures either.
//!
//! In a promotion, and in a rollback, there is nothing to send one node back to: the release is stable by then, the node
//! tries it on, and without it the rollout is incomplete. A rollback goes toward what was good for all: whatever the policy
//! lets fail, no node keeps the others from it, and it fails only where nobody who is up could go there.

use std::collections::BTreeMap;

use super::{Action, Kind, NoteKind, Phase, Rollout};
use crate::ident::Node;
use crate::reason::Reason;

impl Rollout {
    /// Takes in that nodes failed, and why. Who had failed before is no news.
    pub(super) fn nodes_failed(&mut self, reasons: BTreeMap<Node, Reason>, out: &mut Vec<Action>) {
        let news: BTreeMap<Node, Reason> =
            reasons.into_iter().filter(|(node, _)| !self.failed.contains_key(node)).collect();
        let (Some((_, first)), Some((_, last))) = (news.first_key_value(), news.last_key_value()) else {
            return;
        };
        let (first, last) = (first.clone(), last.clone());
        self.failed.extend(news.clone());
        let limit = self.spec.policy.spec().max_failing;
        let all = self.nodes.keys().all(|node| self.failed.contains_key(node));
        if self.kind == Kind::Rollback && !self.sound(|up| up).is_empty() {
            return self.leave_out(&news, out);
        }
        if !all && self.failed.len() <= usize::try_from(limit).unwrap_or(usize::MAX) {
            self.leave_out(&news, out);
        } else if limit == 0 || self.nodes.len() == 1 {
            self.go_back(first, out);
        } else {
            let nodes = self.failed.keys().cloned().collect();
            let of =
                self.nodes.keys().filter(|node| !self.failed.contains_key(node)).count() + self.failed.len();
            self.go_back(Reason::TooManyFailed { nodes, of: of as u64, limit, last: Box::new(last) }, out);
        }
    }

    fn leave_out(&mut self, failed: &BTreeMap<Node, Reason>, out: &mut Vec<Action>) {
        let nodes: Vec<Node> = failed.keys().cloned().collect();
        let what = match &self.phase {
            Phase::Starting { .. } | Phase::Baking { .. } => {
                self.drop_carriers(&nodes, out);
                "that node alone is left out from here on"
            }
            Phase::Preparing => "that node alone is left out from here on",
            Phase::Promoting { .. }
            | Phase::RollingBack { .. }
            | Phase::Incomplete
            | Phase::Done
            | Phase::RolledBack { .. }
            | Phase::Failed { .. }
            | Phase::Superseded { .. } => "that node alone tries again, and the others go on",
        };
        let (count, limit) = (self.failed.len(), self.spec.policy.spec().max_failing);
        let nodes = if count == 1 { "node" } else { "nodes" };
        let bound = match self.kind {
            Kind::Push => format!(" ({count} {nodes} failed, at most {limit} may)"),
            Kind::Rollback => String::new(),
        };
        for (node, reason) in failed {
            let text = format!("{reason}; {what}{bound}");
            let kind = NoteKind::NodeFailed { node: node.clone(), reason: reason.clone() };
            self.note(out, kind, text);
        }
    }

    /// A module of the step has no node left that carries its candidate, up or not: all failed, were cut off, or left.
    pub(super) fn deserted(&self) -> bool {
        let carried = |module| self.nodes.keys().any(|node| self.carries(module, node));
        !self.spec.moves.keys().all(carried)
    }

    /// The nodes that have not failed, and are up or not as `up` has it.
    pub(super) fn sound(&self, up: impl Fn(bool) -> bool) -> Vec<Node> {
        let sound =
            self.nodes.iter().filter(|(node, facts)| !self.failed.contains_key(*node) && up(facts.up));
        sound.map(|(node, _)| node.clone()).collect()
    }
}
