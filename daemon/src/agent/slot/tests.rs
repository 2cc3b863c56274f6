use hot_rollout::Revision;

use super::super::resting::Way;
use super::*;

const R1: ReleaseNumber = ReleaseNumber(1);
const R2: ReleaseNumber = ReleaseNumber(2);

fn stable(revision: u64, stable: u64) -> Assignment {
    Assignment {
        module: "greeter".into(),
        revision: Revision(revision),
        rollout: "a".into(),
        stable: Some(ReleaseNumber(stable)),
        candidate: None,
        standby: None,
    }
}

pub(in super::super) fn run(id: u64, release: ReleaseNumber, state: RunState) -> Run {
    Run {
        id: InstanceId(id),
        release,
        version: "1.0.0".parse().unwrap(),
        digest: Sha256::of(b"x"),
        routes: Vec::new(),
        state,
        started: SystemTime::now(),
        ordered: None,
        start_took: None,
        ready: None,
        instance: None,
        isolation: None,
        reason: String::new(),
        lines: Vec::new(),
        denied: Told::default(),
    }
}

fn slot(assignment: Assignment) -> Slot {
    let mut slot = Slot::default();
    assert!(slot.accept(assignment, Instant::now()));
    slot
}

#[test]
fn the_newest_instance_that_is_ready_serves_and_the_others_are_superseded() {
    let mut slot = slot(stable(5, 1));
    slot.runs = vec![
        run(1, R1, RunState::Ready),
        run(2, R1, RunState::Ready),
        run(3, R1, RunState::Starting),
        run(4, R2, RunState::Starting),
    ];
    assert_eq!(slot.run_of(R1).map(|run| run.id), Some(InstanceId(2)));
    assert_eq!(slot.run_of(R2).map(|run| run.id), Some(InstanceId(4)));
    assert_eq!(slot.superseded(), [InstanceId(1)]);
    assert!(slot.is_ready());
}

#[test]
fn a_flip_names_the_instance_that_it_left() {
    let mut slot = slot(stable(5, 2));
    slot.orders.assignment.as_mut().unwrap().standby =
        Some(hot_rollout::Standby { release: R1, keep: Millis::seconds(600) });
    slot.runs = vec![run(10, R1, RunState::Starting), run(11, R2, RunState::Ready)];
    assert!(slot.turn_back(Some(R1), "ada", Instant::now()).is_none(), "it is not ready");
    slot.runs[0].state = RunState::Ready;
    let flip = slot.turn_back(Some(R1), "ada", Instant::now()).unwrap();
    assert_eq!((flip.from, flip.from_instance, flip.to), (R2, Some(InstanceId(11)), R1));
}

#[test]
fn a_flip_is_undone_unless_another_word_was_given_since() {
    let (mut slot, now) = (slot(stable(5, 2)), Instant::now());
    let standby = |release| Some(hot_rollout::Standby { release, keep: Millis::seconds(600) });
    slot.orders.assignment.as_mut().unwrap().standby = standby(R1);
    slot.runs = vec![run(10, R1, RunState::Ready), run(11, R2, RunState::Ready)];
    let before = slot.orders.obeyed();
    let flip = slot.turn_back(Some(R1), "ada", now).unwrap();
    assert_eq!(slot.orders.stable(), Some(R1));
    assert!(slot.undo(&flip, now));
    assert_eq!(slot.orders.obeyed(), before);
    assert!(!slot.undo(&flip, now), "it is undone");

    let flip = slot.turn_back(Some(R1), "ada", now).unwrap();
    assert!(slot.accept(Assignment { standby: standby(R2), ..stable(6, 1) }, now));
    assert!(!slot.undo(&flip, now), "the rollback has begun");
    assert_eq!(slot.orders.stable(), Some(R1));
}

