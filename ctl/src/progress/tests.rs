use super::*;

#[test]
fn a_change_is_told_once() {
    let before = examples::baking();
    assert_eq!(change(None, &before).as_deref(), Some("greeter 1.1.0: baking at 10%, step 1 of 3, for 30s"));
    let mut now = before.clone();
    now.bake_left = None;
    now.modules[0].candidate_figures = None;
    assert_eq!(change(Some(&before), &now), None, "figures and time are no change");
    now.waiting_on = "12 more requests".to_owned();
    assert_eq!(
        change(Some(&before), &now).as_deref(),
        Some("greeter 1.1.0: baking at 10%, step 1 of 3, for 30s; 12 more requests")
    );
    let mut later = now.clone();
    later.waiting_on = "9 more requests".to_owned();
    assert_eq!(change(Some(&now), &later), None, "a count down is no change");
    now.waiting_on = "holding: 9 of 20; goes on with what there is in 1m1s".to_owned();
    later.waiting_on = "holding: 10 of 20; goes on with what there is in 59s".to_owned();
    assert_eq!(change(Some(&now), &later), None, "nor is one that loses a unit");
    later.set_phase(Phase::RollingBack);
    later.reason = "errors 5.00% > 1.00%".to_owned();
    later.waiting_on = String::new();
    assert_eq!(
        change(Some(&now), &later).as_deref(),
        Some("greeter 1.1.0: rolling back: errors 5.00% > 1.00%")
    );
    later.set_phase(Phase::Superseded);
    later.reason = "superseded by rollout r-8".to_owned();
    assert_eq!(change(Some(&now), &later).as_deref(), Some("greeter 1.1.0: superseded by rollout r-8"));
}

#[test]
fn headlines() {
    let mut rollout = examples::baking();
    rollout.set_phase(Phase::Starting);
    rollout.step = 1;
    assert_eq!(headline(&rollout), "starting hosts for 50%, step 2 of 3");
    rollout.set_phase(Phase::Paused);
    rollout.set_paused_in(Phase::Baking);
    assert_eq!(headline(&rollout), "paused at 10% in baking");
    rollout.set_phase(Phase::Preparing);
    assert_eq!(headline(&rollout), "preparing");
    rollout.set_phase(Phase::Baking);
    rollout.step = u32::MAX;
    assert_eq!(headline(&rollout), "baking", "a step that does not exist");
}

#[test]
fn the_block_shows_both_sides() {
    let mut rollout = examples::baking();
    rollout.waiting_on = "30 requests on the candidate".to_owned();
    assert_eq!(
        block(&rollout, 100, false),
        [
            "greeter 1.1.0: baking at 10%, step 1 of 3, for 30s [###########         ] 13s left",
            "  candidate 1.1.0 (2)           120 requests      0 errors  p99 1.25 ms",
            "  stable    1.0.0 (1)          1080 requests      1 errors  p99 1.10 ms",
            "  30 requests on the candidate",
        ]
    );
    assert!(block(&rollout, 40, true).iter().all(|line| line.contains('\x1b') || line.chars().count() < 40));
    assert!(block(&rollout, 40, false).iter().all(|line| line.chars().count() < 40));
    assert_eq!(block(&rollout, 0, false).len(), 4, "a terminal without columns");
    rollout.set_phase(Phase::Preparing);
    rollout.bake_left = None;
    assert_eq!(block(&rollout, 100, false).len(), 2, "no figures before a bake");
}

#[test]
fn the_bar_takes_odd_times() {
    let mut rollout = examples::baking();
    rollout.bake_left = Some(prost_types::Duration { seconds: 99, nanos: 0 });
    assert_eq!(bar(&rollout), format!(" [{}] 30s left", " ".repeat(20)));
    rollout.steps[0].bake = Some(prost_types::Duration { seconds: 0, nanos: 0 });
    assert_eq!(bar(&rollout), format!(" [{}] 0ms left", "#".repeat(20)));
    rollout.bake_left = Some(prost_types::Duration { seconds: -5, nanos: 0 });
    assert_eq!(bar(&rollout), "");
}

#[test]
fn endings_say_what_serves() {
    let mut rollout = examples::baking();
    let mut told = |outcome, reason: &str| {
        rollout.set_outcome(outcome);
        rollout.reason = reason.to_owned();
        ending(&rollout).0
    };
    assert_eq!(told(Outcome::Done, ""), "greeter 1.1.0 (release 2) is stable");
    assert_eq!(
        told(Outcome::RolledBack, "errors 5.00% > 1.00%"),
        "greeter 1.1.0 was taken back: errors 5.00% > 1.00%; greeter 1.0.0 (release 1) serves"
    );
    assert_eq!(
        told(Outcome::Failed, "exited with 3"),
        "greeter 1.1.0 failed: exited with 3; it was the first release, so there is nothing to go back to"
    );
    assert_eq!(
        told(Outcome::Superseded, "superseded by rollout r-8"),
        "greeter 1.1.0 was superseded by rollout r-8"
    );
    assert_eq!(told(Outcome::Superseded, ""), "greeter 1.1.0 was superseded by a later rollout");
}

