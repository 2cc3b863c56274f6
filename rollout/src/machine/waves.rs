//! The assignments that one decision gives out. All of them have one revision.

use super::{Action, Direction, Kind, Phase, Rollout};
use crate::assignment::{Assignment, Candidate, FastLimits, Standby};
use crate::ident::{Module, Node, ReleaseNumber};
use crate::placement;
use crate::reason::Reason;
use crate::units::Weight;

impl Rollout {
    /// Asks the node to get what it lacks.
    pub(super) fn prepare(&self, node: &Node, out: &mut Vec<Action>) {
        let Some(facts) = self.nodes.get(node).filter(|_| !self.failed.contains_key(node)) else { return };
        let modules: Vec<(Module, ReleaseNumber)> = facts
            .modules
            .iter()
            .filter(|(_, facts)| !facts.prepared)
            .filter_map(|(module, _)| Some((module.clone(), self.spec.moves.get(module)?.candidate)))
            .collect();
        if !modules.is_empty() {
            out.push(Action::Prepare { node: node.clone(), modules });
        }
    }

    /// Whether the node carries the module's candidate in this step.
    pub(super) fn carries(&self, module: &Module, node: &Node) -> bool {
        match self.spec.moves.get(module).map(|releases| releases.stable) {
            Some(Some(_)) => self.weights.contains_key(node),
            Some(None) => self.targets.contains(node),
            None => false,
        }
    }

    /// The weight that the step gives to the module's candidate on the node: a module without stable has all.
    fn due_weight(&self, module: &Module, node: &Node) -> Option<Weight> {
        if self.is_first(module) {
            self.targets.contains(node).then_some(Weight::WHOLE)
        } else {
            self.weights.get(node).copied()
        }
    }

    /// Places the step on the nodes that are ready now and starts instances where there are none yet, without
    /// traffic and no more at once than the policy has it. Who carried the step before and is not ready any more goes back to stable. `false`, and nothing is
    /// changed, without a ready node.
    pub(super) fn place_step(&mut self, step: usize, out: &mut Vec<Action>) -> bool {
        let Some(share) = self.plan.get(step).map(|step| step.share) else { return false };
        let ready = self
            .nodes
            .iter()
            .filter(|(node, facts)| facts.up && facts.prepared() && !self.failed.contains_key(*node));
        let ready = ready.map(|(node, facts)| (node.clone(), facts.domain.clone())).collect();
        let before = self.weights.keys().cloned().collect();
        let weights = placement::place(share, &ready, &before, self.spec.policy.spec().spread);
        if weights.is_empty() {
            return false;
        }
        (self.weights, self.targets) = (weights, ready.into_keys().collect());
        self.phase = Phase::Starting { step };
        self.next_revision();
        for (node, module) in self.pairs() {
            let holds = self.facts(&node, &module).is_some_and(|facts| facts.weight.is_some());
            if holds && !self.carries(&module, &node) {
                self.give(&node, &module, None, Direction::TowardStable, out);
            }
        }
        self.start_next(out);
        true
    }

    /// Gives every node of the step its weight. What is counted from here on is this step's, even on a node whose
    /// weight is the same as before.
    pub(super) fn weigh(&mut self, step: usize, out: &mut Vec<Action>) {
        self.leave_out_untold();
        self.phase = Phase::Baking { step, since: None };
        self.slow.clear();
        self.next_revision();
        let revision = self.revision;
        for (node, module) in self.pairs() {
            if let Some(weight) = self.due_weight(&module, &node) {
                if let Some(facts) = self.facts_mut(&node, &module) {
                    facts.count_anew(revision);
                }
                self.give(&node, &module, Some(weight), Direction::Onward, out);
            }
        }
    }

    /// Takes nodes out of the step.
    pub(super) fn drop_carriers(&mut self, nodes: &[Node], out: &mut Vec<Action>) {
        self.next_revision();
        for node in nodes {
            self.weights.remove(node);
            self.targets.remove(node);
            for module in self.modules() {
                if self.facts(node, &module).is_some_and(|facts| facts.weight.is_some()) {
                    self.give(node, &module, None, Direction::TowardStable, out);
                }
            }
        }
    }

    /// Names the releases that we move to stable and tells every node.
    pub(super) fn move_all(&mut self, direction: Direction, out: &mut Vec<Action>) {
        self.promoted = true;
        self.next_revision();
        let stable: Vec<Action> = self.name_stable(direction);
        let mut assign = Vec::new();
        for (node, module) in self.pairs() {
            self.give(&node, &module, None, direction, &mut assign);
        }
        match direction {
            // Traffic moves first; the record may wait.
            Direction::TowardStable => out.extend(assign.into_iter().chain(stable)),
            Direction::Onward => out.extend(stable.into_iter().chain(assign)),
        }
    }

    /// Tells every node that was given anything to serve what it served before.
    pub(super) fn return_all(&mut self, direction: Direction, out: &mut Vec<Action>) {
        let promoted = std::mem::replace(&mut self.promoted, false);
        self.next_revision();
        for (node, module) in self.pairs() {
            if self.facts(&node, &module).is_some_and(|facts| facts.given.is_some()) {
                self.give(&node, &module, None, direction, out);
            }
        }
        if promoted {
            out.extend(self.name_stable(direction));
        }
    }

    /// What is stable in the present phase, for every module.
    fn name_stable(&self, direction: Direction) -> Vec<Action> {
        let modules = self.spec.moves.keys();
        modules
            .map(|module| Action::SetStable {
                module: module.clone(),
                release: self.stable_now(module),
                direction,
            })
            .collect()
    }

