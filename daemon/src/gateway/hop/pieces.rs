//! What has come of a response's body and was not taken yet.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use hot_wire::data::MAX_PIECE;

/// From here on a piece is kept as the share of the read buffer that it is: with up to 256 KiB, that is at most four
/// times its size. Shorter ones are gathered, so that a body of single bytes costs what its bytes do.
const WORTH_SHARING: usize = MAX_PIECE;

/// Pieces in the order in which they came.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Pieces {
    ready: VecDeque<Bytes>,
    /// Short ones that came behind `ready`.
    tail: BytesMut,
}

impl Pieces {
    pub(in crate::gateway) fn push(&mut self, data: Bytes) {
        if data.len() >= WORTH_SHARING {
            self.end_tail();
            self.ready.push_back(data);
        } else {
            self.tail.extend_from_slice(&data);
            if self.tail.len() >= WORTH_SHARING {
                self.end_tail();
            }
        }
    }

    pub(in crate::gateway) fn pop(&mut self) -> Option<Bytes> {
        if self.ready.is_empty() {
            self.end_tail();
        }
        self.ready.pop_front()
    }

    pub(in crate::gateway) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.tail.is_empty()
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.ready.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hot_wire::data::INITIAL_WINDOW;

    #[test]
    fn a_window_of_single_bytes_is_held_in_few_pieces() {
        let window = usize::try_from(INITIAL_WINDOW).expect("fits");
        let mut pieces = Pieces::default();
        for at in 0..window {
            pieces.push(Bytes::copy_from_slice(&at.to_le_bytes()[..1]));
        }
        assert_eq!((pieces.ready.len(), pieces.tail.len()), (window / WORTH_SHARING, 0));
        let mut all = Vec::new();
        while let Some(piece) = pieces.pop() {
            all.extend_from_slice(&piece);
        }
        assert!(all.iter().enumerate().all(|(at, byte)| *byte == at.to_le_bytes()[0]));
        assert_eq!(all.len(), window);
    }

    #[test]
    fn a_short_piece_leaves_the_buffer_that_was_read() {
        let buffer = Bytes::from(vec![7; 256 * 1024]);
        let mut pieces = Pieces::default();
        pieces.push(buffer.slice(..WORTH_SHARING - 1));
        assert!(buffer.is_unique());
        pieces.push(buffer.slice(..WORTH_SHARING));
        assert!(!buffer.is_unique(), "a long one is not copied");
    }

    #[test]
    fn short_and_long_pieces_stay_in_order() {
        let body: Vec<u8> = (0..1_000_000u32).map(|at| at.to_le_bytes()[at as usize % 3]).collect();
        let body = Bytes::from(body);
        let mut pieces = Pieces::default();
        let (mut at, mut all) = (0, Vec::new());
        for len in [1, 3, 100_000, 0, 40_000, 40_000, 65_536, 2, 70_000, 9, 200_000] {
            pieces.push(body.slice(at..at + len));
            at += len;
            if len == 2 {
                all.extend_from_slice(&pieces.pop().expect("some came"));
            }
        }
        assert!(!pieces.is_empty());
        while let Some(piece) = pieces.pop() {
            assert!(!piece.is_empty());
            all.extend_from_slice(&piece);
        }
        assert!(pieces.is_empty() && all == body[..at]);
    }
}
