//! Picks by weight, exactly: a deck of cards, drawn without replacement and shuffled anew when it is used up.
//!
//! With weights 9,000 and 1,000 the deck has ten cards, and of each ten picks in a row that start at a multiple of ten
//! exactly one goes to the second backend, at a place that differs from deck to deck. So a share holds over any
//! longer run, while a client that asks in a fixed rhythm can't be in step with it.
//!
//! The shuffle is a function of the seed and the number of the draw alone, so that the threads share one counter and
//! nothing else: no lock, and exact over all threads together.

use std::sync::atomic::{AtomicU64, Ordering};

/// Rounds of the permutation. Four make a Feistel network of good round functions indistinguishable from a random
/// permutation (Luby and Rackoff, 1988).
const ROUNDS: u64 = 4;

/// Cards of several backends, and how many were drawn.
#[derive(Debug)]
pub(in crate::gateway) struct Deck {
    /// For each backend with a weight: the first card that is no longer its own, and its index.
    bounds: Vec<(u32, usize)>,
    /// Cards of one whole deck: over this many draws from a multiple of it the picks are exact.
    cards: u32,
    seed: u64,
    /// Half the bits of the permutation's domain, the smallest power of four with room for all cards.
    half_bits: u32,
    drawn: AtomicU64,
}

impl Deck {
    /// A deck for backends with the given weights (of any unit; zero is never picked), `None` if all are zero.
    /// `seed` chooses the shuffles.
    #[must_use]
    pub(in crate::gateway) fn new(weights: &[u16], seed: u64) -> Option<Self> {
        let unit = weights.iter().fold(0, |unit, &weight| gcd(unit, u32::from(weight)));
        if unit == 0 {
            return None;
        }
        let mut cards = 0;
        let mut bounds = Vec::new();
        for (index, &weight) in weights.iter().enumerate() {
            if weight > 0 {
                cards += u32::from(weight) / unit;
                bounds.push((cards, index));
            }
        }
        let bits = u32::BITS - (cards - 1).leading_zeros();
        Some(Self { bounds, cards, seed, half_bits: bits.div_ceil(2).max(1), drawn: AtomicU64::new(0) })
    }

    /// The next pick: an index into the weights.
    pub(in crate::gateway) fn draw(&self) -> usize {
        match self.bounds[..] {
            [(_, only)] => only,
            _ => self.at(self.drawn.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// The pick of the draw with this number, counted from zero.
    #[must_use]
    pub(in crate::gateway) fn at(&self, draw: u64) -> usize {
        let cards = u64::from(self.cards);
        let card = self.shuffled(draw / cards, draw % cards);
        let backend = self.bounds.partition_point(|&(end, _)| u64::from(end) <= card);
        self.bounds[backend].1
    }

    /// The card at `place` in the shuffle with this number. The permutation's domain is larger than the deck, so it is
    /// applied until it falls into the deck ("cycle walking"), which keeps it a permutation of the deck.
    fn shuffled(&self, shuffle: u64, place: u64) -> u64 {
        let key = mix(self.seed ^ mix(shuffle));
        let mut card = place;
        loop {
            card = self.permuted(key, card);
            if card < u64::from(self.cards) {
                return card;
            }
        }
    }

    /// A balanced Feistel network: a permutation of the numbers below `4^half_bits`, chosen by `key`.
    fn permuted(&self, key: u64, value: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for round in 0..ROUNDS {
            let scrambled = mix(key ^ (round << 32) ^ right) & mask;
            (left, right) = (right, left ^ scrambled);
        }
        left << self.half_bits | right
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): each bit of the result depends on all of the input.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(deck: &Deck, backends: usize, draws: std::ops::Range<u64>) -> Vec<u64> {
        let mut counts = vec![0; backends];
        for draw in draws {
            counts[deck.at(draw)] += 1;
        }
        counts
    }

    proptest! {
        #[test]
        fn every_whole_deck_is_exact(
            weights in prop::collection::vec(0u16..=10_000, 1..6),
            seed: u64,
            number in 0u64..1_000,
        ) {
            let Some(deck) = Deck::new(&weights, seed) else {
                prop_assert!(weights.iter().all(|&weight| weight == 0));
                return Ok(());
            };
            let cards = u64::from(deck.cards);
            let counts = counts(&deck, weights.len(), number * cards..(number + 1) * cards);
            let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert_eq!(count * sum, u64::from(*weight) * cards);
            }
        }

        #[test]
        fn a_part_of_a_deck_is_never_off_by_more_than_a_deck(
            share in 1u16..10_000, seed: u64, start in 0u64..100_000, length in 0u64..30_000,
        ) {
            let deck = Deck::new(&[10_000 - share, share], seed).unwrap();
            let candidate = counts(&deck, 2, start..start + length)[1];
            let expected = length * u64::from(share) / 10_000;
            // A run has whole decks, which are exact, and less than a deck at each end.
            let cards_of_candidate = u64::from(share) * u64::from(deck.cards) / 10_000;
            prop_assert!(candidate.abs_diff(expected) <= 2 * cards_of_candidate + 1);
        }
    }

    #[test]
    fn shares_are_exact_over_10_000_draws_of_one_counter() {
        let deck = Deck::new(&[9_000, 1_000], 7).unwrap();
        assert_eq!(deck.cards, 10);
        let to_candidate = (0..10_000).filter(|_| deck.draw() == 1).count();
        assert_eq!(to_candidate, 1_000);
    }

    /// Over 1,000 decks each of the ten places holds the candidate's card about 100 times: 60..=140 is four standard
    /// deviations (sqrt(1000 * 0.1 * 0.9) = 9.5), and the seed is fixed.
    #[test]
    fn the_place_within_a_deck_is_uniform() {
        let deck = Deck::new(&[9_000, 1_000], 42).unwrap();
        let mut places = [0; 10];
        for draw in 0..10_000 {
            if deck.at(draw) == 1 {
                places[usize::try_from(draw % 10).unwrap()] += 1;
            }
        }
        assert!(places.iter().all(|place| (60..=140).contains(place)), "{places:?}");
    }

    #[test]
    fn one_backend_gets_all_and_none_gets_nothing() {
        let deck = Deck::new(&[0, 10_000, 0], 1).unwrap();
        assert!((0..100).all(|_| deck.draw() == 1));
        assert!(Deck::new(&[0, 0], 1).is_none());
        assert!(Deck::new(&[], 1).is_none());
    }
}
