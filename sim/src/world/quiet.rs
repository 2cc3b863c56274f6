//! When a world is over, and what must be so then.

use hot_rollout::{Millis, Phase, Rollout, Time};

use super::{BEGIN, World};
use crate::node::Membership;

/// How long nothing must have happened: what was cut off hears its last word meanwhile.
const QUIET: Millis = Millis::seconds(20);
/// How long a rollout may take beyond its deadline, its patience and its expiry, with all that it waits for in between.
const SLACK: Millis = Millis::minutes(20);

impl World<'_> {
    /// All that was planned has happened, and nothing runs for a while.
    pub(super) fn is_over(&mut self) -> bool {
        let rules = self.scenario.rules();
        let last = self.last_planned();
        let waits = self.driver.running.as_ref().is_some_and(|machine| *machine.phase() == Phase::Incomplete);
        if self.now < last || !(self.driver.is_idle() || waits) {
            self.quiet = None;
            let latest = last.plus(rules.deadline).plus(rules.patience).plus(rules.expiry).plus(SLACK);
            let ends = self.now <= latest;
            if !ends && self.watcher.broken.is_none() {
                let phase = self.driver.phase();
                self.watcher.broken = Some(format!("it does not end: {phase:?} long after its deadline"));
            }
            return !ends;
        }
        let since = *self.quiet.get_or_insert(self.now);
        let long = if waits { rules.start_deadline.plus(QUIET) } else { QUIET };
        let over = self.now.since(since) >= rules.expiry.plus(long).plus(Millis(self.scenario.tick.0 * 10));
        if over {
            self.watcher.quiet(&self.nodes, &self.cluster, self.scenario, self.driver.running.is_some());
            if let Some(machine) = self.driver.running.as_ref() {
                let excused = self.has_laggard(machine);
                if !excused && self.watcher.broken.is_none() {
                    self.watcher.broken = Some("incomplete for ever, and every node follows".to_owned());
                }
            }
        }
        over
    }

    /// Some node of the rollout can't follow: it is not there, was rolled back alone, or can't start the release.
    fn has_laggard(&self, machine: &Rollout) -> bool {
        let lags = |node: &crate::node::Model| {
            let there = node.membership == Membership::In && node.is_heard() && !node.alone;
            let serves = |slot: &crate::node::Slot| {
                let releases = machine.spec().moves.get(&slot.module);
                releases.is_none_or(|releases| slot.is_ready(releases.candidate))
            };
            !there || !node.slots.iter().all(serves)
        };
        self.nodes.iter().filter(|node| machine.has(&node.name)).any(lags)
    }

    /// When the last order or fault is.
    fn last_planned(&self) -> Time {
        let orders = self.scenario.orders.iter().map(|(at, _)| *at);
        let faults = self.scenario.faults.iter().map(|(at, _)| *at);
        BEGIN.plus(orders.chain(faults).max().unwrap_or_default())
    }
}
