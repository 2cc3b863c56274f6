//! Which nodes carry a share, and how much each.
//!
//! A share is of the fleet, on few nodes, with stable beside it on the same machine. With N ready nodes and a share s,
//! `k = min(N, ceil(2·s·N))` nodes carry `s·N/k` each; when `k = N` all carry s. So up to 50% no node has more than
//! half its traffic on the candidate, and above it every node carries the share.
//!
//! **Rounding.** In basis points the step's total is `s·N`, an integer. It is split over the k nodes as evenly as
//! integers allow: the first `(s·N) mod k` nodes carry one basis point more. The sum is exact and no node exceeds
//! `ceil(s·N/k)`, which is at most half up to a share of 50%.
//!
//! **Failure domains.** Where nodes have a domain each, as a zone, a step's nodes are as evenly over the domains as can be
//! with the last step's among them: the numbers in any two domains differ by one at most, except where a domain has no
//! more nodes, or had more of the last step's. Which nodes carry changes, not how many or how much.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ident::{Labels, Node};
use crate::units::{Share, WHOLE, Weight};

/// What fails together, as a zone: the value of the label by which carriers are spread. `None`: the node has no such
/// label; all of those are one domain.
pub type Domain = Option<String>;

/// Each of `nodes` with its domain: what `labels` say of it under the label `by`. Without one, all are in one domain.
#[must_use]
pub fn domains(
    nodes: &BTreeSet<Node>,
    labels: &BTreeMap<Node, Labels>,
    by: Option<&str>,
) -> BTreeMap<Node, Domain> {
    let none = Labels::new();
    nodes.iter().map(|node| (node.clone(), domain(labels.get(node).unwrap_or(&none), by))).collect()
}

/// The domain of a node with these labels.
pub(crate) fn domain(labels: &Labels, by: Option<&str>) -> Domain {
    labels.get(by?).cloned()
}

/// Whether what is for nodes with the labels `on`, all of them, is for one with these `labels`.
#[must_use]
pub fn is_for(on: &Labels, labels: &Labels) -> bool {
    on.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// The weight of the candidate on each node that carries it.
///
/// `ready` are the nodes that can carry a candidate now, each with its failure domain, `before` those that carried the
/// last step: they are taken first, even where fewer would do by now. The others follow from the domains in turn: the
/// next is from the domain that has the fewest so far, in the order of the domains' names and in it of the nodes', so that
/// it can be told beforehand who is next. Nodes without a domain come after those of the others. `spread` puts the share on
/// every node. The result is empty only if `ready` is or the share is zero.
#[must_use]
pub fn place(
    share: Share,
    ready: &BTreeMap<Node, Domain>,
    before: &BTreeSet<Node>,
    spread: bool,
) -> BTreeMap<Node, Weight> {
    let count = ready.len() as u64;
    if count == 0 || share == Share::ZERO {
        return BTreeMap::new();
    }
    let total = u64::from(share.basis_points()) * count;
    let carried: Vec<&Node> = ready.keys().filter(|node| before.contains(*node)).collect();
    let wanted = if spread { count } else { (2 * total).div_ceil(u64::from(WHOLE)).min(count) };
    let carriers = wanted.max(carried.len() as u64);
    let (each, more) = (total / carriers, total % carriers);
    carried
        .into_iter()
        .chain(in_turn(ready, before))
        .zip(0..carriers)
        .map(|(node, index)| {
            let basis_points = each + u64::from(index < more);
            (node.clone(), whole_at_most(basis_points))
        })
        .collect()
}

/// The nodes that did not carry before, each from the domain that has the fewest until then.
fn in_turn<'a>(ready: &'a BTreeMap<Node, Domain>, before: &BTreeSet<Node>) -> impl Iterator<Item = &'a Node> {
    let mut have: BTreeMap<(bool, &str), usize> = BTreeMap::new();
    let mut others: BTreeMap<(bool, &str), VecDeque<&Node>> = BTreeMap::new();
    for (node, domain) in ready {
        // Who is in none comes last.
        let domain = (domain.is_none(), domain.as_deref().unwrap_or_default());
        if before.contains(node) {
            *have.entry(domain).or_default() += 1;
        } else {
            others.entry(domain).or_default().push_back(node);
        }
    }
    let mut turns: BTreeSet<(usize, (bool, &str))> =
        others.keys().map(|domain| (have.get(domain).copied().unwrap_or(0), *domain)).collect();
    std::iter::from_fn(move || {
        loop {
            let (count, domain) = turns.pop_first()?;
            if let Some(node) = others.get_mut(&domain).and_then(VecDeque::pop_front) {
                turns.insert((count + 1, domain));
                return Some(node);
            }
        }
    })
}

