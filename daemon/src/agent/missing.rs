//! What the instances of this node are held without, for people. Decides nothing: the supervisor refuses.

use std::collections::BTreeMap;
use std::time::SystemTime;

use hot_rollout::Module;
use hot_wire::isolation::Parts;

use super::Agent;
use super::slot::{Run, RunState, Slot};
use crate::supervisor::{Isolation, quoted};

/// Required parts that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lacking {
    pub parts: Parts,
    /// The start of the oldest instance that says so.
    pub since: SystemTime,
    /// Whether an instance serves all the same, which an earlier hotd started.
    pub serves: bool,
}

impl Agent {
    /// What an instance is held without that this node asks for; nothing of one that never had a host.
    pub(crate) fn missing(&self, module: &Module, run: &Run) -> Parts {
        let asked = &self.shared.parts.asked;
        run.isolation().map_or(Parts::NONE, |isolation| asked.missing(module, isolation))
    }

    /// What is missing of what this node requires, by the newest instance and all that run.
    pub(crate) fn lacking(&self) -> Option<Lacking> {
        let asked = &self.shared.parts.asked;
        self.slots(|slots| {
            lacking(slots.iter().flat_map(|(module, slot)| {
                let required = asked.required(module);
                slot.instances().map(move |run| (run, required))
            }))
        })
    }

    /// What the newest instance is held without, in a sentence.
    pub(crate) fn held_without(&self) -> Option<String> {
        let missing = self.slots(|slots| self.newest_missing(slots))?;
        (!missing.is_empty()).then(|| sentence(missing))
    }

    /// Says once in the log what instances of this node are held without, and again when that changes.
    pub(super) fn note_missing(&self, slots: &BTreeMap<Module, Slot>) {
        let Some(missing) = self.newest_missing(slots) else { return };
        let mut said = self.shared.said_missing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *said != missing {
            *said = missing;
            if !missing.is_empty() {
                tracing::warn!("{}", sentence(missing));
            }
        }
    }

    fn newest_missing(&self, slots: &BTreeMap<Module, Slot>) -> Option<Parts> {
        let runs = slots.iter().flat_map(|(module, slot)| slot.instances().map(move |run| (module, run)));
        let known = runs.filter(|(_, run)| run.isolation().is_some_and(is_known));
        known.max_by_key(|(_, run)| run.id).map(|(module, run)| self.missing(module, run))
    }
}

fn sentence(missing: Parts) -> String {
    let user = if missing.has(Parts::USER) { " They run as the user of hot-spawn, be it root." } else { "" };
    format!(
        "Instances on this node are held without {}: docs/isolation.md says what each is.{user}",
        quoted(missing)
    )
}

/// Whether its host has said all.
fn is_known(isolation: Isolation) -> bool {
    isolation.confined.is_some()
}

/// Of instances, each with what is required of it.
fn lacking<'a>(runs: impl Iterator<Item = (&'a Run, Parts)>) -> Option<Lacking> {
    let judged = |(run, required): (&'a Run, Parts)| {
        let isolation = run.isolation()?;
        let missing = isolation.missing(required);
        (is_known(isolation) || !missing.is_empty()).then_some((run, missing))
    };
    let judged: Vec<(&Run, Parts)> = runs.filter_map(judged).collect();
    let newest = judged.iter().map(|(run, _)| run.id).max()?;
    let counts = |run: &Run| run.id == newest || run.state != RunState::Ended;
    let lacks: Vec<_> =
        judged.into_iter().filter(|(run, missing)| counts(run) && !missing.is_empty()).collect();
    Some(Lacking {
        parts: lacks.iter().map(|(_, missing)| *missing).collect(),
        since: lacks.iter().map(|(run, _)| run.started).min()?,
        serves: lacks.iter().any(|(run, _)| run.state == RunState::Ready),
    })
}

#[cfg(test)]
mod tests {
    use hot_rollout::ReleaseNumber;
    use hot_wire::isolation::Held;

    use super::super::slot::tests::run;
    use super::*;

    fn held(id: u64, state: RunState, parts: Parts) -> Run {
        let isolation = Isolation { held: Held { user: None, parts }, confined: Some(Parts::NONE) };
        Run { isolation: Some(isolation), ..run(id, ReleaseNumber(1), state) }
    }

    #[test]
    fn the_newest_instance_and_those_that_run_say_what_is_missing() {
        let found =
            |runs: &[Run]| lacking(runs.iter().map(|run| (run, Parts::USER))).map(|it| (it.parts, it.serves));
        let bare = |id, state| held(id, state, Parts::NONE);
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[run(1, ReleaseNumber(1), RunState::Ready)]), None, "nothing is known of it");
        assert_eq!(found(&[bare(1, RunState::Ended)]), Some((Parts::USER, false)));
        assert_eq!(found(&[bare(1, RunState::Ready)]), Some((Parts::USER, true)));
        let good = || held(2, RunState::Ready, Parts::USER);
        assert_eq!(found(&[bare(1, RunState::Ended), good()]), None, "it was mended since");
        assert_eq!(found(&[bare(1, RunState::Ready), good()]), Some((Parts::USER, true)));
        assert_eq!(found(&[good(), bare(3, RunState::Ended)]), Some((Parts::USER, false)));
    }
}
