//! One of the files: how a change of it is noticed, and what is known of it besides what it says.

use std::time::{Duration, Instant};

use crate::config::{self, Reading, TrustError};
use crate::stamp::{Stamp, stamp};

/// How long a file that is changed in place must stay as it is before it is read. Whoever truncates a file and writes it
/// anew leaves it empty or cut off for a moment, and half a list may be a list without a mistake. One that takes the
/// place of another, by a rename, is whole at once.
pub(super) const SETTLE: Duration = Duration::from_millis(500);

/// What is known of a file besides what it says.
#[derive(Debug)]
pub(super) struct Seen {
    /// By what the next change is noticed; `None`: it is to be read again in any case.
    stamp: Option<Option<Stamp>>,
    /// As what it was changed in place, and since when it is so.
    settling: Option<(Stamp, Instant)>,
    /// Why it does not count as it is.
    pub(super) wrong: Option<TrustError>,
    /// What counts is the copy of what it said before this start.
    pub(super) from_copy: bool,
    /// What the copy does not say yet.
    pub(super) unkept: Option<Unkept>,
}

/// What is to be kept of a file.
#[derive(Debug)]
pub(super) struct Unkept {
    /// `None`: that there is no such file any more.
    pub(super) bytes: Option<Vec<u8>>,
    /// That it can't be written was said.
    pub(super) told: bool,
}

impl Seen {
    pub(super) fn good(stamp: Option<Stamp>, bytes: Option<Vec<u8>>) -> Self {
        let unkept = Some(Unkept { bytes, told: false });
        Self { stamp: Some(stamp), settling: None, wrong: None, from_copy: false, unkept }
    }

    /// Reads the file for the first time, else its copy.
    pub(super) fn first<T>(
        stamp: Option<Stamp>,
        own: &config::Trust,
        copy: &config::Trust,
        read: impl Fn(&config::Trust) -> Result<Reading<T>, TrustError>,
    ) -> Result<(Self, T), TrustError> {
        match read(own) {
            Ok((bytes, says)) => Ok((Self::good(stamp, bytes), says)),
            Err(error) => match read(copy) {
                Ok((_, says)) => {
                    let stamp = (!error.is_unread()).then_some(stamp);
                    let wrong = Some(error);
                    Ok((Self { stamp, settling: None, wrong, from_copy: true, unkept: None }, says))
                }
                Err(of_copy) => {
                    tracing::info!(error = %crate::describe(&of_copy), "there is no copy to start with");
                    Err(error)
                }
            },
        }
    }

    /// It has been changed in place just now, and does not count yet.
    pub(super) const fn is_settling(&self) -> bool {
        self.settling.is_some()
    }

    /// Reads the file anew where it has changed, or could not be read. Gives what it says, if that counts.
    pub(super) fn look<T>(
        &mut self,
        stamp: Option<Stamp>,
        read: impl FnOnce() -> Result<Reading<T>, TrustError>,
    ) -> Option<T> {
        if self.stamp == Some(stamp) {
            self.settling = None;
            return None;
        }
        if self.settles(stamp, Instant::now()) {
            return None;
        }
        self.settling = None;
        match read() {
            Ok((bytes, says)) => {
                *self = Self::good(stamp, bytes);
                Some(says)
            }
            Err(error) => {
                // What could not be read may be readable at any time, and nothing about the file would tell.
                self.stamp = (!error.is_unread()).then_some(stamp);
                self.wrong = Some(error);
                None
            }
        }
    }

    /// Whether it is still the file that was read, changed in place a moment ago.
    pub(super) fn settles(&mut self, stamp: Option<Stamp>, now: Instant) -> bool {
        let (Some(Some(known)), Some(new)) = (self.stamp, stamp) else { return false };
        if known.inode != new.inode {
            return false;
        }
        match self.settling {
            Some((seen, since)) if seen == new => now.saturating_duration_since(since) < SETTLE,
            _ => {
                self.settling = Some((new, now));
                true
            }
        }
    }
}

/// Of the allowed signers, and of the revoked keys.
pub(super) fn stamps(config: &config::Trust) -> (Option<Stamp>, Option<Stamp>) {
    (stamp(&config.allowed_signers), config.revoked.as_deref().and_then(stamp))
}
