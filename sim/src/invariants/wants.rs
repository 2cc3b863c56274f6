//! What the machine wants after each event.

use std::collections::BTreeSet;

use hot_rollout::placement::is_for;
use hot_rollout::{
    Action, Command, Direction, Event, InstanceState, Kind, Node, NoteKind, Phase, PhaseName, Rollout, Spec,
    Time, Weight,
};

use super::{Abort, Watcher};

impl Watcher {
    /// A rollout begins.
    pub(crate) fn begins(&mut self, spec: &Spec) {
        self.told.clear();
        self.unknown.clear();
        self.up = spec.nodes.clone();
        self.labels = spec.labels.clone();
        self.starting.clear();
        self.failed.clear();
        (self.begun, self.abort, self.most_nodes) = (None, Abort::None, 0);
    }

    /// Its first actions.
    pub(crate) fn handled_first(&mut self, machine: Option<&Rollout>, actions: &[Action], now: Time) {
        if let Some(machine) = machine {
            self.handled(machine, None, PhaseName::Preparing, actions, now);
        }
    }

    /// The machine was told something, and wants something done.
    pub(crate) fn handled(
        &mut self,
        machine: &Rollout,
        event: Option<&Event>,
        before: PhaseName,
        actions: &[Action],
        now: Time,
    ) {
        self.note_event(event);
        self.most_nodes = self.most_nodes.max(machine.nodes().count() as u64);
        self.check_order(actions);
        for action in actions {
            self.take(machine, action);
        }
        if let Some(Event::NodeLeft { node, .. }) = event {
            self.told.retain(|(of, _), _| of != node);
        }
        self.check_command(machine, event, before);
        self.check_waiting(machine, event, now);
        if !actions.is_empty() {
            self.coverage.phase(machine);
            self.check_candidates(machine);
            self.check_starts(machine);
        }
    }

    fn note_event(&mut self, event: Option<&Event>) {
        match event {
            Some(Event::NodeUp { node, labels }) => {
                self.up.insert(node.clone());
                self.labels.insert(node.clone(), labels.clone());
            }
            Some(
                Event::NodeDown { node } | Event::NodeLeft { node, .. } | Event::LocalRollback { node, .. },
            ) => drop(self.up.remove(node)),
            Some(Event::Instance { node, module, state: InstanceState::Ready, .. }) => {
                self.starting.remove(&(node.clone(), module.clone()));
            }
            Some(
                Event::Instance { .. }
                | Event::Prepared { .. }
                | Event::PrepareFailed { .. }
                | Event::Sample(_)
                | Event::Applied { .. }
                | Event::TookBack { .. }
                | Event::Command(_)
                | Event::Timeout,
            )
            | None => {}
        }
    }

    fn check_order(&mut self, actions: &[Action]) {
        let onward = actions.iter().position(|action| !action.toward_stable()).unwrap_or(actions.len());
        let ordered = actions[onward..].iter().all(|action| !action.toward_stable());
        self.hold(ordered, || format!("toward stable comes first: {actions:?}"));
    }

    fn take(&mut self, machine: &Rollout, action: &Action) {
        match action {
            Action::Assign { node, assignment, direction } => {
                let back =
                    machine.kind() == Kind::Push && matches!(machine.phase(), Phase::RollingBack { .. });
                let right = match direction {
                    Direction::TowardStable => assignment.candidate.is_none(),
                    Direction::Onward => !back,
                };
                self.hold(right, || {
                    format!("{node} is told in the wrong direction, {direction:?}: {assignment:?}")
                });
                let key = (node.clone(), assignment.module.clone());
                let beyond = assignment.revision > machine.spec().revision;
                self.hold(beyond, || {
                    format!("{node} is told something with a revision of before: {assignment:?}")
                });
                if let Some(before) = self.told.get(&key).cloned() {
                    let grows = assignment.revision > before.revision || *assignment == before;
                    self.hold(grows, || {
                        format!("revisions only grow, and one has one content: {node} {before:?} then {assignment:?}")
                    });
                }
                let held = self.told.get(&key).is_some_and(|held| held.candidate.is_some());
                if assignment.candidate.is_some() {
                    let labels = self.labels.get(node).cloned().unwrap_or_default();
                    let on = &machine.spec().on;
                    self.hold(is_for(on, &labels), || {
                        format!("{node} has {labels:?}, and the candidate is for {on:?}")
                    });
                    self.unknown.push((node.clone(), assignment.module.clone(), assignment.revision));
                    if !held {
                        self.starting.insert(key.clone());
                    }
                } else {
                    self.starting.remove(&key);
                }
                self.told.insert(key, assignment.clone());
            }
            Action::Note(note) => match &note.kind {
                NoteKind::Starting { step } => {
                    let anew = Some(*step) == self.begun && note.text.contains(" anew: ");
                    let next = *step == self.begun.map_or(0, |before| before + 1);
                    let begun = self.begun;
                    self.hold(anew || next, || format!("no step is skipped: {} after {begun:?}", note.text));
                    self.begun = Some(*step);
                }
                NoteKind::NodeFailed { node, reason } => {
                    self.failed.insert(node.clone());
                    self.coverage.reason(reason);
                }
                NoteKind::Started
                | NoteKind::Baking { .. }
                | NoteKind::Passed { .. }
                | NoteKind::Holding
                | NoteKind::Promoting
                | NoteKind::RollingBack { .. }
                | NoteKind::Command(_)
                | NoteKind::Ignored(_)
                | NoteKind::Node { .. }
                | NoteKind::Finished => {}
            },
            Action::Prepare { .. }
            | Action::Renew { .. }
            | Action::SetStable { .. }
            | Action::Quarantine { .. }
            | Action::Finished(_) => {}
        }
    }

