//! What a rollout wants done and is not done yet, as the daemon's driver keeps it: toward stable is never held back, the
//! rest waits for the snapshot that wants it.

use hot_rollout::Action;

/// What is not done yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Undone {
    actions: Vec<Action>,
    /// The snapshot that wants them is not written.
    pub(super) unsaved: bool,
}

impl Undone {
    /// Takes what the machine wants now. What waits and is overtaken by it is not done any more.
    pub(super) fn want(&mut self, actions: Vec<Action>) {
        self.actions.retain(|waiting| !actions.iter().any(|action| action.overtakes(waiting)));
        self.unsaved |= !actions.is_empty();
        self.actions.extend(actions);
    }

    pub(super) fn put_back(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) fn take_toward_stable(&mut self) -> Vec<Action> {
        let (back, rest) = std::mem::take(&mut self.actions).into_iter().partition(Action::toward_stable);
        self.actions = rest;
        back
    }

    /// What is left, in order.
    pub(super) fn take_rest(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// All that waits goes away from stable, or is none of its business.
    pub(super) fn is_onward(&self) -> bool {
        !self.actions.iter().any(Action::toward_stable)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.actions.is_empty() && !self.unsaved
    }
}
