//! What waits to be written to a host, in the order in which it was queued.

/// Memory that is kept for what is queued next: twice what bodies may fill.
const KEPT: usize = 2 * 1024 * 1024;

/// Bytes for a host.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Outbox {
    bytes: Vec<u8>,
    /// So many at the front have left.
    gone: usize,
    /// Bytes that ever left.
    written: u64,
}

impl Outbox {
    /// Bytes that have not left.
    pub(in crate::gateway) fn len(&self) -> usize {
        self.bytes.len() - self.gone
    }

    pub(in crate::gateway) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where to append. What is there already must stay as it is.
    pub(in crate::gateway) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// What has not left.
    pub(in crate::gateway) fn unsent(&self) -> &[u8] {
        &self.bytes[self.gone..]
    }

    /// Bytes that ever left.
    pub(in crate::gateway) fn written(&self) -> u64 {
        self.written
    }

    /// The place of the next byte in all that was ever queued.
    pub(in crate::gateway) fn next_place(&self) -> u64 {
        self.written + self.len() as u64
    }

    /// So many bytes have left.
    pub(in crate::gateway) fn left(&mut self, count: usize) {
        self.gone += count;
        self.written += count as u64;
        if self.is_empty() {
            self.gone = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
        } else if self.gone >= self.bytes.len().div_ceil(2) {
            // What is moved is no more than what has left since the last move: all moves together cost no more than the writes.
            self.bytes.drain(..self.gone);
            self.gone = 0;
        }
    }

    /// Nothing of it will be written.
    pub(in crate::gateway) fn discard(&mut self) {
        (self.bytes, self.gone) = (Vec::new(), 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_queued_leaves_once_and_in_order(
            steps in prop::collection::vec((0usize..50, 0usize..60), 1..40),
        ) {
            let (mut outbox, mut queued, mut gone) = (Outbox::default(), Vec::new(), Vec::new());
            for (number, (append, take)) in (0_u8..).zip(steps) {
                prop_assert_eq!(outbox.next_place(), queued.len() as u64);
                outbox.end().extend(vec![number; append]);
                queued.extend(vec![number; append]);
                let take = take.min(outbox.len());
                gone.extend_from_slice(&outbox.unsent()[..take]);
                outbox.left(take);
                prop_assert_eq!(outbox.written(), gone.len() as u64);
                prop_assert!(outbox.bytes.len() <= 2 * outbox.len(), "what has left takes room");
            }
            gone.extend_from_slice(outbox.unsent());
            prop_assert_eq!(gone, queued);
        }
    }

    #[test]
    fn an_outbox_that_was_large_gives_its_memory_back() {
        let mut outbox = Outbox::default();
        outbox.end().resize(4 * KEPT, 0);
        outbox.left(4 * KEPT);
        assert!(outbox.bytes.capacity() <= KEPT);
    }
}