/// A rollback to a release that takes its time to start, and hotd starts anew meanwhile.
#[test]
fn what_served_stands_in_over_a_restart_until_stable_is_ready() {
    let mut first = slot(stable(5, 2));
    assert!(first.accept(stable(6, 1), Instant::now()));
    let mut slot = Slot::default();
    slot.orders.recover(first.orders.obeyed().unwrap(), Instant::now());
    slot.runs = vec![run(1, R1, RunState::Starting), run(2, R2, RunState::Ready)];
    let next = slot.plan().unwrap();
    assert_eq!(next.serve, [(R2, Role::Stable, Weight::WHOLE), (R1, Role::Standby, Weight::ZERO)]);
    slot.runs[0].state = RunState::Ready;
    assert_eq!(slot.plan().unwrap().serve, [(R1, Role::Stable, Weight::WHOLE)]);
    assert!(slot.orders.stable_serves());
    slot.runs[0].state = RunState::Starting;
    assert_eq!(slot.plan().unwrap().serve, [(R1, Role::Stable, Weight::WHOLE)], "one that crashed keeps it");
}

#[test]
fn one_that_rests_is_not_started() {
    let (mut slot, now) = (slot(stable(5, 1)), Instant::now());
    assert_eq!(slot.plan().unwrap().start, [R1]);
    slot.resting.rest(R1, Way::Failed { served: None }, now, 0.5);
    assert_eq!(slot.plan().unwrap().start, []);
    assert!(slot.resting.is_over(now + Duration::from_secs(1), true));
    assert_eq!(slot.plan().unwrap().start, [R1]);
}

/// As one that hangs: it is killed, which may take its time.
#[test]
fn one_that_failed_has_no_traffic_and_rests_although_it_is_not_gone() {
    let (mut slot, now) = (slot(stable(5, 1)), Instant::now());
    slot.runs.push(run(1, R1, RunState::Ready));
    slot.runs[0].state = RunState::Stopping;
    assert_eq!(slot.ended_last(R1).map(|run| run.id), None, "it was told to, and still has what it had");
    slot.runs[0].reason = "did not answer".to_owned();
    slot.resting.rest(R1, Way::Failed { served: None }, now, 0.5);
    assert!(!slot.is_ready() && slot.run_of(R1).is_none());
    assert_eq!(slot.ended_last(R1).map(|run| run.id), Some(InstanceId(1)));
    let plan = slot.plan().unwrap();
    assert_eq!((plan.start, plan.stop, plan.applied), (vec![], vec![], true));
    assert!(slot.unserved(now).unwrap().contains(": the last one did not answer; the next one"));
    assert!(slot.resting.is_over(now + Duration::from_secs(1), true));
    assert_eq!(slot.plan().unwrap().start, [R1], "nor does what is not gone hold the next one up");
}

#[test]
fn a_stable_that_does_not_serve_says_why_and_what_is_next() {
    let (mut slot, now) = (slot(stable(5, 1)), Instant::now());
    slot.runs.push(run(1, R1, RunState::Ready));
    assert_eq!(slot.unserved(now), None);
    slot.runs[0].reason = "crashed with SIGSEGV".to_owned();
    slot.bury(InstanceId(1));
    slot.resting.rest(R1, Way::Failed { served: None }, now, 1.0);
    slot.resting.rest(R1, Way::Failed { served: None }, now, 1.0);
    assert_eq!(
        slot.unserved(now).unwrap(),
        "stable release 1 has no instance that serves: the last one crashed with SIGSEGV; the next one starts in \
         0.5 s"
    );
    slot.runs.push(run(2, R1, RunState::Starting));
    slot.runs.push(run(3, R2, RunState::Ready));
    slot.serving = vec![(R2, Role::Stable, Weight::WHOLE), (R1, Role::Standby, Weight::ZERO)];
    let text = slot.unserved(now).unwrap();
    assert!(text.ends_with("; release 2 serves until then; the next one is starting"), "{text}");
    slot.serving[0].2 = Weight::percent(90);
    let text = slot.unserved(now).unwrap();
    assert!(text.contains("; release 2 serves until then"), "it stands in beside a candidate: {text}");
    slot.serving = vec![(R1, Role::Stable, Weight::percent(90)), (R2, Role::Candidate, Weight::percent(10))];
    let text = slot.unserved(now).unwrap();
    assert!(text.contains("; release 2 serves no more than its 10% of the traffic; the next"), "{text}");
    slot.serving = vec![(R2, Role::Stable, Weight::WHOLE), (R1, Role::Standby, Weight::ZERO)];
    slot.runs[0].state = RunState::Ready;
    assert_eq!(slot.unserved(now), None);
    slot.runs.clear();
    slot.runs.push(run(3, R2, RunState::Ready));
    slot.unlaunched.insert(R1, "was refused: its artifact is gone".to_owned());
    let text = slot.unserved(now).unwrap();
    assert!(text.contains("serves: it was refused: its artifact is gone; release 2"), "{text}");
    slot.resting.rest(R1, Way::Failed { served: None }, now, 1.0);
    let text = slot.unserved(now).unwrap();
    assert!(text.contains("; it is tried again in ") && !text.contains("the next one"), "{text}");
}

