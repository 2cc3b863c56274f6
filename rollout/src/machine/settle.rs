//! From what is known to the next phase.

use super::facts::Facts;
use super::{Action, Direction, Kind, NoteKind, Outcome, Phase, REPORT_GRACE, Rollout, Waiting};
use crate::ident::{Module, Node};
use crate::reason::{Cause, Reason};
use crate::units::{Millis, Time, Weight};
use crate::verdict::{self, Basis, Evidence, Missing, Verdict};

impl Rollout {
    /// Moves on as far as what is known allows.
    pub(super) fn settle(&mut self, out: &mut Vec<Action>) {
        if let Some(reason) = self.reason_to_go_back() {
            self.go_back(reason, out);
        }
        while self.advance(out) {}
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
        self.late_start().or_else(|| self.worse_candidate()).or_else(|| {
            (self.now >= self.deadline()).then(|| Reason::Deadline {
                limit: self.spec.policy.spec().deadline,
                waiting_on: self.waiting_on().map(|waiting| waiting.to_string()).unwrap_or_default(),
            })
        })
    }

    fn late_start(&self) -> Option<Reason> {
        self.phase.step()?;
        let limit = self.spec.policy.spec().start_deadline;
        self.each_fact().find_map(|(node, module, facts)| {
            let due = facts.awaited?.plus(limit).plus(REPORT_GRACE);
            let release = self.spec.moves.get(module)?.candidate;
            (self.now >= due).then(|| Reason::Fast {
                node: node.clone(),
                module: module.clone(),
                release,
                cause: Cause::StartTimeout { limit },
            })
        })
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
                let mut up = self.nodes.values().filter(|facts| facts.up).peekable();
                let all = up.peek().is_some() && up.all(super::NodeFacts::prepared);
                all && self.paused.is_none() && self.begin_step(0, out)
            }
            Phase::Starting { step } => {
                let step = *step;
                let ready = self.carriers_up() && self.lagging(|facts| !facts.ready).is_empty();
                if !ready || self.paused.is_some() {
                    return false;
                }
                self.keep_baselines();
                self.weigh(step, out);
                true
            }
            Phase::Baking { step, since: None } => {
                let step = *step;
                let applied = self.carriers_up() && self.lagging(|facts| !facts.in_line()).is_empty();
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
        if !self.place_step(step, out) {
            return false;
        }
        self.held = None;
        let share = self.plan.get(step).map_or_else(Default::default, |step| step.share);
        let nodes: Vec<Node> = self.weights.keys().cloned().collect();
        let text =
            format!("step {} of {}: {share} on {}", step + 1, self.plan.len(), super::waiting::List(&nodes));
        self.note(out, NoteKind::Starting { step }, text);
        true
    }

    fn note_baking(&self, step: usize, out: &mut Vec<Action>) {
        if let Some(plan) = self.plan.get(step) {
            let text =
                format!("{} of the traffic is on the candidate, watched for {}", plan.share, plan.bake);
            self.note(out, NoteKind::Baking { step }, text);
        }
    }

