//! Medians with what they varied by: on a shared machine the mean of a few runs says little.

use std::fmt;

/// The middle of some values, and their ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The median.
    pub(crate) median: f64,
    /// The least.
    pub(crate) least: f64,
    /// The most.
    pub(crate) most: f64,
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (values.first(), values.last()) else {
            return Self { median: f64::NAN, least: f64::NAN, most: f64::NAN };
        };
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            (values[middle - 1] + values[middle]) / 2.0
        } else {
            values[middle]
        };
        Self { median, least: *least, most: *most }
    }

    /// As text, each figure with so many digits: `0.81 (0.79 to 0.84)`.
    pub(crate) fn text(&self, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$} to {:.digits$})", self.median, self.least, self.most)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(2))
    }
}

/// How fast values rise over time, per unit of it, from points in the order of their times: one slope for each point of the
/// first half and the one that is half of all later. So each is of a long time and of points of its own, and a rise that is
/// there stands in all of them: where some rise and some fall, there is none that can be told from noise.
pub(crate) fn slope(points: &[(f64, f64)]) -> Spread {
    let (early, late) = points.split_at(points.len() / 2);
    Spread::of(early.iter().zip(late).map(|((from, before), (to, after))| (after - before) / (to - from)))
}

/// One of the values, which is above the median of what they are drawn from with at least this chance (0 to 1); none if
/// there are too few of them. Whatever they are drawn from: each is below its median as often as a coin shows its head.
pub(crate) fn median_below(values: &[f64], chance: f64) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let count = f64::from(u32::try_from(values.len()).ok()?);
    // Of `count` throws, the chance of exactly `heads`, and of that many or fewer.
    let (mut heads, mut exactly, mut at_most) = (0.0, 0.5_f64.powf(count), 0.0);
    values.into_iter().find(|_| {
        at_most += exactly;
        exactly *= (count - heads) / (heads + 1.0);
        heads += 1.0;
        // These are sums of rounded numbers.
        at_most >= chance - 1e-12
    })
}

/// A quantile (0 to 1) of some values: the least of them that is not below that part of all.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an index below the number of values, which is small"
)]
pub(crate) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let index = (values.len() as f64 * part).ceil() as usize;
    values.get(index.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([0.5, 0.95, 1.0].map(|part| quantile(&values, part)), [50.0, 95.0, 100.0]);
    }

    #[test]
    fn a_bound_of_the_median_is_as_sure_as_asked() {
        let values = |count: u32| (1..=count).rev().map(f64::from).collect::<Vec<_>>();
        // Of the 32768 orders of 15 throws 16384 have fewer than 8 heads, 30827 fewer than 11, 32192 fewer than 12.
        assert_eq!(median_below(&values(15), 0.95), Some(12.0));
        assert_eq!(median_below(&values(15), 0.5), Some(8.0));
        // One of 32 orders has five heads, one of 16 has four.
        assert_eq!(median_below(&values(5), 0.95), Some(5.0));
        assert_eq!(median_below(&values(4), 0.95), None);
        assert_eq!(median_below(&[], 0.95), None);
    }

    #[test]
    fn a_creep_rises_everywhere_and_noise_does_not() {
        let points = |per_minute: f64| -> Vec<(f64, f64)> {
            let noise = [0.0, 0.3, -0.2, 0.1, -0.3, 0.2, -0.1].into_iter().cycle();
            let times = (0..121).map(|at| f64::from(at) / 12.0);
            times.zip(noise).map(|(time, noise)| (time, 20.0 + per_minute * time + noise)).collect()
        };
        let Spread { median, least, most } = slope(&points(0.2));
        assert!(least > 0.0 && (0.15..0.25).contains(&median) && most < 0.4, "{median} {least} {most}");
        let still = slope(&points(0.0));
        assert!(still.least < 0.0 && still.most > 0.0 && still.median.abs() < 0.05, "{still:?}");
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, least: 1.0, most: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Spread::of([1.0]).text(1), "1.0 (1.0 to 1.0)");
    }
}
