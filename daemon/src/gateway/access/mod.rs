//! The access log: one line for each request, when it is over.
//!
//! A thread of the gateway gathers its lines and gives them on a few times a second, so that a request waits for no disk.
//! Where the [file](file::AccessFile) can't keep up, lines are left out and counted, and hotd's log says so within a second of
//! when it can again.

mod file;
mod line;
mod queue;

use std::cell::RefCell;

pub(super) use file::AccessFile;
pub(super) use line::{Line, Pending};
pub(super) use queue::Lines;

/// Bytes of lines that are given on at once, not with the next look.
const WORTH_A_WRITE: usize = 64 * 1024;

/// The lines of one thread.
#[derive(Debug)]
pub(super) struct AccessLog {
    lines: RefCell<Vec<u8>>,
    file: Lines,
}

impl AccessLog {
    pub(super) fn new(file: Lines) -> Self {
        Self { lines: RefCell::default(), file }
    }

    fn put(&self, line: &Line) {
        let mut lines = self.lines.borrow_mut();
        let before = lines.len();
        if serde_json::to_writer(&mut *lines, line).is_err() {
            lines.truncate(before);
            return;
        }
        lines.push(b'\n');
        let is_much = lines.len() >= WORTH_A_WRITE;
        drop(lines);
        if is_much {
            self.flush();
        }
    }

    /// Gives on what was gathered.
    pub(super) fn flush(&self) {
        let lines = std::mem::take(&mut *self.lines.borrow_mut());
        if !lines.is_empty() {
            self.file.offer(lines);
        }
    }
}

impl Drop for AccessLog {
    /// Of a thread that ends nothing is left behind.
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::queue::{Waiting, queue};
    use super::*;

    fn taken(waiting: &Waiting) -> Option<usize> {
        let mut lines = 0;
        let count = |text: &[u8]| lines = text.iter().filter(|byte| **byte == b'\n').count();
        waiting.next(Duration::ZERO, count).ok().map(|()| lines)
    }

    #[test]
    fn lines_that_find_no_room_are_counted_and_requests_go_on() {
        let (lines, waiting) = queue(1024);
        let log = AccessLog::new(lines);
        let put = || {
            log.put(&Line::example());
            log.flush();
            waiting.left_out().take()
        };
        while put() == 0 {}
        assert_eq!(put(), 1);
        assert_eq!(taken(&waiting), Some(1));
        assert_eq!(put(), 0);
    }

    #[test]
    fn much_is_given_on_at_once() {
        let (lines, waiting) = queue(1024 * 1024);
        let log = AccessLog::new(lines);
        while taken(&waiting).is_none() {
            log.put(&Line::example());
        }
        assert!(log.lines.borrow().is_empty());
    }
}
