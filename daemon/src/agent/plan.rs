//! From an assignment and what runs to what is next: pure, one module at a time.
//!
//! An assignment never leaves a gap: what served as stable stands in, with stable's weight, until the new stable is ready.
//! A candidate gets its own weight when it is ready, and not before.

use std::collections::{BTreeMap, BTreeSet};

use hot_rollout::{Assignment, ReleaseNumber, Role, Weight};

/// A release's part in the traffic of a module on this node.
pub(crate) type Serving = (ReleaseNumber, Role, Weight);

/// Where the instance of a release is, as far as a plan cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its host starts.
    Starting,
    /// It can be given traffic.
    Ready,
    /// It ended or is ending, and is not to be started again before some time has passed.
    Resting,
    /// It was told to stop and finishes what it has.
    Stopping,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Releases to start.
    pub start: Vec<ReleaseNumber>,
    /// Who is to have traffic from now on. Weights sum up to 10,000 or the list is empty of weight.
    pub serve: Vec<Serving>,
    /// Releases to drain and stop.
    pub stop: Vec<ReleaseNumber>,
    /// The assignment is true: all that has weight has it, and is ready or is a stable that failed, whether or not
    /// something stands in for it. That one is tried again by and by; whoever waits for it would wait for what may never
    /// come.
    pub applied: bool,
}

/// What is next for `wanted`, given the stage of each release that has an instance and what serves now.
pub(crate) fn plan(
    wanted: &Assignment,
    stages: &BTreeMap<ReleaseNumber, Stage>,
    serving: &[Serving],
) -> Plan {
    let wanted: Vec<Serving> = wanted.weights();
    let ready = |release: &ReleaseNumber| stages.get(release) == Some(&Stage::Ready);
    let failed = |release: &ReleaseNumber| stages.get(release) == Some(&Stage::Resting);
    let shares = without_unready_candidate(&wanted, ready);
    let stable_is_ready = wanted.iter().all(|(release, role, _)| *role != Role::Stable || ready(release));
    let stands_in = if stable_is_ready { None } else { former_stable(serving, &wanted, ready) };
    let applied = shares == wanted
        && wanted.iter().all(|(release, role, weight)| {
            *weight == Weight::ZERO || ready(release) || (*role == Role::Stable && failed(release))
        });
    let serve = stands_in.map_or_else(|| shares.clone(), |former| with_stand_in(former, &shares));
    let kept: BTreeSet<ReleaseNumber> = wanted
        .iter()
        .map(|(release, ..)| *release)
        .chain(serve.iter().map(|(release, ..)| *release))
        .collect();
    Plan {
        start: wanted
            .iter()
            .map(|(release, ..)| *release)
            .filter(|release| !stages.contains_key(release))
            .collect(),
        stop: stages
            .iter()
            .filter(|(release, stage)| !kept.contains(release) && **stage != Stage::Stopping)
            .map(|(release, _)| *release)
            .collect(),
        serve,
        applied,
    }
}

/// The same releases; a candidate that is not ready has no weight, and stable the whole.
fn without_unready_candidate(wanted: &[Serving], ready: impl Fn(&ReleaseNumber) -> bool) -> Vec<Serving> {
    let candidate_ready = wanted
        .iter()
        .all(|(release, role, weight)| *role != Role::Candidate || *weight == Weight::ZERO || ready(release));
    wanted
        .iter()
        .map(|(release, role, weight)| match role {
            Role::Stable if !candidate_ready => (*release, *role, Weight::WHOLE),
            Role::Candidate if !candidate_ready => (*release, *role, Weight::ZERO),
            Role::Stable | Role::Candidate | Role::Standby => (*release, *role, *weight),
        })
        .collect()
}

/// What served as stable, where it is still ready and is not what is tried now: it stands in for stable, which is not. A
/// candidate that is no longer wanted never does, even if it had all traffic: requests wait for stable instead.
fn former_stable(
    serving: &[Serving],
    wanted: &[Serving],
    ready: impl Fn(&ReleaseNumber) -> bool,
) -> Option<ReleaseNumber> {
    let tried =
        |release| wanted.iter().any(|(wanted, role, _)| *wanted == release && *role == Role::Candidate);
    let former = |(release, role, _): &&Serving| *role == Role::Stable && ready(release) && !tried(*release);
    serving.iter().find(former).map(|(release, ..)| *release)
}

