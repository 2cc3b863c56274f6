//! What nodes really serve, and what is so when all is quiet.

use hot_rollout::{Rollout, Time};

use super::Watcher;
use crate::cluster::Cluster;
use crate::node::{Membership, Model};
use crate::scenario::Scenario;

impl Watcher {
    /// A node has heard a word, which is said now, or only read again (not `live`).
    pub(crate) fn heard(&mut self, node: &Model, live: bool, now: Time) {
        for slot in &node.slots {
            let Some(assignment) = slot.assignment.as_ref().filter(|of| of.candidate.is_some()) else {
                continue;
            };
            if live {
                self.stray.remove(&(node.name.clone(), slot.module.clone()));
            }
            let known = self.known.contains(&(node.name.clone(), slot.module.clone(), assignment.revision));
            self.hold(known, || {
                format!("{} has a candidate that no snapshot knows of: {assignment:?}", node.name)
            });
        }
        self.note_applied(node, now);
    }

    /// Something became of a node's instances.
    pub(crate) fn note_applied(&mut self, node: &Model, now: Time) {
        for slot in &node.slots {
            let Some(assignment) = &slot.assignment else { continue };
            if self.first_tried.is_none() && slot.tries().is_some() {
                self.first_tried = Some(now);
            }
            if slot.applied == Some(assignment.revision) && assignment.candidate.is_none() {
                let key = (node.name.clone(), slot.module.clone());
                self.applied.insert(key, (assignment.revision, assignment.stable));
            }
        }
    }

    /// A node's clock ticked. It serves no candidate for longer than its expiry that the one who leads does not give it.
    pub(crate) fn ticked(&mut self, node: &Model, leads: Option<&Rollout>, now: Time) {
        for slot in &node.slots {
            let key = || (node.name.clone(), slot.module.clone());
            let Some((release, weight)) = slot.tries() else {
                if !self.stray.is_empty() {
                    self.stray.remove(&key());
                }
                continue;
            };
            let given = leads.and_then(|machine| machine.assignment(&node.name, &slot.module));
            let given = given.and_then(|given| Some(given.candidate?.release));
            if given == Some(release) {
                self.stray.remove(&key());
                continue;
            }
            let since = *self.stray.entry(key()).or_insert(now);
            let longest = self.longest_stray;
            self.hold(now.since(since) <= longest, || {
                format!("{} gives release {release} {weight} since {since:?}, and nobody wants it", node.name)
            });
        }
        self.note_applied(node, now);
    }

    /// A machine that is down serves nobody.
    pub(crate) fn sleeps(&mut self, node: &Model) {
        self.stray.retain(|(name, _), _| *name != node.name);
    }

    /// Nothing runs, or it only `waits` for nodes that can't follow; all is healed, and some time has passed.
    pub(crate) fn quiet(&mut self, nodes: &[Model], cluster: &Cluster, scenario: &Scenario, waits: bool) {
        for node in
            nodes.iter().filter(|node| node.membership == Membership::In && node.is_heard() && !node.alone)
        {
            let on = scenario.on.as_ref();
            if on.is_some() && on != node.zone.as_ref() {
                continue;
            }
            for slot in &node.slots {
                let (module, stable) = (&slot.module, cluster.stable(&slot.module));
                let told = slot.assignment.as_ref();
                let right = waits
                    || told.map_or_else(
                        || stable.is_none(),
                        |told| told.stable == stable && told.candidate.is_none(),
                    );
                self.hold(right, || {
                    format!(
                        "all is quiet, {module} release {stable:?} is stable, and {} has {told:?}",
                        node.name
                    )
                });
                let served = slot.tries().is_none();
                self.hold(served, || format!("all is quiet, and {} serves a candidate", node.name));
            }
        }
    }
}
