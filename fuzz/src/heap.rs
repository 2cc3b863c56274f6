//! A bound on the memory that the code under test may hold.

use std::alloc::System;
use std::panic;
use std::sync::{Mutex, Once, PoisonError};

use cap::Cap;

/// Counts all allocations of this process; beyond its limit they fail, which ends the process with a message.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// One at a time: the limit is the process's.
static ONE: Mutex<()> = Mutex::new(());

/// Runs something that may hold `bytes` more than is held now.
pub(crate) fn within<T>(bytes: usize, run: impl FnOnce() -> T) -> T {
    /// Before anything is said of a panic, the limit is lifted: to tell where it was takes more than any target may.
    static SPEAK: Once = Once::new();
    SPEAK.call_once(|| {
        let speak = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            set_limit(usize::MAX);
            speak(panic);
        }));
    });
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    set_limit(HEAP.allocated().saturating_add(bytes));
    let done = run();
    set_limit(usize::MAX);
    done
}

fn set_limit(bytes: usize) {
    assert_eq!(HEAP.set_limit(bytes), Ok(()), "a limit above what is allocated is taken");
}
