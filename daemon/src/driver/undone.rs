//! What a rollout wants done and is not done yet: pure, in the order that the machine's contract demands.
//!
//! Toward stable is never held back. The rest waits for the snapshot that wants it, and stays in its order.

use std::collections::VecDeque;

use hot_rollout::Action;

use super::failing::Failing;

/// What is not done yet of one rollout.
#[derive(Debug, Default)]
pub(super) struct Undone {
    /// In the order in which they were wanted.
    actions: VecDeque<Action>,
    /// The snapshot that wants them is not on disk.
    unsaved: bool,
    /// Something toward stable was among what that snapshot wants.
    urgent: bool,
    /// What was tried already.
    pub(super) failing: Failing,
}

impl Undone {
    /// Takes what the machine wants now. What waits and is overtaken by it is not done any more: a candidate must not
    /// become stable after it was taken back.
    pub(super) fn want(&mut self, actions: Vec<Action>) {
        self.actions.retain(|waiting| !actions.iter().any(|action| action.overtakes(waiting)));
        self.unsaved |= !actions.is_empty();
        self.urgent |= actions.iter().any(Action::toward_stable);
        self.actions.extend(actions);
    }

    /// An action that could not be done.
    pub(super) fn put_back(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// What goes toward stable: to be done before anything is written.
    pub(super) fn take_toward_stable(&mut self) -> Vec<Action> {
        let (back, rest): (Vec<Action>, Vec<Action>) =
            std::mem::take(&mut self.actions).into_iter().partition(Action::toward_stable);
        self.actions = rest.into();
        back
    }

    /// What is left, in order; nothing while the snapshot is not on disk.
    pub(super) fn take_rest(&mut self) -> Vec<Action> {
        if self.unsaved { Vec::new() } else { std::mem::take(&mut self.actions).into() }
    }

    /// The snapshot is on disk.
    pub(super) fn saved(&mut self) {
        (self.unsaved, self.urgent) = (false, false);
    }

    /// Whether the snapshot must be written.
    pub(super) fn is_unsaved(&self) -> bool {
        self.unsaved
    }

    /// Whether that may use the space that is reserved for going toward stable.
    pub(super) fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.actions.is_empty() && !self.unsaved
    }
}

#[cfg(test)]
mod tests {
    use hot_rollout::{Direction, Module, Note, NoteKind, Outcome, ReleaseNumber};

    use super::*;

    fn stable(release: u64, direction: Direction) -> Action {
        Action::SetStable {
            module: Module("greeter".to_owned()),
            release: Some(ReleaseNumber(release)),
            direction,
        }
    }

    fn note(text: &str) -> Action {
        Action::Note(Note { kind: NoteKind::Promoting, text: text.to_owned() })
    }

    #[test]
    fn only_toward_stable_is_done_before_the_snapshot() {
        let mut undone = Undone::default();
        undone.want(vec![stable(1, Direction::TowardStable), note("a"), Action::Finished(Outcome::Done)]);
        assert_eq!(undone.take_toward_stable(), [stable(1, Direction::TowardStable)]);
        assert!(undone.is_unsaved() && undone.is_urgent());
        assert!(undone.take_rest().is_empty(), "its snapshot is not on disk");
        undone.want(vec![note("b")]);
        assert!(undone.take_rest().is_empty(), "nor is the next one");
        undone.saved();
        assert_eq!(undone.take_rest(), [note("a"), Action::Finished(Outcome::Done), note("b")]);
        assert!(undone.is_empty());
    }

    #[test]
    fn what_waited_is_not_done_after_what_overtook_it() {
        let mut undone = Undone::default();
        undone.want(vec![stable(2, Direction::Onward), note("promoting")]);
        undone.want(vec![stable(1, Direction::TowardStable)]);
        assert_eq!(undone.take_toward_stable(), [stable(1, Direction::TowardStable)]);
        undone.saved();
        assert_eq!(undone.take_rest(), [note("promoting")], "release 2 does not become stable");
    }

    #[test]
    fn an_end_that_was_not_written_down_is_overtaken_by_the_next() {
        let mut undone = Undone::default();
        let incomplete = Action::Finished(Outcome::Incomplete { nodes: Default::default() });
        undone.want(vec![incomplete]);
        undone.saved();
        for action in undone.take_rest() {
            undone.put_back(action);
        }
        undone.want(vec![Action::Finished(Outcome::Done)]);
        undone.saved();
        assert_eq!(undone.take_rest(), [Action::Finished(Outcome::Done)]);
    }

    #[test]
    fn what_failed_is_tried_again_without_a_new_snapshot() {
        let mut undone = Undone::default();
        undone.want(vec![stable(2, Direction::Onward)]);
        undone.saved();
        for action in undone.take_rest() {
            undone.put_back(action);
        }
        assert!(!undone.is_empty() && !undone.is_unsaved());
        assert_eq!(undone.take_rest(), [stable(2, Direction::Onward)]);
    }
}
