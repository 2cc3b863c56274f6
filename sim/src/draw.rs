//! Counts that chance makes: how many requests come in a span of time, how many of them fail, how long they take. One draw
//! for each count, however large it is, so a thousand requests per second cost what one does.

use crate::seed::Dice;

/// Below this mean a count is drawn by going through the probabilities one by one; above it the rejection methods are
/// valid, and faster.
const FEW: f64 = 10.0;

/// A count with the Poisson distribution of this mean; 0 where the mean is not above 0.
///
/// Small means by multiplying numbers (D. E. Knuth, The Art of Computer Programming, volume 2, 3.4.1), others by
/// transformed rejection (W. Hörmann, "The transformed rejection method for generating Poisson random variables", Insurance:
/// Mathematics and Economics 12, 1993, algorithm PTRS).
#[must_use]
pub fn poisson(dice: &mut Dice, mean: f64) -> u64 {
    if mean <= 0.0 {
        return 0;
    }
    if mean < FEW {
        let limit = libm::exp(-mean);
        let (mut product, mut count) = (dice.unit(), 0);
        while product > limit {
            product *= dice.unit();
            count += 1;
        }
        return count;
    }
    let b = 0.931 + 2.53 * mean.sqrt();
    let a = -0.059 + 0.024_83 * b;
    let inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
    let squeeze = 0.9277 - 3.6224 / (b - 2.0);
    loop {
        let (u, v) = (dice.unit() - 0.5, dice.unit());
        let us = 0.5 - u.abs();
        let k = ((2.0 * a / us + b) * u + mean + 0.43).floor();
        if us >= 0.07 && v <= squeeze {
            return whole(k);
        }
        if k < 0.0 || (us < 0.013 && v > us) {
            continue;
        }
        let height = libm::log(v * inverse_alpha / (a / (us * us) + b));
        if height <= k * libm::log(mean) - mean - log_factorial(k) {
            return whole(k);
        }
    }
}

/// How many of `count` cases come true that each do with this chance, 0.0 to 1.0.
///
/// Few by inversion (V. Kachitvichyanukul, B. W. Schmeiser, "Binomial random variate generation", Communications of the ACM
/// 31, 1988, algorithm BINV), others by transformed rejection (W. Hörmann, "The generation of binomial random variates",
/// Journal of Statistical Computation and Simulation 46, 1993, algorithm BTRS).
#[must_use]
pub fn binomial(dice: &mut Dice, count: u64, chance: f64) -> u64 {
    if count == 0 || chance <= 0.0 {
        return 0;
    }
    if chance >= 1.0 {
        return count;
    }
    if chance > 0.5 {
        return count - binomial(dice, count, 1.0 - chance);
    }
    if float(count) * chance < FEW { inverted(dice, count, chance) } else { rejected(dice, count, chance) }
}

fn inverted(dice: &mut Dice, count: u64, chance: f64) -> u64 {
    let n = float(count);
    let ratio = chance / (1.0 - chance);
    let mut probability = libm::exp(n * libm::log1p(-chance));
    let (mut left, mut k) = (dice.unit(), 0_u64);
    while left > probability && k < count {
        left -= probability;
        k += 1;
        probability *= ratio * (n + 1.0 - float(k)) / float(k);
    }
    k
}

fn rejected(dice: &mut Dice, count: u64, chance: f64) -> u64 {
    let n = float(count);
    let deviation = (n * chance * (1.0 - chance)).sqrt();
    let b = 1.15 + 2.53 * deviation;
    let a = -0.0873 + 0.0248 * b + 0.01 * chance;
    let center = n * chance + 0.5;
    let squeeze = 0.92 - 4.2 / b;
    let alpha = (2.83 + 5.1 / b) * deviation;
    let log_odds = libm::log(chance / (1.0 - chance));
    let mode = ((n + 1.0) * chance).floor();
    let at_mode = log_factorial(mode) + log_factorial(n - mode);
    loop {
        let (u, v) = (dice.unit() - 0.5, dice.unit());
        let us = 0.5 - u.abs();
        let k = ((2.0 * a / us + b) * u + center).floor();
        if k < 0.0 || k > n {
            continue;
        }
        if us >= 0.07 && v <= squeeze {
            return whole(k);
        }
        let height = libm::log(v * alpha / (a / (us * us) + b));
        if height <= at_mode - log_factorial(k) - log_factorial(n - k) + (k - mode) * log_odds {
            return whole(k);
        }
    }
}

