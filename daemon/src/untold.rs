//! Swaps of which the `hotd` before this one did not come to tell: it was killed, or crashed, while it counted what became of
//! them. What it knew at the flip is told in its place. A swap is without its event where hotd was killed before that was on the
//! disk, some 0.5 s after the flip: the flip waits for no disk.

use std::collections::BTreeSet;

use hot_rollout::{Module, ReleaseNumber, Time};

use crate::agent::{Proof, SWAP_BEGUN, SWAP_KIND};
use crate::driver::Driver;
use crate::journal::Journal;
use crate::store::Event;

/// The latest of their events among which they are: many times what is told in the minute that a swap takes at the most.
const LOOKED_AT: usize = 2000;
const KINDS: &[&str] = &[SWAP_BEGUN, SWAP_KIND];

/// What is told of how they ended.
const CUT_SHORT: &str = "hotd ended at once, and what came after the flip was not counted";

/// What is known of these swaps.
#[derive(Debug)]
pub(crate) struct Untold(Vec<(Module, Proof)>);

impl Untold {
    /// Finds them. To be called before traffic moves again: from then on there are swaps that are told of in time.
    pub(crate) async fn find(journal: &Journal) -> Self {
        Self(untold(&journal.newest(KINDS, LOOKED_AT).await))
    }

    /// Tells of them, once the driver knows the rollouts of the `hotd` before this one.
    pub(crate) async fn tell(self, journal: &Journal, driver: &Driver) {
        for (module, proof) in self.0 {
            let rollout = match &proof.rollout {
                None if proof.from.release != proof.to.release => {
                    // A rollback begins as a rollout when traffic has moved already.
                    let to = ReleaseNumber(proof.to.release);
                    driver.rollback_since(&module, to, Time(proof.flipped_ms)).await
                }
                known => known.clone(),
            };
            let proof = Proof { rollout, cut_short: CUT_SHORT.to_owned(), ..proof };
            journal.write(proof.entry(module.as_str())).await;
        }
    }
}

/// The swaps that begin among these events and are not told of, whichever of the two events came first.
fn untold(events: &[Event]) -> Vec<(Module, Proof)> {
    let of_kind = |kind: &'static str| {
        let proof = |event: &Event| {
            let module = Module(event.module.as_ref()?.to_string());
            let rollout = event.rollout.as_ref().map(|id| id.as_str().into());
            Some((module, Proof { rollout, ..Proof::of_fields(&event.fields)? }))
        };
        events.iter().filter(move |event| event.kind == kind).filter_map(proof)
    };
    let which = |proof: &Proof| (proof.from.instance, proof.to.instance, proof.flipped_ms);
    let told: BTreeSet<_> = of_kind(SWAP_KIND).map(|(_, proof)| which(&proof)).collect();
    of_kind(SWAP_BEGUN).filter(|(_, proof)| !told.contains(&which(proof))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Party;

    fn event(kind: &str, from: u64, flipped_ms: u64, rollout: Option<&str>) -> Event {
        let proof =
            Proof { from: Party { instance: from, ..Party::default() }, flipped_ms, ..Proof::default() };
        let fields = serde_json::to_value(proof).unwrap();
        Event {
            at: 0,
            module: Some("greeter".parse().unwrap()),
            rollout: rollout.map(|id| id.parse().unwrap()),
            kind: kind.to_owned(),
            text: String::new(),
            fields: fields.as_object().unwrap().clone(),
        }
    }

    #[test]
    fn a_swap_that_began_and_is_not_told_of_is_found_with_its_rollout() {
        let events = [
            event(SWAP_BEGUN, 1, 10, Some("r1")),
            event(SWAP_KIND, 1, 10, Some("r1")),
            // It was cut short before the beginning came to be told.
            event(SWAP_KIND, 2, 20, Some("r1")),
            event(SWAP_BEGUN, 2, 20, Some("r1")),
            event(SWAP_BEGUN, 1, 30, Some("r2")),
            event("rollout.started", 5, 40, Some("r3")),
            event(SWAP_BEGUN, 3, 50, None),
        ];
        let found = untold(&events);
        let found: Vec<_> = found
            .iter()
            .map(|(of, it)| (of.as_str(), it.flipped_ms, it.rollout.as_ref().map(|id| id.as_str())))
            .collect();
        assert_eq!(found, [("greeter", 30, Some("r2")), ("greeter", 50, None)]);
    }
}
