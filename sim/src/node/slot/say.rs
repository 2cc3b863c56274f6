//! What a node says of one module to the one that leads. Events state what is so, so one that is lost is said again at the
//! next tick.

use hot_rollout::{Event, InstanceState, Node, Revision, Sample, Time};

use super::{FAILURES_SAID, Slot, State};

impl Slot {
    /// Says again what is so. What was taken back comes first.
    pub(in crate::node) fn restate(&mut self, node: &Node, now: Time, said: &mut Vec<Event>) {
        let Some(assignment) = self.assignment.as_ref() else { return };
        let module = || self.module.clone();
        if let Some((revision, cause)) = &self.took_back {
            let (revision, cause) = (*revision, cause.clone());
            said.push(Event::TookBack { node: node.clone(), module: module(), revision, cause });
        }
        self.failures.retain(|(since, _)| now.since(*since) < FAILURES_SAID);
        said.extend(self.failures.iter().map(|(_, failed)| failed.clone()));
        let target = assignment.candidate.as_ref().map(|candidate| candidate.release).or(assignment.stable);
        if let Some((release, instance)) =
            target.and_then(|target| Some((target, self.instances.get(&target)?)))
        {
            let state = match &instance.state {
                State::Starting { .. } => Some(InstanceState::Starting),
                State::Ready { .. } => Some(InstanceState::Ready),
                State::Gone { .. } => None,
            };
            let event = |state| Event::Instance { node: node.clone(), module: module(), release, state };
            said.extend(state.map(event));
        }
        let tries = assignment.candidate.is_some();
        let Some(revision) = self.say_applied(node, said).filter(|_| tries) else { return };
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
