//! How many requests come to the fleet, and when.

use hot_rollout::{Millis, Time};

use crate::draw::{float, poisson};
use crate::seed::Dice;

/// What users do. Rates are of the whole fleet, in thousandths of a request per second, spread evenly over the nodes that
/// are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Nobody comes.
    None,
    /// As regular as a clock.
    Constant(u64),
    /// Independent users at one rate.
    Poisson(u64),
    /// At one rate as a rule, and for so long in each so long at another.
    Bursts {
        /// As a rule.
        rate: u64,
        /// In a burst.
        burst: u64,
        /// How long a burst is.
        lasts: Millis,
        /// From the begin of one to the begin of the next.
        every: Millis,
    },
    /// Up and down like a day, from nothing to twice the rate; the day is as short as the simulation needs it.
    DayAndNight {
        /// On average.
        rate: u64,
        /// How long a day is.
        day: Millis,
    },
    /// One request a minute, to one node after the other.
    OneAMinute,
    /// Independent users at one rate, and from so long after the begin on nobody.
    Stops {
        /// Until then.
        rate: u64,
        /// When.
        after: Millis,
    },
}

impl Traffic {
    /// How many requests come to the node with this place among so many, from `from` until `until`.
    #[must_use]
    pub fn requests(self, dice: &mut Dice, place: u64, nodes: u64, from: Time, until: Time) -> u64 {
        let nodes = nodes.max(1);
        let mean = |rate: u64, span: Millis| float(rate) * float(span.0) / 1e6 / float(nodes);
        let whole = until.since(from);
        match self {
            Self::None => 0,
            Self::Constant(rate) => {
                let until_then =
                    |time: Time| u128::from(rate) * u128::from(time.0) / 1_000_000 / u128::from(nodes);
                u64::try_from(until_then(until) - until_then(from.min(until))).unwrap_or(u64::MAX)
            }
            Self::Poisson(rate) => poisson(dice, mean(rate, whole)),
            Self::Bursts { rate, burst, lasts, every } => {
                let inside = overlap(from, until, lasts, every);
                let outside = Millis(whole.0.saturating_sub(inside.0));
                poisson(dice, mean(burst, inside) + mean(rate, outside))
            }
            Self::DayAndNight { rate, day } => {
                let middle = float(from.0 + whole.0 / 2) / float(day.0.max(1));
                let sun = 1.0 + libm::sin(std::f64::consts::TAU * middle);
                poisson(dice, sun * mean(rate, whole))
            }
            Self::OneAMinute => {
                let minutes = (from.0 / 60_000 + 1)..=(until.0 / 60_000);
                minutes.filter(|minute| minute % nodes == place).count() as u64
            }
            Self::Stops { rate, after } => {
                let left = Time(after.0).since(from).0.min(whole.0);
                poisson(dice, mean(rate, Millis(left)))
            }
        }
    }
}

/// How much of the time from `from` to `until` is in a burst. A span that is longer than a period is counted by its parts.
fn overlap(from: Time, until: Time, lasts: Millis, every: Millis) -> Millis {
    let every = every.0.max(1);
    let before = |time: u64| (time / every) * lasts.0.min(every) + (time % every).min(lasts.0);
    Millis(before(until.0).saturating_sub(before(from.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Purpose;

    /// All requests of ten minutes on four nodes, counted every second.
    fn in_ten_minutes(traffic: Traffic) -> u64 {
        let mut dice = Dice::new(9, Purpose::Traffic);
        let mut sum = 0;
        for second in 0..600 {
            for place in 0..4 {
                let (from, until) = (Time(second * 1000), Time(second * 1000 + 1000));
                sum += traffic.requests(&mut dice, place, 4, from, until);
            }
        }
        sum
    }

    #[test]
    fn each_model_sends_what_it_says() {
        assert_eq!(in_ten_minutes(Traffic::None), 0);
        assert_eq!(in_ten_minutes(Traffic::Constant(10_000)), 6000);
        assert_eq!(in_ten_minutes(Traffic::OneAMinute), 10);
        let about = |traffic: Traffic, expected: u64| {
            let found = in_ten_minutes(traffic);
            assert!(found.abs_diff(expected) < expected / 10, "{traffic:?}: {found}, expected {expected}");
        };
        about(Traffic::Poisson(10_000), 6000);
        about(Traffic::Stops { rate: 10_000, after: Millis::minutes(5) }, 3000);
        about(Traffic::DayAndNight { rate: 10_000, day: Millis::minutes(1) }, 6000);
        let (lasts, every) = (Millis::seconds(10), Millis::seconds(60));
        about(Traffic::Bursts { rate: 6000, burst: 60_000, lasts, every }, 9000);
    }
}
