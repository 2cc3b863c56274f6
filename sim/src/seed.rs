//! Where all chance comes from: one stream of numbers for each seed and purpose.
//!
//! The generator is ChaCha with 8 rounds (D. J. Bernstein, "ChaCha, a variant of Salsa20", 2008), whose stream is fixed by
//! its definition: it is the same on every machine and with every version. How numbers, ranges and chances are made of it
//! is written here and not taken from a library, whose ways of doing that change.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

/// What a stream is for. Each has its own, so that one more draw for the traffic does not change the faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Which scenario it is.
    Scenario,
    /// How messages travel.
    Net,
    /// How many requests come, and how they end.
    Traffic,
}

/// A stream of numbers.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream of a seed for one purpose.
    #[must_use]
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(match purpose {
            Purpose::Scenario => 0,
            Purpose::Net => 1,
            Purpose::Traffic => 2,
        });
        Self(rng)
    }

    /// A number from 0 to `end - 1`, and 0 where `end` is 0. Each has the same chance to within `end / 2^64`.
    #[must_use]
    pub fn below(&mut self, end: u64) -> u64 {
        let product = u128::from(self.0.next_u64()) * u128::from(end);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    /// A number from `first` to `last`, both included.
    #[must_use]
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last.saturating_sub(first).saturating_add(1))
    }

    /// True in so many of a thousand cases.
    #[must_use]
    pub fn one_in_thousand(&mut self, cases: u64) -> bool {
        self.below(1000) < cases
    }

    /// True in so many of a hundred cases.
    #[must_use]
    pub fn percent(&mut self, cases: u64) -> bool {
        self.below(100) < cases
    }

    /// A number above 0.0 and below 1.0: one of 2^52 that lie evenly between.
    #[must_use]
    pub fn unit(&mut self) -> f64 {
        /// 2^52, the number of steps.
        const STEPS: f64 = 4_503_599_627_370_496.0;
        (crate::draw::float(self.0.next_u64() >> 12) + 0.5) / STEPS
    }

    /// One of `choices`, each with the same chance.
    ///
    /// # Panics
    /// Never, as long as there is a choice: the slice must not be empty.
    #[must_use]
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let index = usize::try_from(self.below(choices.len() as u64)).unwrap_or(0);
        choices[index]
    }

    /// The place in `weights` of a choice that comes as often as its weight says.
    #[must_use]
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut left = self.below(weights.iter().sum());
        for (index, weight) in weights.iter().enumerate() {
            if left < *weight {
                return index;
            }
            left -= weight;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_the_same_for_ever() {
        // If this fails, every seed that anybody wrote down tells another story.
        let mut dice = Dice::new(7, Purpose::Scenario);
        let drawn: Vec<u64> = (0..6).map(|_| dice.below(1000)).collect();
        assert_eq!(drawn, STREAM_OF_7);
        let mut other = Dice::new(7, Purpose::Net);
        assert_ne!((0..6).map(|_| other.below(1000)).collect::<Vec<u64>>(), drawn);
    }

    /// Written down when the simulation was new.
    const STREAM_OF_7: [u64; 6] = [764, 465, 5, 301, 386, 336];

    #[test]
    fn choices_come_as_often_as_their_weights_say() {
        let mut dice = Dice::new(1, Purpose::Scenario);
        let mut counts = [0_u64; 3];
        for _ in 0..60_000 {
            counts[dice.weighted(&[1, 0, 2])] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((19_000..21_000).contains(&counts[0]), "{counts:?}");
        assert_eq!(dice.below(0), 0);
        assert_eq!(dice.between(5, 5), 5);
    }
}
