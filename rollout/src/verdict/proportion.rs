//! The difference of two proportions and how far chance may have moved it.
//!
//! Newcombe's hybrid score interval (R. G. Newcombe, Statistics in Medicine 17, 1998, method 10), lower end, from
//! Wilson's score intervals of the two sides (E. B. Wilson, JASA 22, 1927). Unlike the textbook interval it stays
//! honest for few requests and for rates near 0 and 1, where services live.

use super::ratio;
use crate::figures::as_f64;

/// How much more often something happens on the left than on the right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Difference {
    left: (u64, u64),
    right: (u64, u64),
}

impl Difference {
    /// From (happened, all) on both sides.
    pub(super) fn of(left: (u64, u64), right: (u64, u64)) -> Self {
        Self { left, right }
    }

    /// The true difference is at least this, sure to `deviations` standard deviations. -1.0 to 1.0.
    pub(super) fn at_least(&self, deviations: f64) -> f64 {
        let (left, right) = (ratio(self.left.0, self.left.1), ratio(self.right.0, self.right.1));
        let (left_least, _) = wilson(self.left, deviations);
        let (_, right_most) = wilson(self.right, deviations);
        (left - right) - (left - left_least).hypot(right_most - right)
    }
}

/// Wilson's score interval; 0.0 to 1.0 where nothing was counted.
fn wilson((part, whole): (u64, u64), deviations: f64) -> (f64, f64) {
    if whole == 0 {
        return (0.0, 1.0);
    }
    let (count, rate) = (as_f64(whole), ratio(part, whole));
    let square = deviations * deviations;
    let middle = rate + square / (2.0 * count);
    let spread = deviations * (rate * (1.0 - rate) / count + square / (4.0 * count * count)).sqrt();
    let scale = 1.0 + square / count;
    (((middle - spread) / scale).max(0.0), ((middle + spread) / scale).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_agrees_with_published_values() {
        // Newcombe 1998, table I: 81/263 at 95% gives 0.2553 to 0.3662; 0/20 gives 0 to 0.1611.
        let (least, most) = wilson((81, 263), 1.96);
        assert!((least - 0.2553).abs() < 1e-4 && (most - 0.3662).abs() < 1e-4, "{least} {most}");
        let (least, most) = wilson((0, 20), 1.96);
        assert!(least < 1e-4 && (most - 0.1611).abs() < 1e-4, "{least} {most}");
    }

    #[test]
    fn the_difference_agrees_with_published_values() {
        // Newcombe 1998, table II, method 10: 56/70 - 48/80 gives 0.0524; 9/10 - 3/10 gives 0.1705.
        for (left, right, least) in [((56, 70), (48, 80), 0.0524), ((9, 10), (3, 10), 0.1705)] {
            let found = Difference::of(left, right).at_least(1.96);
            assert!((found - least).abs() < 1e-4, "{left:?} {right:?}: {found}");
        }
    }

    #[test]
    fn with_nothing_on_one_side_nothing_is_sure() {
        assert!(Difference::of((100, 100), (0, 0)).at_least(3.0) <= 0.0);
        assert!(Difference::of((0, 0), (0, 100)).at_least(3.0) <= 0.0);
    }
}
