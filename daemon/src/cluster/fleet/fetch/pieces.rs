//! Which bytes of an artifact are here, asked for, and missing: pure.
//!
//! They are written in order. What comes ahead of its turn waits in memory, in a window that is bounded: nothing is asked for
//! beyond it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

/// The most that is asked for at once: a peer that is lost costs little, and who has little to give is soon done.
const LARGEST: u64 = 1 << 20;
/// The least: smaller ones cost more in questions than they give.
const SMALLEST: u64 = 64 << 10;
/// What a peer is asked for first, of whom nothing is known yet.
pub(super) const FIRST: u64 = 256 << 10;
/// How far ahead of what is written anything is asked for: what may wait in memory.
const WINDOW: u64 = 8 << 20;

/// The bytes of one artifact.
#[derive(Debug)]
pub(super) struct Pieces {
    total: u64,
    /// All before it are out of here.
    front: u64,
    /// What waits for its turn, by where it begins.
    ahead: BTreeMap<u64, Bytes>,
    /// What is asked for and did not come yet: from where to where.
    asked: BTreeMap<u64, u64>,
}

/// How much to ask for of a peer that took so long for so much: what it gives in a second, so that a slow one does not hold up
/// what was asked of others behind it.
pub(super) fn size_after(bytes: u64, took: Duration) -> u64 {
    let nanos = took.as_nanos().max(1);
    let in_a_second = u128::from(bytes) * 1_000_000_000 / nanos;
    u64::try_from(in_a_second).unwrap_or(u64::MAX).clamp(SMALLEST, LARGEST)
}

impl Pieces {
    /// Of an artifact of so many bytes, of which nothing is here.
    pub(super) const fn new(total: u64) -> Self {
        Self { total, front: 0, ahead: BTreeMap::new(), asked: BTreeMap::new() }
    }

    /// Nothing is asked for any more, and all before `front` is out of here. Where that is less than was known, those who kept
    /// it have lost it, and nothing counts any more: true.
    pub(super) fn resume(&mut self, front: u64) -> bool {
        self.asked.clear();
        let is_lost = front < self.front;
        if is_lost {
            self.ahead.clear();
        }
        self.front = front;
        let over = self.ahead.range(..front).next_back().map(|(at, bytes)| (*at, bytes.clone()));
        self.ahead = self.ahead.split_off(&front);
        if let Some((at, bytes)) = over
            && let Ok(known) = usize::try_from(front - at)
            && known < bytes.len()
        {
            self.ahead.insert(front, bytes.slice(known..));
        }
        is_lost
    }

    /// The first bytes that are missing and nobody was asked for, at most so many; whoever takes them asks for them. None:
    /// there are none, or too much waits for its turn.
    pub(super) fn next(&mut self, most: u64) -> Option<Range<u64>> {
        let mut at = self.front;
        while let Some(end) = self.covered(at) {
            at = end;
        }
        let ahead = self.ahead.range(at..).next().map(|(next, _)| *next);
        let asked = self.asked.range(at..).next().map(|(next, _)| *next);
        let bounds =
            [Some(self.total), Some(at.saturating_add(most)), Some(self.front + WINDOW), ahead, asked];
        let end = bounds.into_iter().flatten().min().unwrap_or(self.total);
        if end <= at {
            return None;
        }
        self.asked.insert(at, end);
        Some(at..end)
    }

    /// The end of what is here, or asked for, at `at`.
    fn covered(&self, at: u64) -> Option<u64> {
        let ahead = self.ahead.range(..=at).next_back().map(|(start, bytes)| start + bytes.len() as u64);
        let asked = self.asked.range(..=at).next_back().map(|(_, end)| *end);
        ahead.into_iter().chain(asked).filter(|end| *end > at).max()
    }

    /// Bytes came that were asked for: the next ones of a range that [`Pieces::next`] gave.
    pub(super) fn came(&mut self, at: u64, bytes: Bytes) {
        let Some(end) = self.asked.remove(&at) else { return };
        let next = at + bytes.len() as u64;
        if next < end {
            self.asked.insert(next, end);
        }
        self.ahead.insert(at, bytes);
    }

    /// What of a range did not come will not come: others may be asked.
    pub(super) fn give_back(&mut self, rest: &Range<u64>) {
        if !rest.is_empty() {
            self.asked.remove(&rest.start);
        }
    }

    /// What is to be written next, and where; it counts as written then.
    pub(super) fn ready(&mut self) -> Option<(u64, Bytes)> {
        let at = self.front;
        let bytes = self.ahead.remove(&at)?;
        self.front += bytes.len() as u64;
        Some((at, bytes))
    }

