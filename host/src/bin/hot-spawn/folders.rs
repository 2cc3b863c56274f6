//! A folder of its own for each instance: made before it starts, gone after its end.
//!
//! With the right to mount, the folder is a file system in memory of the size that was ordered. Else it is a plain one,
//! which has no bound.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use hot_wire::spawn::Limits;
use rustix::fs::{Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::users::Identity;
use crate::{log, privileged, removal};

/// What a folder may hold where no limit was ordered, in bytes.
const USUAL_SIZE: u64 = 64 << 20;
/// Bytes for each file that it may have: one page. Files cost memory as well, also empty ones.
const BYTES_PER_FILE: u64 = 4096;
/// Files that it may have at least and at most.
const FILES: (u64, u64) = (64, 65_536);

/// Where the folders of instances are.
#[derive(Debug)]
pub(crate) struct Folders {
    /// Without links.
    path: PathBuf,
    /// Locked, shared with every other hot-spawn that has folders here.
    own: OwnedFd,
    /// Whether to mount file systems in memory.
    mounts: bool,
    /// How many were made.
    made: u64,
}

/// The folder of an instance.
#[derive(Debug)]
pub(crate) struct Folder {
    name: CString,
    /// For the instance; it may not be able to search what is above.
    pub(crate) path: PathBuf,
    /// Itself, by which it is entered, mounted and unmounted: no name is looked up for these. What is mounted there, once
    /// something is.
    pub(crate) place: OwnedFd,
    /// Whether it can't hold more than was ordered.
    pub(crate) bounded: bool,
}

impl Folders {
    /// Makes the folder `path` unless it is there, and clears it of what hot-spawns left that were killed.
    pub(crate) fn open(path: &Path, mounts: bool) -> anyhow::Result<Self> {
        let shown = path.display();
        // Others may pass, to reach their own by its name, and not look around.
        match rustix::fs::mkdir(path, Mode::from_raw_mode(0o711)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot make the folder {shown}")),
        }
        let path = path.canonicalize().with_context(|| format!("cannot find {shown}"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let own =
            rustix::fs::open(&path, flags, Mode::empty()).with_context(|| format!("cannot open {shown}"))?;
        let found = rustix::fs::fstat(&own).with_context(|| format!("cannot look at {shown}"))?;
        // In here things are mounted and removed by name: nobody else may change what a name means.
        if found.st_uid != rustix::process::geteuid().as_raw() || found.st_mode & 0o022 != 0 {
            bail!(
                "the folder {shown} belongs to user {}, mode {:o}; expected one of our own user that nobody else can \
                 write in: change that, or name another with --folders",
                found.st_uid,
                found.st_mode & 0o7777
            );
        }
        if mounts {
            guarded(&path)?;
        }
        let folders = Self { path, own, mounts, made: 0 };
        let alone = rustix::fs::flock(&folders.own, FlockOperation::NonBlockingLockExclusive).is_ok();
        if alone {
            folders.clear().with_context(|| format!("cannot read {shown}"))?;
        }
        // Whoever clears has it for a moment only.
        rustix::fs::flock(&folders.own, FlockOperation::LockShared)
            .with_context(|| format!("cannot lock {shown}"))?;
        Ok(folders)
    }

    /// Removes every folder that looks like one of an instance. No hot-spawn lives to which one belongs.
    fn clear(&self) -> Result<(), Errno> {
        for entry in Dir::read_from(&self.own)? {
            let entry = entry?;
            let name = entry.file_name().to_owned();
            if let Some(text) = name.to_str().ok().filter(|name| is_ours(name)) {
                let path = self.path.join(text);
                match self.enter(&name) {
                    Ok(place) => self.remove(Folder { name, path, place, bounded: false }),
                    Err(error) => log(format_args!("the folder {} is left: {error}", path.display())),
                }
            }
        }
        Ok(())
    }

    /// Makes a folder for the host `id`, which is `identity`'s, or ours without one.
    pub(crate) fn make(
        &mut self,
        id: u64,
        identity: Option<Identity>,
        limits: &Limits,
    ) -> Result<Folder, String> {
        self.made += 1;
        let name = format!("{id}-{}-{}", std::process::id(), self.made);
        let path = self.path.join(&name);
        let failed = |error: std::io::Error| format!("cannot make the folder {}: {error}", path.display());
        let name = CString::new(name).unwrap_or_default();
        let place = rustix::fs::mkdirat(&self.own, name.as_c_str(), Mode::RWXU)
            .and_then(|()| self.enter(&name))
            .map_err(|error| failed(error.into()))?;
        let mut folder = Folder { path: path.clone(), name, place, bounded: false };
        match self.furnish(&mut folder, identity, limits) {
            Ok(()) => Ok(folder),
            Err(error) => {
                self.remove(folder);
                Err(failed(error))
            }
        }
    }

    /// Opens a folder in ours, which a link is not.
    fn enter(&self, name: &CString) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.own, name.as_c_str(), flags, Mode::empty())
    }

    /// Mounts what is to be in a new folder, or gives it to whom it is for.
    fn furnish(
        &mut self,
        folder: &mut Folder,
        identity: Option<Identity>,
        limits: &Limits,
    ) -> std::io::Result<()> {
        let ourselves = Identity {
            user: rustix::process::geteuid().as_raw(),
            group: rustix::process::getegid().as_raw(),
        };
        let bytes = if limits.folder == Limits::UNLIMITED { USUAL_SIZE } else { limits.folder };
        if self.mounts {
            let files = (bytes / BYTES_PER_FILE).clamp(FILES.0, FILES.1);
            match privileged::mount_memory(&folder.place, identity.unwrap_or(ourselves), bytes, files) {
                Ok(()) => {
                    folder.bounded = true;
                    folder.place = self.enter(&folder.name)?;
                    return Ok(());
                }
                Err(error) => {
                    // Without the right it would fail for the next one as well.
                    self.mounts =
                        !matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS | libc::ENODEV));
                    log(format_args!("the folder of an instance has no bound: it can't be mounted: {error}"));
                }
            }
        }
        match identity {
            Some(identity) => privileged::give(&folder.place, identity),
            None => Ok(()),
        }
    }

    /// Removes a folder with whatever is in it.
    pub(crate) fn remove(&self, folder: Folder) {
        let Folder { name, path, mut place, .. } = folder;
        // More than one thing is mounted there only if somebody else did so.
        for _ in 0..8 {
            if !privileged::unmount(&place) {
                break;
            }
            match self.enter(&name) {
                Ok(below) => place = below,
                Err(_) => break,
            }
        }
        drop(place);
        if let Err(error) = removal::remove(self.own.as_fd(), &name) {
            log(format_args!("the folder {} is left: cannot remove it: {error}", path.display()));
        }
    }
}

