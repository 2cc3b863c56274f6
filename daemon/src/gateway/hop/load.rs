//! How much a thread may hold of responses: a budget that its exchanges share.
//!
//! A host may send a window of each response ahead of its client. With few exchanges that is a large one, so that a
//! download runs at full speed; with thousands it is small, for any of those clients may be slow to read.

use std::cell::Cell;

use hot_wire::data::INITIAL_WINDOW;

/// What a thread's exchanges share, in bytes. Those that began when there were fewer give theirs back as their clients take
/// of it, so a crowd that comes one by one may hold some times as much at first.
const BUDGET: u32 = 4 * 1024 * 1024;

/// The least that one gets.
const LEAST: u32 = 16 * 1024;

/// The exchanges that are open on one thread.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Load {
    open: Cell<u32>,
}

impl Load {
    pub(in crate::gateway) fn began(&self) {
        self.open.set(self.open.get() + 1);
    }

    pub(in crate::gateway) fn ended(&self) {
        self.open.set(self.open.get() - 1);
    }

    /// What may be under way of one response.
    pub(in crate::gateway) fn window(&self) -> u32 {
        (BUDGET / self.open.get().max(1)).clamp(LEAST, INITIAL_WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_have_much_and_many_have_little() {
        let load = Load::default();
        assert_eq!(load.window(), INITIAL_WINDOW);
        for (open, window) in [(16, 256 * 1024), (64, 64 * 1024), (256, LEAST), (10_000, LEAST)] {
            while load.open.get() < open {
                load.began();
            }
            assert_eq!(load.window(), window, "with {open}");
        }
        (0..10_000).for_each(|_| load.ended());
        assert_eq!(load.window(), INITIAL_WINDOW);
    }
}
