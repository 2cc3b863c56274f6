//! What a push would come to, from what is in memory: what would be refused and what would change. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use hot_artifact::{ModuleName, Sha256, Target, Version};
use hot_rollout::machine::Spec;
use hot_rollout::placement::{domains, place};
use hot_rollout::{
    Labels, Module, Move, Node, Policy, ReleaseNumber, Revision, Rollout, RolloutId, Step, Weight,
};

use super::check::{Tried, above_floor, conflicts, may_run};
use super::{Driver, Refusal, Views, on};
use crate::clock::now;
use crate::ledger::Ledger;
use crate::store::ModuleRecord;

/// One module of a push that is only thought of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Thought {
    pub module: ModuleName,
    pub version: Version,
    /// Its files, by what they are for.
    pub digests: BTreeMap<Target, Sha256>,
    /// Path prefixes that they serve.
    pub routes: BTreeSet<String>,
}

/// What a push would come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// Every reason against it.
    pub refusals: Vec<Refusal>,
    pub modules: Vec<Planned>,
}

/// What it would do to one module.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Planned {
    pub module: ModuleName,
    pub version: Version,
    /// The number that its release would get.
    pub release: ReleaseNumber,
    pub stable: Option<ReleaseNumber>,
    /// The running rollout that would go back first.
    pub supersedes: Option<RolloutId>,
    /// Something would change: else stable runs these bytes, and nothing is tried beside it.
    pub changes: bool,
    /// The steps that it would go through, with what each node would carry.
    pub steps: Vec<(Step, BTreeMap<Node, Weight>)>,
    /// The nodes that the stable release is for and this one is not: it ends there once this is promoted.
    pub loses: BTreeSet<Node>,
}

impl Driver {
    /// What these pushes would come to under a policy; without one, no steps are said. `retry`: what is quarantined is to
    /// be tried again. `asked`: the labels that a node must have to run it.
    pub(crate) fn plan(
        &self,
        thoughts: &[Thought],
        policy: Option<&Policy>,
        retry: bool,
        asked: Option<&Labels>,
    ) -> Plan {
        let views = self.views.borrow().clone();
        let cluster = &self.parts.cluster;
        let mut plan = Plan::default();
        plan.refusals.extend(on::check(cluster, asked).err());
        plan.refusals.extend(policy.and_then(|policy| on::check_domains(cluster, policy).err()));
        plan.refusals.extend(self.parts.agent.absence().map(Refusal::NoSpawn));
        for thought in thoughts {
            let record = self.parts.ledger.module(&thought.module);
            let record = record.as_deref().cloned().unwrap_or_default();
            let digest = runs_here(&record, thought);
            if let Some(digest) = digest {
                let (module, version) = (&thought.module, &thought.version);
                let refusal = match may_run(&record, module, version, &digest) {
                    Err(Refusal::Quarantined { .. }) if retry => above_floor(&record, module, version).err(),
                    other => other.err(),
                };
                plan.refusals.extend(refusal);
            }
            let name = Module(thought.module.to_string());
            let supersedes = views.latest(&name).filter(|view| !view.status.phase.is_final());
            let supersedes = supersedes.map(|view| view.status.id.clone());
            let planned = planned(&record, thought, digest, supersedes);
            let on = on::meant(&self.parts.ledger, &thought.module, asked);
            let of_stable = on::meant(&self.parts.ledger, &thought.module, None);
            let moves_on = on != of_stable;
            let loses = match planned.stable {
                Some(_) => on::losing(&cluster.labels(), &of_stable, &on),
                None => BTreeSet::new(),
            };
            let (nodes, _) = on::nodes(cluster, on).unwrap_or_else(|refusal| {
                plan.refusals.push(refusal);
                Default::default()
            });
            let fleet = (nodes, cluster.labels());
            let steps = policy.map_or_else(Vec::new, |policy| steps(&name, &planned, &fleet, policy));
            let changes = planned.changes || moves_on;
            plan.modules.push(Planned { steps, changes, loses, ..planned });
        }
        let wanted: Vec<(ModuleName, Vec<String>)> = thoughts
            .iter()
            .map(|thought| (thought.module.clone(), thought.routes.iter().cloned().collect()))
            .collect();
        plan.refusals.extend(conflicts(&self.parts.ledger, &tried(&views), &wanted));
        plan
    }
}

/// What is tried now.
fn tried(views: &Views) -> Vec<Tried> {
    let running = views.running();
    running.flat_map(|view| &view.spec.moves).map(|(module, of)| (module.clone(), of.candidate)).collect()
}

/// What this node would run of a version, with what it has of it already.
fn runs_here(record: &ModuleRecord, thought: &Thought) -> Option<Sha256> {
    let mut targets = thought.digests.clone();
    let stored = record.versions().get(&thought.version).into_iter().flatten();
    targets.extend(stored.map(|(target, stored)| (*target, stored.digest)));
    targets.into_iter().find(|(target, _)| target.runs_on(Target::native())).map(|(_, digest)| digest)
}