    /// From the end of a step to the next one, or to the promotion.
    fn pass_step(&mut self, step: usize, since: Time, out: &mut Vec<Action>) -> bool {
        let bake = self.plan.get(step).map_or(Millis(0), |step| step.bake);
        let hurried = self.hurried > step;
        let present = self.carriers_up() && self.lagging(|facts| !facts.ready).is_empty();
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
                    self.note(out, NoteKind::Holding, format!("holding: {missing}"));
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

    /// The weakest basis of all modules, or what is missing for the first that misses something.
    fn step_result(&self) -> Result<Basis, Missing> {
        let mut result = Basis::Compared;
        for module in self.spec.moves.keys() {
            match self.verdict(module) {
                Some(Verdict::Undecided(missing)) => return Err(missing),
                Some(Verdict::Healthy(basis)) if result == Basis::Compared => result = basis,
                Some(Verdict::Healthy(_) | Verdict::Unhealthy(_)) | None => {}
            }
        }
        Ok(result)
    }

    /// The judgement on one module's candidate as things are. `None` for an unknown module.
    #[must_use]
    pub fn verdict(&self, module: &Module) -> Option<Verdict> {
        let releases = self.spec.moves.get(module)?;
        if releases.stable.is_none() {
            return Some(Verdict::Healthy(Basis::NothingBeside));
        }
        let evidence = self.evidence(module);
        Some(verdict::judge(module, releases.candidate, &evidence, self.spec.policy.spec()))
    }

    /// What was counted for one module in this step.
    #[must_use]
    pub fn evidence(&self, module: &Module) -> Evidence {
        let mut evidence = Evidence::default();
        for (_, _, facts) in self.each_fact().filter(|(_, of, _)| *of == module) {
            facts.counted.add_to(&mut evidence.candidate, &mut evidence.stable);
            evidence.beside |= facts.weight.is_some_and(|weight| weight < Weight::WHOLE);
        }
        if !evidence.beside {
            evidence.stable = self.baselines.get(module).cloned().unwrap_or_default();
        }
        evidence
    }

    /// Before the weights change: stable's figures are kept for the step in which it has none.
    fn keep_baselines(&mut self) {
        let modules: Vec<Module> = self.spec.moves.keys().cloned().collect();
        for module in modules {
            let evidence = self.evidence(&module);
            if evidence.beside && evidence.stable.requests > 0 {
                self.baselines.insert(module, evidence.stable);
            }
        }
    }

    /// Every node is told what is stable now; who is up has to follow.
    fn follow(&mut self, since: Time, out: &mut Vec<Action>) -> bool {
        let waited = self.now >= self.follow_due(since);
        if self.nodes.is_empty() || (!waited && !self.not_in_line(|up| up).is_empty()) {
            return false;
        }
        let missing = self.not_in_line(|_| true);
        let phase = if missing.is_empty() { Phase::Done } else { Phase::Incomplete };
        self.finish(phase, out);
        false
    }

    /// Every node that had a candidate is told to go back; those that do not say so end it by their expiry.
    fn went_back(&mut self, reason: Reason, since: Time, out: &mut Vec<Action>) -> bool {
        let unconfirmed = self.not_in_line(|_| true);
        if !unconfirmed.is_empty() && self.now < since.plus(self.spec.policy.spec().expiry) {
            return false;
        }
        let nothing_before = self.spec.moves.values().all(|releases| releases.stable.is_none());
        let phase = if matches!(reason, Reason::Superseded { .. }) {
            Phase::Superseded { reason }
        } else if self.kind == Kind::Rollback || (nothing_before && !reason.by_person()) {
            Phase::Failed { reason }
        } else {
            Phase::RolledBack { reason, unconfirmed }
        };
        self.finish(phase, out);
        false
    }

    pub(super) fn finish(&mut self, phase: Phase, out: &mut Vec<Action>) {
        self.phase = phase;
        let Some(outcome) = self.outcome() else { return };
        self.note(out, NoteKind::Finished, self.closing(&outcome));
        out.push(Action::Finished(outcome));
    }

    /// How it ended, if it did.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.phase {
            Phase::Done => Some(Outcome::Done),
            Phase::Incomplete => Some(Outcome::Incomplete { nodes: self.not_in_line(|_| true) }),
            Phase::RolledBack { reason, unconfirmed } => {
                Some(Outcome::RolledBack { reason: reason.clone(), unconfirmed: unconfirmed.clone() })
            }
            Phase::Failed { reason } => Some(Outcome::Failed { reason: reason.clone() }),
            Phase::Superseded { reason } => Some(Outcome::Superseded { reason: reason.clone() }),
            Phase::Preparing
            | Phase::Starting { .. }
            | Phase::Baking { .. }
            | Phase::Promoting { .. }
            | Phase::RollingBack { .. } => None,
        }
    }

    fn closing(&self, outcome: &Outcome) -> String {
        match outcome {
            Outcome::Done => match self.kind {
                Kind::Push => "done: the new release is stable on every node".to_owned(),
                Kind::Rollback => "done: the preceding release is stable on every node".to_owned(),
            },
            Outcome::Incomplete { nodes } => {
                format!(
                    "incomplete: {} has not followed; it will when it is back",
                    super::waiting::List(nodes)
                )
            }
            Outcome::RolledBack { reason, unconfirmed } if unconfirmed.is_empty() => {
                format!("rolled back: {reason}")
            }
            Outcome::RolledBack { reason, unconfirmed } => format!(
                "rolled back: {reason}; {} has not confirmed it, its candidate ended by its expiry",
                super::waiting::List(unconfirmed)
            ),
            Outcome::Failed { reason } => match self.kind {
                Kind::Push => format!("failed: {reason}; there is no earlier release to go back to"),
                Kind::Rollback => {
                    format!("the rollback failed: {reason}; what served before goes on serving")
                }
            },
            Outcome::Superseded { reason } => reason.to_string(),
        }
    }

    /// The times at which something is due; past ones included.
    pub(super) fn alarms(&self) -> Vec<Time> {
        let spec = self.spec.policy.spec();
        let mut alarms = Vec::new();
        match &self.phase {
            Phase::Preparing => alarms.push(self.deadline()),
            Phase::Starting { .. } | Phase::Baking { .. } => {
                alarms.extend([self.deadline(), self.renewal_due()]);
                alarms.extend(self.each_fact().filter_map(|(_, _, facts)| {
                    Some(facts.awaited?.plus(spec.start_deadline).plus(REPORT_GRACE))
                }));
                if let Phase::Baking { step, since: Some(since) } = &self.phase
                    && let Some(step) = self.plan.get(*step)
                {
                    let over = since.plus(step.bake);
                    alarms.extend([over, over.plus(spec.patience)]);
                }
            }
            Phase::Promoting { since } => alarms.push(self.follow_due(*since)),
            Phase::RollingBack { reason: Reason::Rollback { .. }, since } => {
                alarms.push(self.follow_due(*since))
            }
            Phase::RollingBack { since, .. } => alarms.push(since.plus(spec.expiry)),
            Phase::Incomplete
            | Phase::Done
            | Phase::RolledBack { .. }
            | Phase::Failed { .. }
            | Phase::Superseded { .. } => {}
        }
        alarms
    }

    fn renewal_due(&self) -> Time {
        self.renewed.plus(self.spec.policy.renewal())
    }

    /// Until when nodes that are up have time to follow a promotion or a rollback: some may have to start an instance.
    fn follow_due(&self, since: Time) -> Time {
        since.plus(self.spec.policy.spec().start_deadline).plus(REPORT_GRACE)
    }

    /// Why nothing moves; `None` once it is over.
    #[must_use]
    pub fn waiting_on(&self) -> Option<Waiting> {
        if let Some(by) = &self.paused {
            return Some(Waiting::Person { by: by.clone() });
        }
        match &self.phase {
            Phase::Preparing => {
                let waits = |facts: &super::NodeFacts| facts.up && !facts.prepared();
                let nodes: Vec<Node> = self
                    .nodes
                    .iter()
                    .filter(|(_, facts)| waits(facts))
                    .map(|(node, _)| node.clone())
                    .collect();
                Some(if nodes.is_empty() {
                    Waiting::Nodes { nodes: self.nodes.keys().cloned().collect() }
                } else {
                    Waiting::Prepare { nodes }
                })
            }
            Phase::Starting { .. } | Phase::Baking { .. } if !self.carriers_up() => {
                Some(Waiting::Nodes { nodes: self.weights.keys().cloned().collect() })
            }
            Phase::Starting { .. } => Some(Waiting::Start { nodes: self.lagging(|facts| !facts.ready) }),
            Phase::Baking { since: None, .. } => {
                Some(Waiting::Apply { nodes: self.lagging(|facts| !facts.in_line()) })
            }
            Phase::Baking { step, since: Some(since) } => self.baking_waits_on(*step, *since),
            Phase::Promoting { .. } | Phase::Incomplete => {
                Some(Waiting::Follow { nodes: self.not_in_line(|_| true) })
            }
            Phase::RollingBack { .. } => Some(Waiting::Back { nodes: self.not_in_line(|_| true) }),
            Phase::Done | Phase::RolledBack { .. } | Phase::Failed { .. } | Phase::Superseded { .. } => None,
        }
    }

    fn baking_waits_on(&self, step: usize, since: Time) -> Option<Waiting> {
        let step = self.plan.get(step)?;
        let over = since.plus(step.bake);
        let unready = self.lagging(|facts| !facts.ready);
        if self.now < over {
            Some(Waiting::Bake { share: step.share, left: over.since(self.now) })
        } else if !unready.is_empty() {
            Some(Waiting::Start { nodes: unready })
        } else {
            match self.step_result() {
                Err(missing) => Some(Waiting::Verdict(missing)),
                Ok(_) => Some(Waiting::Nodes { nodes: self.nodes.keys().cloned().collect() }),
            }
        }
    }

    pub(super) fn facts(&self, node: &Node, module: &Module) -> Option<&Facts> {
        self.nodes.get(node)?.modules.get(module)
    }

    pub(super) fn each_fact(&self) -> impl Iterator<Item = (&Node, &Module, &Facts)> {
        self.nodes
            .iter()
            .flat_map(|(node, facts)| facts.modules.iter().map(move |(module, facts)| (node, module, facts)))
    }

    /// Whether any node of the step can be reached.
    fn carriers_up(&self) -> bool {
        self.nodes
            .iter()
            .any(|(node, facts)| facts.up && (self.weights.contains_key(node) || self.targets.contains(node)))
    }

    /// The step's nodes that are up and for which `lags` holds of some module.
    fn lagging(&self, lags: impl Fn(&Facts) -> bool) -> Vec<Node> {
        let up = self.nodes.iter().filter(|(_, facts)| facts.up);
        up.filter(|(node, facts)| {
            facts.modules.iter().any(|(module, facts)| self.carries(module, node) && lags(facts))
        })
        .map(|(node, _)| node.clone())
        .collect()
    }

    /// The nodes that have not applied what they were last given, of those whose being up `counts`.
    fn not_in_line(&self, counts: impl Fn(bool) -> bool) -> Vec<Node> {
        self.nodes
            .iter()
            .filter(|(_, facts)| counts(facts.up) && !facts.modules.values().all(Facts::in_line))
            .map(|(node, _)| node.clone())
            .collect()
    }
}