    /// Puts the release that failed into quarantine. A preceding stable that failed is not: it served well once.
    pub(super) fn quarantine(&self, out: &mut Vec<Action>) {
        if self.kind == Kind::Push
            && let Some(reason) = self.phase.reason()
            && let Some((module, release)) = reason.blamed()
        {
            out.push(Action::Quarantine { module: module.clone(), release, reason: reason.clone() });
        }
    }

    /// Says to one node what it was last told.
    pub(super) fn give_again(&mut self, node: &Node, out: &mut Vec<Action>) {
        let direction = self.direction_now();
        for module in self.modules() {
            if self.moved() && self.facts(node, &module).is_some_and(|facts| facts.given.is_none()) {
                // It joined while the others were being told, and may have been told something else since it left.
                self.next_revision();
                self.give(node, &module, None, direction, out);
            } else if let Some(assignment) = self.assignment(node, &module) {
                out.push(Action::Assign { node: node.clone(), assignment, direction });
            }
        }
    }

    /// Says everything again that may have been lost with the process.
    pub(super) fn repeat(&mut self, out: &mut Vec<Action>) {
        let direction = self.direction_now();
        self.record_again(out);
        for (node, module) in self.pairs() {
            if let Some(facts) = self.facts(&node, &module).filter(|facts| facts.given.is_some()) {
                self.give(&node, &module, facts.weight, direction, out);
            }
        }
        if self.phase == Phase::Preparing || self.phase.step().is_some() {
            for node in self.nodes.keys() {
                self.prepare(node, out);
            }
        }
        self.renewed = self.now;
    }

    /// Says again what is to be on record: what is stable, and what failed.
    pub(super) fn record_again(&self, out: &mut Vec<Action>) {
        if self.promoted || (self.returning() && self.given_any()) {
            out.extend(self.name_stable(self.direction_now()));
        }
        self.quarantine(out);
    }

    pub(super) fn given_any(&self) -> bool {
        self.nodes.values().flat_map(|facts| facts.modules.values()).any(|facts| facts.given.is_some())
    }

    /// On the way back to what was stable before this rollout.
    pub(super) fn returning(&self) -> bool {
        match self.phase.reason() {
            Some(Reason::Rollback { .. }) | None => false,
            Some(_) => true,
        }
    }

    /// Which way the assignments of the present phase go.
    fn direction_now(&self) -> Direction {
        match (self.kind, self.returning()) {
            (Kind::Push, true) | (Kind::Rollback, false) => Direction::TowardStable,
            (Kind::Push, false) | (Kind::Rollback, true) => Direction::Onward,
        }
    }

    /// What is stable for the module in the present phase.
    pub(super) fn stable_now(&self, module: &Module) -> Option<ReleaseNumber> {
        let releases = self.spec.moves.get(module)?;
        if self.promoted { Some(releases.candidate) } else { releases.stable }
    }

    pub(super) fn next_revision(&mut self) {
        self.revision = self.revision.after(1);
    }

    fn pairs(&self) -> Vec<(Node, Module)> {
        let nodes = self.nodes.keys();
        nodes
            .flat_map(|node| self.spec.moves.keys().map(move |module| (node.clone(), module.clone())))
            .collect()
    }

    /// Gives one node its assignment, with the present revision.
    pub(super) fn give(
        &mut self,
        node: &Node,
        module: &Module,
        weight: Option<Weight>,
        direction: Direction,
        out: &mut Vec<Action>,
    ) {
        let (now, revision, promoted) = (self.now, self.revision, self.promoted);
        if weight.is_some() && !self.candidates_out() {
            self.renewed = now;
        }
        let Some(facts) = self.nodes.get_mut(node) else { return };
        let up = facts.up;
        let Some(facts) = facts.modules.get_mut(module) else { return };
        if facts.weight != weight {
            facts.count_anew(revision);
        }
        if weight.is_none() && !promoted {
            // Its instance ends; one that starts there later has to pass its checks by itself.
            facts.ready = false;
        }
        facts.given = Some(revision);
        facts.weight = weight;
        facts.awaited = match weight {
            Some(_) if up && !facts.ready => facts.awaited.or(Some(now)),
            Some(_) | None => None,
        };
        if let Some(assignment) = self.assignment(node, module) {
            out.push(Action::Assign { node: node.clone(), assignment, direction });
        }
    }

    /// Whether any node has a candidate that it would lose without renewals.
    pub(super) fn candidates_out(&self) -> bool {
        self.nodes.values().flat_map(|facts| facts.modules.values()).any(|facts| facts.weight.is_some())
    }

    /// What the node was last told to run. `None` if this rollout has told it nothing.
    #[must_use]
    pub fn assignment(&self, node: &Node, module: &Module) -> Option<Assignment> {
        let facts = self.facts(node, module)?;
        let revision = facts.given?;
        let releases = self.spec.moves.get(module)?;
        let spec = self.spec.policy.spec();
        Some(Assignment {
            module: module.clone(),
            revision,
            rollout: self.spec.id.clone(),
            stable: self.stable_now(module),
            candidate: facts.weight.map(|weight| Candidate {
                release: releases.candidate,
                weight,
                limits: FastLimits::of(&self.spec.policy),
                expiry: spec.expiry,
            }),
            standby: releases
                .stable
                .filter(|_| self.promoted && spec.standby.0 > 0)
                .map(|release| Standby { release, keep: spec.standby }),
        })
    }
}
