//! What the fleet shares, as etcd has it: assignments, what is stable, quarantine, and the snapshot of the rollout that
//! runs. It outlives the one that leads, and knows nothing of what it holds.

use std::collections::{BTreeMap, BTreeSet};

use hot_rollout::{Assignment, Module, Node, ReleaseNumber, Revision, Rollout, RolloutId};

use crate::scenario::Scenario;

/// The store.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// It can be written to, and is heard.
    pub(crate) up: bool,
    /// What each node was told last.
    pub(crate) assignments: BTreeMap<(Node, Module), Assignment>,
    /// The release on record as stable.
    pub(crate) stable: BTreeMap<Module, Option<ReleaseNumber>>,
    /// All that was on record as stable, in order.
    history: BTreeMap<Module, Vec<ReleaseNumber>>,
    pub(crate) quarantined: BTreeSet<(Module, ReleaseNumber)>,
    /// The highest number of a release.
    pub(crate) releases: BTreeMap<Module, u64>,
    /// The rollout that runs, as it was written last.
    pub(crate) snapshot: Option<Rollout>,
    /// How many rollouts there were.
    pub(crate) rollouts: u64,
}

impl Cluster {
    /// Each node that is there serves release 1, where there is one.
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let has = |of: &crate::scenario::Releases| of.has_stable.then_some(ReleaseNumber(1));
        let modules = || scenario.modules.iter();
        Self {
            up: true,
            assignments: BTreeMap::new(),
            stable: modules().map(|of| (of.module.clone(), has(of))).collect(),
            history: modules().map(|of| (of.module.clone(), has(of).into_iter().collect())).collect(),
            quarantined: BTreeSet::new(),
            releases: modules().map(|of| (of.module.clone(), u64::from(of.has_stable))).collect(),
            snapshot: None,
            rollouts: 0,
        }
    }

    /// The highest revision in any assignment.
    pub(crate) fn revision(&self) -> Revision {
        self.assignments.values().map(|assignment| assignment.revision).max().unwrap_or_default()
    }

    /// What is on record as stable.
    pub(crate) fn stable(&self, module: &Module) -> Option<ReleaseNumber> {
        self.stable.get(module).copied().flatten()
    }

    /// Puts on record what is stable.
    pub(crate) fn set_stable(&mut self, module: &Module, release: Option<ReleaseNumber>) {
        self.stable.insert(module.clone(), release);
        self.history.entry(module.clone()).or_default().extend(release);
    }

    /// The release that was stable before the present one and was not taken back.
    pub(crate) fn preceding(&self, module: &Module) -> Option<ReleaseNumber> {
        let now = self.stable(module);
        let usable = |release: &&ReleaseNumber| {
            Some(**release) != now && !self.quarantined.contains(&(module.clone(), **release))
        };
        self.history.get(module)?.iter().rev().find(usable).copied()
    }

    /// The next rollout's name.
    pub(crate) fn name(&mut self) -> RolloutId {
        self.rollouts += 1;
        RolloutId(format!("ro-{}", self.rollouts))
    }
}