/// Refuses a folder below one in which somebody else than root and our own user can put another in its place: what is
/// done there by name would be done elsewhere. `/tmp` is none of these, as nobody there can replace what is another's.
pub(crate) fn guarded(path: &Path) -> anyhow::Result<()> {
    let own = rustix::process::geteuid();
    if !own.is_root() {
        return Ok(());
    }
    for above in path.ancestors().skip(1) {
        let shown = above.display();
        let found = rustix::fs::stat(above).with_context(|| format!("cannot look at {shown}"))?;
        let (open, sticky) = (found.st_mode & 0o022 != 0, found.st_mode & 0o1000 != 0);
        if found.st_uid != own.as_raw() || (open && !sticky) {
            bail!(
                "{shown}, above {}, belongs to user {}, mode {:o}; expected one of root's in which nobody else can \
                 replace what is there",
                path.display(),
                found.st_uid,
                found.st_mode & 0o7777
            );
        }
    }
    Ok(())
}

/// Whether this is a name that [`Folders::make`] gives.
fn is_ours(name: &str) -> bool {
    let parts: Vec<_> = name.split('-').collect();
    parts.len() == 3
        && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_left_is_cleared_unless_another_lives() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("instances");
        let mut first = Folders::open(&path, false).unwrap();
        let folder = first.make(7, None, &Limits::default()).unwrap();
        fs::write(folder.path.join("file"), "").unwrap();
        fs::create_dir(path.join("somebody-elses")).unwrap();
        fs::create_dir(path.join("1-2-x")).unwrap();
        let second = Folders::open(&path, false).unwrap();
        assert!(folder.path.exists(), "the first one lives");
        drop((first, second));
        Folders::open(&path, false).unwrap();
        let mut left: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["1-2-x", "somebody-elses"]);
    }

    #[test]
    fn a_folder_that_others_write_in_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("instances");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let error = Folders::open(&path, false).unwrap_err().to_string();
        assert!(error.contains("mode 777; expected one of our own user"), "{error}");
    }
}
