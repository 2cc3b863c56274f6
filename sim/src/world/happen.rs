//! What is delivered, and what ticks.

use hot_rollout::{Event, Millis, Time};

use super::{BEGIN, Quiet, World};
use crate::driver::RETRY;
use crate::net::Happening;
use crate::node::Weather;

/// While no rollout runs, nodes are looked at so many times more rarely.
const RARELY: u64 = 5;

impl World<'_> {
    pub(super) fn happen(&mut self, happening: Happening) -> Result<(), Quiet> {
        match happening {
            Happening::Tick(place) => self.tick(place),
            Happening::Wake(place) => self.wake(place),
            Happening::Report(place, event) => self.hear(place, event),
            Happening::Word(place, assignment, live) => {
                if self.nodes[place].is_heard() && self.cluster.up {
                    let node = &mut self.nodes[place];
                    let said = node.take((assignment, live), self.scenario, self.now, &mut self.users);
                    self.watcher.heard(&self.nodes[place], live, self.now);
                    self.report(place, said);
                    self.schedule_wake(place);
                }
            }
            Happening::Renewal(place, revision) => {
                if self.nodes[place].is_heard() && self.cluster.up {
                    self.nodes[place].renew(revision, self.now);
                }
            }
            Happening::Prepare(place, module, release) => {
                if self.nodes[place].is_heard() {
                    let at = self.now.plus(Millis(self.net.between(50, 2000)));
                    self.queue.push(at, Happening::Fetched(place, module, release));
                }
            }
            Happening::Fetched(place, module, release) => {
                let releases = self.scenario.modules.iter().find(|of| of.module == module);
                if let Some(releases) = releases.filter(|_| self.nodes[place].runs) {
                    let said = self.nodes[place].prepare(releases, release);
                    self.report(place, vec![said]);
                }
            }
            Happening::Presence(place) => self.look_at(place),
            Happening::Timer => {
                if self.timer.is_some_and(|timer| timer <= self.now) {
                    self.timer = None;
                    let done = self.drive(|driver, hands| driver.feed(Event::Timeout, hands));
                    self.survive(done);
                }
            }
            Happening::Order(number) => self.order(number),
            Happening::Fault(number) => self.fault(number),
            // Nobody is elected while the store is down.
            Happening::Leads if !self.cluster.up => {
                self.queue.push(self.now.plus(RETRY), Happening::Leads);
            }
            Happening::Leads => {
                let done = self.drive(|driver, hands| driver.take_over(hands));
                self.survive(done);
                self.look_at_all();
            }
            Happening::Retry => {
                self.retries = false;
                let done = self.drive(|driver, hands| driver.retry(hands));
                self.survive(done);
            }
        }
        Ok(())
    }

    fn tick(&mut self, place: usize) {
        let idle = self.driver.is_idle();
        let next = Millis(self.scenario.tick.0 * if idle { RARELY } else { 1 });
        self.queue.push(self.now.plus(next), Happening::Tick(place));
        if !self.nodes[place].runs {
            self.watcher.sleeps(&self.nodes[place]);
            return;
        }
        let since_begin = |time: Time| Time(time.0 - BEGIN.0);
        let (from, until) = (since_begin(self.nodes[place].counted), since_begin(self.now));
        let outage = self.scenario.shared_outage.map_or(0.0, |(after, lasts, part)| {
            let within = until >= Time(after.0) && until < Time(after.0).plus(lasts);
            if within { part } else { 0.0 }
        });
        let serves =
            |node: &&crate::node::Model| node.runs && node.slots.iter().any(|slot| !slot.serving.is_empty());
        let count = self.nodes.iter().filter(serves).count() as u64;
        let here = serves(&&self.nodes[place]);
        let traffic = self.scenario.traffic;
        let requests =
            if here { traffic.requests(&mut self.users, place as u64, count, from, until) } else { 0 };
        let weather = Weather { now: self.now, requests, outage };
        let said = self.nodes[place].tick(self.scenario, weather, &mut self.users, &mut self.seen);
        self.watcher.ticked(&self.nodes[place], self.driver.running.as_ref(), self.now);
        self.report(place, said);
        self.schedule_wake(place);
    }

    fn wake(&mut self, place: usize) {
        if !self.nodes[place].runs {
            return;
        }
        let due = self.nodes[place].next_wake().is_some_and(|due| due <= self.now);
        if due {
            let said = self.nodes[place].wake(self.scenario, self.now, &mut self.users);
            self.watcher.note_applied(&self.nodes[place], self.now);
            self.report(place, said);
            self.schedule_wake(place);
        }
    }

    fn hear(&mut self, place: usize, event: Event) {
        if self.cluster.up && !self.nodes[place].cut {
            let done = self.drive(|driver, hands| driver.feed(event, hands));
            self.survive(done);
        }
    }

    /// The one that leads looks at whether a node is there.
    pub(super) fn look_at(&mut self, place: usize) {
        let (node, unheard) = (self.nodes[place].clone(), self.unheard[place]);
        let lease = self.scenario.net.lease;
        let done = self.drive(|driver, hands| driver.look_at(&node, unheard, lease, hands));
        self.survive(done);
    }

    pub(super) fn look_at_all(&mut self) {
        (0..self.nodes.len()).for_each(|place| self.look_at(place));
    }
}
