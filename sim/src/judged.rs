//! What the judgement does to releases of which the truth is known: how often it takes them back, after how long, and what
//! that costs users. The ground for operating characteristics.

use hot_rollout::{Millis, Outcome};

use crate::many::measure_many;
use crate::run::Ran;
use crate::scenario::{Releases, Scenario};
use crate::traffic::Traffic;
use crate::truth::Truth;

/// Rates at which cases are looked at, in requests per second of the whole fleet.
pub const RATES: [u64; 4] = [1, 10, 100, 1000];

/// A candidate beside a good release.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What it is called in a table.
    pub name: &'static str,
    /// What the candidate does.
    pub candidate: Truth,
}

/// What came of many rollouts of one case.
#[derive(Clone, Debug, PartialEq)]
pub struct Characteristics {
    /// How many there were.
    pub rollouts: u64,
    /// Of how many the candidate was taken back.
    pub taken_back: u64,
    /// How many were promoted.
    pub promoted: u64,
    /// With a certainty of 95% no larger part of all rollouts is taken back.
    pub at_most: f64,
    /// How long it took to take one back, from the candidate's first traffic on: the median, and that of all but the slowest
    /// twentieth. `None`: none was.
    pub to_take_back: Option<(Millis, Millis)>,
    /// The median of requests that went to the candidate until it was taken back or promoted.
    pub reached: u64,
    /// The median of requests that failed, whoever was to blame.
    pub failed: u64,
}

/// The cases that every judgement is asked about.
#[must_use]
pub fn cases() -> Vec<Case> {
    let good = Truth::default();
    let slower = |percent: u64| Truth { median: good.median * (100 + percent) / 100, ..good.clone() };
    vec![
        Case { name: "equal", candidate: good.clone() },
        Case { name: "errors 0.1% -> 1%", candidate: Truth { errors: 0.01, ..good.clone() } },
        Case { name: "errors 0.1% -> 5%", candidate: Truth { errors: 0.05, ..good.clone() } },
        Case { name: "latency +20%", candidate: slower(20) },
        Case { name: "latency +100%", candidate: slower(100) },
    ]
}

/// The scenario of a case: three nodes, the default policy, and nothing goes wrong but the candidate.
#[must_use]
pub fn scenario(case: &Case, rate: u64) -> Scenario {
    let truths = vec![Truth::default(), case.candidate.clone()];
    Scenario {
        modules: vec![Releases { module: "greeter".into(), has_stable: true, truths }],
        traffic: Traffic::Poisson(rate * 1000),
        ..Scenario::default()
    }
}

/// Plays a scenario with so many seeds.
#[must_use]
pub fn characteristics(scenario: &Scenario, rollouts: u64, threads: usize) -> Characteristics {
    let ran = measure_many(scenario, 0..rollouts, threads);
    let ended = |wanted: fn(&Outcome) -> bool| {
        let ended = ran.iter().filter(|ran| ran.outcome.as_ref().is_some_and(wanted));
        ended.collect::<Vec<&Ran>>()
    };
    let back = ended(|outcome| matches!(outcome, Outcome::RolledBack { .. }));
    let promoted = ended(|outcome| matches!(outcome, Outcome::Done | Outcome::Incomplete { .. }));
    let taken_back = back.len() as u64;
    let mut took: Vec<u64> = back.iter().filter_map(|ran| Some(ran.to_verdict?.0)).collect();
    let mut reached: Vec<u64> = ran.iter().map(|ran| ran.users.tried).collect();
    let mut failed: Vec<u64> = ran.iter().map(|ran| ran.users.failed).collect();
    Characteristics {
        rollouts,
        taken_back,
        promoted: promoted.len() as u64,
        at_most: upper_bound(taken_back, rollouts),
        to_take_back: quantile(&mut took, 50)
            .zip(quantile(&mut took, 95))
            .map(|(half, most)| (Millis(half), Millis(most))),
        reached: quantile(&mut reached, 50).unwrap_or(0),
        failed: quantile(&mut failed, 50).unwrap_or(0),
    }
}

/// The value that so many percent of all do not exceed; `None` without any.
fn quantile(values: &mut [u64], percent: usize) -> Option<u64> {
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied()
}

/// The upper end of the one-sided 95% interval of a proportion, from how often it was so and how often it was looked at
/// (C. J. Clopper, E. S. Pearson, Biometrika 26, 1934): the chance at which so few or fewer come in one of twenty tries. 1.0
/// where all were so, or none was looked at.
#[must_use]
pub fn upper_bound(part: u64, whole: u64) -> f64 {
    const RARE: f64 = 0.05;
    if part >= whole {
        return 1.0;
    }
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    for _halving in 0..60 {
        let middle = f64::midpoint(low, high);
        if so_few(part, whole, middle) > RARE { low = middle } else { high = middle }
    }
    high
}

/// The chance that of `whole` cases `part` or fewer come true that each do with this chance.
fn so_few(part: u64, whole: u64, chance: f64) -> f64 {
    let n = crate::draw::float(whole);
    let (yes, no) = (libm::log(chance), libm::log1p(-chance));
    let ways = |k: f64| libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(n - k + 1.0);
    (0..=part).map(crate::draw::float).map(|k| libm::exp(ways(k) + k * yes + (n - k) * no)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_that_of_the_tables() {
        // None of n: 1 - 0.05^(1/n), which is near 3/n. 10 of 100: summed up with exact binomial coefficients.
        for (part, whole, expected) in [(0, 10_000, 0.000_299_53), (0, 10, 0.258_866), (10, 100, 0.163_718)] {
            let found = upper_bound(part, whole);
            assert!((found - expected).abs() < 1e-4 * expected, "{part} of {whole}: {found}");
        }
        assert!((upper_bound(5, 5) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_quantile_is_one_of_the_values() {
        assert_eq!(quantile(&mut [3, 1, 2], 50), Some(2));
        assert_eq!(quantile(&mut [3, 1, 2], 95), Some(3));
        assert_eq!(quantile(&mut [], 50), None);
    }
}
