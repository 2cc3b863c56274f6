//! Rollouts that begin, what is in their way, and nodes that no rollout moves.

use std::collections::{BTreeMap, BTreeSet};

use hot_rollout::placement::is_for;
use hot_rollout::{
    Assignment, Command, Event, Kind, Labels, Module, Move, Node, PhaseName, ReleaseNumber, Rollout, Spec,
};

use super::{Died, Driver, Hands, assign};
use crate::scenario::labels;

/// What begins as soon as nothing is in its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The next release of every module.
    Push,
    /// The preceding stable of the first module.
    Rollback,
}

impl Driver {
    /// A person pushes the next release.
    pub(crate) fn push(&mut self, hands: &mut Hands<'_>) -> Result<(), Died> {
        self.waiting = Some(Wanted::Push);
        let next = format!("ro-{}", hands.cluster.rollouts + 1);
        self.feed(Event::Command(Command::Supersede { by: next.into() }), hands)?;
        self.begin_waiting(hands)
    }

    /// A person wants to go back: what runs is aborted, else the preceding stable takes over.
    pub(crate) fn go_back(&mut self, hands: &mut Hands<'_>) -> Result<(), Died> {
        match self.running.as_ref().map(Rollout::kind) {
            Some(Kind::Push) => self.command(Command::Abort { by: "bob".to_owned() }, hands),
            Some(Kind::Rollback) => Ok(()),
            None => {
                self.waiting = Some(Wanted::Rollback);
                self.begin_waiting(hands)
            }
        }
    }

    /// Begins what has waited, where nothing is in its way any more.
    pub(super) fn begin_waiting(&mut self, hands: &mut Hands<'_>) -> Result<(), Died> {
        if self.running.is_some() || !self.undone.is_empty() || !self.alive || !hands.cluster.up {
            return Ok(());
        }
        match self.waiting.take() {
            Some(Wanted::Push) => self.begin_push(hands),
            Some(Wanted::Rollback) => self.begin_rollback(hands),
            None => Ok(()),
        }
    }

    fn begin_push(&mut self, hands: &mut Hands<'_>) -> Result<(), Died> {
        let mut moves = BTreeMap::new();
        for of in &hands.scenario.modules {
            let number = hands.cluster.releases.entry(of.module.clone()).or_default();
            *number += 1;
            let candidate = ReleaseNumber(*number);
            moves.insert(of.module.clone(), Move { stable: hands.cluster.stable(&of.module), candidate });
        }
        let spec = self.spec(moves, hands);
        if spec.nodes.is_empty() {
            return Ok(());
        }
        self.begin(spec, Kind::Push, hands)
    }

    fn begin_rollback(&mut self, hands: &mut Hands<'_>) -> Result<(), Died> {
        let module = hands.scenario.modules[0].module.clone();
        let (Some(stable), Some(candidate)) =
            (hands.cluster.stable(&module), hands.cluster.preceding(&module))
        else {
            return Ok(());
        };
        let spec = self.spec([(module, Move { stable: Some(stable), candidate })].into(), hands);
        if spec.nodes.is_empty() {
            return Ok(());
        }
        self.begin(spec, Kind::Rollback, hands)
    }

    fn begin(&mut self, spec: Spec, kind: Kind, hands: &mut Hands<'_>) -> Result<(), Died> {
        let begin = match kind {
            Kind::Push => Rollout::start,
            Kind::Rollback => Rollout::rollback,
        };
        let at = self.clock(hands.now);
        let (machine, actions) = begin(spec.clone(), at);
        hands.watcher.begins(&spec);
        hands.story.begins(&spec, kind, &machine, at);
        self.running = Some(machine);
        hands.watcher.handled_first(self.running.as_ref(), &actions, hands.now);
        self.perform(actions, hands)?;
        self.tell_absences(hands)
    }