/// Splits `count` cases over kinds with these chances, which add up to 1.0; `each` is called with the place of every kind
/// that has any, and how many.
pub fn multinomial(dice: &mut Dice, count: u64, chances: &[f64], mut each: impl FnMut(usize, u64)) {
    let (mut left, mut rest) = (count, 1.0);
    for (index, chance) in chances.iter().enumerate() {
        if left == 0 {
            return;
        }
        let last = index + 1 == chances.len();
        let here = if last { left } else { binomial(dice, left, (chance / rest).min(1.0)) };
        if here > 0 {
            each(index, here);
        }
        left -= here;
        rest -= chance;
    }
}

fn log_factorial(k: f64) -> f64 {
    libm::lgamma(k + 1.0)
}

/// Counts are far below 2^52, where every integer is exact.
#[must_use]
pub fn float(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    let float = count as f64;
    float
}

/// The whole number below `count`, 0 for what is below 0.
#[must_use]
pub fn whole(count: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and counts are small"
    )]
    let whole = count.max(0.0) as u64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Purpose;

    const DRAWS: u64 = 40_000;

    /// Mean and variance of many draws.
    fn moments(mut draw: impl FnMut(&mut Dice) -> u64) -> (f64, f64) {
        let mut dice = Dice::new(3, Purpose::Traffic);
        let drawn: Vec<f64> = (0..DRAWS).map(|_| float(draw(&mut dice))).collect();
        let mean = drawn.iter().sum::<f64>() / float(DRAWS);
        let variance = drawn.iter().map(|k| (k - mean) * (k - mean)).sum::<f64>() / float(DRAWS);
        (mean, variance)
    }

    /// Six standard errors of the mean, and five percent of the variance.
    fn assert_close((mean, variance): (f64, f64), expected: (f64, f64), what: &str) {
        let error = 6.0 * (expected.1 / float(DRAWS)).sqrt();
        assert!((mean - expected.0).abs() <= error, "{what}: mean {mean}, expected {}", expected.0);
        let off = (variance - expected.1).abs();
        assert!(off <= 0.05 * expected.1, "{what}: variance {variance}, expected {}", expected.1);
    }

    #[test]
    fn poisson_has_its_mean_and_variance() {
        for mean in [0.02, 1.0, 9.9, 10.1, 100.0, 10_000.0] {
            let found = moments(|dice| poisson(dice, mean));
            assert_close(found, (mean, mean), &format!("poisson {mean}"));
        }
    }

    #[test]
    fn binomial_has_its_mean_and_variance() {
        for (count, chance) in [(1, 0.3), (50, 0.01), (50, 0.5), (1000, 0.001), (1000, 0.05), (100_000, 0.9)]
        {
            let found = moments(|dice| binomial(dice, count, chance));
            let mean = float(count) * chance;
            assert_close(found, (mean, mean * (1.0 - chance)), &format!("binomial {count} {chance}"));
        }
    }

    #[test]
    fn counts_are_the_same_for_ever() {
        // If this fails on one machine alone, the simulation is not the same everywhere.
        let mut dice = Dice::new(7, Purpose::Traffic);
        let means = [0.3, 5.0, 40.0, 3000.0];
        let drawn: Vec<u64> =
            means.iter().map(|mean| (0..1000).map(|_| poisson(&mut dice, *mean)).sum()).collect();
        assert_eq!(drawn, [303, 5047, 39_643, 2_997_476]);
        let chances = [0.001, 0.05, 0.4, 0.99];
        let drawn: Vec<u64> = chances
            .iter()
            .map(|chance| (0..1000).map(|_| binomial(&mut dice, 1000, *chance)).sum())
            .collect();
        assert_eq!(drawn, [1031, 49_813, 399_848, 989_956]);
    }

    #[test]
    fn the_edges_are_certain() {
        let mut dice = Dice::new(4, Purpose::Traffic);
        assert_eq!(poisson(&mut dice, 0.0), 0);
        assert_eq!(
            (binomial(&mut dice, 9, 0.0), binomial(&mut dice, 9, 1.0), binomial(&mut dice, 0, 0.5)),
            (0, 9, 0)
        );
    }

    #[test]
    fn all_of_a_split_is_somewhere() {
        let mut dice = Dice::new(5, Purpose::Traffic);
        for count in [0, 1, 7, 100_000] {
            let mut parts = [0; 3];
            multinomial(&mut dice, count, &[0.5, 0.2, 0.3], |index, part| parts[index] += part);
            assert_eq!(parts.iter().sum::<u64>(), count);
            assert!(count < 1000 || (parts[1] > 19_000 && parts[1] < 21_000), "{parts:?}");
        }
    }
}
