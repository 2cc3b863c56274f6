//! What the judgement owes its users, with the truth known beforehand.

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
    figures.merge(&Figures { requests, errors, latency });
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
    Figures { requests, errors, latency: Latency::from_counts([(millis * 1000, requests)]) }
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
