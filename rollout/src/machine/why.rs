//! Why nothing moves.

use super::{HoldEnd, Phase, Rollout, Waiting};
use crate::ident::Node;
use crate::units::Time;
use crate::verdict::Missing;

impl Rollout {
    /// Why nothing moves; `None` once it is over.
    #[must_use]
    pub fn waiting_on(&self) -> Option<Waiting> {
        if let Some(by) = &self.paused {
            return Some(Waiting::Person { by: by.clone() });
        }
        match &self.phase {
            Phase::Preparing => Some(self.nobody_to_carry()),
            Phase::Starting { .. } | Phase::Baking { .. } if self.deserted() => Some(self.nobody_to_carry()),
            Phase::Starting { .. } | Phase::Baking { .. } if !self.carriers_up() => {
                Some(self.absent(self.weights.keys().cloned().collect()))
            }
            Phase::Starting { .. } => Some(Waiting::Start {
                nodes: self.lagging(|_, facts| facts.weight.is_some() && !facts.ready),
                more: self.queue().len(),
            }),
            Phase::Baking { since: None, .. } => {
                Some(Waiting::Apply { nodes: self.lagging(|_, facts| !facts.in_line()) })
            }
            Phase::Baking { step, since: Some(since) } => self.baking_waits_on(*step, *since),
            Phase::Promoting { .. } | Phase::Incomplete => {
                let nodes = self.not_in_line(|_| true);
                let alone = nodes.iter().filter(|node| self.is_alone(node)).cloned().collect();
                Some(Waiting::Follow { nodes, alone })
            }
            Phase::RollingBack { .. } => Some(Waiting::Back { nodes: self.not_in_line(|_| true) }),
            Phase::Done | Phase::RolledBack { .. } | Phase::Failed { .. } | Phase::Superseded { .. } => None,
        }
    }

    /// No node can carry a candidate: of those that have not failed none is prepared, or none can be reached.
    fn nobody_to_carry(&self) -> Waiting {
        let mut nodes = self.sound(|up| up);
        nodes.retain(|node| self.nodes.get(node).is_some_and(|facts| !facts.prepared()));
        if nodes.is_empty() { self.absent(self.sound(|_| true)) } else { Waiting::Prepare { nodes } }
    }

    /// That none of these takes part: who can't be reached, and who was rolled back alone.
    fn absent(&self, nodes: Vec<Node>) -> Waiting {
        let (alone, nodes) = nodes.into_iter().partition(|node| self.is_alone(node));
        Waiting::Nodes { nodes, alone }
    }

    fn is_alone(&self, node: &Node) -> bool {
        self.nodes.get(node).is_some_and(|facts| facts.alone)
    }

    /// What comes of a step that was over at `over`, if what is missing does not come.
    pub(super) fn hold_end(&self, missing: &Missing, over: Time) -> HoldEnd {
        let patient_until = over.plus(self.spec.policy.spec().patience);
        if missing.yields_to_patience() && patient_until < self.deadline() {
            HoldEnd::GoesOn { left: patient_until.since(self.now) }
        } else {
            HoldEnd::GoesBack { left: self.deadline().since(self.now) }
        }
    }

    fn baking_waits_on(&self, step: usize, since: Time) -> Option<Waiting> {
        let step = self.plan.get(step)?;
        let over = since.plus(step.bake);
        let unready = self.lagging(|_, facts| !facts.ready);
        if self.now < over {
            Some(Waiting::Bake { share: step.share, left: over.since(self.now) })
        } else if !unready.is_empty() {
            Some(Waiting::Start { nodes: unready, more: 0 })
        } else {
            match self.step_result() {
                Err(missing) => Some(Waiting::Verdict { end: self.hold_end(&missing, over), missing }),
                Ok(_) => Some(self.absent(self.nodes.keys().cloned().collect())),
            }
        }
    }
}
