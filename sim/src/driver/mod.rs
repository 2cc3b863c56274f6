//! What the daemon's driver does: it feeds the machine, does what goes toward stable, writes the snapshot, and does the rest;
//! it dies between any two of these, and another one goes on from what is written.
//!
//! A model of the daemon's `driver/`. Holds no rules of rollouts: those are the machine's. Does not know how messages
//! travel: what it says to nodes is in [`Hands::out`].
//!
//! | room | what it is for |
//! |---|---|
//! | `undone` | what the machine wants and is not done |
//! | `begin` | rollouts that begin, what is in their way, and nodes that no rollout moves |
//! | `presence` | which nodes are there, as the machine is told |

mod begin;
mod presence;
mod undone;

use std::collections::{BTreeMap, VecDeque};

use hot_rollout::{
    Action, Assignment, Command, Event, Millis, Module, Node, ReleaseNumber, Revision, Rollout, Time,
};

use self::begin::Wanted;
use self::presence::Told;
use self::undone::Undone;
use crate::cluster::Cluster;
use crate::invariants::Watcher;
use crate::scenario::{Planted, Scenario};
use crate::story::Recorder;

/// How long a driver waits before it tries again what could not be done.
pub(crate) const RETRY: Millis = Millis::seconds(1);

/// The driver died; it is there again after so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Died(pub(crate) Millis);

/// What is said to a node.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    Word(Node, Assignment),
    Renewal(Revision),
    Prepare(Node, Vec<(Module, ReleaseNumber)>),
}

/// What the driver works with.
pub(crate) struct Hands<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) out: &'a mut Vec<Said>,
    pub(crate) watcher: &'a mut Watcher,
    pub(crate) story: &'a mut Recorder,
    /// The true time.
    pub(crate) now: Time,
}

/// The one that leads.
#[derive(Clone, Debug)]
pub(crate) struct Driver {
    /// It leads, and is alive.
    pub(crate) alive: bool,
    pub(crate) running: Option<Rollout>,
    undone: Undone,
    waiting: Option<Wanted>,
    told: BTreeMap<Node, Told>,
    /// Nodes that came and may not serve what is stable.
    behind: Vec<Node>,
    /// Effects so far, and when it dies.
    effects: u64,
    crashes: VecDeque<(u64, Millis)>,
    /// By how much its clock is ahead, or back.
    ahead: Millis,
    back: Millis,
    planted: Option<Planted>,
}

