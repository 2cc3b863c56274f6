//! By what it is noticed that somebody has changed a file.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

/// By what a change of the file is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: SystemTime,
    /// Of its inode: a change of permissions, or one that sets the time of modification back.
    changed: (i64, i64),
    size: u64,
    pub(crate) inode: u64,
}

/// That of a file; none where there is no such file.
pub(crate) fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = path.metadata().ok()?;
    Some(Stamp {
        modified: metadata.modified().ok()?,
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        size: metadata.size(),
        inode: metadata.ino(),
    })
}
