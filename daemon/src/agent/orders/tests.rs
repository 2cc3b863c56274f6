use hot_rollout::{Candidate, FastLimits, Millis, Policy, Weight};

use super::*;

const R1: ReleaseNumber = ReleaseNumber(1);
const R2: ReleaseNumber = ReleaseNumber(2);

fn given(revision: u64, rollout: &str, stable: u64, candidate: Option<u64>) -> Assignment {
    Assignment {
        module: "greeter".into(),
        revision: Revision(revision),
        rollout: rollout.into(),
        stable: Some(ReleaseNumber(stable)),
        candidate: candidate.map(|release| Candidate {
            release: ReleaseNumber(release),
            weight: Weight::percent(10),
            limits: FastLimits::of(&Policy::default()),
            expiry: Millis::seconds(60),
        }),
        standby: None,
    }
}

fn with_standby(of: Assignment, release: u64, keep: Millis) -> Assignment {
    Assignment { standby: Some(Standby { release: ReleaseNumber(release), keep }), ..of }
}

/// Orders whose one assignment came at the time that is returned.
fn orders(assignment: Assignment) -> (Orders, Instant) {
    let (mut orders, now) = (Orders::default(), Instant::now());
    assert!(orders.accept(assignment, now));
    (orders, now)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn crash() -> Cause {
    Cause::Crashed { signal: 11, text: String::new() }
}

#[test]
fn the_highest_revision_counts_and_the_same_again_renews() {
    let (mut orders, now) = orders(given(5, "a", 1, Some(2)));
    let later = now + seconds(9);
    assert!(!orders.accept(given(4, "a", 1, None), later));
    assert_eq!(orders.unrenewed(later), seconds(9), "an older one renews nothing");
    assert!(!orders.accept(given(5, "a", 1, None), later), "one revision has one content");
    assert_eq!((orders.unrenewed(later), orders.candidate()), (seconds(0), Some(R2)));
    orders.renew(Revision(4), later + seconds(1));
    assert_eq!(orders.unrenewed(later + seconds(1)), seconds(1));
    orders.renew(Revision(5), later + seconds(1));
    assert_eq!(orders.unrenewed(later + seconds(1)), seconds(0));
    assert!(orders.accept(given(6, "a", 1, None), later));
    assert_eq!(orders.candidate(), None);
}

#[test]
fn a_restart_does_not_prolong_a_candidate() {
    let (mut orders, now) = (Orders::default(), Instant::now());
    orders.recover(Obeyed::whole(given(5, "a", 1, Some(2))), now);
    assert_eq!(orders.unrenewed(now), seconds(60));
    assert!(orders.accept(given(6, "a", 1, Some(2)), now));
    assert_eq!(orders.unrenewed(now), seconds(0));
}

#[test]
fn what_was_taken_back_stays_back_for_its_rollout() {
    let (mut orders, now) = orders(given(5, "a", 1, Some(2)));
    assert_eq!(orders.take_back(crash()), Some(Revision(5)));
    assert_eq!(orders.take_back(crash()), None);
    assert!(!orders.is_whole(), "it is not to be called applied");
    assert!(!orders.accept(given(6, "a", 1, Some(2)), now));
    assert_eq!(orders.candidate(), None);
    assert!(orders.accept(given(7, "a", 1, None), now));
    assert!(orders.took_back.is_some(), "it is said until another rollout begins");
    assert!(orders.is_whole());
    assert!(orders.accept(given(8, "b", 1, Some(2)), now));
    assert!(orders.took_back.is_none());
}

#[test]
fn what_was_taken_back_stays_back_over_a_restart() {
    let (mut orders, now) = orders(given(5, "a", 1, Some(2)));
    orders.take_back(crash());
    let mut next = Orders::default();
    next.recover(orders.obeyed().unwrap(), now);
    assert!(!next.is_whole());
    assert!(!next.accept(given(22, "a", 1, Some(2)), now), "the rollout that was resumed gives it again");
    assert_eq!((next.candidate(), next.took_back.map(|it| it.revision)), (None, Some(Revision(5))));
}

#[test]
fn a_standby_that_is_kept_over_a_trial_is_written_down() {
    let (mut orders, now) = orders(with_standby(given(5, "a", 2, None), 1, Millis::seconds(600)));
    let next = orders.with(given(6, "b", 2, Some(3)).into(), now).unwrap();
    assert_eq!(next.assignment.standby.map(|standby| standby.release), Some(R1));
    assert_eq!(orders.assignment.as_ref().map(|it| it.revision), Some(Revision(5)), "it is only asked");
    assert!(orders.accept(given(6, "b", 2, Some(3)), now));
    assert_eq!(orders.obeyed(), Some(next));
}

#[test]
fn what_served_stands_in_until_another_stable_has_served() {
    let (mut orders, now) = orders(given(5, "a", 2, None));
    assert_eq!(orders.stands_in, None);
    assert!(orders.accept(given(6, "b", 1, None), now));
    assert_eq!(orders.stands_in, Some(R2));
    // Over a restart, and over a stable that never served.
    let mut next = Orders::default();
    next.recover(orders.obeyed().unwrap(), now);
    assert!(next.accept(given(7, "c", 1, Some(3)), now));
    assert!(next.accept(given(8, "c", 3, None), now));
    assert_eq!(next.stands_in, Some(R2));
    assert!(next.stable_serves() && !next.stable_serves());
    assert!(next.accept(given(9, "d", 2, None), now));
    assert_eq!(next.stands_in, Some(ReleaseNumber(3)));
    assert!(next.accept(given(10, "e", 3, None), now));
    assert_eq!(next.stands_in, None, "it is stable itself");
}

#[test]
fn what_only_expired_may_be_given_again() {
    let (mut orders, now) = orders(given(5, "a", 1, Some(2)));
    orders.take_back(Cause::Expired { after: Millis::seconds(60) });
    assert!(orders.accept(given(6, "a", 1, Some(2)), now));
    assert_eq!((orders.candidate(), orders.took_back.is_none()), (Some(R2), true));
}

#[test]
fn ends_are_those_of_one_candidate() {
    let (mut orders, now) = orders(given(5, "a", 1, Some(2)));
    orders.ends.push(crash());
    assert!(orders.accept(given(6, "a", 1, Some(2)), now));
    assert_eq!(orders.ends.len(), 1);
    assert!(orders.accept(given(7, "b", 1, Some(3)), now));
    assert!(orders.ends.is_empty());
}

#[test]
fn a_person_takes_a_candidate_back_and_it_stays_back() {
    let (mut orders, now) = orders(given(5, "a", 1, Some(2)));
    assert_eq!(orders.turn_back(None, "ada", |_| true, now), Some((R2, R1)));
    assert!(!orders.accept(given(6, "a", 1, Some(2)), now));
    assert_eq!(orders.turn_back(None, "ada", |_| true, now), None, "there is nothing left to take back");
}

#[test]
fn a_person_goes_back_to_a_standby_that_is_ready() {
    let (mut orders, now) = orders(with_standby(given(5, "a", 2, None), 1, Millis::seconds(600)));
    assert_eq!(orders.turn_back(Some(R1), "ada", |_| false, now), None);
    assert_eq!(orders.turn_back(Some(ReleaseNumber(9)), "ada", |_| true, now), None);
    assert_eq!(orders.turn_back(Some(R1), "ada", |_| true, now), Some((R2, R1)));
    let assignment = orders.assignment.as_ref().unwrap();
    assert_eq!((assignment.stable, assignment.standby.map(|it| it.release)), (Some(R1), Some(R2)));
    assert_eq!(orders.standby_left(now + seconds(1)), Some(seconds(599)), "its time begins anew");
}

#[test]
fn a_standby_outlives_a_trial_and_ends_when_its_time_is_up() {
    let (mut orders, now) = orders(with_standby(given(5, "a", 2, None), 1, Millis::seconds(600)));
    assert!(orders.is_applied_now(now) && !orders.is_applied_now(now));
    assert!(!orders.let_standby_go(now + seconds(599)));
    assert!(orders.accept(given(6, "b", 2, Some(3)), now + seconds(100)));
    let kept = orders.assignment.as_ref().unwrap().standby.unwrap();
    assert_eq!((kept.release, kept.keep), (R1, Millis::seconds(500)));
    assert!(orders.standby_left(now + seconds(100)).is_none(), "its time goes on when this is applied");
    assert!(orders.is_applied_now(now + seconds(100)));
    assert!(orders.let_standby_go(now + seconds(600)));
    assert!(!orders.let_standby_go(now + seconds(600)));
    assert_eq!(orders.assignment.as_ref().unwrap().standby, None);
}

/// What etcd has by that revision of it.
fn word(written: i64, assignment: Assignment) -> Word {
    Word { assignment, written: Some(written) }
}

fn local(from: u64, tried: bool, to: u64) -> LocalRollback {
    LocalRollback {
        from: ReleaseNumber(from),
        tried,
        to: ReleaseNumber(to),
        by: "ann".to_owned(),
        at: 1,
        message: String::new(),
    }
}

const KEEP: Millis = Millis::seconds(600);

#[test]
fn what_etcd_has_now_counts_whatever_was_there_before() {
    let (mut orders, now) = (Orders::default(), Instant::now());
    assert!(orders.accept(word(7, given(u64::MAX, "forged", 9, None)), now));
    assert!(orders.accept(word(8, given(3, "a", 1, Some(2))), now), "a lower revision, but a later word");
    assert_eq!((orders.stable(), orders.candidate(), orders.written), (Some(R1), Some(R2), Some(8)));
    assert!(!orders.accept(word(9, given(3, "a", 1, Some(2))), now + seconds(1)), "the same is a renewal");
    assert_eq!((orders.unrenewed(now + seconds(1)), orders.written), (seconds(0), Some(9)));
    assert!(
        orders.accept(word(10, given(3, "forged", 9, None)), now),
        "the same revision with another content"
    );
    assert_eq!(orders.stable(), Some(ReleaseNumber(9)));
}

#[test]
fn what_a_person_went_back_to_alone_stands_until_the_fleet_goes_there() {
    let (mut orders, now) = (Orders::default(), Instant::now());
    assert!(orders.accept(word(1, given(5, "a", 2, None)), now));
    orders.go_back_alone(local(2, false, 1), true, KEEP, now);
    assert_eq!((orders.stable(), orders.standby(), orders.is_whole()), (Some(R1), Some(R2), false));
    // Over a restart as well.
    let mut orders = {
        let mut next = Orders::default();
        next.recover(orders.obeyed().unwrap(), now);
        next
    };
    for other in [given(6, "b", 2, Some(3)), given(7, "b", 3, None), given(8, "c", 1, Some(2))] {
        assert!(!orders.accept(word(2, other), now));
        assert_eq!((orders.stable(), orders.candidate()), (Some(R1), None));
    }
    assert!(orders.accept(word(3, given(9, "d", 1, None)), now), "the fleet went back as well");
    assert_eq!((orders.local.is_none(), orders.is_whole()), (true, true));
}

#[test]
fn another_candidate_beside_what_a_person_went_back_to_is_tried() {
    let (mut orders, now) = (Orders::default(), Instant::now());
    assert!(orders.accept(word(1, given(5, "a", 1, Some(2))), now));
    orders.go_back_alone(local(2, true, 1), true, KEEP, now);
    assert_eq!((orders.stable(), orders.candidate()), (Some(R1), None));
    assert!(matches!(orders.took_back, Some(TookBack { cause: Cause::ByHand { .. }, .. })));
    assert!(!orders.accept(word(2, given(6, "b", 1, Some(2))), now), "the same again");
    assert!(orders.accept(word(3, given(7, "c", 1, Some(3))), now));
    assert!(orders.local.is_none());
}

#[test]
fn what_is_lifted_is_as_before_unless_a_word_came_since() {
    let (mut orders, now) = (Orders::default(), Instant::now());
    assert_eq!(orders.lift(true, KEEP, now), None);
    assert!(orders.accept(word(1, given(5, "a", 2, None)), now));
    orders.go_back_alone(local(2, false, 1), true, KEEP, now);
    assert!(orders.lift(true, KEEP, now).is_some());
    assert_eq!((orders.stable(), orders.written, orders.is_whole()), (Some(R2), None, true));
    orders.go_back_alone(local(2, false, 1), true, KEEP, now);
    assert!(!orders.accept(word(2, given(6, "b", 3, None)), now));
    // Over a restart as well.
    let mut orders = {
        let mut next = Orders::default();
        next.recover(orders.obeyed().unwrap(), now);
        next
    };
    assert!(orders.lift(true, KEEP, now).is_some());
    assert_eq!(
        (orders.stable(), orders.is_whole()),
        (Some(R1), false),
        "not to what the fleet has left by now"
    );
    assert!(orders.accept(word(2, given(6, "b", 3, None)), now));
    assert_eq!((orders.stable(), orders.is_whole()), (Some(ReleaseNumber(3)), true));
}

#[test]
fn the_same_word_once_more_is_taken_after_a_lift() {
    let (mut orders, now) = (Orders::default(), Instant::now());
    assert!(orders.accept(word(1, given(5, "a", 2, None)), now));
    orders.go_back_alone(local(2, false, 1), true, KEEP, now);
    assert!(
        !orders.accept(word(2, given(5, "a", 2, None)), now),
        "as the leader says it again to one that is back"
    );
    assert!(orders.lift(true, KEEP, now).is_some());
    assert_eq!((orders.stable(), orders.is_whole()), (Some(R1), false));
    assert!(orders.accept(word(2, given(5, "a", 2, None)), now));
    assert_eq!((orders.stable(), orders.is_whole()), (Some(R2), true));
}

#[test]
fn what_the_node_took_back_itself_is_what_a_person_leaves_then() {
    let (mut orders, now) = (Orders::default(), Instant::now());
    assert!(orders.accept(word(1, given(5, "a", 1, Some(2))), now));
    orders.take_back(Cause::Expired { after: Millis::seconds(60) });
    assert_eq!((orders.candidate(), orders.trial()), (None, Some(R2)));
    orders.go_back_alone(local(2, true, 1), true, KEEP, now);
    assert!(
        matches!(orders.took_back, Some(TookBack { cause: Cause::ByHand { .. }, .. })),
        "it is not given again"
    );
    assert!(orders.accept(word(2, given(6, "a", 1, None)), now));
    assert_eq!(orders.trial(), None, "the fleet has heard");
}

#[test]
fn what_served_stands_in_for_what_a_person_went_back_to() {
    let (mut orders, now) = (Orders::default(), Instant::now());
    assert!(orders.accept(word(1, given(5, "a", 2, None)), now));
    orders.go_back_alone(local(2, false, 1), false, KEEP, now);
    assert_eq!((orders.stands_in, orders.applied), (Some(R2), None));
}