impl Driver {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            alive: true,
            running: None,
            undone: Undone::default(),
            waiting: None,
            told: BTreeMap::new(),
            behind: Vec::new(),
            effects: 0,
            crashes: scenario.crashes.iter().copied().collect(),
            ahead: Millis(0),
            back: Millis(0),
            planted: scenario.planted,
        }
    }

    /// What its clock shows.
    pub(crate) fn clock(&self, now: Time) -> Time {
        Time(now.plus(self.ahead).0.saturating_sub(self.back.0))
    }

    /// When, by the true time, its clock shows `time`.
    fn truly(&self, time: Time) -> Time {
        Time(time.plus(self.back).0.saturating_sub(self.ahead.0))
    }

    /// Its clock is set.
    pub(crate) fn set_clock(&mut self, ahead: Millis, back: Millis) {
        (self.ahead, self.back) = (self.ahead.plus(ahead), self.back.plus(back));
    }

    /// When it must be looked at again.
    pub(crate) fn due(&self) -> Option<Time> {
        let due = self.running.as_ref().filter(|_| self.alive)?.next_timeout()?;
        Some(self.truly(due))
    }

    /// Something could not be done, or waits.
    pub(crate) fn is_held(&self) -> bool {
        self.alive && !(self.undone.is_empty() && self.behind.is_empty())
    }

    /// Nothing runs, and nothing waits to.
    pub(crate) fn is_idle(&self) -> bool {
        self.alive && self.running.is_none() && self.waiting.is_none() && !self.is_held()
    }

    /// Feeds one event to the rollout that runs.
    pub(crate) fn feed(&mut self, event: Event, hands: &mut Hands<'_>) -> Result<(), Died> {
        let at = self.clock(hands.now);
        let Some(machine) = self.running.as_mut().filter(|_| self.alive) else { return Ok(()) };
        let concerns = event.module().is_none_or(|module| machine.spec().moves.contains_key(module));
        if !concerns {
            return Ok(());
        }
        hands.story.event(machine, &event, at);
        let before = machine.phase().name();
        let actions = machine.handle(event.clone(), at);
        hands.story.handled(machine);
        hands.watcher.handled(machine, Some(&event), before, &actions, hands.now);
        self.perform(actions, hands)?;
        self.begin_waiting(hands)
    }

    /// A person's command to what runs.
    pub(crate) fn command(&mut self, command: Command, hands: &mut Hands<'_>) -> Result<(), Died> {
        self.feed(Event::Command(command), hands)
    }

    /// Tries again what could not be done.
    pub(crate) fn retry(&mut self, hands: &mut Hands<'_>) -> Result<(), Died> {
        if !self.alive {
            return Ok(());
        }
        self.catch_up(hands)?;
        self.bring_up(hands)?;
        self.begin_waiting(hands)
    }

    /// It dies: all that is not written is gone.
    pub(crate) fn die(&mut self, hands: &mut Hands<'_>) {
        self.alive = false;
        self.running.take().into_iter().for_each(|machine| hands.story.ends(&machine));
        self.undone = Undone::default();
        self.told.clear();
        self.behind.clear();
        hands.watcher.died();
    }

    /// Another one leads, with a clock that goes on from the last snapshot.
    pub(crate) fn take_over(&mut self, hands: &mut Hands<'_>) -> Result<(), Died> {
        self.alive = true;
        let snapshot = hands.cluster.snapshot.clone();
        hands.watcher.takes_over(snapshot.as_ref(), hands.cluster);
        let Some(snapshot) = snapshot else {
            self.finish_way_back(hands)?;
            return self.begin_waiting(hands);
        };
        let mut machine = decoded(&snapshot);
        let at = self.clock(hands.now);
        let before = machine.phase().name();
        hands.story.crash(at);
        let actions = machine.resume(at);
        hands.story.handled(&machine);
        hands.watcher.handled(&machine, None, before, &actions, hands.now);
        self.running = Some(machine);
        self.perform(actions, hands)?;
        self.begin_waiting(hands)
    }

    /// Actions toward stable, then the snapshot, then the rest.
    fn perform(&mut self, actions: Vec<Action>, hands: &mut Hands<'_>) -> Result<(), Died> {
        if actions.is_empty() {
            return Ok(());
        }
        self.undone.want(actions);
        self.catch_up(hands)
    }

    /// Does what is undone, as far as it can be done now.
    fn catch_up(&mut self, hands: &mut Hands<'_>) -> Result<(), Died> {
        for action in self.undone.take_toward_stable() {
            self.act(action, hands)?;
        }
        if self.planted == Some(Planted::PersistsAfterActing)
            && self.undone.unsaved
            && self.undone.is_onward()
        {
            self.act_on_rest(hands)?;
        }
        if self.undone.unsaved && !self.save(hands)? {
            return Ok(());
        }
        self.act_on_rest(hands)?;
        let over = self.running.as_ref().is_some_and(|machine| machine.phase().is_final());
        if over && self.undone.is_empty() {
            self.running.take().into_iter().for_each(|machine| hands.story.ends(&machine));
        }
        Ok(())
    }

    fn act_on_rest(&mut self, hands: &mut Hands<'_>) -> Result<(), Died> {
        for action in self.undone.take_rest() {
            self.act(action, hands)?;
        }
        Ok(())
    }

    /// Writes the snapshot; false if it can't be written now.
    fn save(&mut self, hands: &mut Hands<'_>) -> Result<bool, Died> {
        if !hands.cluster.up {
            return Ok(false);
        }
        self.one_more_effect()?;
        if let Some(machine) = &self.running {
            hands.cluster.snapshot = Some(machine.clone());
            hands.watcher.saved();
            hands.story.saved();
        }
        self.undone.unsaved = false;
        Ok(true)
    }

    /// Does one action; what can't be done now is tried again. The end waits until all else is done.
    fn act(&mut self, action: Action, hands: &mut Hands<'_>) -> Result<(), Died> {
        if let Action::Note(_) = action {
            return Ok(());
        }
        let last = matches!(action, Action::Finished(_));
        if !hands.cluster.up || (last && !self.undone.is_empty()) {
            self.undone.put_back(action);
            return Ok(());
        }
        self.one_more_effect()?;
        match action {
            Action::Assign { node, assignment, .. } => assign(node, assignment, hands),
            Action::Prepare { node, modules } => hands.out.push(Said::Prepare(node, modules)),
            Action::Renew { revision } => hands.out.push(Said::Renewal(revision)),
            Action::SetStable { module, release, .. } => hands.cluster.set_stable(&module, release),
            Action::Quarantine { module, release, .. } => {
                hands.cluster.quarantined.insert((module, release));
            }
            Action::Finished(outcome) => {
                if self.running.as_ref().is_some_and(|machine| machine.phase().is_final()) {
                    hands.cluster.snapshot = None;
                    let nodes = self.told.keys().cloned();
                    self.behind = nodes.collect();
                }
                hands.watcher.finished(&outcome, self.running.as_ref(), hands.cluster);
            }
            Action::Note(_) => {}
        }
        Ok(())
    }

    /// Counts what it does to the world; before the one that it does not live to see, it dies.
    fn one_more_effect(&mut self) -> Result<(), Died> {
        if let Some((after, gone)) = self.crashes.front().copied()
            && self.effects >= after
        {
            self.crashes.pop_front();
            return Err(Died(gone));
        }
        self.effects += 1;
        Ok(())
    }
}

/// Writes down what a node is to run, and tells it.
fn assign(node: Node, assignment: Assignment, hands: &mut Hands<'_>) {
    hands.watcher.assigned(&node, &assignment, hands.cluster);
    hands.cluster.assignments.insert((node.clone(), assignment.module.clone()), assignment.clone());
    hands.out.push(Said::Word(node, assignment));
}

/// The snapshot as another process reads it.
fn decoded(snapshot: &Rollout) -> Rollout {
    let read = snapshot.encode().ok().and_then(|bytes| Rollout::decode(&bytes).ok());
    read.unwrap_or_else(|| snapshot.clone())
}
