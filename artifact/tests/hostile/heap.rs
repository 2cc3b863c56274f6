//! A counting allocator: the most heap that one thread has held at once.

#![expect(unsafe_code, reason = "an allocator is unsafe to write; this one only counts and passes on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What a file may cost beyond twice its size: its metadata becomes a tree of TOML, of at most 1024 tokens, which take
/// hundreds of bytes each, and at most 256 tables, which take more than 1 KiB each. All that is bounded by constants
/// otherwise (names, versions, segments, the buffer for hashing) takes less.
const CONSTANT: usize = 512 * 1024;

/// The most heap that a file of `size` bytes may take.
pub(crate) const fn allowed(size: usize) -> usize {
    2 * size + CONSTANT
}

/// What `f` gives, and the most heap that it held at once, beyond what was held before.
pub(crate) fn peak<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = f();
    (result, usize::try_from(PEAK.get() - before).unwrap())
}

struct Counting;

#[global_allocator]
static HEAP: Counting = Counting;

thread_local! {
    /// Negative where a thread frees what another one has taken.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(taken: usize, given: usize) {
    // A thread that ends frees after its counters are gone.
    let _gone = LIVE.try_with(|live| {
        live.set(live.get().wrapping_add_unsigned(taken).wrapping_sub_unsigned(given));
        PEAK.with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call goes to `System` with the arguments as they came, and its answer back as it is; counting neither
// allocates (the counters are constants at first) nor unwinds (the arithmetic wraps).
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller owes for `layout` what `System` asks.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller owes for `layout` what `System` asks.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller has `block` from this allocator with this `layout`, so from `System`.
        unsafe { System.dealloc(block, layout) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Where it moves, both are held for a moment.
        count(size, 0);
        count(0, layout.size());
        // SAFETY: the caller has `block` from this allocator with this `layout`, so from `System`, and owes for `size`
        // what `System` asks.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[test]
fn what_was_held_for_a_moment_is_counted() {
    let (kept, most) = peak(|| {
        drop(vec![0_u8; 100_000]);
        vec![0_u8; 1000]
    });
    assert_eq!(kept.len(), 1000);
    assert!((100_000..101_000).contains(&most), "{most}");
}
