//! What a node says of one module to the one that leads. Events state what is so, so one that is lost is said again at the
//! next tick.

use hot_rollout::{Event, InstanceState, Node, Revision, Sample, Time};

use super::{FAILURES_SAID, Slot, State};

impl Slot {
    /// Says what was counted, and in every so many-th tick (`again`) what else is so. What was taken back comes first, and each
    /// time.
    pub(in crate::node) fn restate(&mut self, node: &Node, again: u64, now: Time, said: &mut Vec<Event>) {
        let Some(tries) = self.assignment.as_ref().map(|assignment| assignment.candidate.is_some()) else {
            return;
        };
        if let Some((revision, cause)) = self.took_back.clone() {
            said.push(Event::TookBack { node: node.clone(), module: self.module.clone(), revision, cause });
        }
        self.ticks += 1;
        let again = self.ticks.is_multiple_of(again.max(1));
        if again {
            self.restate_instances(node, now, said);
        }
        let said_now = said.len();
        let revision = self.say_applied(node, said);
        if !again {
            said.truncate(said_now);
        }
        let Some(revision) = revision.filter(|_| tries) else { return };
        said.push(Event::Sample(Sample {
            node: node.clone(),
            module: self.module.clone(),
            revision,
            since: self.since,
            until: now,
            candidate: self.candidate.figures(self.since, now),
            stable: self.stable.figures(self.since, now),
        }));
    }

    /// How instances are, and for a while that they failed.
    fn restate_instances(&mut self, node: &Node, now: Time, said: &mut Vec<Event>) {
        self.failures.retain(|(since, _)| now.since(*since) < FAILURES_SAID);
        said.extend(self.failures.iter().map(|(_, failed)| failed.clone()));
        let Some(assignment) = self.assignment.as_ref() else { return };
        let target = assignment.candidate.as_ref().map(|candidate| candidate.release).or(assignment.stable);
        let Some((release, instance)) =
            target.and_then(|target| Some((target, self.instances.get(&target)?)))
        else {
            return;
        };
        let state = match &instance.state {
            State::Starting { .. } => InstanceState::Starting,
            State::Ready { .. } => InstanceState::Ready,
            State::Gone { .. } => return,
        };
        said.push(Event::Instance { node: node.clone(), module: self.module.clone(), release, state });
    }

    /// Says of which revision the assignment is true, if it is, and whether stable serves by it.
    pub(in crate::node) fn say_applied(&self, node: &Node, said: &mut Vec<Event>) -> Option<Revision> {
        let assignment = self.assignment.as_ref()?;
        let revision = self.applied.filter(|applied| *applied == assignment.revision && self.is_whole())?;
        let serves = assignment.stable.is_none_or(|stable| self.is_ready(stable));
        said.push(Event::Applied { node: node.clone(), module: self.module.clone(), revision, serves });
        Some(revision)
    }

    /// The node does all of the assignment that it was given last.
    fn is_whole(&self) -> bool {
        let taken = self.took_back.as_ref().map(|(revision, _)| *revision);
        !self.passed_over && (taken.is_none() || taken != self.assignment.as_ref().map(|of| of.revision))
    }
}
