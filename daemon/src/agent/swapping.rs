//! Notices when traffic leaves an instance for good, follows what became of that, and tells it: what `swap` says, with the
//! counters that it needs.

use std::time::{Duration, Instant, SystemTime};

use hot_rollout::{Latency, Module, Weight};

use super::Agent;
use super::proof::{Party, Proof};
use super::slot::{Run, RunState, Slot};
use super::swap::{Moved, Swap};
use crate::gateway::Tally;
use crate::journal::Entry;
use crate::supervisor::InstanceId;

impl Agent {
    /// The gateway was given the weights of `slot`, from `at` on for so long. Where an instance had one before and has none
    /// any more, a swap begins. Those that are under way are told as far as they are known: what follows is not theirs
    /// alone.
    pub(super) fn note_flip(&self, module: &Module, slot: &mut Slot, (at, took): (Instant, Duration)) {
        let left = slot.left();
        if left.is_empty() {
            return;
        }
        let now = Instant::now();
        let moved = Moved { at, time: SystemTime::now(), took };
        let shortly_before =
            |(old, _): &(Party, Party)| slot.recent.shortly_before(InstanceId(old.instance), now);
        let shortly_before: Vec<Tally> = left.iter().map(shortly_before).collect();
        self.tell_swaps(module, self.cut_swaps(slot, now, "traffic moved again"));
        let by = slot.orders.moved_by().cloned();
        for ((from, to), shortly_before) in left.into_iter().zip(shortly_before) {
            let at_flip = self.tally(InstanceId(from.instance)).unwrap_or_default();
            let (before, drain) = (slot.recent.spans(), self.shared.parts.bounds.drain);
            let mut swap = Swap::begin(from, to, moved, shortly_before, at_flip, before, drain);
            if let Some(rollout) = &by {
                swap.belongs_to(rollout);
            }
            self.tell_begun(swap.at_flip().begun(module.as_str()));
            slot.swaps.push(swap);
        }
    }

    /// Tells by and by that a swap begins: what is known then is there for the next `hotd` if this one is killed. It is written
    /// as all events are, within half a second. A sync of its own would be in the way of what asks the history next, as a
    /// rollback may.
    fn tell_begun(&self, entry: Entry) {
        let journal = self.shared.parts.journal.clone();
        self.shared.tasks.spawn(async move { journal.write(entry).await });
    }

    /// Looks at what was counted, and tells of the swaps of which all is known by now.
    pub(super) fn follow_swaps(&self, module: &Module, slot: &mut Slot, now: Instant) {
        let known = self.look(slot, now);
        let (known, under_way): (Vec<_>, Vec<_>) =
            std::mem::take(&mut slot.swaps).into_iter().zip(known).partition(|(_, known)| *known);
        slot.swaps = under_way.into_iter().map(|(swap, _)| swap).collect();
        self.tell_swaps(module, known.into_iter().map(|(swap, _)| swap.close(now, "")).collect());
    }

    /// Ends the swaps that are under way with what is known of them.
    pub(super) fn cut_swaps(&self, slot: &mut Slot, now: Instant, why: &str) -> Vec<Proof> {
        let known = self.look(slot, now);
        let close = |(swap, known): (Swap, bool)| swap.close(now, if known { "" } else { why });
        std::mem::take(&mut slot.swaps).into_iter().zip(known).map(close).collect()
    }

    /// Ends all swaps that are under way, for a node that goes down: they are written when this returns.
    pub async fn end_swaps(&self) {
        let entries: Vec<Entry> = {
            let (mut slots, now) = (self.lock(), Instant::now());
            let cut = |(module, slot): (&Module, &mut Slot)| {
                let proofs = self.cut_swaps(slot, now, "hotd was stopped");
                proofs.into_iter().map(|proof| proof.entry(module.as_str())).collect::<Vec<_>>()
            };
            slots.iter_mut().flat_map(cut).collect()
        };
        for entry in entries {
            self.shared.parts.journal.write(entry).await;
        }
    }

    pub(super) fn tell_swaps(&self, module: &Module, proofs: Vec<Proof>) {
        for proof in proofs {
            let (journal, entry) = (self.shared.parts.journal.clone(), proof.entry(module.as_str()));
            self.shared.tasks.spawn(async move { journal.write(entry).await });
        }
    }

    /// Looks at what was counted since the last look. For each swap that is under way: all is known.
    fn look(&self, slot: &mut Slot, now: Instant) -> Vec<bool> {
        let gateway = &self.shared.parts.gateway;
        let tallies: Vec<(InstanceId, Tally)> =
            slot.instances().filter_map(|run| Some((run.id, gateway.tally(run.id)?))).collect();
        let span = slot.recent.look(now, &tallies, |id| {
            let latency = gateway.counters(id).latency;
            let counts = latency.iter_recorded();
            Latency::from_counts(counts.map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value())))
        });
        slot.swaps.iter_mut().map(|swap| swap.look(now, self.tally(swap.old()), &span)).collect()
    }

    fn tally(&self, instance: InstanceId) -> Option<Tally> {
        self.shared.parts.gateway.tally(instance)
    }
}