    /// Abort wins in every phase of a push that is not over.
    fn check_command(&mut self, machine: &Rollout, event: Option<&Event>, before: PhaseName) {
        let Some(Event::Command(Command::Abort { .. })) = event else { return };
        if machine.kind() == Kind::Rollback || before.is_final() {
            return;
        }
        let goes_back = machine.phase().reason().is_some();
        self.hold(goes_back, || format!("an abort in {before} leaves it {}", machine.phase_name()));
        self.abort = Abort::Said(machine.spec().id.clone());
    }

    /// It ends, or says what it waits for, or when it is to be asked again.
    fn check_waiting(&mut self, machine: &Rollout, event: Option<&Event>, now: Time) {
        if machine.phase().is_final() {
            return;
        }
        let due = machine.next_timeout();
        let later = due.is_none_or(|due| due > machine.now());
        self.hold(later, || format!("at {now:?} it wants to be asked again in the past: {due:?}"));
        self.looks += 1;
        if due.is_none() || self.looks.is_multiple_of(16) || matches!(event, Some(Event::Timeout)) {
            let waiting = machine.waiting_on();
            let moves = due.is_some() || waiting.is_some();
            self.hold(moves, || format!("nothing moves it, and it does not say why: {:?}", machine.phase()));
            if let Some(waiting) = waiting {
                self.coverage.waiting(&waiting);
            }
        }
    }

    /// No node, and not the fleet, is told to give a candidate more than the step's share; outside of a step nobody is
    /// told to have one; who failed has none.
    fn check_candidates(&mut self, machine: &Rollout) {
        let tried: Vec<(&Node, Weight, &hot_rollout::Module)> = self
            .told
            .iter()
            .filter_map(|((node, module), told)| Some((node, told.candidate.as_ref()?.weight, module)))
            .collect();
        let spec = machine.spec();
        let rules = spec.policy.spec();
        let under_way = matches!(machine.phase(), Phase::Preparing | Phase::Promoting { .. });
        let mut broken = None;
        if let Some((node, ..)) = tried.iter().find(|(node, ..)| self.failed.contains(*node)) {
            broken = Some(format!("{node} failed and has a candidate"));
        }
        if (under_way || machine.phase().step().is_some()) && self.failed.len() > rules.max_failing as usize {
            broken = Some(format!("{:?} failed, and it goes on", self.failed));
        }
        match machine.phase().step().and_then(|step| machine.steps().get(step)) {
            None if tried.is_empty() => {}
            None => broken = Some(format!("{} with candidates on {tried:?}", machine.phase_name())),
            Some(step) => {
                let share = step.share.basis_points();
                let most = if rules.spread { share } else { share.max(5000) };
                for (module, releases) in &spec.moves {
                    let weights = tried.iter().filter(|(.., of)| *of == module).map(|(_, weight, _)| *weight);
                    let weights: Vec<u16> = weights.map(Weight::basis_points).collect();
                    let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
                    let kept = if releases.stable.is_some() {
                        weights.iter().all(|weight| *weight <= most)
                            && sum <= u64::from(share) * self.most_nodes
                    } else {
                        weights.iter().all(|weight| *weight == 0 || *weight == 10_000)
                    };
                    if !kept {
                        broken = Some(format!("{module} has {weights:?} in a step of {}", step.share));
                    }
                }
            }
        }
        if let Some(broken) = broken {
            self.hold(false, || broken);
        }
    }

    /// Of the nodes that can be reached no more start at once than may.
    fn check_starts(&mut self, machine: &Rollout) {
        let Some(most) = machine.spec().policy.spec().max_parallel else { return };
        let starting: BTreeSet<&Node> =
            self.starting.iter().map(|(node, _)| node).filter(|node| self.up.contains(*node)).collect();
        let (count, names) = (starting.len(), format!("{starting:?}"));
        self.hold(count <= most.get() as usize, || format!("{names} start at once, at most {most} may"));
    }
}
