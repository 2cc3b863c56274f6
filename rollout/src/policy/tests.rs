use super::*;

fn steps(percents: &[u8]) -> PolicySpec {
    let steps = percents
        .iter()
        .map(|&percent| Step { share: Share::percent(percent), bake: Millis::seconds(1) })
        .collect();
    PolicySpec { steps, ..PolicySpec::default() }
}

fn fields(spec: PolicySpec) -> Vec<&'static str> {
    Policy::new(spec).unwrap_err().mistakes.iter().map(PolicyMistake::field).collect()
}

#[test]
fn the_default_passes_its_own_checks() {
    assert_eq!(Policy::new(PolicySpec::default()), Ok(Policy::default()));
}

#[test]
fn shares_must_rise_to_the_whole() {
    assert!(Policy::new(steps(&[100])).is_ok());
    for percents in [&[][..], &[0, 100], &[10], &[50, 50, 100], &[50, 10, 100], &[100, 100]] {
        assert!(!fields(steps(percents)).is_empty(), "{percents:?}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let spec = PolicySpec {
        min_requests: 0,
        p99_ratio: Ratio(9_999),
        expiry: Millis(2_999),
        ..steps(&[50, 10, 99])
    };
    assert_eq!(fields(spec), ["steps", "steps", "p99_ratio", "min_requests", "expiry"]);
}

#[test]
fn bakes_must_fit_into_the_deadline() {
    let spec = PolicySpec { deadline: Millis::seconds(89), ..PolicySpec::default() };
    assert_eq!(fields(spec), ["steps"]);
    let said = Policy::default().with_bake(Millis::minutes(120)).unwrap_err().to_string();
    let says = "steps: their bakes come to 6h (3 steps), and what is not promoted within the deadline of 1h goes back; \
                expected less than 1h in all";
    assert!(said.contains(says), "{said}");
    let said = Policy::default().with_bake(Millis::minutes(20)).unwrap_err().to_string();
    assert!(
        said.contains("their bakes come to 1h (3 steps)") && said.contains("less than 1h in all"),
        "{said}"
    );
    assert!(Policy::default().with_bake(Millis(20 * 60_000 - 1)).is_ok());
}

#[test]
fn bakes_that_come_to_the_deadline_are_still_read() {
    let mut spec = PolicySpec::default();
    spec.steps.iter_mut().for_each(|step| step.bake = Millis::minutes(20));
    let written = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<Policy>(&written).unwrap().spec(), &spec);
}

#[test]
fn carriers_are_spread_over_what_can_be_a_label() {
    let spread_over =
        |label: &str| PolicySpec { spread_over: Some(label.to_owned()), ..PolicySpec::default() };
    for label in ["zone", "topology.kubernetes.io/zone", "rack_1", &"x".repeat(63)] {
        assert!(Policy::new(spread_over(label)).is_ok(), "{label}");
    }
    for label in ["", "zone=a", "a zone", "zöne", &"x".repeat(64)] {
        assert_eq!(fields(spread_over(label)), ["spread_over"], "{label}");
    }
}

#[test]
fn a_wrong_policy_does_not_deserialise() {
    let written = serde_json::to_string(&steps(&[50, 10, 100])).unwrap();
    let error = serde_json::from_str::<Policy>(&written).unwrap_err().to_string();
    assert!(error.contains("step 2 has 10%, not more than the 50% before it"), "{error}");
}

#[test]
fn shares_can_be_replaced_and_keep_their_bakes() {
    let policy = Policy::default().with_shares(&[Share::percent(20), Share::WHOLE]).unwrap();
    let shares: Vec<_> = policy.spec().steps.iter().map(|step| (step.share, step.bake)).collect();
    assert_eq!(shares, [(Share::percent(20), Millis::seconds(30)), (Share::WHOLE, Millis::seconds(30))]);
}

#[test]
fn the_summary_names_every_step_and_limit() {
    let summary = Policy::default().summary();
    for part in
        ["10% for 30s, 50% for 30s, 100% for 30s", "1% above", "2.0 times", "50ms", "20 requests", "1h"]
    {
        assert!(summary.contains(part), "{part} in {summary}");
    }
    let spec = PolicySpec {
        spread_over: Some("zone".to_owned()),
        max_parallel: NonZeroU32::new(2),
        max_failing: 1,
        ..PolicySpec::default()
    };
    let summary = Policy::new(spec).unwrap().summary();
    assert!(
        summary.ends_with(
            "back after 1h; spread over zone; at most 2 nodes start at once; back if more than 1 node fails"
        ),
        "{summary}"
    );
}