impl Slot {
    /// Takes note of who has a weight now. Which instances had one and have none any more, and where their traffic went.
    fn left(&mut self) -> Vec<(Party, Party)> {
        let given = self.given();
        if given == self.given {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.given, given);
        let has_none = |old: &Party| !self.given.iter().any(|(party, _)| party.instance == old.instance);
        let left = before.into_iter().map(|(party, _)| party).filter(has_none);
        let pairs = left.filter_map(|old| self.successor(&old).cloned().map(|new| (old, new)));
        pairs.filter(|(old, new)| self.is_swap(old, new)).collect()
    }

    /// The instances that have a weight.
    fn given(&self) -> Vec<(Party, Weight)> {
        let party = |run: &Run| Party {
            instance: run.id.0,
            release: run.release.0,
            version: run.version.to_string(),
            digest: run.digest.to_string(),
        };
        let with_weight = self.serving.iter().filter(|(_, _, weight)| *weight > Weight::ZERO);
        with_weight.filter_map(|(release, _, weight)| Some((party(self.known(*release)?), *weight))).collect()
    }

    /// Who has the traffic that `old` had: another instance of its release, else whoever has most.
    fn successor(&self, old: &Party) -> Option<&Party> {
        let parties = || self.given.iter().map(|(party, weight)| (party, *weight));
        let same = parties().find(|(party, _)| party.release == old.release);
        same.or_else(|| parties().max_by_key(|(_, weight)| *weight)).map(|(party, _)| party)
    }

    /// One that ended by itself and is started again leaves a gap, and nothing to anybody: that is told as its end.
    fn is_swap(&self, old: &Party, new: &Party) -> bool {
        let still_serves = |run: &Run| run.id.0 == old.instance && run.state == RunState::Ready;
        old.release != new.release || self.runs.iter().any(still_serves)
    }
}

#[cfg(test)]
mod tests {
    use hot_rollout::{ReleaseNumber, Role};

    use super::super::slot::tests::run;
    use super::*;

    const R1: ReleaseNumber = ReleaseNumber(1);
    const R2: ReleaseNumber = ReleaseNumber(2);

    /// A slot that serves as told, of which the gateway knows.
    fn serving(weights: &[(ReleaseNumber, u8)]) -> Slot {
        let runs = vec![run(1, R1, RunState::Ready), run(2, R2, RunState::Ready)];
        let mut slot = Slot { runs, ..Slot::default() };
        assert_eq!(flip(&mut slot, weights), [], "who had none before leaves nothing");
        slot
    }

    /// Which instance left its traffic to which by these weights.
    fn flip(slot: &mut Slot, weights: &[(ReleaseNumber, u8)]) -> Vec<(u64, u64)> {
        slot.serving = weights
            .iter()
            .map(|(release, weight)| (*release, Role::Stable, Weight::percent(*weight)))
            .collect();
        slot.left().iter().map(|(old, new)| (old.instance, new.instance)).collect()
    }

    #[test]
    fn a_swap_is_when_a_release_has_no_traffic_any_more() {
        let mut slot = serving(&[(R1, 100), (R2, 0)]);
        assert_eq!(flip(&mut slot, &[(R1, 90), (R2, 10)]), []);
        assert_eq!(flip(&mut slot, &[(R1, 100)]), [(2, 1)], "a candidate is taken back");
        assert_eq!(flip(&mut slot, &[(R1, 0), (R2, 100)]), [(1, 2)]);
        assert_eq!(flip(&mut slot, &[(R2, 100), (R1, 0)]), [], "it is promoted");
        assert_eq!(flip(&mut slot, &[(R1, 100), (R2, 0)]), [(2, 1)], "the way back");
        assert_eq!(flip(&mut slot, &[]), [], "nobody takes over");
    }

    #[test]
    fn one_that_is_replaced_is_a_swap_and_one_that_crashed_is_not() {
        let mut slot = serving(&[(R1, 50), (R2, 50)]);
        slot.runs.push(run(3, R1, RunState::Ready));
        assert_eq!(flip(&mut slot, &[(R1, 50), (R2, 50)]), [(1, 3)], "by one of its release");
        slot.runs.retain(|run| run.id != InstanceId(1));
        slot.runs[1].state = RunState::Stopping;
        slot.runs[1].reason = "crashed with SIGSEGV".to_owned();
        assert_eq!(flip(&mut slot, &[(R1, 50), (R2, 50)]), [], "requests wait for it");
        slot.runs.push(run(4, R1, RunState::Starting));
        assert_eq!(flip(&mut slot, &[(R1, 50), (R2, 50)]), []);
        slot.runs[0].state = RunState::Stopping;
        slot.runs[0].reason = "crashed with SIGSEGV".to_owned();
        assert_eq!(flip(&mut slot, &[(R1, 100)]), [(2, 4)], "a candidate that crashed is taken back");
    }
}
