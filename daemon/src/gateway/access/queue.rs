//! What waits for the disk: batches of whole lines, bounded by the memory that they take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Who may give lines, each thread of the gateway; clones are the same queue.
#[derive(Debug, Clone)]
pub(in super::super) struct Lines {
    batches: Sender<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
    most: usize,
}

/// Who writes them.
#[derive(Debug)]
pub(super) struct Waiting {
    batches: Receiver<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
}

/// A queue that holds at most so many bytes, those that are being written among them.
pub(super) fn queue(most: usize) -> (Lines, Waiting) {
    let (sender, receiver) = channel();
    let bytes = Arc::new(AtomicUsize::new(0));
    let lines = Lines { batches: sender, bytes: Arc::clone(&bytes), most };
    (lines, Waiting { batches: receiver, bytes })
}

impl Lines {
    /// Gives lines on. Gives them back where too much waits already, or nobody writes any more.
    pub(super) fn offer(&self, lines: Vec<u8>) -> Result<(), Vec<u8>> {
        let size = lines.capacity();
        let with = |waiting: usize| waiting.checked_add(size).filter(|sum| *sum <= self.most);
        if self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with).is_err() {
            return Err(lines);
        }
        self.batches.send(lines).map_err(|unsent| unsent.0)
    }
}

impl Waiting {
    /// Waits for the next lines, at most so long, and has them written; only then they make room.
    pub(super) fn next(&self, within: Duration, write: impl FnOnce(&[u8])) -> Result<(), RecvTimeoutError> {
        let lines = self.batches.recv_timeout(within)?;
        write(&lines);
        self.bytes.fetch_sub(lines.capacity(), Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(bytes: usize) -> Vec<u8> {
        let batch = vec![b'\n'; bytes];
        assert_eq!(batch.capacity(), bytes);
        batch
    }

    #[test]
    fn bytes_are_bounded_and_what_is_being_written_is_among_them() {
        let (lines, waiting) = queue(100);
        for _ in 0..100 {
            lines.offer(batch(1)).unwrap();
        }
        assert_eq!(lines.offer(batch(1)), Err(batch(1)), "however small they are");
        waiting.next(Duration::MAX, |_| assert!(lines.offer(batch(1)).is_err())).unwrap();
        lines.clone().offer(batch(1)).unwrap();
        assert_eq!(lines.offer(batch(1)), Err(batch(1)), "it is one queue");
        let (lines, _waiting) = queue(100);
        assert_eq!(lines.offer(batch(101)), Err(batch(101)));
        lines.offer(batch(100)).unwrap();
    }

    #[test]
    fn what_nobody_writes_is_given_back() {
        let (lines, waiting) = queue(100);
        drop(waiting);
        assert_eq!(lines.offer(batch(1)), Err(batch(1)));
    }
}
