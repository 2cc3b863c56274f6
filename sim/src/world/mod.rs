//! One world from its begin to the day when all is quiet: what happens next, and to whom.
//!
//! Owns the true time, the nodes, the cluster and the driver, and carries what they say to each other. Decides nothing.
//!
//! | room | what it is for |
//! |---|---|
//! | `happen` | what is delivered, and what ticks |
//! | `fate` | what people do, and what goes wrong |
//! | `quiet` | when it is over, and what must be so then |

mod fate;
mod happen;
mod quiet;

use hot_rollout::{Assignment, Event, Kind, Millis, Outcome, Phase, Revision, Time};

use crate::cluster::Cluster;
use crate::driver::{Died, Driver, Hands, RETRY, Said};
use crate::invariants::Watcher;
use crate::net::{Happening, Queue};
use crate::node::{Model, Seen};
use crate::scenario::Scenario;
use crate::seed::{Dice, Purpose};
use crate::story::Recorder;

/// The time at which every world begins, the same as in the stories of `rollout/tests/scenarios`.
pub(crate) const BEGIN: Time = Time(1_000_000);

/// One world.
#[derive(Debug)]
pub(crate) struct World<'a> {
    scenario: &'a Scenario,
    pub(crate) now: Time,
    queue: Queue,
    nodes: Vec<Model>,
    /// Since when a node can't be reached.
    unheard: Vec<Option<Time>>,
    cluster: Cluster,
    driver: Driver,
    pub(crate) watcher: Watcher,
    pub(crate) story: Recorder,
    /// Nobody reads the story, and it is over when the first rollout is.
    measures: bool,
    net: Dice,
    users: Dice,
    /// When the driver's timer is set to, and whether it tries again.
    timer: Option<Time>,
    retries: bool,
    /// Since when nothing is to come any more.
    quiet: Option<Time>,
    pub(crate) seen: Seen,
    /// When the first rollout was decided, and how it ended.
    pub(crate) decided: Option<Time>,
    pub(crate) ended: Option<Outcome>,
    /// What users had seen one tick after that, when all nodes have counted once more.
    counts: Option<Time>,
    pub(crate) seen_by_then: Option<Seen>,
    /// How many things happened.
    pub(crate) happened: u64,
}

impl<'a> World<'a> {
    pub(crate) fn new(scenario: &'a Scenario, seed: u64, told: bool) -> Self {
        let places = 0..scenario.machines.len();
        let mut world = Self {
            scenario,
            now: BEGIN,
            queue: Queue::default(),
            nodes: places.clone().map(|place| Model::new(scenario, place, BEGIN)).collect(),
            unheard: places.map(|_| None).collect(),
            cluster: Cluster::new(scenario),
            driver: Driver::new(scenario),
            watcher: Watcher::new(scenario),
            story: Recorder::new(!told),
            measures: !told,
            net: Dice::new(seed, Purpose::Net),
            users: Dice::new(seed, Purpose::Traffic),
            timer: None,
            retries: false,
            quiet: None,
            seen: Seen::default(),
            decided: None,
            ended: None,
            counts: None,
            seen_by_then: None,
            happened: 0,
        };
        world.settle_in();
        world
    }

    /// Plays until all is quiet, or something is broken.
    pub(crate) fn play(&mut self) {
        while self.watcher.broken.is_none() {
            let Some((at, happening)) = self.queue.pop() else { break };
            self.now = self.now.max(at);
            self.happened += 1;
            if self.happen(happening) == Err(Quiet) {
                break;
            }
            self.follow_up();
            if (self.is_counted() && self.measures) || self.is_over() {
                break;
            }
        }
        if let Some(machine) = &self.driver.running {
            self.story.ends(machine);
        }
    }

    /// Every node that is there serves release 1, and the one that leads knows who is there. Then somebody pushes.
    fn settle_in(&mut self) {
        let scenario = self.scenario;
        for place in 0..self.nodes.len() {
            let node = &self.nodes[place];
            let mine = scenario.on.is_none() || scenario.on == node.zone;
            if node.runs && mine {
                for of in scenario.modules.iter().filter(|of| of.has_stable) {
                    let assignment = Assignment {
                        module: of.module.clone(),
                        revision: Revision(1),
                        rollout: "ro-0".into(),
                        stable: self.cluster.stable(&of.module),
                        candidate: None,
                        standby: None,
                    };
                    let name = self.nodes[place].name.clone();
                    self.cluster.assignments.insert((name, of.module.clone()), assignment.clone());
                    self.nodes[place].take((assignment, true), scenario, self.now, &mut self.users);
                }
            }
            self.schedule_wake(place);
            let first = scenario.tick.0 * (place as u64 + 1) / self.nodes.len() as u64;
            self.queue.push(self.now.plus(Millis(first)), Happening::Tick(place));
        }
        for (number, (at, _)) in scenario.orders.iter().enumerate() {
            self.queue.push(BEGIN.plus(*at), Happening::Order(number));
        }
        for (number, (at, _)) in scenario.faults.iter().enumerate() {
            self.queue.push(BEGIN.plus(*at), Happening::Fault(number));
        }
        self.look_at_all();
        let begun = self.drive(|driver, hands| driver.push(hands));
        self.survive(begun);
        self.follow_up();
    }

