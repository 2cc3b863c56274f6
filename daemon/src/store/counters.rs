//! Numbers of events, which are never given twice on this node. They are given from memory; the file has a number that is
//! past all that were given, and is written once per block.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::small::{Key, SmallFiles, Urgency, WriteError};

/// Numbers per write. A crash leaves out at most this many.
const BLOCK: u64 = 1024;

/// Content of `counters.json`: the first number that was surely not given yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ceilings {
    pub(super) event: u64,
}

impl Ceilings {
    /// Of a new store.
    pub(super) const fn start() -> Self {
        Self { event: 1 }
    }

    /// For a store whose counters were lost: microseconds since 1970 are past every number that a block at a time can
    /// have reached.
    pub(super) fn beyond_all(now: SystemTime) -> Self {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let past = u64::try_from(since.as_micros()).unwrap_or(u64::MAX / 2).max(1);
        Self { event: past }
    }
}

/// The counters of a running store.
#[derive(Debug)]
pub(super) struct Counters {
    next: Ceilings,
    written: Ceilings,
}

impl Counters {
    pub(super) const fn new(ceilings: Ceilings) -> Self {
        Self { next: ceilings, written: ceilings }
    }

    /// A number that was never given before.
    pub(super) fn next_event(&mut self, small: &SmallFiles) -> Result<u64, WriteError> {
        let next = self.next.event;
        if next >= self.written.event {
            let ceilings = Ceilings { event: next + BLOCK };
            // What happens on a full disk is told as well.
            small.write(&Key::Counters, &ceilings, Urgency::TowardStable)?;
            self.written = ceilings;
        }
        self.next.event = next + 1;
        Ok(next)
    }
}
