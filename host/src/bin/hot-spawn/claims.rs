//! Which numbers of users and groups are ours on this machine: a lock for each, that the kernel takes back when this
//! process ends, however it does.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;

use crate::users::{Claims, Kind};
use crate::{log, sys};

/// Where all hot-spawns of a machine meet.
const FILE: &str = "/run/hot-users.lock";
/// Groups are locked behind all users.
const FIRST_GROUP: i64 = 1 << 32;

/// The file whose bytes are locked, each for a number; it stays empty.
#[derive(Debug)]
pub(crate) struct Locks(File);

impl Locks {
    /// `beside` a path if there is no `/run` to write in; then only hot-spawns there are heeded.
    pub(crate) fn open(beside: &Path) -> anyhow::Result<Self> {
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).read(true).write(true).mode(0o600);
            options.custom_flags(libc::O_NOFOLLOW).open(path)
        };
        if let Ok(file) = open(Path::new(FILE)) {
            return Ok(Self(file));
        }
        let path = beside.with_file_name("hot-users.lock");
        let file = open(&path).with_context(|| format!("cannot open {FILE}, nor {}", path.display()))?;
        Ok(Self(file))
    }
}

impl Claims for Locks {
    fn claim(&mut self, kind: Kind, number: u32) -> bool {
        sys::lock_byte(&self.0, offset(kind, number), true).unwrap_or_else(|error| {
            log(format_args!("cannot lock the number {number} of a user or group: {error}"));
            false
        })
    }

    fn release(&mut self, kind: Kind, number: u32) {
        if let Err(error) = sys::lock_byte(&self.0, offset(kind, number), false) {
            log(format_args!("cannot unlock the number {number} of a user or group: {error}"));
        }
    }
}

fn offset(kind: Kind, number: u32) -> i64 {
    match kind {
        Kind::User => number.into(),
        Kind::Group => FIRST_GROUP + i64::from(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_one_processs_until_it_is_released() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            Locks(
                OpenOptions::new()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .open(folder.path().join("l"))
                    .unwrap(),
            )
        };
        let (mut first, mut second) = (open(), open());
        assert!(first.claim(Kind::User, u32::MAX) && first.claim(Kind::User, 5));
        assert!(!second.claim(Kind::User, u32::MAX) && !second.claim(Kind::User, 5));
        assert!(second.claim(Kind::Group, 5) && second.claim(Kind::User, 6));
        first.release(Kind::User, 5);
        assert!(second.claim(Kind::User, 5));
        drop(first);
        assert!(second.claim(Kind::User, u32::MAX));
    }
}