    /// Has the driver do something; it may die of it.
    fn drive(
        &mut self,
        what: impl FnOnce(&mut Driver, &mut Hands<'_>) -> Result<(), Died>,
    ) -> Result<(), Died> {
        let mut out = Vec::new();
        let mut hands = Hands {
            scenario: self.scenario,
            cluster: &mut self.cluster,
            out: &mut out,
            watcher: &mut self.watcher,
            story: &mut self.story,
            now: self.now,
        };
        let done = what(&mut self.driver, &mut hands);
        if done.is_err() {
            self.driver.die(&mut hands);
        }
        out.into_iter().for_each(|said| self.tell(said));
        done
    }

    /// Where the driver died, somebody leads again by and by.
    fn survive(&mut self, done: Result<(), Died>) {
        if let Err(Died(gone)) = done {
            self.queue.push(self.now.plus(gone), Happening::Leads);
        }
    }

    /// What the driver says travels to nodes.
    fn tell(&mut self, said: Said) {
        let net = self.scenario.net;
        let place = |world: &Self, name| world.nodes.iter().position(|node| node.name == name);
        match said {
            Said::Word(name, assignment) => {
                let Some(place) = place(self, name) else { return };
                for at in net.arrivals(&mut self.net, self.now, false) {
                    self.queue.push(at, Happening::Word(place, assignment.clone(), true));
                }
            }
            Said::Renewal(revision) => {
                for place in 0..self.nodes.len() {
                    for at in net.arrivals(&mut self.net, self.now, true) {
                        self.queue.push(at, Happening::Renewal(place, revision));
                    }
                }
            }
            Said::Prepare(name, modules) => {
                let Some(place) = place(self, name) else { return };
                for (module, release) in modules {
                    let at = net.arrival(&mut self.net, self.now);
                    self.queue.push(at, Happening::Prepare(place, module, release));
                }
            }
        }
    }

    /// What a node says travels to the one that leads, if it can be heard.
    fn report(&mut self, place: usize, said: Vec<Event>) {
        if !self.nodes[place].is_heard() || !self.cluster.up {
            return;
        }
        for event in said {
            let again = !matches!(event, Event::Prepared { .. } | Event::PrepareFailed { .. });
            for at in self.scenario.net.arrivals(&mut self.net, self.now, again) {
                self.queue.push(at, Happening::Report(place, event.clone()));
            }
        }
    }

    /// After everything that happens: timers are set, and what has ended is noted.
    fn follow_up(&mut self) {
        let due = self.driver.due().map(|due| due.max(self.now));
        if due != self.timer {
            self.timer = due;
            if let Some(due) = due {
                self.queue.push(due, Happening::Timer);
            }
        }
        if self.driver.is_held() && !self.retries {
            self.retries = true;
            self.queue.push(self.now.plus(RETRY), Happening::Retry);
        }
        if self.decided.is_none() && self.cluster.rollouts <= 1 {
            let machine = self.driver.running.as_ref().filter(|machine| machine.kind() == Kind::Push);
            let undecided = |phase: &Phase| *phase == Phase::Preparing || phase.step().is_some();
            let decided = machine.filter(|machine| !undecided(machine.phase()));
            if decided.is_some() || (machine.is_none() && self.ended.is_some()) {
                self.decided = Some(self.now);
            }
        }
        if let Some(ended) = self.watcher.ended.take()
            && self.cluster.rollouts <= 1
        {
            self.ended = Some(ended);
            self.decided.get_or_insert(self.now);
            self.counts = self.counts.or_else(|| Some(self.now.plus(self.scenario.tick)));
        }
    }

    /// The first rollout has ended, and what it cost is counted. What comes after is not seen by who only measures.
    fn is_counted(&mut self) -> bool {
        if self.seen_by_then.is_none() && self.counts.is_some_and(|at| self.now > at) {
            self.seen_by_then = Some(self.seen);
        }
        self.seen_by_then.is_some()
    }

    fn schedule_wake(&mut self, place: usize) {
        if let Some(due) = self.nodes[place].next_wake().filter(|_| self.nodes[place].runs) {
            self.queue.push(due.max(self.now), Happening::Wake(place));
        }
    }
}

/// Nothing is left to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quiet;
