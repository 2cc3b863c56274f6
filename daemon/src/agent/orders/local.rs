//! A person goes back on this node alone, while its fleet can't be told; and lifts that again.

use std::time::Instant;

use hot_rollout::{Assignment, Cause, Millis, ReleaseNumber, Standby};

use super::Orders;
use crate::ledger::LocalRollback;

impl Orders {
    /// Whether an assignment may be taken: not if it goes another way than a person went on this node alone.
    pub(in crate::agent) fn may_take(&self, assignment: &Assignment) -> bool {
        self.local.as_ref().is_none_or(|local| local.allows(assignment))
    }

    /// Goes the way of `local`, which stands from now on. Where what it goes to is not `ready`, what served stands in for it.
    /// What it left is kept as standby for so long.
    pub(in crate::agent) fn go_back_alone(
        &mut self,
        local: LocalRollback,
        ready: bool,
        keep: Millis,
        now: Instant,
    ) {
        let by_hand = || Cause::ByHand { by: local.by.clone() };
        self.take_back(by_hand());
        if local.tried {
            // Also where the node had taken it back before: now a person has said so.
            if let Some(taken) = self.took_back.as_mut() {
                taken.cause = by_hand();
            }
        } else {
            self.move_stable(local.from, local.to, ready, keep, now);
        }
        self.local = Some(local);
    }

    /// The node takes its fleet's word again. Where none came since, as while etcd is gone, it is as it was before: the
    /// release that was left serves again, unless it was only tried.
    pub(in crate::agent) fn lift(
        &mut self,
        ready: bool,
        keep: Millis,
        now: Instant,
    ) -> Option<LocalRollback> {
        let local = self.local.take()?;
        if !local.tried && !self.passed_over {
            self.move_stable(local.to, local.from, ready, keep, now);
        }
        // What there is of it is looked at as if it was new.
        (self.written, self.given) = (None, None);
        Some(local)
    }

    fn move_stable(
        &mut self,
        from: ReleaseNumber,
        to: ReleaseNumber,
        ready: bool,
        keep: Millis,
        now: Instant,
    ) {
        let Some(assignment) = self.assignment.as_mut() else { return };
        if assignment.stable == Some(to) && assignment.candidate.is_none() {
            return;
        }
        *assignment = Assignment {
            stable: Some(to),
            candidate: None,
            standby: Some(Standby { release: from, keep }),
            ..assignment.clone()
        };
        self.applied = ready.then_some((assignment.revision, now));
        self.stands_in = (!ready).then_some(from);
        self.by_hand = true;
    }
}
