//! What a run measures is what its scenario says.

use hot_rollout::Outcome;
use hot_sim::scenario::Releases;
use hot_sim::traffic::Traffic;
use hot_sim::truth::{End, How, Truth, When};
use hot_sim::{Ran, Scenario, many, measure, run};

fn with(candidate: Truth) -> Scenario {
    let modules = vec![Releases {
        module: "greeter".into(),
        has_stable: true,
        truths: vec![Truth::default(), candidate],
    }];
    Scenario { modules, traffic: Traffic::Poisson(100_000), ..Scenario::default() }
}

fn code(ran: &Ran) -> &'static str {
    ran.outcome.as_ref().map_or("none", Outcome::code)
}

#[test]
fn a_good_release_is_promoted_and_costs_nothing() {
    let ran = run(&with(Truth::default()), 1);
    assert_eq!((code(&ran), ran.users.bad), ("done", 0));
    let (requests, failed) = (ran.users.requests, ran.users.failed);
    assert!(requests > 9000, "90 s at 100/s: {requests}");
    assert!(failed > 0 && failed * 200 < requests, "a thousandth of {requests} fail: {failed}");
    let seconds = ran.to_verdict.map(|span| span.0 / 1000);
    assert!(seconds.is_some_and(|seconds| (85..110).contains(&seconds)), "three bakes of 30 s: {seconds:?}");
}

#[test]
fn a_bad_release_goes_back_early_and_reaches_few() {
    let bad = with(Truth { errors: 0.5, ..Truth::default() });
    let ran = run(&bad, 2);
    assert_eq!(code(&ran), "rolled_back");
    assert!(ran.users.bad > 0 && ran.users.bad < 400, "{:?}", ran.users);
    assert!(ran.to_verdict.is_some_and(|span| span.0 < 20_000), "{:?}", ran.to_verdict);
    let crashes = with(Truth {
        end: Some(End { when: When::Requests(1), how: How::Crash, only: None }),
        ..Truth::default()
    });
    assert_eq!(code(&run(&crashes, 3)), "rolled_back");
}

#[test]
fn measuring_is_running_without_the_story() {
    let scenario = with(Truth { errors: 0.02, ..Truth::default() });
    let (told, measured) = (run(&scenario, 5), measure(&scenario, 5));
    assert!(measured.story.is_empty() && !told.story.is_empty());
    assert_eq!((told.users, told.to_verdict), (measured.users, measured.to_verdict));
    let many = many::measure_many(&scenario, 5..9, 2);
    let alone: Vec<Ran> = (5..9).map(|seed| measure(&scenario, seed)).collect();
    assert_eq!(many, alone);
}
