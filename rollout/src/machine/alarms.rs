//! When something is due.

use super::{Phase, REPORT_GRACE, Rollout};
use crate::reason::Reason;
use crate::units::{Millis, Time};

impl Rollout {
    /// Moves what is measured from a moment on by the time in which nobody watched, and forgets what may have changed
    /// meanwhile. Not the way back from a candidate: that ends by the nodes' own clocks.
    pub(super) fn forgive(&mut self, unwatched: Millis) {
        let now = self.now;
        match &mut self.phase {
            Phase::Baking { since: Some(since), .. }
            | Phase::Promoting { since }
            | Phase::RollingBack { reason: Reason::Rollback { .. }, since } => {
                *since = since.plus(unwatched).min(now)
            }
            Phase::Preparing
            | Phase::Starting { .. }
            | Phase::Baking { since: None, .. }
            | Phase::RollingBack { .. }
            | Phase::Incomplete
            | Phase::Done
            | Phase::RolledBack { .. }
            | Phase::Failed { .. }
            | Phase::Superseded { .. } => {}
        }
        for node in self.nodes.values_mut() {
            let up = node.up;
            for facts in node.modules.values_mut() {
                facts.ready = false;
                facts.awaited = (up && facts.weight.is_some()).then_some(now);
            }
        }
    }

    /// The times at which something is due; past ones included.
    pub(super) fn alarms(&self) -> Vec<Time> {
        let spec = self.spec.policy.spec();
        let mut alarms = Vec::new();
        match &self.phase {
            Phase::Preparing => alarms.push(self.deadline()),
            Phase::Starting { .. } | Phase::Baking { .. } => {
                alarms.extend([self.deadline(), self.renewal_due()]);
                alarms.extend(self.each_fact().filter_map(|(_, _, facts)| {
                    Some(facts.awaited?.plus(spec.start_deadline).plus(REPORT_GRACE))
                }));
                if let Phase::Baking { step, since: Some(since) } = &self.phase
                    && let Some(step) = self.plan.get(*step)
                {
                    let over = since.plus(step.bake);
                    alarms.extend([over, over.plus(spec.patience)]);
                }
            }
            Phase::Promoting { since } => alarms.push(self.follow_due(*since)),
            Phase::RollingBack { reason: Reason::Rollback { .. }, since } => {
                alarms.push(self.follow_due(*since))
            }
            Phase::RollingBack { since, .. } => alarms.push(since.plus(spec.expiry)),
            Phase::Incomplete
            | Phase::Done
            | Phase::RolledBack { .. }
            | Phase::Failed { .. }
            | Phase::Superseded { .. } => {}
        }
        alarms
    }

    pub(super) fn renewal_due(&self) -> Time {
        self.renewed.plus(self.spec.policy.renewal())
    }

    /// Until when nodes that are up have time to follow a promotion or a rollback: some may have to start an instance.
    pub(super) fn follow_due(&self, since: Time) -> Time {
        since.plus(self.spec.policy.spec().start_deadline).plus(REPORT_GRACE)
    }
}
