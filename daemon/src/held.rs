//! The artifact that was verified last and not loaded yet.
//!
//! A push has its bytes verified three times within a moment: when they are let in, when the node gets ready to run them,
//! and when they are loaded. They lie in a sealed file, so what was read and hashed the first time is so each time: only
//! what may have changed meanwhile (who may sign, what is revoked) is judged anew, by [`Verified::again`](hot_artifact::Verified::again).
//!
//! One artifact, of a size that is usual, and for a short time: it is memory of `hotd`'s own, which no module is charged for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hot_artifact::Sha256;

/// What was let in and is not loaded after this time is loaded from the disk. A push takes milliseconds from the one to
/// the other; one that waits for the rollout that it supersedes, seconds.
const HOLD: Duration = Duration::from_secs(60);

/// What is larger is not held: that a push reads it twice costs less than the memory.
const MOST: u64 = 256 * 1024 * 1024;

/// See the module. `T` is [`Verified`](hot_artifact::Verified).
#[derive(Debug)]
pub(crate) struct Held<T>(Mutex<Option<One<T>>>);

#[derive(Debug)]
struct One<T> {
    digest: Sha256,
    bytes: T,
    since: Instant,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Held<T> {
    /// Holds these bytes with this digest and size, in the place of those before, unless they are too many.
    pub(crate) fn hold(&self, digest: Sha256, size: u64, bytes: T, now: Instant) {
        if size > MOST {
            return;
        }
        // Here as below: to let go of memory takes a while, for which nobody else has to wait.
        let before = self.lock().replace(One { digest, bytes, since: now });
        drop(before);
    }

    /// The bytes with this digest, which are held no more; none if they are late.
    pub(crate) fn take(&self, digest: &Sha256, now: Instant) -> Option<T> {
        let one = self.lock().take_if(|one| one.digest == *digest);
        one.filter(|one| !one.is_late(now)).map(|one| one.bytes)
    }

    /// Lets go of what was not taken in time.
    pub(crate) fn tidy(&self, now: Instant) {
        let late = self.lock().take_if(|one| one.is_late(now));
        drop(late);
    }

    fn lock(&self) -> MutexGuard<'_, Option<One<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> One<T> {
    fn is_late(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= HOLD
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Weak};

    use super::*;

    #[test]
    fn one_is_held_until_it_is_taken_or_late() {
        let (held, now) = (Held::default(), Instant::now());
        let [a, b] = [b"a", b"b"].map(|bytes| Sha256::of(bytes));
        held.hold(a, 1, 1, now);
        assert_eq!(held.take(&b, now), None, "it is another one");
        assert_eq!((held.take(&a, now), held.take(&a, now)), (Some(1), None), "it is taken once");
        held.hold(a, 1, 1, now);
        held.hold(b, MOST, 2, now);
        held.hold(a, MOST + 1, 1, now);
        assert_eq!((held.take(&a, now), held.take(&b, now)), (None, Some(2)), "the newest alone is held");
        held.hold(a, 1, 1, now);
        held.tidy(now + HOLD / 2);
        assert_eq!(held.take(&a, now + HOLD / 2), Some(1));
        held.hold(a, 1, 1, now);
        assert_eq!(held.take(&a, now + HOLD), None, "it is late, and nobody tidied");
        held.hold(a, 1, 1, now);
        held.tidy(now + HOLD);
        assert_eq!(held.take(&a, now), None, "it was not taken in time");
    }

    /// Counts where it is let go of while the lock is free.
    struct Large(Weak<Held<Self>>, Arc<AtomicUsize>);

    impl Drop for Large {
        fn drop(&mut self) {
            let held = self.0.upgrade().unwrap();
            self.1.fetch_add(held.0.try_lock().is_ok().into(), Ordering::Relaxed);
        }
    }

    #[test]
    fn nobody_waits_until_memory_is_let_go_of() {
        let (held, free, now) = (Arc::<Held<Large>>::default(), Arc::default(), Instant::now());
        let digest = Sha256::of(b"a");
        let hold = || held.hold(digest, 1, Large(Arc::downgrade(&held), Arc::clone(&free)), now);
        hold();
        hold();
        assert_eq!(free.load(Ordering::Relaxed), 1, "for a newer one");
        held.tidy(now + HOLD);
        assert_eq!(free.load(Ordering::Relaxed), 2, "late");
        hold();
        assert!(held.take(&digest, now + HOLD).is_none());
        assert_eq!(free.load(Ordering::Relaxed), 3, "taken late");
    }
}
