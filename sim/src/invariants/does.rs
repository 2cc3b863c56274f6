//! What the driver does, what it writes down, and how a rollout ends.

use hot_rollout::{Assignment, Kind, Node, Outcome, Phase, Rollout};

use super::{Abort, Watcher};
use crate::cluster::Cluster;

impl Watcher {
    /// A node is told by the cluster what it is to run.
    pub(crate) fn assigned(&mut self, node: &Node, assignment: &Assignment, cluster: &Cluster) {
        let module = &assignment.module;
        let before = cluster.assignments.get(&(node.clone(), module.clone()));
        let grows =
            before.is_none_or(|before| assignment.revision > before.revision || (before == assignment));
        self.hold(grows, || {
            format!("the cluster has {before:?} of {node}, and {assignment:?} comes after it")
        });
        let tried = assignment.candidate.as_ref().map(|candidate| candidate.release);
        for release in tried.into_iter().chain(assignment.stable) {
            let bad = cluster.quarantined.contains(&(module.clone(), release));
            self.hold(!bad, || {
                format!("{module} release {release} was taken back, and {node} is given it again")
            });
        }
        let sum: u32 = assignment.weights().iter().map(|(.., weight)| u32::from(weight.basis_points())).sum();
        self.hold(sum == 10_000 || sum == 0, || format!("the weights of {assignment:?} are not the whole"));
    }

    /// The snapshot is written: what it knows of may have traffic, and what was said before it is acknowledged.
    pub(crate) fn saved(&mut self) {
        self.known.extend(self.unknown.drain(..));
        if let Abort::Said(id) = &self.abort {
            self.abort = Abort::Kept(id.clone());
        }
    }

    /// The driver died: what it had not written is forgotten.
    pub(crate) fn died(&mut self) {
        self.unknown.clear();
        if let Abort::Said(_) = self.abort {
            self.abort = Abort::None;
        }
    }

    /// Another one goes on from the snapshot: no candidate, and no stable release, is out that it does not know of.
    pub(crate) fn takes_over(&mut self, snapshot: Option<&Rollout>, cluster: &Cluster) {
        for ((node, module), assignment) in &cluster.assignments {
            let known = assignment.candidate.is_none()
                || self.known.contains(&(node.clone(), module.clone(), assignment.revision));
            self.hold(known, || {
                format!("{node} was given a candidate that no snapshot knows of when the driver died: {assignment:?}")
            });
        }
        self.told.clear();
        let Some(machine) = snapshot else { return };
        // As the machine knows it: what was taken back and not written down it gives again.
        for node in machine.nodes() {
            self.labels.insert(node.clone(), machine.spec().on.clone());
            for module in machine.spec().moves.keys() {
                let given = machine.assignment(node, module);
                self.told.extend(given.map(|given| ((node.clone(), module.clone()), given)));
            }
        }
        self.starting.retain(|key| self.told.get(key).is_some_and(|told| told.candidate.is_some()));
        let status = machine.status();
        self.failed = status.failed.into_keys().collect();
        let nodes = status.modules.into_iter().flat_map(|module| module.nodes);
        self.up = nodes.filter(|node| node.up).map(|node| node.node).collect();
        self.begun = match machine.phase() {
            Phase::Preparing => None,
            Phase::Starting { step } | Phase::Baking { step, .. } => Some(*step),
            Phase::Promoting { .. }
            | Phase::Incomplete
            | Phase::RollingBack { .. }
            | Phase::Done
            | Phase::RolledBack { .. }
            | Phase::Failed { .. }
            | Phase::Superseded { .. } => self.begun,
        };
        let tries = machine.phase().step().is_some() || *machine.phase() == Phase::Preparing;
        for (module, releases) in &machine.spec().moves {
            let stable = cluster.stable(module);
            let right = !tries || stable == releases.stable;
            self.hold(right, || {
                format!("{module} release {stable:?} is on record as stable, and no snapshot has promoted it")
            });
        }
    }

    /// It ended, and all else that it wanted is done.
    pub(crate) fn finished(&mut self, outcome: &Outcome, machine: Option<&Rollout>, cluster: &Cluster) {
        self.coverage.outcome(outcome);
        self.ended = Some(outcome.clone());
        // The word of an end that waited for the store may come when somebody has aborted the rollout meanwhile.
        let Some(machine) = machine.filter(|machine| machine.outcome().as_ref() == Some(outcome)) else {
            return;
        };
        self.coverage.phase(machine);
        let spec = machine.spec();
        let first = spec.moves.values().all(|releases| releases.stable.is_none());
        let went_on = matches!(outcome, Outcome::Done | Outcome::Incomplete { .. });
        let aborted = self.abort == Abort::Kept(spec.id.clone());
        self.hold(!(aborted && went_on), || format!("it was aborted, and ends as {}", outcome.code()));
        let right = match outcome {
            Outcome::Done | Outcome::Incomplete { .. } | Outcome::Superseded { .. } => true,
            Outcome::RolledBack { reason, .. } => {
                machine.kind() == Kind::Push && (!first || reason.by_person())
            }
            Outcome::Failed { .. } => machine.kind() == Kind::Rollback || first,
        };
        self.hold(right, || format!("{:?} ends as {outcome:?}", machine.kind()));
        let blamed = machine.phase().reason().and_then(|reason| reason.blamed());
        if let Some((module, release)) = blamed.filter(|_| machine.kind() == Kind::Push) {
            let kept = cluster.quarantined.contains(&(module.clone(), release));
            self.hold(kept, || {
                format!("{} by {module} release {release}, which is not in quarantine", outcome.code())
            });
        }
        for (module, releases) in &spec.moves {
            let wanted = match outcome {
                Outcome::Done | Outcome::Incomplete { .. } => Some(releases.candidate),
                Outcome::RolledBack { .. } | Outcome::Failed { .. } => releases.stable,
                Outcome::Superseded { .. } => cluster.stable(module),
            };
            let found = cluster.stable(module);
            self.hold(found == wanted, || {
                format!(
                    "{} with {module} release {found:?} on record as stable, not {wanted:?}",
                    outcome.code()
                )
            });
        }
        if *outcome == Outcome::Done {
            self.check_done(machine);
        }
    }

    /// Never done with a node that has not followed.
    fn check_done(&mut self, machine: &Rollout) {
        let spec = machine.spec();
        for node in machine.nodes() {
            for (module, releases) in &spec.moves {
                let applied = self.applied.get(&(node.clone(), module.clone())).copied();
                let followed = applied.is_some_and(|(revision, stable)| {
                    revision > spec.revision && stable == Some(releases.candidate)
                });
                self.hold(followed, || format!("done, and {node} has applied {applied:?} of {module}"));
            }
        }
    }
}
