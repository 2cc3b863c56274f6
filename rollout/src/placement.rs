//! Which nodes carry a share, and how much each.
//!
//! A share is of the fleet, on few nodes, with stable beside it on the same machine. With N ready nodes and a share s,
//! `k = min(N, ceil(2·s·N))` nodes carry `s·N/k` each; when `k = N` all carry s. So up to 50% no node has more than
//! half its traffic on the candidate, and above it every node carries the share.
//!
//! **Rounding.** In basis points the step's total is `s·N`, an integer. It is split over the k nodes as evenly as
//! integers allow: the first `(s·N) mod k` nodes carry one basis point more. The sum is exact and no node exceeds
//! `ceil(s·N/k)`, which is at most half up to a share of 50%.

use std::collections::{BTreeMap, BTreeSet};

use crate::ident::Node;
use crate::units::{Share, WHOLE, Weight};

/// The weight of the candidate on each node that carries it.
///
/// `ready` are the nodes that can carry a candidate now, `before` those that carried the last step: they are taken
/// first, even where fewer would do by now, and the others follow in the order of their names, so that it can be told
/// beforehand who is next. `spread` puts the share on every node. The result is empty only if `ready` is or the share
/// is zero.
#[must_use]
pub fn place(
    share: Share,
    ready: &BTreeSet<Node>,
    before: &BTreeSet<Node>,
    spread: bool,
) -> BTreeMap<Node, Weight> {
    let count = ready.len() as u64;
    if count == 0 || share == Share::ZERO {
        return BTreeMap::new();
    }
    let total = u64::from(share.basis_points()) * count;
    let carried: Vec<&Node> = ready.intersection(before).collect();
    let wanted = if spread { count } else { (2 * total).div_ceil(u64::from(WHOLE)).min(count) };
    let carriers = wanted.max(carried.len() as u64);
    let (each, more) = (total / carriers, total % carriers);
    carried
        .into_iter()
        .chain(ready.difference(before))
        .zip(0..carriers)
        .map(|(node, index)| {
            let basis_points = each + u64::from(index < more);
            (node.clone(), whole_at_most(basis_points))
        })
        .collect()
}

/// A mean of shares is never above the whole, so nothing is cut off here.
fn whole_at_most(basis_points: u64) -> Weight {
    u16::try_from(basis_points).ok().and_then(Weight::new).unwrap_or(Weight::WHOLE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nodes(count: usize) -> BTreeSet<Node> {
        (0..count).map(|index| Node(format!("n{index:03}"))).collect()
    }

    fn placed(percent: u8, count: usize) -> Vec<u16> {
        let weights = place(Share::percent(percent), &nodes(count), &BTreeSet::new(), false);
        weights.values().map(|weight| weight.basis_points()).collect()
    }

    #[test]
    fn the_examples_of_the_design() {
        assert_eq!(placed(10, 1), [1000]);
        assert_eq!(placed(10, 5), [5000]);
        assert_eq!(placed(10, 100), [5000; 20]);
        assert_eq!(placed(50, 5), [5000; 5]);
        assert_eq!(placed(60, 5), [6000; 5]);
        assert_eq!(placed(100, 3), [10_000; 3]);
        assert_eq!(placed(10, 0), [0; 0]);
    }

    #[test]
    fn the_remainder_goes_to_the_first() {
        let share = Share::new(3333).unwrap();
        let weights = place(share, &nodes(4), &BTreeSet::new(), false);
        let weights: Vec<u16> = weights.values().map(|weight| weight.basis_points()).collect();
        assert_eq!(weights, [4444, 4444, 4444]);
        let share = Share::new(1).unwrap();
        let weights = place(share, &nodes(3), &BTreeSet::new(), false);
        assert_eq!(weights.values().next().unwrap().basis_points(), 3);
    }

    #[test]
    fn spread_puts_the_share_on_every_node() {
        let weights = place(Share::percent(10), &nodes(5), &BTreeSet::new(), true);
        assert_eq!(weights.len(), 5);
        assert!(weights.values().all(|weight| *weight == Weight::percent(10)));
    }

    proptest! {
        #[test]
        fn the_sum_is_exact_the_half_is_kept_and_the_last_step_is_included(
            count in 1_usize..120,
            mask in any::<u128>(),
            basis_points in 1_u16..=WHOLE,
            spread in any::<bool>(),
        ) {
            let share = Share::new(basis_points).unwrap();
            let ready = nodes(count);
            let before: BTreeSet<Node> = ready
                .iter()
                .enumerate()
                .filter(|(index, _)| mask >> index & 1 == 1)
                .map(|(_, node)| node.clone())
                .collect();
            let weights = place(share, &ready, &before, spread);
            let sum: u64 = weights.values().map(|weight| u64::from(weight.basis_points())).sum();
            prop_assert_eq!(sum, u64::from(basis_points) * count as u64);
            prop_assert!(before.iter().all(|node| weights.contains_key(node)));
            let most = weights.values().max().unwrap().basis_points();
            let least = weights.values().min().unwrap().basis_points();
            prop_assert!(most - least <= 1);
            if basis_points <= WHOLE / 2 {
                prop_assert!(most <= WHOLE / 2);
            } else {
                prop_assert_eq!(weights.len(), count);
            }
        }
    }
}
