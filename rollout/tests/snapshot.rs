//! A snapshot is read by daemons of other versions: its format is frozen here.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use hot_rollout::{
    Action, Assignment, Cause, DecodeError, Event, FORMAT, Figures, InstanceState, Labels, Latency, Module,
    Move, Node, Outcome, PhaseName, Policy, PolicySpec, ReleaseNumber, Revision, Rollout, RolloutId, Sample,
    Spec, Time,
};

/// A rollout in the middle of its first step, as format 1 has it. Never change this file: a change of the format gets
/// a new number and a new file, and says what reads what.
const FORMAT_1: &[u8] = include_bytes!("snapshot-format-1.json");

fn baking() -> Rollout {
    let (node, module) = (Node::from("a"), Module::from("greeter"));
    let spec = Spec {
        id: "ro-1".into(),
        by: "ada".to_owned(),
        moves: BTreeMap::from([(
            module.clone(),
            Move { stable: Some(ReleaseNumber(1)), candidate: ReleaseNumber(2) },
        )]),
        nodes: [node.clone()].into(),
        labels: BTreeMap::new(),
        on: Labels::new(),
        policy: Policy::default(),
        revision: Revision(40),
    };
    let (mut rollout, _) = Rollout::start(spec, Time(1_700_000_000_000));
    let figures = |errors, requests| Figures {
        requests,
        errors,
        latency: Latency::from_counts([(5000, requests)]),
        ..Figures::default()
    };
    for event in [
        Event::Prepared { node: node.clone(), module: module.clone() },
        Event::Instance {
            node: node.clone(),
            module: module.clone(),
            release: ReleaseNumber(2),
            state: InstanceState::Ready,
        },
        Event::Applied { node: node.clone(), module: module.clone(), revision: Revision(42), serves: true },
        Event::Sample(Sample {
            node,
            module,
            revision: Revision(42),
            since: Time(1_700_000_000_100),
            until: Time(1_700_000_001_100),
            candidate: figures(1, 20),
            stable: figures(0, 180),
        }),
    ] {
        let _actions = rollout.handle(event, Time(1_700_000_000_500));
    }
    rollout
}

#[test]
fn the_format_is_frozen() {
    let rollout = baking();
    let written = String::from_utf8(rollout.encode().unwrap()).unwrap();
    assert_eq!(written, String::from_utf8_lossy(FORMAT_1).trim_end(), "a changed format needs a new number");
    assert_eq!(Rollout::decode(FORMAT_1).unwrap(), rollout);
}

/// The members that only a policy with waves writes. They came to format 1 later: a version that does not know them passes
/// them over, and where they are missing there is nothing of the kind.
const FORMAT_1_WAVES: &[u8] = include_bytes!("snapshot-format-1-waves.json");

fn wave() -> Rollout {
    let module = Module::from("greeter");
    let nodes = [("a", "x"), ("b", "y"), ("c", "x")].map(|(node, zone)| (Node::from(node), zone));
    let labels = |zone: &str| Labels::from([("zone".to_owned(), zone.to_owned())]);
    let policy = PolicySpec {
        spread_over: Some("zone".to_owned()),
        max_parallel: NonZeroU32::new(1),
        max_failing: 1,
        ..PolicySpec::default()
    };
    let spec = Spec {
        id: "ro-2".into(),
        by: "ada".to_owned(),
        moves: [(module.clone(), Move { stable: Some(ReleaseNumber(1)), candidate: ReleaseNumber(2) })]
            .into(),
        nodes: nodes.iter().map(|(node, _)| node.clone()).collect(),
        labels: nodes.iter().map(|(node, zone)| (node.clone(), labels(zone))).collect(),
        on: Labels::new(),
        policy: Policy::new(policy).expect("a policy"),
        revision: Revision(40),
    };
    let (mut rollout, _) = Rollout::start(spec, Time(1_700_000_000_000));
    for (node, _) in &nodes {
        let prepared = Event::Prepared { node: node.clone(), module: module.clone() };
        let _actions = rollout.handle(prepared, Time(1_700_000_000_100));
    }
    let state = InstanceState::Failed(Cause::Crashed { signal: 11, text: String::new() });
    let crashed = Event::Instance { node: Node::from("a"), module, release: ReleaseNumber(2), state };
    let _actions = rollout.handle(crashed, Time(1_700_000_000_200));
    rollout
}

