//! What is told of swaps, out of the history of events.

use std::collections::{BTreeMap, BTreeSet};

use hot_artifact::ModuleName;
use hot_proto::v1;

use super::convert::timestamp;
use crate::agent::{Party, Proof, SWAP_KIND, Window};
use crate::journal::STARTED;
use crate::store::{Event, EventQuery, RolloutId, Store};

/// Swaps that are looked up at the most: some for each of the rollouts that a call gives.
const MOST: usize = 4000;

/// The swaps of a module in these rollouts, in the order in which they were told. Empty where the history can't be read: it
/// is not what the rest of an answer waits for.
pub(super) fn by_rollout(
    store: &Store,
    module: &ModuleName,
    rollouts: BTreeSet<RolloutId>,
    node: &str,
) -> BTreeMap<RolloutId, Vec<v1::Swap>> {
    let query = EventQuery {
        module: Some(module.clone()),
        kinds: &[SWAP_KIND],
        limit: MOST,
        newest: true,
        // All of them: which began first, their ids tell only as well as the clock did.
        back_to: Some((STARTED, rollouts)),
        ..EventQuery::default()
    };
    let events = store.events(&query).unwrap_or_else(|error| {
        tracing::debug!(error = %crate::describe(&error), "the swaps of {module} are not known");
        Vec::new()
    });
    let mut swaps: BTreeMap<RolloutId, Vec<v1::Swap>> = BTreeMap::new();
    for event in events.into_iter().map(|of| of.event) {
        if let (Some(swap), Some(rollout)) = (of_event(&event, node), event.rollout) {
            swaps.entry(rollout).or_default().push(swap);
        }
    }
    swaps
}

/// The numbers of an event that tells of a swap. Those of one whose fields did not fit are not known.
pub(super) fn of_event(event: &Event, node: &str) -> Option<v1::Swap> {
    let told = event.kind == SWAP_KIND && !event.fields.is_empty();
    let proof = Proof::of_fields(&event.fields).filter(|_| told)?;
    Some(v1::Swap {
        node: node.to_owned(),
        from_instance: proof.from.instance,
        from: Some(release(proof.from)),
        to_instance: proof.to.instance,
        to: Some(release(proof.to)),
        flipped: Some(timestamp(proof.flipped_ms)),
        flip_us: proof.flip_us,
        last_pick_us: proof.last_pick_us,
        in_flight: proof.in_flight,
        given_after: proof.given_after,
        finished: proof.finished,
        errors: proof.errors,
        aborted: proof.aborted,
        timeouts: proof.timeouts,
        lost: proof.lost,
        sent_again: proof.sent_again,
        cancelled: proof.cancelled,
        still_in_flight: proof.still_in_flight,
        drained_ms: proof.drained_ms,
        window_ms: proof.window_ms,
        before: Some(window(&proof.before)),
        during: Some(window(&proof.during)),
        after: Some(window(&proof.after)),
        cut_short: proof.cut_short,
    })
}

fn release(of: Party) -> v1::ReleaseRef {
    v1::ReleaseRef {
        release: of.release,
        version: of.version,
        digest: of.digest,
        ..v1::ReleaseRef::default()
    }
}

fn window(of: &Window) -> v1::SwapWindow {
    v1::SwapWindow { requests: of.requests, p99_ms: of.p99_us.map(super::convert::in_milliseconds) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Options;

    fn event(kind: &str, rollout: &str, in_flight: u64) -> Event {
        let fields = serde_json::json!({ "in_flight": in_flight });
        Event {
            at: 0,
            module: Some("greeter".parse().unwrap()),
            rollout: Some(rollout.parse().unwrap()),
            kind: kind.to_owned(),
            text: String::new(),
            fields: fields.as_object().unwrap().clone(),
        }
    }

    /// `r1` began last: between the two the clock was set back.
    #[test]
    fn each_rollout_has_its_swaps_whatever_the_clock_said() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path(), Options::default()).unwrap();
        for (kind, rollout, in_flight) in [
            (STARTED, "r0", 0),
            (SWAP_KIND, "r0", 1),
            (STARTED, "r2", 0),
            (SWAP_KIND, "r2", 2),
            (STARTED, "r1", 0),
            (SWAP_KIND, "r1", 3),
            (SWAP_KIND, "r2", 4),
        ] {
            store.append_event(&event(kind, rollout, in_flight)).unwrap();
        }
        let (r1, r2): (RolloutId, RolloutId) = ("r1".parse().unwrap(), "r2".parse().unwrap());
        let asked = BTreeSet::from([r1.clone(), r2.clone()]);
        let swaps = by_rollout(&store, &"greeter".parse().unwrap(), asked, "n1");
        let of = |rollout| swaps[rollout].iter().map(|swap| swap.in_flight).collect::<Vec<_>>();
        assert_eq!((of(&r1), of(&r2)), (vec![3], vec![2, 4]));
        assert_eq!(swaps.len(), 2, "what was before is not looked at");
    }
}
