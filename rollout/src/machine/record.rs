//! An event changes what is known. Nothing here decides where the rollout goes, except that a failure or a command
//! that says "back" does so at once.

use super::facts::Facts;
use super::{Action, Command, Direction, Event, InstanceState, Kind, NodeFacts, NoteKind, Phase, Rollout};
use crate::ident::{Module, Node, ReleaseNumber, Revision};
use crate::reason::{Cause, Reason};

impl Rollout {
    pub(super) fn record(&mut self, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::NodeUp { node } => self.node_up(node, out),
            Event::NodeDown { node } => self.node_down(node, out),
            Event::NodeLeft { node } => self.node_left(node, out),
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
                {
                    facts.counted.take(sample);
                }
            }
            Event::Applied { node, module, revision } => {
                if let Some(facts) = self.facts_mut(&node, &module)
                    && facts.given.is_some_and(|given| revision <= given)
                {
                    facts.applied = facts.applied.max(revision);
                }
            }
            Event::TookBack { node, module, revision, cause } => {
                self.took_back(node, module, revision, cause, out);
            }
            Event::Command(command) => self.command(command, out),
            Event::Timeout => {}
        }
    }

    fn facts_mut(&mut self, node: &Node, module: &Module) -> Option<&mut Facts> {
        self.nodes.get_mut(node)?.modules.get_mut(module)
    }

    /// Says again what the node is to do, even if it never seemed gone: its daemon may have restarted between two
    /// looks.
    fn node_up(&mut self, node: Node, out: &mut Vec<Action>) {
        let now = self.now;
        let known = self.nodes.get(&node).map(|facts| facts.up);
        let facts = self.nodes.entry(node.clone()).or_insert_with(|| NodeFacts::new(&self.spec.moves));
        facts.up = true;
        for facts in facts.modules.values_mut().filter(|facts| facts.weight.is_some() && !facts.ready) {
            facts.awaited.get_or_insert(now);
        }
        match known {
            None => self.note(
                out,
                NoteKind::Node { node: node.clone() },
                format!("{node} joined; it serves stable until the next step"),
            ),
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

    fn node_down(&mut self, node: Node, out: &mut Vec<Action>) {
        let Some(facts) = self.nodes.get_mut(&node).filter(|facts| facts.up) else { return };
        facts.up = false;
        for facts in facts.modules.values_mut() {
            facts.ready = false;
            facts.awaited = None;
        }
        let text = format!("{node} cannot be reached");
        self.note(out, NoteKind::Node { node }, text);
    }

    fn node_left(&mut self, node: Node, out: &mut Vec<Action>) {
        if self.nodes.remove(&node).is_some() {
            self.weights.remove(&node);
            self.targets.remove(&node);
            let text = format!("{node} left the fleet");
            self.note(out, NoteKind::Node { node }, text);
        }
    }

    /// Only while everybody prepares does one refusal stop all: a node that joins later and cannot take the candidate
    /// gets no share of it.
    fn prepare_failed(&mut self, node: Node, module: Module, text: String, out: &mut Vec<Action>) {
        let Some(facts) = self.facts_mut(&node, &module).filter(|facts| !facts.prepared) else { return };
        facts.prepared = false;
        match &self.phase {
            Phase::Preparing => self.go_back(Reason::PrepareFailed { node, module, text }, out),
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
        let now = self.now;
        if self.spec.moves.get(&module).is_none_or(|releases| releases.candidate != release) {
            return;
        }
        let Some(facts) = self.nodes.get_mut(&node) else { return };
        let up = facts.up;
        let Some(facts) = facts.modules.get_mut(&module).filter(|facts| facts.given.is_some()) else {
            return;
        };
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
                self.failed(node, module, release, cause, was_ready, out);
            }
        }
    }

    /// An instance of the release that we move to failed.
    fn failed(
        &mut self,
        node: Node,
        module: Module,
        release: ReleaseNumber,
        cause: Cause,
        was_ready: bool,
        out: &mut Vec<Action>,
    ) {
        let carried = self.carries(&module, &node);
        let counts = match &self.phase {
            Phase::Starting { .. } | Phase::Baking { .. } => self
                .nodes
                .get(&node)
                .and_then(|facts| facts.modules.get(&module))
                .is_some_and(|f| f.weight.is_some()),
            // Who joined late never carried it: that it cannot take it now is that node's trouble, not the fleet's.
            Phase::Promoting { .. } => carried,
            // The preceding stable must at least start; once it does, it is stable and kept alive as such.
            Phase::RollingBack { .. } => self.kind == Kind::Rollback && !was_ready,
            Phase::Preparing
            | Phase::Incomplete
            | Phase::Done
            | Phase::RolledBack { .. }
            | Phase::Failed { .. }
            | Phase::Superseded { .. } => false,
        };
        if counts {
            self.go_back(Reason::Fast { node, module, release, cause }, out);
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
        let counts = match &self.phase {
            Phase::Starting { .. } | Phase::Baking { .. } => true,
            // It had not heard of the promotion yet; it will, and follow.
            Phase::Promoting { .. } => !expired,
            Phase::Preparing
            | Phase::Incomplete
            | Phase::RollingBack { .. }
            | Phase::Done
            | Phase::RolledBack { .. }
            | Phase::Failed { .. }
            | Phase::Superseded { .. } => false,
        };
        if counts {
            self.go_back(Reason::Fast { node, module, release, cause }, out);
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
        out.retain(|action| match action {
            Action::Assign { .. }
            | Action::SetStable { .. }
            | Action::Prepare { .. }
            | Action::Renew { .. } => false,
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
