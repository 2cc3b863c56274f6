//! What keeps failing of a rollout, so that it is said when that begins, changes and ends, and not at each try: pure.

use std::collections::BTreeMap;

use hot_rollout::{Action, Time};

/// What fails, by its name.
#[derive(Debug, Default)]
pub(super) struct Failing(BTreeMap<String, Failure>);

#[derive(Debug)]
struct Failure {
    since: Time,
    /// What the last try came to.
    why: String,
    tries: u32,
}

/// A rollout wants something that can't be done yet: the disk, as a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Since when.
    pub since: Time,
    /// What the last try came to.
    pub why: String,
}

impl Failing {
    /// One more try failed. Whether that is news.
    pub(super) fn failed(&mut self, what: &str, why: &str, now: Time) -> bool {
        match self.0.get_mut(what) {
            Some(known) => {
                known.tries = known.tries.saturating_add(1);
                let news = known.why != why;
                why.clone_into(&mut known.why);
                news
            }
            None => {
                self.0.insert(what.to_owned(), Failure { since: now, why: why.to_owned(), tries: 1 });
                true
            }
        }
    }

    /// It is done: after how many tries that failed, if any did.
    pub(super) fn done(&mut self, what: &str) -> Option<u32> {
        self.0.remove(what).map(|failure| failure.tries)
    }

    /// What fails for the longest time.
    pub(super) fn held(&self) -> Option<Held> {
        let first = self.0.values().min_by_key(|failure| failure.since)?;
        Some(Held { since: first.since, why: first.why.clone() })
    }
}

/// An action in a few words: the same for the next try of it.
pub(super) fn name(action: &Action) -> String {
    match action {
        Action::Prepare { node, .. } => format!("preparing {node}"),
        Action::Assign { node, assignment, .. } => format!("assigning {} to {node}", assignment.module),
        Action::Renew { .. } => "renewing".to_owned(),
        Action::SetStable { module, .. } => format!("writing the stable release of {module}"),
        Action::Quarantine { module, release, .. } => format!("quarantining release {release} of {module}"),
        Action::Note(_) => "telling".to_owned(),
        Action::Finished(_) => "writing its end".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_news_when_it_begins_and_when_it_changes() {
        let mut failing = Failing::default();
        assert_eq!((failing.done("a"), failing.held()), (None, None));
        assert!(failing.failed("a", "the disk is full", Time(1)));
        assert!(!failing.failed("a", "the disk is full", Time(2)));
        assert!(failing.failed("b", "the disk is full", Time(2)), "something else");
        assert!(failing.failed("a", "the disk failed", Time(3)));
        assert_eq!(failing.held(), Some(Held { since: Time(1), why: "the disk failed".to_owned() }));
        assert_eq!(failing.done("a"), Some(3));
        assert_eq!(failing.done("a"), None, "its end is told once");
        assert!(failing.failed("a", "the disk failed", Time(4)), "it begins anew");
    }
}