#[test]
fn nothing_is_said_to_serve_that_does_not() {
    let before = examples::baking();
    let mut rollout = before.clone();
    rollout.modules[0].unserved = "stable release 1 has no instance that serves: it is gone".to_owned();
    let why = "greeter: stable release 1 has no instance that serves: it is gone";
    let line = change(Some(&before), &rollout).expect("a change");
    assert_eq!(line, format!("greeter 1.1.0: baking at 10%, step 1 of 3, for 30s; {why}"));
    assert_eq!(block(&rollout, 100, false).last(), Some(&format!("  {why}")));
    let mut later = rollout.clone();
    later.modules[0].unserved.push_str("; the next one is starting");
    assert_eq!(change(Some(&rollout), &later), None);
    later.set_phase(Phase::Promoting);
    assert_eq!(change(Some(&rollout), &later).as_deref(), Some("greeter 1.1.0: promoting"), "it was told");
    let mut told = |outcome| {
        rollout.set_outcome(outcome);
        ending(&rollout)
    };
    assert_eq!(told(Outcome::Aborted).0, format!("greeter 1.1.0 was aborted; {why}"));
    assert_eq!(told(Outcome::RolledBack).0, format!("greeter 1.1.0 was taken back; {why}"));
    assert_eq!(told(Outcome::Done), (format!("greeter 1.1.0 (release 2) is stable; {why}"), Tone::Warn));
}

#[test]
fn a_node_that_failed_alone_is_told_once_and_at_the_end() {
    let before = examples::baking();
    let mut rollout = before.clone();
    rollout.failed = vec![examples::failed("n3")];
    let why = &examples::failed("n3").reason;
    let line = change(Some(&before), &rollout).expect("a change");
    assert_eq!(line, format!("greeter 1.1.0: baking at 10%, step 1 of 3, for 30s; failed alone: {why}"));
    assert_eq!(block(&rollout, 100, false).last(), Some(&format!("  failed: {why}")));
    let mut later = rollout.clone();
    later.failed.push(examples::failed("n5"));
    later.set_phase(Phase::RollingBack);
    later.reason = format!("2 of 9 nodes failed (n3, n5), at most 1 may: {}", examples::failed("n5").reason);
    let line = change(Some(&rollout), &later).expect("a change");
    assert_eq!(line, format!("greeter 1.1.0: rolling back: {}", later.reason));
    rollout.set_outcome(Outcome::Incomplete);
    let ending = ending(&rollout).0;
    assert!(ending.starts_with(&format!("greeter 1.1.0 is incomplete; failed alone: {why}; ")), "{ending}");
}

#[test]
fn foreign_text_is_cleaned() {
    let mut rollout = examples::baking();
    rollout.reason = "\x1b[2J".to_owned();
    rollout.waiting_on = "\x1b[2J".to_owned();
    rollout.modules[0].module = "\x1b[2J".to_owned();
    rollout.failed = vec![FailedNode { reason: "\x1b[2Jx".to_owned(), ..FailedNode::default() }];
    let all =
        [change(None, &rollout).expect("a change"), block(&rollout, 100, false).concat(), ending(&rollout).0];
    assert!(all.iter().all(|text| !text.contains('\x1b')), "{all:?}");
}

#[test]
fn a_wave_is_named_and_its_nodes_are_no_change() {
    let mut rollout = examples::baking();
    rollout.set_phase(Phase::Starting);
    rollout.nodes = (1..=9).map(|node| format!("n{node}")).collect();
    rollout.carriers = rollout.nodes[..2].to_vec();
    rollout.waiting_on = "waiting for the new release to start and pass its checks on n1, n2".to_owned();
    assert_eq!(
        change(None, &rollout).as_deref(),
        Some(
            "greeter 1.1.0: starting hosts for 10% on n1, n2, step 1 of 3; waiting for the new release to start and pass its \
             checks on n1, n2"
        )
    );
    let mut later = rollout.clone();
    later.waiting_on = "waiting for the new release to start and pass its checks on n2".to_owned();
    assert_eq!(change(Some(&rollout), &later), None, "one node less to wait for");
    rollout.carriers = rollout.nodes[..5].to_vec();
    assert!(
        headline(&rollout).contains("for 10% on n1, n2, n3 and 2 more, step 1 of 3"),
        "{}",
        headline(&rollout)
    );
}