fn planned(
    record: &ModuleRecord,
    thought: &Thought,
    digest: Option<Sha256>,
    supersedes: Option<RolloutId>,
) -> Planned {
    let stable = Ledger::stable(record);
    // A push takes stable's config, so the same bytes are the same release but for its number.
    let serves = stable.and_then(|stable| record.releases().get(&stable.0)).map(|release| release.digest);
    Planned {
        module: thought.module.clone(),
        version: thought.version.clone(),
        release: ReleaseNumber(record.last_release() + 1),
        stable,
        changes: supersedes.is_some() || serves.is_none() || serves != digest,
        supersedes,
        steps: Vec::new(),
        loses: BTreeSet::new(),
    }
}

/// The steps that the machine would take, placed on nodes that stay as they are.
fn steps(
    module: &Module,
    planned: &Planned,
    (nodes, labels): &(BTreeSet<Node>, BTreeMap<Node, Labels>),
    policy: &Policy,
) -> Vec<(Step, BTreeMap<Node, Weight>)> {
    let moves = Move { stable: planned.stable, candidate: planned.release };
    let spec = Spec {
        id: RolloutId(String::new()),
        by: String::new(),
        moves: BTreeMap::from([(module.clone(), moves)]),
        nodes: nodes.clone(),
        labels: labels.clone(),
        on: Labels::new(),
        policy: policy.clone(),
        revision: Revision(0),
    };
    let ready = domains(nodes, labels, policy.spec().spread_over.as_deref());
    let (machine, _actions) = Rollout::start(spec, now());
    let mut before = BTreeSet::new();
    let placed = |step: &Step| {
        let weights = place(step.share, &ready, &before, policy.spec().spread);
        before = weights.keys().cloned().collect();
        (*step, weights)
    };
    machine.steps().iter().map(placed).collect()
}

#[cfg(test)]
mod tests {
    use hot_rollout::PolicySpec;
    use serde_json::json;

    use super::*;

    fn digest(of: u64) -> Sha256 {
        Sha256::of(&of.to_be_bytes())
    }

    /// Release 1 of version 1.0.0 is stable, and release 2 was taken back.
    fn record() -> ModuleRecord {
        let release = |number: u64| {
            json!({
                "number": number, "version": format!("{number}.0.0"), "digest": digest(number), "at": 1, "by": "ann",
            })
        };
        serde_json::from_value(json!({
            "served": [1],
            "last_release": 2,
            "releases": { "1": release(1), "2": release(2) },
            "versions": { "1.0.0": { Target::native().to_string(): { "digest": digest(1), "at": 1 } } },
        }))
        .unwrap()
    }

    fn thought(version: &str, of: u64) -> Thought {
        Thought {
            module: "greeter".parse().unwrap(),
            version: version.parse().unwrap(),
            digests: BTreeMap::from([(Target::native(), digest(of))]),
            routes: BTreeSet::new(),
        }
    }

    fn plan(record: &ModuleRecord, thought: &Thought, supersedes: Option<&str>) -> Planned {
        let supersedes = supersedes.map(|id| RolloutId(id.to_owned()));
        planned(record, thought, runs_here(record, thought), supersedes)
    }

    #[test]
    fn the_bytes_that_serve_are_no_change() {
        let same = plan(&record(), &thought("1.0.0", 1), None);
        assert_eq!(
            (same.changes, same.stable, same.release),
            (false, Some(ReleaseNumber(1)), ReleaseNumber(3))
        );
        assert!(plan(&record(), &thought("2.0.0", 2), None).changes, "it was taken back");
        assert!(plan(&record(), &thought("3.0.0", 3), None).changes);
        assert!(plan(&record(), &thought("1.0.0", 1), Some("r1")).changes, "what is tried would go back");
        let first = plan(&ModuleRecord::default(), &thought("1.0.0", 1), None);
        assert_eq!((first.changes, first.stable, first.release), (true, None, ReleaseNumber(1)));
    }

    #[test]
    fn what_runs_here_is_what_a_push_would_run() {
        let other: Target = "aarch64-musl".parse().unwrap();
        let mut foreign = thought("3.0.0", 3);
        foreign.digests = BTreeMap::from([(other, digest(3))]);
        assert_eq!(runs_here(&record(), &foreign), None);
        // What is stored already stays what it is.
        foreign.version = "1.0.0".parse().unwrap();
        assert_eq!(runs_here(&record(), &foreign), Some(digest(1)));
    }

    #[test]
    fn steps_are_those_of_the_machine() {
        let policy = Policy::new(PolicySpec::default()).unwrap();
        let nodes: BTreeSet<Node> = (1..=5).map(|n| Node(format!("n{n}"))).collect();
        let module = Module("greeter".to_owned());
        let shown = |planned: &Planned| -> Vec<(u16, usize)> {
            let steps = steps(&module, planned, &(nodes.clone(), BTreeMap::new()), &policy);
            steps.iter().map(|(step, weights)| (step.share.basis_points(), weights.len())).collect()
        };
        assert_eq!(shown(&plan(&record(), &thought("3.0.0", 3), None)), [(1000, 1), (5000, 5), (10_000, 5)]);
        let first = plan(&ModuleRecord::default(), &thought("1.0.0", 1), None);
        assert_eq!(shown(&first), [(10_000, 5)], "nothing to compare with");
    }
}