/// A mean of shares is never above the whole, so nothing is cut off here.
fn whole_at_most(basis_points: u64) -> Weight {
    u16::try_from(basis_points).ok().and_then(Weight::new).unwrap_or(Weight::WHOLE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nodes(count: usize) -> BTreeMap<Node, Domain> {
        (0..count).map(|index| (Node(format!("n{index:03}")), None)).collect()
    }

    /// `a:3 b:1 -:2`: so many nodes in each domain, `-` for those in none.
    fn zones(text: &str) -> BTreeMap<Node, Domain> {
        let zones = text.split(' ').map(|zone| zone.split_once(':').unwrap());
        zones
            .flat_map(|(zone, count)| {
                let domain = (zone != "-").then(|| zone.to_owned());
                (0..count.parse().unwrap())
                    .map(move |index: usize| (Node(format!("{zone}{index}")), domain.clone()))
            })
            .collect()
    }

    fn carriers(share: u8, ready: &BTreeMap<Node, Domain>, before: &[&str]) -> Vec<String> {
        let before = before.iter().copied().map(Node::from).collect();
        place(Share::percent(share), ready, &before, false).into_keys().map(|node| node.0).collect()
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

    #[test]
    fn domains_carry_in_turn() {
        let ready = zones("a:4 b:4 c:4");
        assert_eq!(carriers(10, &ready, &[]), ["a0", "b0", "c0"]);
        assert_eq!(carriers(20, &ready, &["a0", "b0", "c0"]), ["a0", "a1", "b0", "b1", "c0"]);
        assert_eq!(carriers(20, &ready, &["c1", "c2", "c3"]), ["a0", "b0", "c1", "c2", "c3"]);
        assert_eq!(carriers(25, &zones("a:1 b:7 c:4"), &[]), ["a0", "b0", "b1", "b2", "c0", "c1"]);
    }

    #[test]
    fn nodes_without_the_label_are_one_domain_and_the_last() {
        assert_eq!(carriers(12, &zones("-:8 a:1 b:1"), &[]), ["-0", "a0", "b0"]);
        assert_eq!(carriers(10, &zones("-:8 a:1 b:1"), &[]), ["a0", "b0"]);
    }

    #[test]
    fn a_release_is_for_the_nodes_that_have_all_of_its_labels() {
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let node = labels(&[("zone", "a"), ("disk", "fast")]);
        assert!(is_for(&labels(&[]), &node) && is_for(&labels(&[]), &labels(&[])));
        assert!(is_for(&labels(&[("zone", "a")]), &node));
        assert!(is_for(&node, &node));
        assert!(!is_for(&labels(&[("zone", "b")]), &node));
        assert!(!is_for(&labels(&[("zone", "a"), ("rack", "1")]), &node));
        assert!(!is_for(&labels(&[("zone", "a")]), &labels(&[])));
    }

    #[test]
    fn a_domain_is_what_the_label_says() {
        let (a, b) = (Node::from("a"), Node::from("b"));
        let labels = BTreeMap::from([(a.clone(), Labels::from([("zone".to_owned(), "1".to_owned())]))]);
        let of = |by| domains(&BTreeSet::from([a.clone(), b.clone()]), &labels, by);
        assert_eq!(of(Some("zone")), [(a.clone(), Some("1".to_owned())), (b.clone(), None)].into());
        assert_eq!(of(Some("rack")), [(a.clone(), None), (b.clone(), None)].into());
        assert_eq!(of(None), of(Some("rack")));
    }

    proptest! {
        #[test]
        fn domains_have_the_same_number_where_they_have_room(
            of in prop::collection::vec(prop::option::weighted(0.9, 0_u8..5), 1..60),
            basis_points in 1_u16..=WHOLE,
        ) {
            let name = |index| Node(format!("n{index:03}"));
            let named = of.iter().enumerate();
            let ready: BTreeMap<Node, Domain> =
                named.map(|(index, zone)| (name(index), zone.map(|zone| zone.to_string()))).collect();
            let weights = place(Share::new(basis_points).unwrap(), &ready, &BTreeSet::new(), false);
            let plain = place(Share::new(basis_points).unwrap(), &nodes(of.len()), &BTreeSet::new(), false);
            prop_assert_eq!(weights.len(), plain.len(), "as many as without domains");
            let mut count: BTreeMap<&Domain, (usize, usize)> = BTreeMap::new();
            for (node, domain) in &ready {
                let (carry, all) = count.entry(domain).or_default();
                *carry += usize::from(weights.contains_key(node));
                *all += 1;
            }
            let most = count.values().map(|(carry, _)| *carry).max().unwrap();
            for (carry, all) in count.values() {
                prop_assert!(*carry == *all || most - carry <= 1, "{:?}", count);
            }
        }

        #[test]
        fn the_sum_is_exact_the_half_is_kept_and_the_last_step_is_included(
            count in 1_usize..120,
            mask in any::<u128>(),
            basis_points in 1_u16..=WHOLE,
            spread in any::<bool>(),
            zones in 1_usize..6,
        ) {
            let share = Share::new(basis_points).unwrap();
            let mut ready = nodes(count);
            for (index, domain) in ready.values_mut().enumerate() {
                *domain = Some(index % zones).filter(|zone| *zone > 0).map(|zone| zone.to_string());
            }
            let before: BTreeSet<Node> = ready
                .keys()
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
