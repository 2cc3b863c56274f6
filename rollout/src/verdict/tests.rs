//! What the judgement owes its users, with the truth known beforehand.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::figures::Latency;

/// A small generator with good mixing (Steele, Lea, Flood: SplitMix64), so that a run repeats to the last request.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// True `per_million` times in a million.
    fn hits(&mut self, per_million: u64) -> bool {
        self.next() % 1_000_000 < per_million
    }

    /// Microseconds: 2 to 4 ms, one in fifty up to 20 times as long, as on a shared machine.
    fn latency(&mut self) -> u64 {
        let base = 2000 + self.next() % 2000;
        if self.hits(20_000) { base * (2 + self.next() % 19) } else { base }
    }
}

fn add(figures: &mut Figures, dice: &mut Dice, requests: u64, errors_per_million: u64, slower_micros: u64) {
    let errors = (0..requests).filter(|_| dice.hits(errors_per_million)).count() as u64;
    let latency = Latency::from_counts((0..requests).map(|_| (dice.latency() + slower_micros, 1)));
    figures.merge(&Figures { requests, errors, latency, ..Figures::default() });
}

/// Judges a 10% step of 30 s with `rate` requests a second, once a second; the second in which it was taken back.
fn taken_back(dice: &mut Dice, rate: u64, errors: (u64, u64), slower_micros: u64) -> Option<u64> {
    let mut evidence = Evidence { beside: true, ..Evidence::default() };
    (1..=30).find(|_| {
        add(&mut evidence.candidate, dice, rate / 10, errors.0, slower_micros);
        add(&mut evidence.stable, dice, rate - rate / 10, errors.1, 0);
        matches!(judged(&evidence), Verdict::Unhealthy(_))
    })
}

fn judged(evidence: &Evidence) -> Verdict {
    judge(&"greeter".into(), ReleaseNumber(2), evidence, &PolicySpec::default())
}

fn figures(errors: u64, requests: u64, millis: u64) -> Figures {
    Figures {
        requests,
        errors,
        latency: Latency::from_counts([(millis * 1000, requests)]),
        ..Figures::default()
    }
}

fn beside(candidate: Figures, stable: Figures) -> Verdict {
    judged(&Evidence { candidate, stable, beside: true })
}

#[test]
fn equal_versions_are_left_alone() {
    let mut dice = Dice(1);
    for errors in [0, 1_000, 20_000, 200_000] {
        let runs = 300;
        let wrong = (0..runs).filter(|_| taken_back(&mut dice, 200, (errors, errors), 0).is_some()).count();
        assert!(wrong <= 1, "{wrong} of {runs} equal versions taken back at {errors} errors per million");
    }
}

#[test]
fn bad_versions_are_found_soon() {
    let mut dice = Dice(2);
    for (what, errors, slower, within) in [
        ("all fail", (1_000_000, 0), 0, 1),
        ("half fail", (500_000, 1_000), 0, 2),
        ("5% fail", (50_000, 1_000), 0, 20),
        ("300 ms slower", (0, 0), 300_000, 1),
    ] {
        let mut seconds: Vec<u64> =
            (0..100).map(|_| taken_back(&mut dice, 200, errors, slower).unwrap_or(99)).collect();
        seconds.sort_unstable();
        assert!(seconds[50] <= within, "{what}: half were found within {} s only", seconds[50]);
        assert!(seconds[94] <= 30, "{what}: 95 of 100 were found within {} s only", seconds[94]);
    }
}

#[test]
fn one_error_of_twenty_is_no_proof_but_worth_waiting() {
    let verdict = beside(figures(1, 20, 5), figures(0, 180, 5));
    assert!(matches!(verdict, Verdict::Undecided(Missing::Clarity { .. })), "{verdict:?}");
    assert_eq!(beside(figures(1, 400, 5), figures(0, 3600, 5)), Verdict::Healthy(Basis::Compared));
}

#[test]
fn every_kind_of_missing_data_is_told_apart() {
    type Missed = fn(&Missing) -> bool;
    let cases: [(Figures, Figures, Missed); 4] = [
        (figures(0, 0, 5), figures(0, 9, 5), |missing| {
            matches!(missing, Missing::CandidateTraffic { stable: 9, .. })
        }),
        (figures(0, 19, 5), figures(0, 900, 5), |missing| {
            matches!(missing, Missing::Requests { have: 19, need: 20, .. })
        }),
        (figures(0, 900, 5), figures(0, 19, 5), |missing| {
            matches!(missing, Missing::StableRequests { have: 19, need: 20, .. })
        }),
        (figures(50, 100, 5), figures(450, 900, 5), |missing| matches!(missing, Missing::BothSick { .. })),
    ];
    for (candidate, stable, missed) in cases {
        match beside(candidate, stable) {
            Verdict::Undecided(missing) => assert!(missed(&missing), "{missing:?}"),
            verdict @ (Verdict::Healthy(_) | Verdict::Unhealthy(_)) => panic!("{verdict:?}"),
        }
    }
}