    fn spec(&self, moves: BTreeMap<Module, Move>, hands: &mut Hands<'_>) -> Spec {
        let on = hands.scenario.labels_needed();
        let known: BTreeMap<Node, Labels> =
            self.members().map(|(node, zone)| (node.clone(), labels(zone))).collect();
        let nodes: BTreeSet<Node> =
            known.iter().filter(|(_, labels)| is_for(&on, labels)).map(|(node, _)| node.clone()).collect();
        Spec {
            id: hands.cluster.name(),
            by: "ada".to_owned(),
            moves,
            nodes,
            labels: known,
            on,
            policy: hands.scenario.policy.clone(),
            revision: hands.cluster.revision(),
        }
    }

    /// Tells a rollout that begins of which of its nodes nothing can be expected.
    fn tell_absences(&mut self, hands: &mut Hands<'_>) -> Result<(), Died> {
        let absent: Vec<Node> =
            self.members().map(|(node, _)| node.clone()).filter(|it| self.is_absent(it)).collect();
        for node in absent {
            self.feed(Event::NodeDown { node }, hands)?;
        }
        Ok(())
    }

    /// Has nodes that came, and are moved by no rollout, serve what is stable.
    pub(super) fn bring_up(&mut self, hands: &mut Hands<'_>) -> Result<(), Died> {
        for node in std::mem::take(&mut self.behind) {
            let zone = self.members().find(|(of, _)| **of == node).map(|(_, zone)| labels(zone));
            let Some(zone) = zone else { continue };
            if !hands.cluster.up || self.is_moved(&node) {
                self.behind.push(node);
                continue;
            }
            let mine = is_for(&hands.scenario.labels_needed(), &zone);
            for of in &hands.scenario.modules {
                self.one_more_effect()?;
                catch_up(&node, &of.module, mine, hands);
            }
        }
        Ok(())
    }

    /// Whether a rollout decides what the node runs.
    fn is_moved(&self, node: &Node) -> bool {
        self.running.as_ref().is_some_and(|machine| machine.has(node) || !machine.is_followed())
    }

    /// Writes down what is stable since a rollback that moved traffic and had not been written down.
    pub(super) fn finish_way_back(&mut self, hands: &mut Hands<'_>) -> Result<(), Died> {
        for of in &hands.scenario.modules {
            let newest = hands
                .cluster
                .assignments
                .values()
                .filter(|given| {
                    given.module == of.module && given.stable.is_some() && given.candidate.is_none()
                })
                .max_by_key(|given| given.revision)
                .and_then(|given| given.stable);
            let known = hands.cluster.stable(&of.module);
            let unwritten = newest.filter(|newest| known.is_some() && known != Some(*newest));
            if let Some(newest) = unwritten {
                self.one_more_effect()?;
                hands.cluster.set_stable(&of.module, Some(newest));
            }
        }
        self.behind = hands.scenario.machines.iter().map(|machine| machine.name.clone()).collect();
        Ok(())
    }

    /// How what runs is called; nothing runs: none.
    pub(crate) fn phase(&self) -> Option<PhaseName> {
        self.running.as_ref().map(Rollout::phase_name)
    }
}

/// Has a node serve what is stable, or nothing where it is not for it, unless it was told so.
fn catch_up(node: &Node, module: &Module, mine: bool, hands: &mut Hands<'_>) {
    let stable = hands.cluster.stable(module).filter(|_| mine);
    let known = hands.cluster.assignments.get(&(node.clone(), module.clone()));
    let nothing_known = known.is_none() && stable.is_none();
    if nothing_known || known.is_some_and(|known| known.stable == stable && known.candidate.is_none()) {
        return;
    }
    let revision = hands.cluster.revision().after(1);
    let rollout = format!("ro-{}", hands.cluster.rollouts).into();
    let assignment =
        Assignment { module: module.clone(), revision, rollout, stable, candidate: None, standby: None };
    assign(node.clone(), assignment, hands);
}
