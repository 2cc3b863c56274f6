//! What several nodes tell, in one order. Pure.
//!
//! Clocks of nodes differ, so an order by time is as good as they agree. What one node tells stays in the order in which it
//! tells it, also where its clock was set back in between.

/// All of it: by time, then by the order of the lists, then by that within a list.
pub(in crate::grpc) fn by_time<T, K: Ord + Copy>(lists: Vec<Vec<T>>, time: impl Fn(&T) -> K) -> Vec<T> {
    let mut all: Vec<(K, T)> = Vec::with_capacity(lists.iter().map(Vec::len).sum());
    for list in lists {
        let mut latest = None;
        for item in list {
            let at = latest.map_or_else(|| time(&item), |latest| time(&item).max(latest));
            latest = Some(at);
            all.push((at, item));
        }
    }
    // It is stable: of the same time, those of the earlier list come first.
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, item)| item).collect()
}

/// The latest `count` of a list.
pub(in crate::grpc) fn latest<T>(mut all: Vec<T>, count: usize) -> Vec<T> {
    all.split_off(all.len().saturating_sub(count))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_are_one_by_time_and_then_by_node() {
        let lists = vec![vec![(1, "a1"), (5, "a2")], vec![], vec![(1, "c1"), (2, "c2"), (7, "c3")]];
        let all: Vec<&str> = by_time(lists, |(at, _)| *at).into_iter().map(|(_, name)| name).collect();
        assert_eq!(all, ["a1", "c1", "c2", "a2", "c3"]);
        assert_eq!(latest(all.clone(), 2), ["a2", "c3"]);
        assert_eq!(latest(all.clone(), 9), all);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_mix_up_its_own_node() {
        let lists = vec![vec![(9, "a1"), (2, "a2"), (10, "a3")], vec![(3, "b1"), (9, "b2")]];
        let all: Vec<&str> = by_time(lists, |(at, _)| *at).into_iter().map(|(_, name)| name).collect();
        assert_eq!(all, ["b1", "a1", "a2", "b2", "a3"]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_each_list_keeps_its_order(
            times in prop::collection::vec(prop::collection::vec(0_u8..20, 0..8), 0..5),
        ) {
            let name = |(list, times): (usize, &Vec<u8>)| {
                times.iter().enumerate().map(|(index, at)| (*at, list, index)).collect::<Vec<_>>()
            };
            let lists: Vec<_> = times.iter().enumerate().map(name).collect();
            let all = by_time(lists.clone(), |(at, ..)| *at);
            for (index, list) in lists.iter().enumerate() {
                let of_it: Vec<_> = all.iter().filter(|(_, list, _)| *list == index).copied().collect();
                prop_assert_eq!(&of_it, list);
            }
            prop_assert_eq!(all.len(), times.iter().map(Vec::len).sum::<usize>());
        }
    }
}
