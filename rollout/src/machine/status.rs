//! What people and programs see of a rollout.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Kind, Phase, PhaseName, Rollout, Waiting};
use crate::figures::Figures;
use crate::ident::{Module, Node, ReleaseNumber, RolloutId};
use crate::reason::Reason;
use crate::units::{Share, Time, Weight};

/// One rollout at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub id: RolloutId,
    /// Push or rollback.
    pub kind: Kind,
    /// Who asked for it.
    pub by: String,
    /// Where it stands; `Paused` while it is.
    pub phase: PhaseName,
    /// Which step, from 1, while it is in one.
    pub step: Option<usize>,
    /// How many steps there are.
    pub steps: usize,
    /// Why it goes, or went, back.
    pub reason: Option<Reason>,
    /// Why nothing moves.
    pub waiting_on: Option<Waiting>,
    /// Nodes that failed and why: up to so many as the policy has it go back alone.
    pub failed: BTreeMap<Node, Reason>,
    /// When it began.
    pub started: Time,
    /// When it goes back if it is not promoted.
    pub deadline: Time,
    /// Each module.
    pub modules: Vec<ModuleStatus>,
}

/// One module of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleStatus {
    /// Which.
    pub module: Module,
    /// What is stable now.
    pub stable: Option<ReleaseNumber>,
    /// What is tried beside it; `None` once it is over, one way or the other.
    pub candidate: Option<ReleaseNumber>,
    /// The part of the fleet's traffic that goes to the candidate.
    pub share: Share,
    /// Where it stands: as the whole rollout.
    pub phase: PhaseName,
    /// Why it goes, or went, back: the rollout's reason, whichever module caused it.
    pub reason: Option<Reason>,
    /// The candidate's requests in this step, all nodes together.
    pub candidate_figures: Figures,
    /// Stable's beside it, or of the last step in which it had some.
    pub stable_figures: Figures,
    /// Each node that was told anything, or failed.
    pub nodes: Vec<NodeStatus>,
}

/// One module on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Which.
    pub node: Node,
    /// It can be reached.
    pub up: bool,
    /// The candidate's weight as it was last told; `None` if it has no candidate.
    pub weight: Option<Weight>,
    /// The release that the rollout moves to has passed its checks there.
    pub ready: bool,
    /// It applied what it was last told.
    pub applied: bool,
    /// Why it failed, and goes without the candidate.
    pub failed: Option<Reason>,
    /// The candidate's requests there in this step.
    pub figures: Figures,
}

impl Rollout {
    /// All that is to be shown of it.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            id: self.spec.id.clone(),
            kind: self.kind,
            by: self.spec.by.clone(),
            phase: self.phase_name(),
            step: self.phase.step().map(|step| step + 1),
            steps: self.plan.len(),
            reason: self.phase.reason().cloned(),
            waiting_on: self.waiting_on(),
            failed: self.failed.clone(),
            started: self.started,
            deadline: self.deadline(),
            modules: self.spec.moves.keys().map(|module| self.module_status(module)).collect(),
        }
    }

    /// Where it stands in one word, a pause included.
    #[must_use]
    pub fn phase_name(&self) -> PhaseName {
        if self.paused.is_some() { PhaseName::Paused } else { self.phase.name() }
    }

    fn module_status(&self, module: &Module) -> ModuleStatus {
        let evidence = self.evidence(module);
        let over = self.promoted || self.phase.is_final();
        ModuleStatus {
            module: module.clone(),
            stable: self.stable_now(module),
            candidate: self.spec.moves.get(module).filter(|_| !over).map(|releases| releases.candidate),
            share: self.share(module),
            phase: self.phase_name(),
            reason: self.phase.reason().cloned(),
            candidate_figures: evidence.candidate,
            stable_figures: evidence.stable,
            nodes: self
                .each_fact()
                .filter(|(node, of, facts)| {
                    *of == module && (facts.given.is_some() || self.failed.contains_key(*node))
                })
                .map(|(node, _, facts)| NodeStatus {
                    node: node.clone(),
                    up: self.nodes.get(node).is_some_and(|facts| facts.up),
                    weight: facts.weight,
                    ready: facts.ready,
                    applied: facts.in_line(),
                    failed: self.failed.get(node).cloned(),
                    figures: Figures::sum(facts.counted.candidate()),
                })
                .collect(),
        }
    }

    /// The part of the fleet's traffic that the module's candidate was given last.
    fn share(&self, module: &Module) -> Share {
        let first = self.is_first(module);
        let served = match &self.phase {
            Phase::Baking { step, .. } => Some(*step),
            Phase::Starting { step } => step.checked_sub(1),
            Phase::Preparing
            | Phase::Promoting { .. }
            | Phase::Incomplete
            | Phase::RollingBack { .. }
            | Phase::Done
            | Phase::RolledBack { .. }
            | Phase::Failed { .. }
            | Phase::Superseded { .. } => None,
        };
        match served.and_then(|step| self.plan.get(step)) {
            Some(_) if first => Share::WHOLE,
            Some(step) => step.share,
            None => Share::ZERO,
        }
    }
}
