//! What waits for the disk: batches of whole lines, bounded by the memory that they take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Who may give lines, each thread of the gateway; clones are the same queue.
#[derive(Debug, Clone)]
pub(in super::super) struct Lines {
    batches: Sender<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
    most: usize,
    left_out: LeftOut,
}

/// Who writes them.
#[derive(Debug)]
pub(super) struct Waiting {
    batches: Receiver<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
    left_out: LeftOut,
}

/// How many lines were left out, since that was last asked; clones are one count.
#[derive(Debug, Clone, Default)]
pub(super) struct LeftOut(Arc<AtomicU64>);

/// A queue that holds at most so many bytes, those that are being written among them.
pub(super) fn queue(most: usize) -> (Lines, Waiting) {
    let (sender, receiver) = channel();
    let (bytes, left_out) = (Arc::new(AtomicUsize::new(0)), LeftOut::default());
    let waiting = Waiting { batches: receiver, bytes: Arc::clone(&bytes), left_out: left_out.clone() };
    (Lines { batches: sender, bytes, most, left_out }, waiting)
}

impl Lines {
    /// Gives lines on. Where too much waits already, or nobody writes any more, they are left out.
    pub(super) fn offer(&self, lines: Vec<u8>) {
        let size = lines.capacity();
        let with = |waiting: usize| waiting.checked_add(size).filter(|sum| *sum <= self.most);
        if self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with).is_err() {
            self.left_out.add(&lines);
        } else if let Err(unsent) = self.batches.send(lines) {
            self.left_out.add(&unsent.0);
        }
    }

    pub(super) fn left_out(&self) -> &LeftOut {
        &self.left_out
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

    pub(super) fn left_out(&self) -> &LeftOut {
        &self.left_out
    }
}

impl LeftOut {
    fn add(&self, lines: &[u8]) {
        let count = lines.iter().filter(|byte| **byte == b'\n').count();
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(super) fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
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

    /// How many of the lines found no room.
    fn offer(lines: &Lines, bytes: usize) -> u64 {
        lines.offer(batch(bytes));
        lines.left_out().take()
    }

    #[test]
    fn bytes_are_bounded_and_what_is_being_written_is_among_them() {
        let (lines, waiting) = queue(100);
        assert_eq!((0..100).map(|_| offer(&lines, 1)).sum::<u64>(), 0);
        assert_eq!(offer(&lines, 1), 1, "however small they are");
        waiting.next(Duration::MAX, |_| assert_eq!(offer(&lines, 1), 1)).unwrap();
        assert_eq!(offer(&lines.clone(), 1), 0);
        assert_eq!(offer(&lines, 2), 2, "it is one queue");
        let (lines, _waiting) = queue(100);
        assert_eq!(offer(&lines, 101), 101);
        assert_eq!(offer(&lines, 100), 0);
    }

    #[test]
    fn what_nobody_writes_is_left_out() {
        let (lines, waiting) = queue(100);
        drop(waiting);
        assert_eq!(offer(&lines, 1), 1);
    }
}