#[test]
fn no_traffic_at_all_rests_on_health_alone() {
    assert_eq!(beside(figures(0, 0, 5), figures(0, 0, 5)), Verdict::Healthy(Basis::NoTraffic));
    let alone = |candidate| judged(&Evidence { candidate, stable: Figures::default(), beside: false });
    assert_eq!(alone(figures(0, 0, 5)), Verdict::Healthy(Basis::NoTraffic));
    assert_eq!(alone(figures(0, 100, 5)), Verdict::Healthy(Basis::NothingBeside));
}

#[test]
fn far_worse_than_a_sick_stable_is_still_to_blame() {
    assert!(matches!(beside(figures(100, 100, 5), figures(108, 900, 5)), Verdict::Unhealthy(_)));
}

#[test]
fn a_mended_version_is_not_held_by_the_sick_one() {
    assert_eq!(beside(figures(0, 100, 5), figures(900, 900, 5)), Verdict::Healthy(Basis::Compared));
}

#[test]
fn a_high_ratio_of_small_times_is_noise() {
    assert_eq!(beside(figures(0, 500, 12), figures(0, 500, 4)), Verdict::Healthy(Basis::Compared));
}

#[test]
fn the_cap_needs_requests_and_spares_shared_trouble() {
    let cap = Share::percent(50);
    let none = Figures::default();
    assert!(over_cap(&figures(10, 20, 5), &none, cap, 20));
    assert!(!over_cap(&figures(9, 20, 5), &none, cap, 20));
    assert!(!over_cap(&figures(19, 19, 5), &none, cap, 20));
    assert!(!over_cap(&figures(20, 20, 5), &figures(15, 20, 5), cap, 20));
    assert!(!over_cap(&none, &none, cap, 0));
}

/// What one side's requests come to `now` seconds after counting began: `rate` a second, each taking what `took` says,
/// in seconds.
fn after(now: f64, rate: u32, mut took: impl FnMut(f64) -> f64) -> Figures {
    let micros = |seconds: f64| u64::try_from(Duration::from_secs_f64(seconds).as_micros()).unwrap();
    let (mut ended, mut open) = (Vec::new(), Vec::new());
    let begun = (0..).map(|index| f64::from(index) / f64::from(rate)).take_while(|begun| *begun < now);
    for begun in begun {
        let (took, age) = (took(begun), now - begun);
        if took <= age { ended.push((micros(took), 1)) } else { open.push((micros(age), 1)) }
    }
    let (requests, latency) = (ended.len() as u64, Latency::from_counts(ended));
    Figures { requests, errors: 0, latency, open: Latency::from_counts(open) }
}

/// When a 10% step of 30 s with 200 requests a second is judged unhealthy, looked at twice a second.
fn found(candidate: impl Fn(f64) -> f64, stable: impl Fn(f64) -> f64) -> Option<(f64, Reason)> {
    (1..=60).map(|half| f64::from(half) / 2.0).find_map(|now| {
        match beside(after(now, 20, &candidate), after(now, 180, &stable)) {
            Verdict::Unhealthy(reason) => Some((now, reason)),
            Verdict::Healthy(_) | Verdict::Undecided(_) => None,
        }
    })
}

const NEVER: f64 = 1e6;
const QUICK: f64 = 0.004;

#[test]
fn one_that_stops_to_answer_is_found_long_before_a_deadline() {
    let stable = |_| QUICK;
    let (at, reason) = found(|_| NEVER, stable).unwrap();
    assert!(at <= 2.0 && reason.code() == "hung", "{at} s: {reason}");
    let (at, reason) = found(|begun| if begun < 3.0 { QUICK } else { NEVER }, stable).unwrap();
    assert!(at <= 4.0 && reason.code() == "slow", "{at} s: {reason}");
    // Every fifth.
    let (at, reason) =
        found(|begun| if (begun * 20.0).round() % 5.0 == 0.0 { NEVER } else { QUICK }, stable).unwrap();
    assert!(at <= 5.0, "{at} s: {reason}");
}

