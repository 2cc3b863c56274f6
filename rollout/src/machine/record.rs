//! An event changes what is known. Nothing here decides where the rollout goes, except that a failure or a command
//! that says "back" does so at once.

use super::{
    Action, Command, Direction, Event, InstanceState, Kind, Left, NodeFacts, NoteKind, Phase, Rollout,
};
use crate::ident::{Labels, Module, Node, ReleaseNumber, Revision};
use crate::placement;
use crate::reason::{Cause, Reason};
use crate::units::Weight;

impl Rollout {
    pub(super) fn record(&mut self, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::NodeUp { node, labels } => self.node_up(node, &labels, out),
            Event::NodeDown { node } => {
                let text = format!("{node} cannot be reached");
                self.node_away(node, text, out);
            }
            Event::NodeLeft { node, why } => self.node_left(node, why, out),
            Event::Prepared { node, module } => {
                if let Some(facts) = self.facts_mut(&node, &module) {
                    facts.prepared = true;
                }
            }
            Event::PrepareFailed { node, module, text } => self.prepare_failed(node, module, text, out),
            Event::Instance { node, module, release, state } => {
                self.instance(node, module, release, state, out);
            }
            Event::Sample(sample) => {
                if let Some(facts) = self.facts_mut(&sample.node, &sample.module)
                    && facts.weight.is_some()
                    && sample.revision >= facts.counting
                    && facts.given.is_some_and(|given| sample.revision <= given)
                {
                    let module = sample.module.clone();
                    if facts.counted.take(sample) {
                        self.note_slow(&module);
                    }
                }
            }
            Event::Applied { node, module, revision, serves } => {
                self.applied(&node, &module, revision, serves);
            }
            Event::TookBack { node, module, revision, cause } => {
                self.took_back(node, module, revision, cause, out);
            }
            Event::LocalRollback { node, module, by } if self.spec.moves.contains_key(&module) => {
                let text = format!(
                    "{node} was rolled back alone by {by}, and goes no other way until that is lifted"
                );
                // What it applied it does not do any more.
                if let Some(facts) = self.facts_mut(&node, &module) {
                    facts.applied = Revision(0);
                }
                if let Some(facts) = self.nodes.get_mut(&node) {
                    facts.alone = true;
                }
                self.node_away(node, text, out);
            }
            Event::Command(command) => self.command(command, out),
            Event::LocalRollback { .. } | Event::Timeout => {}
        }
    }

    /// Says again what the node is to do, even if it never seemed gone: its daemon may have restarted between two
    /// looks.
    fn node_up(&mut self, node: Node, labels: &Labels, out: &mut Vec<Action>) {
        if !placement::is_for(&self.spec.on, labels) {
            return self.node_left(node, Left::Labels, out);
        }
        let now = self.now;
        let domain = placement::domain(labels, self.spec.policy.spec().spread_over.as_deref());
        let known = self.nodes.get(&node).map(|facts| facts.up);
        let facts = self.nodes.entry(node.clone()).or_insert_with(|| NodeFacts::new(&self.spec.moves));
        (facts.up, facts.alone, facts.domain) = (true, false, domain);
        for facts in facts.modules.values_mut().filter(|facts| facts.weight.is_some() && !facts.ready) {
            facts.awaited.get_or_insert(now);
        }
        match known {
            None => {
                let until = if self.failed.contains_key(&node) {
                    "it serves stable, since it failed before"
                } else {
                    "it serves stable until the next step"
                };
                let kind = NoteKind::Node { node: node.clone() };
                self.note(out, kind, format!("{node} joined; {until}"));
            }
            Some(false) => {
                self.note(out, NoteKind::Node { node: node.clone() }, format!("{node} is back"));
            }
            Some(true) => {}
        }
        match &self.phase {
            Phase::Preparing | Phase::Starting { .. } | Phase::Baking { .. } => self.prepare(&node, out),
            Phase::Promoting { .. } | Phase::Incomplete | Phase::RollingBack { .. } => {}
            Phase::Done | Phase::RolledBack { .. } | Phase::Failed { .. } | Phase::Superseded { .. } => {
                return;
            }
        }
        self.give_again(&node, out);
    }

    /// Nothing can be expected of the node until it is up again.
    fn node_away(&mut self, node: Node, text: String, out: &mut Vec<Action>) {
        if !self.nodes.get(&node).is_some_and(|facts| facts.up) {
            return;
        }
        self.queue_again(&node, out);
        let Some(facts) = self.nodes.get_mut(&node) else { return };
        facts.up = false;
        for facts in facts.modules.values_mut() {
            facts.ready = false;
            facts.awaited = None;
        }
        self.note(out, NoteKind::Node { node }, text);
    }

    /// Its last word is to go back to stable, in case it can still hear.
    fn node_left(&mut self, node: Node, why: Left, out: &mut Vec<Action>) {
        if self.nodes.contains_key(&node) {
            self.drop_carriers(std::slice::from_ref(&node), out);
            self.nodes.remove(&node);
            let text = format!("{node} {why}");
            self.note(out, NoteKind::Node { node }, text);
        }
    }

    /// A stable that was there before may fail beside the candidate, or be gone back to: nothing waits for it. One that
    /// we move to must serve.
    fn applied(&mut self, node: &Node, module: &Module, revision: Revision, serves: bool) {
        let promoted = self.promoted;
        // It is told anew when the node is up again.
        if !self.nodes.get(node).is_some_and(|facts| facts.up) {
            return;
        }
        let Some(facts) = self.facts_mut(node, module) else { return };
        if facts.given.is_none_or(|given| revision > given) || (promoted && !serves) {
            return;
        }
        facts.applied = facts.applied.max(revision);
        // What a node serves is ready there, whether or not anybody said so.
        let has_weight = promoted || facts.weight.is_some_and(|weight| weight > Weight::ZERO);
        if facts.in_line() && has_weight {
            facts.ready = true;
            facts.awaited = None;
        }
    }

    /// Only while everybody prepares does a refusal count: a node that joins later and cannot take the candidate gets no
    /// share of it.
    fn prepare_failed(&mut self, node: Node, module: Module, text: String, out: &mut Vec<Action>) {
        if self.facts(&node, &module).is_none_or(|facts| facts.prepared) {
            return;
        }
        match &self.phase {
            Phase::Preparing => {
                let reason = Reason::PrepareFailed { node: node.clone(), module, text };
                self.nodes_failed([(node, reason)].into(), out);
            }
            Phase::Starting { .. } | Phase::Baking { .. } => {
                let note = format!("{module} cannot run on {node}, which gets no share: {text}");
                self.note(out, NoteKind::Node { node }, note);
            }
            Phase::Promoting { .. }
            | Phase::Incomplete
            | Phase::RollingBack { .. }
            | Phase::Done
            | Phase::RolledBack { .. }
            | Phase::Failed { .. }
            | Phase::Superseded { .. } => {}
        }
    }

    fn instance(
        &mut self,
        node: Node,
        module: Module,
        release: ReleaseNumber,
        state: InstanceState,
        out: &mut Vec<Action>,
    ) {
        let (now, promoted) = (self.now, self.promoted);
        if self.spec.moves.get(&module).is_none_or(|releases| releases.candidate != release) {
            return;
        }
        let up = self.nodes.get(&node).is_some_and(|facts| facts.up);
        let Some(facts) = self.facts_mut(&node, &module) else { return };
        if facts.weight.is_none() && !(promoted && facts.given.is_some()) {
            return;
        }
        match state {
            InstanceState::Starting => {}
            InstanceState::Ready => {
                facts.ready = true;
                facts.awaited = None;
            }
            InstanceState::Ended => {
                facts.ready = false;
                facts.awaited = (up && facts.weight.is_some()).then_some(now);
            }
            InstanceState::Failed(cause) => {
                let was_ready = std::mem::replace(&mut facts.ready, false);
                if self.failure_counts(&node, &module, was_ready) {
                    self.failed_fast(node, module, release, cause, out);
                } else {
                    let text = format!(
                        "{module} release {release} on {node}: {cause}; it does not send the others back"
                    );
                    self.note(out, NoteKind::Node { node }, text);
                }
            }
        }
    }

    /// A fast signal that counts. A rollback that serves nowhere has nobody who could go on.
    fn failed_fast(
        &mut self,
        node: Node,
        module: Module,
        release: ReleaseNumber,
        cause: Cause,
        out: &mut Vec<Action>,
    ) {
        let alone = cause.fails_node() && self.phase != Phase::Incomplete;
        let reason = Reason::Fast { node: node.clone(), module, release, cause };
        if alone {
            self.nodes_failed([(node, reason)].into(), out);
        } else {
            self.go_back(reason, out);
        }
    }

    /// Whether the failure of an instance of the release that we move to, on a node that was given it, counts: sends all
    /// back, where the policy does not let the node fail alone.
    fn failure_counts(&self, node: &Node, module: &Module, was_ready: bool) -> bool {
        let known = self.failed.contains_key(node);
        match &self.phase {
            Phase::Starting { .. } | Phase::Baking { .. } => true,
            // Who joined late never carried it: that it cannot take it now is that node's trouble, not the fleet's.
            Phase::Promoting { .. } => !known && self.carries(module, node),
            // The preceding stable must at least start; once it does, it is stable and kept alive as such.
            Phase::RollingBack { .. } => !known && !was_ready && !self.returning(),
            // As long as it serves nowhere: later it is only one node that cannot follow.
            Phase::Incomplete => {
                self.kind == Kind::Rollback && self.not_in_line(|_| true).len() == self.nodes.len()
            }
            Phase::Preparing
            | Phase::Done
            | Phase::RolledBack { .. }
            | Phase::Failed { .. }
            | Phase::Superseded { .. } => false,
        }
    }

    fn took_back(
        &mut self,
        node: Node,
        module: Module,
        revision: Revision,
        cause: Cause,
        out: &mut Vec<Action>,
    ) {
        let Some(release) = self.spec.moves.get(&module).map(|releases| releases.candidate) else { return };
        if revision <= self.spec.revision || revision > self.revision || !self.nodes.contains_key(&node) {
            return;
        }
        let expired = matches!(cause, Cause::Expired { .. });
        if expired
            && self
                .facts(&node, &module)
                .is_some_and(|facts| facts.weight.is_none() || facts.given > Some(revision))
        {
            // It has been told something newer meanwhile and will obey that.
            return;
        }
        if expired && self.phase.step().is_some() && self.carried_without(Some(&node)) {
            // That it was cut off says nothing about the candidate, and others carry on.
            self.drop_carriers(std::slice::from_ref(&node), out);
            let text =
                format!("{node} was cut off and went back to stable by itself; it is left out of this step");
            self.note(out, NoteKind::Node { node }, text);
            return;
        }
        let counts = match &self.phase {
            Phase::Starting { .. } | Phase::Baking { .. } | Phase::Promoting { .. } => true,
            Phase::Preparing
            | Phase::Incomplete
            | Phase::RollingBack { .. }
            | Phase::Done
            | Phase::RolledBack { .. }
            | Phase::Failed { .. }
            | Phase::Superseded { .. } => false,
        };
        if counts {
            self.failed_fast(node, module, release, cause, out);
        }
    }

    fn command(&mut self, command: Command, out: &mut Vec<Action>) {
        let under_way = match &self.phase {
            Phase::Preparing | Phase::Starting { .. } | Phase::Baking { .. } => true,
            Phase::Promoting { .. }
            | Phase::Incomplete
            | Phase::RollingBack { .. }
            | Phase::Done
            | Phase::RolledBack { .. }
            | Phase::Failed { .. }
            | Phase::Superseded { .. } => false,
        };
        match command {
            Command::Pause { ref by } if under_way && self.paused.is_none() => {
                self.paused = Some(by.clone());
                let text = format!("paused by {by}");
                self.note(out, NoteKind::Command(command), text);
            }
            Command::Resume { ref by } if under_way && self.paused.is_some() => {
                self.paused = None;
                if let Phase::Baking { since: Some(since), .. } = &mut self.phase {
                    // Whoever paused wanted to look: the next step does not come at the moment of the resume.
                    *since = self.now;
                }
                let text = format!("resumed by {by}");
                self.note(out, NoteKind::Command(command), text);
            }
            Command::Promote { ref by, full } if under_way => {
                self.paused = None;
                let step = self.phase.step().unwrap_or(0);
                self.hurried = if full { self.plan.len() } else { self.hurried.max(step + 1) };
                let text = format!("promoted by {by}{}", if full { ", all the way" } else { "" });
                self.note(out, NoteKind::Command(command), text);
            }
            Command::Abort { ref by } if under_way || self.can_abort() => {
                self.go_back(Reason::Aborted { by: by.clone() }, out);
            }
            Command::Supersede { ref by } if under_way => {
                self.go_back(Reason::Superseded { by: by.clone() }, out);
            }
            Command::Supersede { ref by } if self.moved() => {
                self.finish(Phase::Superseded { reason: Reason::Superseded { by: by.clone() } }, out);
            }
            Command::Pause { .. }
            | Command::Resume { .. }
            | Command::Promote { .. }
            | Command::Abort { .. }
            | Command::Supersede { .. } => self.ignore(command, out),
        }
    }

    /// A push that has named its candidates stable can still be taken back by the same command.
    fn can_abort(&self) -> bool {
        self.kind == Kind::Push && self.promoted
    }

    /// The release that we move to is stable by now: there is nothing to take back, only nodes that have to follow.
    pub(super) fn moved(&self) -> bool {
        self.promoted && !self.phase.is_final()
    }

    /// Goes back, whatever was about to be done.
    pub(super) fn go_back(&mut self, reason: Reason, out: &mut Vec<Action>) {
        let nodes = &self.nodes;
        out.retain(|action| match action {
            // The last word to one that has left: nobody speaks to it again.
            Action::Assign { node, .. } => !nodes.contains_key(node),
            Action::SetStable { .. } | Action::Prepare { .. } | Action::Renew { .. } => false,
            Action::Quarantine { .. } | Action::Note(_) | Action::Finished(_) => true,
        });
        let text = format!("going back: {reason}");
        self.note(out, NoteKind::RollingBack { reason: reason.clone() }, text);
        self.paused = None;
        self.phase = Phase::RollingBack { reason, since: self.now };
        let direction = match self.kind {
            Kind::Push => Direction::TowardStable,
            Kind::Rollback => Direction::Onward,
        };
        self.return_all(direction, out);
        self.quarantine(out);
    }
}
