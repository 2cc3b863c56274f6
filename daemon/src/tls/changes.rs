//! Whether the two files are to be read anew.

use std::time::{Duration, Instant};

use crate::config;
use crate::stamp::{Stamp, stamp};

/// How long all files must stay as they are before they are read: one that is written in place is cut off for a moment, and
/// a new certificate is without its key until that one has been written, too.
pub(super) const SETTLE: Duration = Duration::from_millis(500);

/// Of the certificate, of the key, and of the authority.
pub(super) type Stamps = [Option<Stamp>; 3];

/// As the files are now.
pub(super) fn stamps(config: &config::Tls) -> Stamps {
    let authority = config.authority.as_deref().and_then(stamp);
    [stamp(&config.certificate), stamp(&config.key), authority]
}

/// How the files differ from what was read.
#[derive(Debug)]
pub(super) struct Changes {
    /// As they were then; none: they are to be read again in any case.
    read: Option<Stamps>,
    /// As they are, if that is different, and since when.
    settling: Option<(Stamps, Instant)>,
}

impl Changes {
    /// Since they were so.
    pub(super) const fn since(read: Stamps) -> Self {
        Self { read: Some(read), settling: None }
    }

    /// Whether they are to be read, as they are found now.
    pub(super) fn are_due(&mut self, found: Stamps, now: Instant) -> bool {
        if self.read == Some(found) {
            self.settling = None;
            return false;
        }
        match self.settling {
            Some((seen, since)) if seen == found => now.saturating_duration_since(since) >= SETTLE,
            _ => {
                self.settling = Some((found, now));
                false
            }
        }
    }

    /// What is in them, as they were found, is known from now on.
    pub(super) fn were_read(&mut self, found: Stamps) {
        *self = Self::since(found);
    }

    /// One could not be read. It may be readable at any time, and nothing about the files would tell.
    pub(super) const fn were_not_read(&mut self) {
        self.read = None;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The stamps of files with these bytes.
    fn found(texts: [&str; 2]) -> Stamps {
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key] = texts.map(|text| {
            let path = folder.path().join("file");
            fs::write(&path, text).unwrap();
            stamp(&path)
        });
        [certificate, key, None]
    }

    #[test]
    fn they_are_read_together_once_neither_changes_any_more() {
        let (before, first, both) = (found(["a", "b"]), found(["aa", "b"]), found(["aa", "bb"]));
        let (mut changes, now) = (Changes::since(before), Instant::now());
        assert!(!changes.are_due(before, now));
        assert!(!changes.are_due(first, now));
        assert!(!changes.are_due(both, now + SETTLE), "the second has only just changed");
        assert!(!changes.are_due(both, now + SETTLE * 3 / 2));
        assert!(changes.are_due(both, now + SETTLE * 2));
        changes.were_read(both);
        assert!(!changes.are_due(both, now + SETTLE * 9));
    }

    #[test]
    fn what_is_as_before_again_is_not_read() {
        let (before, other) = (found(["a", "b"]), found(["a", "bb"]));
        let (mut changes, now) = (Changes::since(before), Instant::now());
        assert!(!changes.are_due(other, now));
        assert!(!changes.are_due(before, now + SETTLE));
        assert!(!changes.are_due(other, now + SETTLE), "it changes anew");
    }

    /// As with a folder that nobody may look into for a while.
    #[test]
    fn what_could_not_be_read_is_due_until_it_was() {
        let (before, gone) = (found(["a", "b"]), [None, None, None]);
        let (mut changes, now) = (Changes::since(before), Instant::now());
        assert!(!changes.are_due(gone, now));
        assert!(changes.are_due(gone, now + SETTLE));
        changes.were_not_read();
        assert!(changes.are_due(gone, now + SETTLE * 2));
        assert!(!changes.are_due(before, now + SETTLE * 3));
        assert!(changes.are_due(before, now + SETTLE * 4), "they are as they were, and that must be found");
    }
}
