//! What happens next, in the order of its time, and how long messages travel.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use hot_rollout::{Assignment, Event, Millis, Module, ReleaseNumber, Revision, Time};

use crate::scenario::Net;
use crate::seed::Dice;

/// Something that happens at a time. Numbers are places: of a node in the fleet, of an order or a fault in the scenario.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// A node's clock ticks.
    Tick(usize),
    /// Something becomes of a node's instances.
    Wake(usize),
    /// The leader hears an event of a node.
    Report(usize, Event),
    /// A node hears what it is to run: it is said now, or read again.
    Word(usize, Assignment, bool),
    /// A node hears of a renewal.
    Renewal(usize, Revision),
    /// A node is asked to get ready for a release.
    Prepare(usize, Module, ReleaseNumber),
    /// It has done that, well or not.
    Fetched(usize, Module, ReleaseNumber),
    /// The leader looks at whether a node is there.
    Presence(usize),
    /// The leader's timer.
    Timer,
    /// A person does something.
    Order(usize),
    /// Something goes wrong.
    Fault(usize),
    /// Somebody leads again.
    Leads,
    /// The driver tries again what could not be done.
    Retry,
}

/// All that will happen.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: BinaryHeap<Reverse<Entry>>,
    count: u64,
}

#[derive(Debug)]
struct Entry {
    at: Time,
    number: u64,
    happening: Happening,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Time, happening: Happening) {
        self.count += 1;
        self.entries.push(Reverse(Entry { at, number: self.count, happening }));
    }

    /// The next one. Of the same time comes first what was said first.
    pub(crate) fn pop(&mut self) -> Option<(Time, Happening)> {
        self.entries.pop().map(|Reverse(entry)| (entry.at, entry.happening))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl Net {
    /// When a message that is sent now arrives.
    pub(crate) fn arrival(&self, dice: &mut Dice, now: Time) -> Time {
        now.plus(Millis(dice.between(1, self.delay.0.max(1))))
    }

    /// The times at which a message arrives that may be lost, or come twice.
    pub(crate) fn arrivals(&self, dice: &mut Dice, now: Time, may_be_lost: bool) -> Vec<Time> {
        if may_be_lost && dice.percent(self.lost) {
            return Vec::new();
        }
        let copies = if dice.percent(self.twice) { 2 } else { 1 };
        (0..copies).map(|_| self.arrival(dice, now)).collect()
    }
}