#[test]
fn why_a_release_could_not_be_looked_up_is_known_while_it_is_wanted() {
    let mut slot = slot(stable(5, 1));
    for release in [R1, R2] {
        slot.unlaunched.insert(release, "was refused: its artifact is gone".to_owned());
    }
    assert!(slot.accept(stable(6, 1), Instant::now()));
    assert_eq!(slot.unlaunched.keys().collect::<Vec<_>>(), [&R1]);
}

#[test]
fn a_stable_that_went_with_hot_spawn_waits_for_it() {
    let (mut slot, now) = (slot(stable(5, 1)), Instant::now());
    slot.runs.push(run(1, R1, RunState::Ready));
    slot.runs[0].reason = "was lost with hot-spawn".to_owned();
    slot.bury(InstanceId(1));
    slot.resting.wait_for_spawn(R1);
    assert_eq!(
        slot.unserved(now).unwrap(),
        "stable release 1 has no instance that serves: the last one was lost with hot-spawn; the next one starts when \
         hot-spawn is there again"
    );
}

#[test]
fn only_what_is_current_is_kept() {
    let mut slot = slot(stable(5, 1));
    let written = slot.begin_keeping().unwrap();
    assert!(slot.unkept && slot.unwritten.is_none(), "it is only to be written");
    let then = SystemTime::UNIX_EPOCH;
    slot.not_kept("the disk is full".to_owned(), then);
    slot.not_kept("the disk failed".to_owned(), SystemTime::now());
    assert_eq!(slot.unwritten, Some(Unwritten { since: then, why: "the disk failed".to_owned() }));
    assert!(slot.accept(stable(6, 2), Instant::now()));
    slot.kept(&written);
    assert!(slot.unkept && slot.unwritten.is_some(), "what was written is not what counts");
    let written = slot.begin_keeping().unwrap();
    slot.kept(&written);
    assert!(!slot.unkept && slot.unwritten.is_none());
    slot.orders.assignment = None;
    assert!(slot.begin_keeping().is_none() && !slot.unkept, "there is nothing to write");
}

#[test]
fn few_ended_instances_are_remembered() {
    let mut slot = slot(stable(5, 1));
    for id in 0..6 {
        slot.runs.push(run(id, R1, RunState::Ready));
        slot.bury(InstanceId(id));
    }
    assert_eq!(slot.forget_oldest(), [InstanceId(0), InstanceId(1)]);
    assert_eq!(slot.instances().count(), REMEMBERED);
}

#[test]
fn a_module_that_was_removed_begins_anew() {
    let mut slot = slot(stable(5, 1));
    assert!(slot.orders.is_applied_now(Instant::now()));
    slot.runs.push(run(1, R1, RunState::Stopping));
    slot.clear();
    assert!(slot.orders.applied.is_none() && slot.orders.assignment.is_none());
    assert_eq!(slot.runs.len(), 1, "what runs is still followed to its end");
    assert!(slot.accept(stable(1, 1), Instant::now()));
}
