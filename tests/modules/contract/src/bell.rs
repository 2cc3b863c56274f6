//! What a `wake` rings: somebody may wait for it, and it counts.

use crate::host;
use hot_module::abi::{Exchange, Status};
use std::ffi::c_void;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<Rung>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Rung {
    times: usize,
    heard: usize,
}

impl Bell {
    /// Has it rung once for these events. It must live until then.
    pub(crate) fn ask(&self, x: Exchange, events: u32) -> Status {
        host::notify(x, events, Some(ring), (&raw const *self).cast_mut().cast())
    }

    /// Waits for the next ring that nobody has waited for.
    pub(crate) fn wait(&self) {
        let mut rung = self.rung();
        while rung.heard == rung.times {
            rung = self.changed.wait(rung).unwrap_or_else(PoisonError::into_inner);
        }
        rung.heard += 1;
    }

    /// How often it rang.
    pub(crate) fn times(&self) -> usize {
        self.rung().times
    }

    fn rung(&self) -> MutexGuard<'_, Rung> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

unsafe extern "C" fn ring(context: *mut c_void) {
    // SAFETY: `Bell::ask` gave the address of a bell, which lives until it has rung as often as was asked for.
    let bell = unsafe { &*context.cast::<Bell>() };
    let mut rung = bell.rung();
    rung.times += 1;
    // Under the lock: who waits may free the bell as soon as it is heard.
    bell.changed.notify_one();
}