/// `former` has stable's weight. The candidate keeps its own, so that a push which is to mend stable gets on.
fn with_stand_in(former: ReleaseNumber, shares: &[Serving]) -> Vec<Serving> {
    let others = shares.iter().filter(|(release, ..)| *release != former).map(|share| match *share {
        (release, Role::Stable, _) => (release, Role::Standby, Weight::ZERO),
        other => other,
    });
    let stable = shares.iter().find(|(_, role, _)| *role == Role::Stable);
    let weight = stable.map_or(Weight::ZERO, |(_, _, weight)| *weight);
    std::iter::once((former, Role::Stable, weight)).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use hot_rollout::{Candidate, FastLimits, Millis, Policy, Revision, Standby};
    use proptest::prelude::*;

    use super::*;

    const R1: ReleaseNumber = ReleaseNumber(1);
    const R2: ReleaseNumber = ReleaseNumber(2);

    fn weight(percent: u16) -> Weight {
        Weight::percent(u8::try_from(percent).unwrap())
    }

    fn wanted(stable: Option<u64>, candidate: Option<(u64, u16)>, standby: Option<u64>) -> Assignment {
        Assignment {
            module: "greeter".into(),
            revision: Revision(1),
            rollout: "ro-1".into(),
            stable: stable.map(ReleaseNumber),
            candidate: candidate.map(|(release, percent)| Candidate {
                release: ReleaseNumber(release),
                weight: weight(percent),
                limits: FastLimits::of(&Policy::default()),
                expiry: Millis::seconds(60),
            }),
            standby: standby
                .map(|release| Standby { release: ReleaseNumber(release), keep: Millis::seconds(600) }),
        }
    }

    fn stages(of: &[(u64, Stage)]) -> BTreeMap<ReleaseNumber, Stage> {
        of.iter().map(|(release, stage)| (ReleaseNumber(*release), *stage)).collect()
    }

    fn shares(plan: &Plan) -> Vec<(u64, u16)> {
        plan.serve.iter().map(|(release, _, weight)| (release.0, weight.basis_points())).collect()
    }

    #[test]
    fn a_first_release_is_started_without_traffic_and_then_has_all() {
        let first = plan(&wanted(None, Some((1, 0)), None), &stages(&[]), &[]);
        assert_eq!((first.start, first.applied), (vec![R1], true));
        let starting =
            plan(&wanted(None, Some((1, 100)), None), &stages(&[(1, Stage::Starting)]), &first.serve);
        assert_eq!((shares(&starting), starting.applied), (vec![(1, 0)], false));
        assert!(starting.start.is_empty());
        let ready = plan(&wanted(None, Some((1, 100)), None), &stages(&[(1, Stage::Ready)]), &starting.serve);
        assert_eq!((shares(&ready), ready.applied), (vec![(1, 10_000)], true));
        let failed = plan(&wanted(None, None, None), &stages(&[(1, Stage::Ready)]), &ready.serve);
        assert_eq!((failed.serve, failed.stop, failed.applied), (vec![], vec![R1], true));
    }

    #[test]
    fn a_candidate_has_its_weight_only_while_it_is_ready() {
        let wanted = wanted(Some(1), Some((2, 10)), None);
        let before = [(R1, Role::Stable, Weight::WHOLE)];
        let starting = plan(&wanted, &stages(&[(1, Stage::Ready), (2, Stage::Starting)]), &before);
        assert_eq!((shares(&starting), starting.applied), (vec![(1, 10_000), (2, 0)], false));
        let ready = plan(&wanted, &stages(&[(1, Stage::Ready), (2, Stage::Ready)]), &starting.serve);
        assert_eq!((shares(&ready), ready.applied), (vec![(1, 9_000), (2, 1_000)], true));
    }

    /// Requests that stable lost wait for its next instance; the candidate gets no more than its share.
    #[test]
    fn stable_that_crashed_keeps_its_weight() {
        let wanted = wanted(Some(1), Some((2, 10)), None);
        let before = [(R1, Role::Stable, weight(90)), (R2, Role::Candidate, weight(10))];
        let crashed = plan(&wanted, &stages(&[(1, Stage::Resting), (2, Stage::Ready)]), &before);
        assert_eq!(shares(&crashed), [(1, 9_000), (2, 1_000)]);
        assert!(crashed.start.is_empty() && crashed.stop.is_empty() && crashed.applied);
        let rested = plan(&wanted, &stages(&[(2, Stage::Ready)]), &crashed.serve);
        assert_eq!((rested.start, rested.applied), (vec![R1], false));
    }

    /// A rollout must be able to go on, and back, beside a stable that cannot run any more.
    #[test]
    fn a_stable_that_failed_is_not_waited_for_and_one_that_starts_is() {
        let alone = wanted(Some(1), None, None);
        let before = [(R1, Role::Stable, weight(90)), (R2, Role::Candidate, weight(10))];
        for (stage, applied) in [(Stage::Starting, false), (Stage::Resting, true)] {
            let back = plan(&alone, &stages(&[(1, stage), (2, Stage::Ready)]), &before);
            assert_eq!((shares(&back), back.stop, back.applied), (vec![(1, 10_000)], vec![R2], applied));
        }
        // Nor if what served before stands in for it.
        let rollback = wanted(Some(1), None, Some(2));
        let before = [(R2, Role::Stable, Weight::WHOLE)];
        for (stage, applied) in [(Stage::Starting, false), (Stage::Resting, true)] {
            let stands_in = plan(&rollback, &stages(&[(1, stage), (2, Stage::Ready)]), &before);
            assert_eq!((shares(&stands_in), stands_in.applied), (vec![(2, 10_000), (1, 0)], applied));
        }
        // A candidate is never taken for one that failed: it has weight only while it is ready.
        let tried = wanted(Some(1), Some((2, 10)), None);
        assert!(!plan(&tried, &stages(&[(1, Stage::Ready), (2, Stage::Resting)]), &before).applied);
    }

    #[test]
    fn a_rollback_without_a_standby_serves_until_its_target_is_ready() {
        let wanted = wanted(Some(1), None, Some(2));
        let before = [(R2, Role::Stable, Weight::WHOLE)];
        let cold = plan(&wanted, &stages(&[(2, Stage::Ready)]), &before);
        assert_eq!((shares(&cold), cold.start.clone()), (vec![(2, 10_000), (1, 0)], vec![R1]));
        assert!(cold.stop.is_empty() && !cold.applied);
        let warm = plan(&wanted, &stages(&[(1, Stage::Ready), (2, Stage::Ready)]), &cold.serve);
        assert_eq!((shares(&warm), warm.applied), (vec![(1, 10_000), (2, 0)], true));
        assert!(warm.stop.is_empty());
    }

    /// A rollback to 1 had begun and could not be finished: 2 stands in. A push of 3 is to mend that.
    #[test]
    fn what_stands_in_for_a_stable_that_failed_leaves_a_candidate_its_share() {
        let before = [(R2, Role::Stable, Weight::WHOLE), (R1, Role::Standby, Weight::ZERO)];
        let down = [(1, Stage::Resting), (2, Stage::Ready)];
        let with = |stage| stages(&[down[0], down[1], (3, stage)]);
        let starting = plan(&wanted(Some(1), Some((3, 10)), None), &with(Stage::Starting), &before);
        assert_eq!((shares(&starting), starting.applied), (vec![(2, 10_000), (1, 0), (3, 0)], false));
        let tried = plan(&wanted(Some(1), Some((3, 10)), None), &with(Stage::Ready), &starting.serve);
        assert_eq!((shares(&tried), tried.applied), (vec![(2, 9_000), (1, 0), (3, 1_000)], true));
        let all = plan(&wanted(Some(1), Some((3, 100)), None), &with(Stage::Ready), &tried.serve);
        assert_eq!((shares(&all), all.applied), (vec![(2, 0), (1, 0), (3, 10_000)], true));
        assert!(all.stop.is_empty(), "taken back now, it has somewhere to go");
        let back = plan(&wanted(Some(1), None, None), &with(Stage::Ready), &all.serve);
        assert_eq!((shares(&back), back.stop), (vec![(2, 10_000), (1, 0)], vec![ReleaseNumber(3)]));
        let promoted = plan(&wanted(Some(3), None, Some(1)), &with(Stage::Ready), &all.serve);
        assert_eq!((shares(&promoted), promoted.stop), (vec![(3, 10_000), (1, 0)], vec![R2]));
        // As soon as stable is ready, it serves by itself.
        let mended = stages(&[(1, Stage::Ready), (2, Stage::Ready), (3, Stage::Ready)]);
        let mended = plan(&wanted(Some(1), Some((3, 10)), None), &mended, &tried.serve);
        assert_eq!((shares(&mended), mended.stop), (vec![(1, 9_000), (3, 1_000)], vec![R2]));
    }

    #[test]
    fn a_promotion_keeps_what_served_until_the_new_stable_is_ready() {
        let before = [(R1, Role::Stable, weight(90)), (R2, Role::Candidate, weight(10))];
        let next = plan(
            &wanted(Some(2), None, Some(1)),
            &stages(&[(1, Stage::Ready), (2, Stage::Starting)]),
            &before,
        );
        assert_eq!((shares(&next), next.applied), (vec![(1, 10_000), (2, 0)], false));
    }

    /// At 100% the candidate has all traffic; taken back while stable restarts it must still lose it.
    #[test]
    fn a_candidate_that_is_not_wanted_keeps_no_traffic() {
        let before = [(R1, Role::Stable, Weight::ZERO), (R2, Role::Candidate, Weight::WHOLE)];
        let back = plan(&wanted(Some(1), None, None), &stages(&[(2, Stage::Ready)]), &before);
        assert_eq!((shares(&back), back.start, back.stop), (vec![(1, 10_000)], vec![R1], vec![R2]));
    }

    #[test]
    fn a_standby_that_is_let_go_is_stopped() {
        let ready = stages(&[(1, Stage::Ready), (2, Stage::Ready)]);
        let serving = [(R2, Role::Stable, Weight::WHOLE), (R1, Role::Standby, Weight::ZERO)];
        assert!(plan(&wanted(Some(2), None, Some(1)), &ready, &serving).stop.is_empty());
        assert_eq!(plan(&wanted(Some(2), None, None), &ready, &serving).stop, [R1]);
    }

    fn stage() -> impl Strategy<Value = Stage> {
        prop_oneof![Just(Stage::Starting), Just(Stage::Ready), Just(Stage::Resting), Just(Stage::Stopping)]
    }

    /// An assignment of different releases.
    fn any_wanted() -> impl Strategy<Value = Assignment> {
        (prop::option::of(1_u64..3), prop::option::of((3_u64..5, 0_u16..=100)), prop::option::of(5_u64..7))
            .prop_map(|(stable, candidate, standby)| {
                // Without stable a candidate has all or nothing.
                let candidate = candidate.map(|(release, percent)| match stable {
                    Some(_) => (release, percent),
                    None => (release, if percent > 50 { 100 } else { 0 }),
                });
                wanted(stable, candidate, standby.filter(|_| stable.is_some()))
            })
    }

    proptest! {
        #[test]
        fn any_sequence_of_plans_is_sound(
            rounds in prop::collection::vec(
                (any_wanted(), prop::collection::btree_map((1_u64..7).prop_map(ReleaseNumber), stage(), 0..6)),
                1..6,
            )
        ) {
            let mut serving: Vec<Serving> = Vec::new();
            for (wanted, stages) in rounds {
                let next = plan(&wanted, &stages, &serving);
                let sum: u32 = next.serve.iter().map(|(.., weight)| u32::from(weight.basis_points())).sum();
                prop_assert!(sum == 0 || sum == 10_000, "{sum}");
                let roles = wanted.weights();
                for (release, _, weight) in &next.serve {
                    let served_well = serving.iter().any(|(served, role, _)| {
                        served == release && *role == Role::Stable && stages.get(release) == Some(&Stage::Ready)
                    });
                    let is_wanted = roles.iter().any(|(wanted, ..)| wanted == release);
                    prop_assert!(*weight == Weight::ZERO || is_wanted || served_well);
                    prop_assert!(!next.stop.contains(release), "what serves is not stopped");
                }
                prop_assert!(next.start.iter().all(|release| !stages.contains_key(release)));
                if next.applied {
                    let share = |of: &[Serving], role: Role| -> Vec<Weight> {
                        of.iter().filter(|(_, its, _)| *its == role).map(|(.., weight)| *weight).collect()
                    };
                    for role in [Role::Stable, Role::Candidate] {
                        prop_assert_eq!(share(&next.serve, role), share(&roles, role));
                    }
                    let failed = wanted.stable.is_some_and(|stable| stages.get(&stable) == Some(&Stage::Resting));
                    let is_idle = share(&roles, Role::Stable) == [Weight::ZERO];
                    prop_assert!(next.serve == roles || failed || is_idle);
                }
                serving = next.serve;
            }
        }
    }
}
