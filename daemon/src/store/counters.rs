//! Numbers that are never given twice on this node: of events and of instances. They are given from memory; the file
//! has a number that is past all that were given, and is written once per block.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::small::{Key, SmallFiles, Urgency, WriteError};

/// Numbers per write. A crash leaves out at most this many.
const BLOCK: u64 = 1024;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counter {
    Event,
    Instance,
}

/// Content of `counters.json`: the first number of each kind that was surely not given yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ceilings {
    pub(super) event: u64,
    pub(super) instance: u64,
}

impl Ceilings {
    /// Of a new store.
    pub(super) const fn start() -> Self {
        Self { event: 1, instance: 1 }
    }

    /// For a store whose counters were lost: microseconds since 1970 are past every number that a block at a time can
    /// have reached.
    pub(super) fn beyond_all(now: SystemTime) -> Self {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let past = u64::try_from(since.as_micros()).unwrap_or(u64::MAX / 2).max(1);
        Self { event: past, instance: past }
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
    pub(super) fn next(&mut self, counter: Counter, small: &SmallFiles) -> Result<u64, WriteError> {
        let (next, written) = match counter {
            Counter::Event => (self.next.event, self.written.event),
            Counter::Instance => (self.next.instance, self.written.instance),
        };
        if next >= written {
            let mut ceilings = self.written;
            match counter {
                Counter::Event => ceilings.event = next + BLOCK,
                Counter::Instance => ceilings.instance = next + BLOCK,
            }
            // A stable instance that is started anew on a full disk needs a number too.
            small.write(&Key::Counters, &ceilings, Urgency::TowardStable)?;
            self.written = ceilings;
        }
        match counter {
            Counter::Event => self.next.event = next + 1,
            Counter::Instance => self.next.instance = next + 1,
        }
        Ok(next)
    }
}
