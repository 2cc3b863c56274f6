//! What always holds, whatever happens in whatever order (DESIGN, sections 9 and 10; docs/rollouts.md).
//!
//! The watcher sees what the machine wants, what the driver does and what nodes do, and says what was broken first. It
//! knows what nobody in the fleet can know, such as what a node really serves, and it decides nothing.
//!
//! | room | what it is for |
//! |---|---|
//! | `wants` | what the machine wants after each event |
//! | `does` | what the driver does, what it writes down, and how a rollout ends |
//! | `nodes` | what nodes really serve, and what is so when all is quiet |

mod does;
mod nodes;
mod wants;

use std::collections::{BTreeMap, BTreeSet};

use hot_rollout::{
    Assignment, Labels, Millis, Module, Node, Outcome, ReleaseNumber, Revision, RolloutId, Time,
};

use crate::coverage::Coverage;
use crate::scenario::Scenario;

/// Watches one world.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    /// What was broken first.
    pub(crate) broken: Option<String>,
    pub(crate) coverage: Coverage,
    /// What the machine has told each node, done or not.
    told: BTreeMap<(Node, Module), Assignment>,
    /// Candidates in assignments that a written snapshot knows of.
    known: BTreeSet<(Node, Module, Revision)>,
    /// The same of what is not written yet.
    unknown: Vec<(Node, Module, Revision)>,
    /// The nodes that the rollout holds for reachable.
    up: BTreeSet<Node>,
    /// What nodes are labelled with, as the rollout was told.
    labels: BTreeMap<Node, Labels>,
    /// Who was told to start a candidate, and neither was ready since nor had it taken away.
    starting: BTreeSet<(Node, Module)>,
    /// Who failed alone in this rollout.
    failed: BTreeSet<Node>,
    /// The step that was begun last.
    begun: Option<usize>,
    /// A person's abort: said, and written down.
    abort: Abort,
    /// The most nodes that the rollout had.
    most_nodes: u64,
    /// What each node has really applied: the revision, and what is stable by it.
    applied: BTreeMap<(Node, Module), (Revision, Option<ReleaseNumber>)>,
    /// Since when a node serves a candidate that nobody gives it.
    stray: BTreeMap<(Node, Module), Time>,
    /// How long it may, at the most: the expiry, and what messages and ticks take.
    longest_stray: Millis,
    /// When a candidate had traffic for the first time.
    pub(crate) first_tried: Option<Time>,
    /// How a rollout has just ended.
    pub(crate) ended: Option<Outcome>,
    /// Looks at what it waits for now and then only: that costs a judgement.
    looks: u64,
}

/// How far a person's abort has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Abort {
    /// Nobody wants one.
    #[default]
    None,
    /// It was said, and is not written down.
    Said(RolloutId),
    /// It is acknowledged: nothing may undo it.
    Kept(RolloutId),
}

impl Watcher {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let expiry = scenario.rules().expiry;
        let slack = Millis(2 * scenario.tick.0 + scenario.net.delay.0 + 1000);
        Self {
            broken: None,
            coverage: Coverage::default(),
            told: BTreeMap::new(),
            known: BTreeSet::new(),
            unknown: Vec::new(),
            up: BTreeSet::new(),
            labels: BTreeMap::new(),
            starting: BTreeSet::new(),
            failed: BTreeSet::new(),
            begun: None,
            abort: Abort::None,
            most_nodes: 0,
            applied: BTreeMap::new(),
            stray: BTreeMap::new(),
            longest_stray: expiry.plus(slack),
            first_tried: None,
            ended: None,
            looks: 0,
        }
    }

    /// Notes what is broken, unless something was before.
    fn hold(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            self.broken = Some(what());
        }
    }
}
