//! The artifact that was verified last and not loaded yet.
//!
//! A push has its bytes verified three times within a moment: when they are let in, when the node gets ready to run them,
//! and when they are loaded. They lie in a sealed file, so what was read and hashed the first time is so each time: only
//! what may have changed meanwhile (who may sign, what is revoked) is judged anew, by [`Verified::again`](hot_artifact::Verified::again).
//!
//! One artifact, and for a short time: it is memory that nobody is charged for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hot_artifact::Sha256;

/// What was let in and is not loaded after this time is loaded from the disk. A push takes milliseconds from the one to
/// the other; one that waits for the rollout that it supersedes, seconds.
const HOLD: Duration = Duration::from_secs(10);

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
    /// Holds these bytes with this digest, in the place of those before.
    pub(crate) fn hold(&self, digest: Sha256, bytes: T, now: Instant) {
        *self.lock() = Some(One { digest, bytes, since: now });
    }

    /// The bytes with this digest, which are held no more.
    pub(crate) fn take(&self, digest: &Sha256) -> Option<T> {
        self.lock().take_if(|one| one.digest == *digest).map(|one| one.bytes)
    }

    /// Lets go of what was not taken in time.
    pub(crate) fn tidy(&self, now: Instant) {
        drop(self.lock().take_if(|one| now.saturating_duration_since(one.since) >= HOLD));
    }

    fn lock(&self) -> MutexGuard<'_, Option<One<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_held_until_it_is_taken_or_late() {
        let (held, now) = (Held::default(), Instant::now());
        let [a, b] = [b"a", b"b"].map(|bytes| Sha256::of(bytes));
        held.hold(a, 1, now);
        assert_eq!(held.take(&b), None, "it is another one");
        assert_eq!((held.take(&a), held.take(&a)), (Some(1), None), "it is taken once");
        held.hold(a, 1, now);
        held.hold(b, 2, now);
        assert_eq!((held.take(&a), held.take(&b)), (None, Some(2)), "the newest alone is held");
        held.hold(a, 1, now);
        held.tidy(now + HOLD / 2);
        assert_eq!(held.take(&a), Some(1));
        held.hold(a, 1, now);
        held.tidy(now + HOLD);
        assert_eq!(held.take(&a), None, "it was not taken in time");
    }
}