#[test]
fn long_requests_on_both_sides_blame_nobody() {
    for long in [2.0, 10.0, 25.0, NEVER] {
        assert_eq!(found(|_| long, |_| long), None, "all take {long} s");
        let tenth =
            |rate: f64| move |begun: f64| if (begun * rate).round() % 10.0 == 3.0 { long } else { QUICK };
        assert_eq!(found(tenth(20.0), tenth(180.0)), None, "each tenth takes {long} s");
    }
}

#[test]
fn a_stall_of_the_machine_blames_nobody() {
    // What begins in it ends with it.
    let stalled = |begun: f64| if (5.0..8.0).contains(&begun) { 8.0 - begun + QUICK } else { QUICK };
    assert_eq!(found(stalled, stalled), None);
}

#[test]
fn a_stable_that_hangs_does_not_hold_the_one_that_mends_it() {
    assert_eq!(found(|_| QUICK, |begun| if begun < 1.0 { QUICK } else { NEVER }), None);
    assert_eq!(
        beside(after(30.0, 20, |_| QUICK), after(30.0, 180, |_| NEVER)),
        Verdict::Undecided(Missing::StableRequests { module: "greeter".into(), have: 0, need: 20 })
    );
}

#[test]
fn while_nothing_ends_on_either_side_nothing_is_known() {
    match beside(after(2.0, 20, |_| NEVER), after(2.0, 180, |_| NEVER)) {
        Verdict::Undecided(missing @ Missing::Answers { candidate: 40, stable: 360, .. }) => {
            assert!(missing.yields_to_patience(), "streams end when they like");
        }
        verdict @ (Verdict::Healthy(_) | Verdict::Unhealthy(_) | Verdict::Undecided(_)) => {
            panic!("{verdict:?}")
        }
    }
}

/// Eight clients that wait for their answers never send the candidate more than eight.
#[test]
fn a_few_that_are_open_for_very_long_are_enough() {
    let open = |count: u64, seconds: u64| Figures {
        open: Latency::from_counts([(seconds * 1_000_000, count)]),
        ..figures(0, 5, 5)
    };
    for (count, seconds, is_enough) in [(8, 11, true), (3, 11, true), (8, 9, false), (2, 11, false)] {
        let verdict = beside(open(count, seconds), figures(0, 500, 5));
        let found = matches!(verdict, Verdict::Unhealthy(Reason::Slow { open, .. }) if open == count);
        assert_eq!(found, is_enough, "{count} open for {seconds} s: {verdict:?}");
        if !is_enough {
            let waits = Missing::Requests { module: "greeter".into(), have: 5, need: 20, open: count };
            assert_eq!(verdict, Verdict::Undecided(waits));
        }
    }
    let long_for_both = beside(open(8, 11), figures(0, 500, 12_000));
    assert!(matches!(long_for_both, Verdict::Undecided(Missing::Requests { .. })), "{long_for_both:?}");
}

#[test]
fn at_100_percent_one_that_hangs_is_held_against_the_last_mixed_step() {
    let evidence = Evidence {
        candidate: after(1.0, 200, |_| NEVER),
        stable: after(30.0, 100, |_| QUICK),
        beside: false,
    };
    assert!(matches!(judged(&evidence), Verdict::Unhealthy(Reason::Unanswered { requests: 200, .. })));
}

proptest! {
    /// An open request is blamed for nothing that its end would not be blamed for.
    #[test]
    fn what_is_slow_already_is_slow_when_it_ends(
        quick in 0_u64..60, open in 0_u64..60, age in 10_u64..20_000, more in 0_u64..60_000, stable in 20_u64..2000,
    ) {
        let latency = |pairs: &[(u64, u64)]| Latency::from_counts(pairs.iter().map(|(millis, count)| (millis * 1000, *count)));
        let early = Figures { requests: quick, latency: latency(&[(5, quick)]), open: latency(&[(age, open)]), errors: 0 };
        let ended = Figures {
            requests: quick + open, latency: latency(&[(5, quick), (age + more, open)]), ..Figures::default()
        };
        let stable = figures(0, stable, 5);
        if matches!(beside(early, stable.clone()), Verdict::Unhealthy(_)) {
            let verdict = beside(ended, stable);
            prop_assert!(matches!(verdict, Verdict::Unhealthy(_)), "{:?}", verdict);
        }
    }
}