    /// All bytes are out of here.
    pub(super) const fn is_whole(&self) -> bool {
        self.front == self.total
    }

    /// Bytes that are here or were.
    pub(super) fn here(&self) -> u64 {
        self.front + self.ahead.values().map(|bytes| bytes.len() as u64).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn bytes(range: &Range<u64>) -> Bytes {
        range.clone().map(|at| at.to_le_bytes()[0]).collect::<Vec<u8>>().into()
    }

    #[test]
    fn pieces_are_asked_for_in_order_and_written_in_order() {
        let mut pieces = Pieces::new(3 * MIB + 5);
        let asked: Vec<_> = std::iter::from_fn(|| pieces.next(MIB)).collect();
        assert_eq!(asked, [0..MIB, MIB..2 * MIB, 2 * MIB..3 * MIB, 3 * MIB..3 * MIB + 5]);
        pieces.came(MIB, bytes(&asked[1]));
        assert_eq!(pieces.ready(), None, "the first is missing");
        pieces.came(0, bytes(&(0..10)));
        assert_eq!(pieces.ready(), Some((0, bytes(&(0..10)))));
        pieces.give_back(&(10..MIB));
        assert_eq!(
            pieces.next(4 * MIB),
            Some(10..MIB),
            "others are asked for the rest of it, and for no more"
        );
        pieces.came(10, bytes(&(10..MIB)));
        assert_eq!(pieces.ready().unwrap().0, 10);
        assert_eq!(pieces.ready().unwrap().0, MIB);
        assert!(!pieces.is_whole());
        assert_eq!(pieces.here(), 2 * MIB);
    }

    #[test]
    fn nothing_is_asked_for_beyond_the_window() {
        let mut pieces = Pieces::new(100 * MIB);
        let asked = std::iter::from_fn(|| pieces.next(3 * MIB)).last();
        assert_eq!(asked, Some(6 * MIB..8 * MIB));
        pieces.came(0, bytes(&(0..3 * MIB)));
        assert_eq!(pieces.next(MIB), None);
        pieces.ready().unwrap();
        assert_eq!(pieces.next(MIB), Some(8 * MIB..9 * MIB));
    }

    #[test]
    fn what_waits_for_its_turn_counts_after_a_break() {
        let mut pieces = Pieces::new(4 * MIB);
        assert_eq!((pieces.next(MIB), pieces.next(MIB)), (Some(0..MIB), Some(MIB..2 * MIB)));
        pieces.came(MIB, bytes(&(MIB..2 * MIB)));
        assert!(!pieces.resume(MIB + 7), "somebody else has written that far");
        assert_eq!(pieces.ready(), Some((MIB + 7, bytes(&(MIB + 7..2 * MIB)))));
        assert_eq!(pieces.next(9 * MIB), Some(2 * MIB..4 * MIB));
        assert!(pieces.resume(0), "what was written is lost");
        assert_eq!((pieces.here(), pieces.next(9 * MIB)), (0, Some(0..4 * MIB)));
    }

    #[test]
    fn a_fast_peer_is_asked_for_more_than_a_slow_one() {
        assert_eq!(size_after(FIRST, Duration::from_millis(10)), LARGEST);
        assert_eq!(size_after(FIRST, Duration::from_millis(500)), 512 << 10);
        assert_eq!(size_after(FIRST, Duration::from_secs(60)), SMALLEST);
        assert_eq!(size_after(0, Duration::ZERO), SMALLEST);
    }

    proptest! {
        /// Whatever comes in what order, and whoever breaks off where: what is written is the whole, in order.
        #[test]
        fn all_is_written_once_and_in_order(
            total in 1..20_000_u64,
            steps in proptest::collection::vec((0..4_usize, 1..3_000_u64, 0..3_000_usize), 0..200),
        ) {
            let mut pieces = Pieces::new(total);
            let (mut written, mut asked) = (Vec::new(), Vec::<Range<u64>>::new());
            let finish = std::iter::repeat_n((0, 3_000, 3_000), 50);
            for (who, most, gives) in steps.into_iter().chain(finish) {
                asked.extend(pieces.next(most));
                if asked.is_empty() {
                    break;
                }
                let range = asked.remove(who % asked.len());
                let end = range.end.min(range.start + gives as u64);
                if range.start < end {
                    pieces.came(range.start, bytes(&(range.start..end)));
                }
                pieces.give_back(&(end..range.end));
                while let Some((at, bytes)) = pieces.ready() {
                    prop_assert_eq!(at, written.len() as u64);
                    written.extend_from_slice(&bytes);
                }
            }
            prop_assert!(pieces.is_whole());
            prop_assert_eq!(written, bytes(&(0..total)).to_vec());
        }
    }
}
