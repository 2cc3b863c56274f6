//! How a rollout comes to an end, forward or back.

use super::{Action, Kind, NoteKind, Outcome, Phase, Rollout};
use crate::ident::List;
use crate::reason::Reason;
use crate::units::Time;

impl Rollout {
    /// Every node is told what is stable now; who is up has to follow.
    pub(super) fn follow(&mut self, since: Time, out: &mut Vec<Action>) -> bool {
        let waited = self.now >= self.follow_due(since);
        if !waited && (self.nodes.is_empty() || !self.not_in_line(|up| up).is_empty()) {
            return false;
        }
        let missing = self.not_in_line(|_| true);
        let phase = if missing.is_empty() { Phase::Done } else { Phase::Incomplete };
        self.finish(phase, out);
        false
    }

    /// Every node that had a candidate is told to go back; those that do not say so end it by their expiry.
    pub(super) fn went_back(&mut self, reason: Reason, since: Time, out: &mut Vec<Action>) -> bool {
        let unconfirmed = self.not_in_line(|_| true);
        if !unconfirmed.is_empty() && self.now < since.plus(self.spec.policy.spec().expiry) {
            return false;
        }
        let nothing_before = self.spec.moves.values().all(|releases| releases.stable.is_none());
        let phase = if matches!(reason, Reason::Superseded { .. }) {
            Phase::Superseded { reason }
        } else if self.kind == Kind::Rollback || (nothing_before && !reason.by_person()) {
            Phase::Failed { reason }
        } else {
            Phase::RolledBack { reason, unconfirmed }
        };
        self.finish(phase, out);
        false
    }

    pub(super) fn finish(&mut self, phase: Phase, out: &mut Vec<Action>) {
        self.phase = phase;
        let Some(outcome) = self.outcome() else { return };
        self.note(out, NoteKind::Finished, self.closing(&outcome));
        out.push(Action::Finished(outcome));
    }

    /// How it ended, if it did.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.phase {
            Phase::Done => Some(Outcome::Done),
            Phase::Incomplete => Some(Outcome::Incomplete { nodes: self.not_in_line(|_| true) }),
            Phase::RolledBack { reason, unconfirmed } => {
                Some(Outcome::RolledBack { reason: reason.clone(), unconfirmed: unconfirmed.clone() })
            }
            Phase::Failed { reason } => Some(Outcome::Failed { reason: reason.clone() }),
            Phase::Superseded { reason } => Some(Outcome::Superseded { reason: reason.clone() }),
            Phase::Preparing
            | Phase::Starting { .. }
            | Phase::Baking { .. }
            | Phase::Promoting { .. }
            | Phase::RollingBack { .. } => None,
        }
    }

    fn closing(&self, outcome: &Outcome) -> String {
        match outcome {
            Outcome::Done => match self.kind {
                Kind::Push => "done: the new release is stable on every node".to_owned(),
                Kind::Rollback => "done: the preceding release is stable on every node".to_owned(),
            },
            Outcome::Incomplete { nodes } => {
                format!("incomplete: not served by {} yet; it becomes done when it is", List(nodes))
            }
            Outcome::RolledBack { reason, unconfirmed } if unconfirmed.is_empty() => {
                format!("rolled back: {reason}")
            }
            Outcome::RolledBack { reason, unconfirmed } => format!(
                "rolled back: {reason}; not confirmed by {}, where the candidate ended by its expiry",
                List(unconfirmed)
            ),
            Outcome::Failed { reason } => match self.kind {
                Kind::Push => format!("failed: {reason}; there is no earlier release to go back to"),
                Kind::Rollback => {
                    format!("the rollback failed: {reason}; traffic stays where it was")
                }
            },
            Outcome::Superseded { reason } => reason.to_string(),
        }
    }
}
