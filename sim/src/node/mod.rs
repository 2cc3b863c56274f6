//! What one node does: it obeys its assignments, runs instances, serves users, counts, and takes candidates back by itself.
//!
//! A model of the daemon's `agent/`, by the contract of [`hot_rollout::Assignment`]. Owns what is on the node: its file (the
//! assignments that it obeys) and its memory. Does not know the leader, nor how messages travel: what it says is returned.
//!
//! | room | what it is for |
//! |---|---|
//! | `slot` | one module: which assignment holds, what serves by it |
//! | `instance` | one release that starts, runs and ends |
//! | `counter` | the requests of one side |

mod counter;
mod instance;
mod slot;

use std::collections::BTreeSet;

use hot_rollout::{Assignment, Cause, Event, Millis, Module, Node, ReleaseNumber, Revision, Time};

pub(crate) use slot::Slot;

use crate::scenario::{Releases, Scenario};
use crate::seed::Dice;

/// Whether it belongs to the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    /// It takes part in rollouts.
    In,
    /// A person keeps it out for now.
    Cordoned,
    /// It never joined, or left for good.
    Out,
}

/// One machine and all that is on it.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) name: Node,
    /// Its place in the fleet.
    pub(crate) place: usize,
    pub(crate) zone: Option<String>,
    pub(crate) membership: Membership,
    /// The machine runs.
    pub(crate) runs: bool,
    /// It hears nothing and is not heard.
    pub(crate) cut: bool,
    /// Grows with each start of its `hotd`.
    pub(crate) incarnation: u64,
    /// A person went back here alone, and who.
    pub(crate) alone: bool,
    pub(crate) slots: Vec<Slot>,
    /// What it has the artifact of.
    prepared: BTreeSet<(Module, ReleaseNumber)>,
    /// Up to when it has counted.
    pub(crate) counted: Time,
}

/// What users saw on one node in one span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Requests that came.
    pub(crate) requests: u64,
    /// Those that failed, whoever served them.
    pub(crate) failed: u64,
    /// Those that went to a candidate.
    pub(crate) tried: u64,
    /// Those that went to a release with which users are worse off, whether it was tried or stable by then.
    pub(crate) bad: u64,
}

/// What a node must know of the world outside while time passes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) now: Time,
    /// The requests of each module since it last counted.
    pub(crate) requests: u64,
    /// The part of requests that something shared fails, 0.0 to 1.0.
    pub(crate) outage: f64,
}

impl Model {
    pub(crate) fn new(scenario: &Scenario, place: usize, now: Time) -> Self {
        let machine = &scenario.machines[place];
        let slots = scenario.modules.iter().enumerate();
        Self {
            name: machine.name.clone(),
            place,
            zone: machine.zone.clone(),
            membership: if machine.member { Membership::In } else { Membership::Out },
            runs: machine.member,
            cut: false,
            incarnation: 1,
            alone: false,
            slots: slots.map(|(index, releases)| Slot::new(index, releases.module.clone(), now)).collect(),
            prepared: BTreeSet::new(),
            counted: now,
        }
    }

    /// It can be told things, and is heard.
    pub(crate) fn is_heard(&self) -> bool {
        self.runs && !self.cut
    }

    /// The answer to being asked to prepare a release.
    pub(crate) fn prepare(&mut self, releases: &Releases, release: ReleaseNumber) -> Event {
        let (node, module) = (self.name.clone(), releases.module.clone());
        if instance::truth(releases, release).is_refused(self.place) {
            let text = "needs libgone.so.1, which this node lacks".to_owned();
            return Event::PrepareFailed { node, module, text };
        }
        self.prepared.insert((module.clone(), release));
        Event::Prepared { node, module }
    }

    /// Takes a word of the leader, which is said now or only read again (not `live`); what it has to say of that.
    pub(crate) fn take(
        &mut self,
        (assignment, live): (Assignment, bool),
        scenario: &Scenario,
        now: Time,
        dice: &mut Dice,
    ) -> Vec<Event> {
        let (place, alone) = (self.place, self.alone);
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.module == assignment.module) else {
            return Vec::new();
        };
        slot.accept(assignment, live, alone, now);
        slot.reconcile(place, scenario, now, dice);
        let mut said = Vec::new();
        for slot in &self.slots {
            slot.say_applied(&self.name, &mut said);
        }
        said
    }

    /// Assignments up to `revision` are renewed, for all modules.
    pub(crate) fn renew(&mut self, revision: Revision, now: Time) {
        self.slots.iter_mut().for_each(|slot| slot.renew(revision, now));
    }

    /// Instances get ready or fail by now.
    pub(crate) fn wake(&mut self, scenario: &Scenario, now: Time, dice: &mut Dice) -> Vec<Event> {
        let (place, name) = (self.place, self.name.clone());
        let mut said = Vec::new();
        for slot in &mut self.slots {
            slot.follow_instances(&name, place, scenario, now, &mut said);
            slot.take_back_if_due(&name, now, &mut said);
            slot.reconcile(place, scenario, now, dice);
            slot.say_applied(&name, &mut said);
        }
        said
    }

    /// When [`Self::wake`] is due next.
    pub(crate) fn next_wake(&self) -> Option<Time> {
        self.slots.iter().filter_map(Slot::next_due).min()
    }

    /// The node's clock ticks: it serves what came since, decides, and says again what is so.
    pub(crate) fn tick(
        &mut self,
        scenario: &Scenario,
        weather: Weather,
        dice: &mut Dice,
        seen: &mut Seen,
    ) -> Vec<Event> {
        let (place, name) = (self.place, self.name.clone());
        let mut said = Vec::new();
        for slot in &mut self.slots {
            slot.serve(place, scenario, weather, dice, seen);
            slot.follow_instances(&name, place, scenario, weather.now, &mut said);
            slot.take_back_if_due(&name, weather.now, &mut said);
            slot.reconcile(place, scenario, weather.now, dice);
            slot.restate(&name, scenario.net.again, weather.now, &mut said);
        }
        self.counted = weather.now;
        said
    }

    /// Its candidates are taken back by a person's word on the node itself.
    pub(crate) fn by_hand(&mut self, scenario: &Scenario, now: Time, dice: &mut Dice) -> Vec<Event> {
        let (place, name) = (self.place, self.name.clone());
        let mut said = Vec::new();
        for slot in &mut self.slots {
            slot.take_back(&name, Cause::ByHand { by: "bob".to_owned() }, &mut said);
            slot.reconcile(place, scenario, now, dice);
        }
        said
    }

    /// A new `hotd` begins, with its instances or without: what was in memory is gone, and what was renewed is not known.
    pub(crate) fn restart(&mut self, with_instances: bool, scenario: &Scenario, now: Time, dice: &mut Dice) {
        self.incarnation += 1;
        (self.runs, self.counted) = (true, now);
        let place = self.place;
        for slot in &mut self.slots {
            slot.restart(with_instances);
            slot.reconcile(place, scenario, now, dice);
        }
    }

    /// Its instances end without their fault.
    pub(crate) fn lose_instances(&mut self, now: Time) -> Vec<Event> {
        let name = self.name.clone();
        let mut said = Vec::new();
        for slot in &mut self.slots {
            slot.lose_instances(&name, now, &mut said);
        }
        said
    }
}

/// How long a node says again that an instance failed, in case that was not heard.
pub(crate) const FAILURES_SAID: Millis = Millis::seconds(30);
