//! From what is known to the next phase.

use std::collections::BTreeMap;

use super::{Action, Direction, Kind, NodeFacts, NoteKind, Phase, REPORT_GRACE, Rollout};
use crate::ident::{List, Node};
use crate::reason::{Cause, Reason};
use crate::units::{Millis, Time};
use crate::verdict::Verdict;

impl Rollout {
    /// Moves on as far as what is known allows.
    pub(super) fn settle(&mut self, out: &mut Vec<Action>) {
        loop {
            self.nodes_failed(self.late_starts(), out);
            if let Some(reason) = self.reason_to_go_back() {
                self.go_back(reason, out);
            }
            if !self.advance(out) {
                break;
            }
        }
        if self.phase.step().is_some() && self.candidates_out() && self.now >= self.renewal_due() {
            self.renewed = self.now;
            out.push(Action::Renew { revision: self.revision });
        }
    }

    /// Deadlines that are over, and figures that speak against a candidate.
    fn reason_to_go_back(&self) -> Option<Reason> {
        let trying = self.phase == Phase::Preparing || self.phase.step().is_some();
        if !trying {
            return None;
        }
        self.worse_candidate().or_else(|| {
            (self.now >= self.deadline()).then(|| Reason::Deadline {
                limit: self.spec.policy.spec().deadline,
                waiting_on: self.waiting_on().map(|waiting| waiting.what()).unwrap_or_default(),
            })
        })
    }

    /// The nodes that were not ready in time, each for the first of its modules.
    fn late_starts(&self) -> BTreeMap<Node, Reason> {
        let mut late = BTreeMap::new();
        if self.phase.step().is_none() {
            return late;
        }
        let limit = self.spec.policy.spec().start_deadline;
        for (node, module, facts) in self.each_fact() {
            let due = facts.awaited.map(|awaited| awaited.plus(limit).plus(REPORT_GRACE));
            let Some(releases) =
                self.spec.moves.get(module).filter(|_| due.is_some_and(|due| self.now >= due))
            else {
                continue;
            };
            late.entry(node.clone()).or_insert_with(|| Reason::Fast {
                node: node.clone(),
                module: module.clone(),
                release: releases.candidate,
                cause: Cause::StartTimeout { limit },
            });
        }
        late
    }

    fn worse_candidate(&self) -> Option<Reason> {
        self.phase.step()?;
        self.spec.moves.keys().find_map(|module| match self.verdict(module)? {
            Verdict::Unhealthy(reason) => Some(reason),
            Verdict::Healthy(_) | Verdict::Undecided(_) => None,
        })
    }

    /// One move; `false` when there is none to make.
    fn advance(&mut self, out: &mut Vec<Action>) -> bool {
        match &self.phase {
            Phase::Preparing => {
                let up = self.sound(|up| up);
                let prepared = |node| self.nodes.get(node).is_some_and(NodeFacts::prepared);
                let all = !up.is_empty() && up.iter().all(prepared);
                all && self.paused.is_none() && self.begin_step(0, out)
            }
            Phase::Starting { step } | Phase::Baking { step, .. } if self.deserted() => {
                let step = *step;
                self.paused.is_none() && self.begin_step(step, out)
            }
            Phase::Starting { step } => {
                let step = *step;
                if self.paused.is_none() && !self.next_to_start().is_empty() {
                    self.next_revision();
                    self.start_next(out);
                }
                let ready = self.carriers_up() && self.lagging(|_, facts| !facts.ready).is_empty();
                if !ready || self.paused.is_some() {
                    return false;
                }
                self.keep_baselines();
                self.weigh(step, out);
                true
            }
            Phase::Baking { step, since: None } => {
                let step = *step;
                let applied = self.carriers_up() && self.lagging(|_, facts| !facts.in_line()).is_empty();
                if applied {
                    self.phase = Phase::Baking { step, since: Some(self.now) };
                    self.note_baking(step, out);
                }
                applied
            }
            Phase::Baking { step, since: Some(since) } => {
                let (step, since) = (*step, *since);
                self.pass_step(step, since, out)
            }
            Phase::Promoting { since } => {
                let since = *since;
                self.follow(since, out)
            }
            Phase::RollingBack { reason, since } => {
                let (reason, since) = (reason.clone(), *since);
                match (self.kind, &reason) {
                    (Kind::Rollback, Reason::Rollback { .. }) => self.follow(since, out),
                    _ => self.went_back(reason, since, out),
                }
            }
            Phase::Incomplete => {
                let all = self.not_in_line(|_| true).is_empty();
                if all {
                    self.finish(Phase::Done, out);
                }
                false
            }
            Phase::Done | Phase::RolledBack { .. } | Phase::Failed { .. } | Phase::Superseded { .. } => false,
        }
    }

    fn begin_step(&mut self, step: usize, out: &mut Vec<Action>) -> bool {
        let anew = if self.phase.step() == Some(step) { " anew" } else { "" };
        if !self.place_step(step, out) {
            return false;
        }
        self.held = None;
        let share = self.plan.get(step).map_or_else(Default::default, |step| step.share);
        let nodes: Vec<Node> = self.weights.keys().cloned().collect();
        let text = format!("step {} of {}{anew}: {share} on {}", step + 1, self.plan.len(), List(&nodes));
        self.note(out, NoteKind::Starting { step }, text);
        true
    }

    fn note_baking(&self, step: usize, out: &mut Vec<Action>) {
        if let Some(plan) = self.plan.get(step) {
            let watched =
                if plan.bake.0 > 0 { format!(", watched for {}", plan.bake) } else { String::new() };
            let text = format!("{} of the traffic is on the new release{watched}", plan.share);
            self.note(out, NoteKind::Baking { step }, text);
        }
    }

    /// From the end of a step to the next one, or to the promotion.
    fn pass_step(&mut self, step: usize, since: Time, out: &mut Vec<Action>) -> bool {
        let bake = self.plan.get(step).map_or(Millis(0), |step| step.bake);
        let hurried = self.hurried > step;
        let present = self.carriers_up() && self.lagging(|_, facts| !facts.ready).is_empty();
        if self.paused.is_some() || !present || (!hurried && self.now < since.plus(bake)) {
            return false;
        }
        let patient = self.now < since.plus(bake).plus(self.spec.policy.spec().patience);
        let text = match self.step_result() {
            _ if hurried => "a person promoted it".to_owned(),
            Ok(basis) => basis.to_string(),
            Err(missing) if missing.yields_to_patience() && !patient => {
                format!("{missing}; it is not waited for longer")
            }
            Err(missing) => {
                if self
                    .held
                    .as_ref()
                    .is_none_or(|held| std::mem::discriminant(held) != std::mem::discriminant(&missing))
                {
                    let end = self.hold_end(&missing, since.plus(bake));
                    self.note(out, NoteKind::Holding, format!("holding: {missing}; {end}"));
                    self.held = Some(missing);
                }
                return false;
            }
        };
        if step + 1 < self.plan.len() {
            // Without a ready node the step stays, and is passed when one is there.
            let mut later = Vec::new();
            if !self.begin_step(step + 1, &mut later) {
                return false;
            }
            self.note(out, NoteKind::Passed { step }, format!("step {} passed: {text}", step + 1));
            out.append(&mut later);
        } else {
            self.note(out, NoteKind::Passed { step }, format!("step {} passed: {text}", step + 1));
            self.note(
                out,
                NoteKind::Promoting,
                "promoting: the candidate becomes stable on every node".to_owned(),
            );
            self.phase = Phase::Promoting { since: self.now };
            self.move_all(Direction::Onward, out);
        }
        true
    }
}