#[test]
fn what_came_to_the_format_is_frozen_as_well() {
    let rollout = wave();
    let written = String::from_utf8(rollout.encode().unwrap()).unwrap();
    assert_eq!(written, String::from_utf8_lossy(FORMAT_1_WAVES).trim_end());
    assert_eq!(Rollout::decode(FORMAT_1_WAVES).unwrap(), rollout);
    let plain = String::from_utf8(baking().encode().unwrap()).unwrap();
    for member in ["domain", "spread_over", "max_parallel", "max_failing", "failed"] {
        let member = format!("\"{member}\":");
        assert!(written.contains(&member) && !plain.contains(&member), "{member}");
    }
}

#[test]
fn a_newer_format_is_named_and_not_guessed_at() {
    let newer = br#"{"format":2,"id":"ro-9","rollout":{"anything":"else"}}"#;
    match Rollout::decode(newer) {
        Err(DecodeError::UnknownFormat { id, found: 2 }) => assert_eq!(id, RolloutId::from("ro-9")),
        other => panic!("{other:?}"),
    }
    assert_eq!(FORMAT, 1);
}

/// As after a downgrade in the middle of a way back. The reason keeps its content for the version that wrote it.
#[test]
fn a_reason_that_only_a_newer_version_knows_does_not_stop_the_way_back() {
    let mut rollout = baking();
    let crashed = InstanceState::Failed(Cause::Crashed { signal: 11, text: "ada's".to_owned() });
    let (node, module) = (Node::from("a"), Module::from("greeter"));
    let event = Event::Instance {
        node: node.clone(),
        module: module.clone(),
        release: ReleaseNumber(2),
        state: crashed,
    };
    let _actions = rollout.handle(event, Time(1_700_000_002_000));
    let ours = String::from_utf8(rollout.encode().unwrap()).unwrap();
    assert!(ours.contains(r#"{"crashed":"#) && ours.contains(r#"{"fast":"#), "{ours}");
    for (known, foreign) in [(r#"{"crashed":"#, r#"{"haunted":"#), (r#"{"fast":"#, r#"{"sudden":"#)] {
        let newer = ours.replace(known, foreign);
        let mut rollout = Rollout::decode(newer.as_bytes()).unwrap();
        let content = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        assert_eq!(content(&rollout.encode().unwrap()), content(newer.as_bytes()));
        let given = rollout.resume(Time(1_700_000_003_000)).into_iter().find_map(|action| match action {
            Action::Assign { assignment, .. } => Some(assignment),
            _ => None,
        });
        assert_eq!(rollout.phase_name(), PhaseName::RollingBack);
        let Assignment { candidate: None, revision, .. } = given.unwrap() else { panic!("{rollout:?}") };
        let applied = Event::Applied { node: node.clone(), module: module.clone(), revision, serves: true };
        let _actions = rollout.handle(applied, Time(1_700_000_004_000));
        assert!(matches!(rollout.outcome(), Some(Outcome::RolledBack { .. })), "{:?}", rollout.outcome());
    }
}

#[test]
fn a_rollout_that_another_one_has_overtaken_tells_no_node_anything() {
    let mut rollout = Rollout::decode(FORMAT_1).unwrap();
    // Long after its deadline, at which it would go back.
    let later = Time(1_800_000_000_000);
    let actions = rollout.overtaken("ro-2".into(), later);
    let [Action::Note(note), Action::Finished(outcome)] = actions.as_slice() else { panic!("{actions:?}") };
    assert!(note.text.contains("superseded by rollout ro-2"), "{}", note.text);
    assert!(matches!(outcome, Outcome::Superseded { .. }), "{outcome:?}");
    assert!(rollout.phase().is_final() && rollout.next_timeout().is_none());
    // A crash before that was written down as its end.
    let again = rollout.overtaken("ro-3".into(), later);
    assert_eq!(again, [Action::Finished(outcome.clone())]);
}

#[test]
fn damage_is_an_error_wherever_it_is() {
    let whole = String::from_utf8_lossy(FORMAT_1).trim_end().to_owned();
    for end in 0..whole.len() {
        let cut = Rollout::decode(&whole.as_bytes()[..end]);
        assert!(matches!(cut, Err(DecodeError::Malformed(_))), "cut at {end}: {cut:?}");
    }
    // A share above the whole is caught at the door as well.
    let wrong = whole.replacen("\"share\":1000", "\"share\":10001", 1);
    assert_ne!(wrong, whole);
    assert!(matches!(Rollout::decode(wrong.as_bytes()), Err(DecodeError::Malformed(_))));
}
