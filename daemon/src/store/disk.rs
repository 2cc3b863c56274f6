//! The steps that the store takes on the file system, one method each, so that a test can record them, leave out
//! what was not yet synced, or make the n-th one fail. Named failpoints are one more implementation of [`Disk`].
//!
//! It holds no order of steps: that is [`replace`] for small files, and `artifacts` for artifacts.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Every step that changes the disk. `path` names the open `file` for those that record what was done.
pub(super) trait Disk: fmt::Debug + Send + Sync {
    /// Makes a folder, mode 0700. That it exists already is no error.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes an empty file, mode 0600, for reading and writing; what was there under this name is emptied.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, path: &Path, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file to `len` bytes, or fills it up to there with zeros.
    fn set_len(&self, path: &Path, file: &File, len: u64) -> io::Result<()>;
    /// Returns once content and size of the file are on the disk.
    fn sync(&self, path: &Path, file: &File) -> io::Result<()>;
    /// Renames within the store; what has the new name already is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Returns once the names in the folder are on the disk.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The file system itself.
#[derive(Debug)]
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            done => done,
        }
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
    }

    fn write_at(&self, _path: &Path, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn set_len(&self, _path: &Path, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn sync(&self, _path: &Path, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// What the name of a file that is being written ends with. One that is found at start was never finished.
pub(super) const UNFINISHED: &str = ".tmp";

/// A file was not replaced.
#[derive(Debug)]
pub(super) enum ReplaceError {
    /// What was there is there.
    Not(io::Error),
    /// The new content has the name, and nobody knows which of both has it after a power cut.
    InDoubt(io::Error),
}

impl From<ReplaceError> for io::Error {
    fn from(error: ReplaceError) -> Self {
        match error {
            ReplaceError::Not(source) | ReplaceError::InDoubt(source) => source,
        }
    }
}

/// Puts `bytes` under the name `path`: whole and on the disk when it returns `Ok`; the old content or the new, never
/// a mixture, after an error or a power cut at any moment.
pub(super) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), ReplaceError> {
    let unfinished = unfinished_name(path);
    let written = disk
        .create(&unfinished)
        .and_then(|file| {
            disk.write_at(&unfinished, &file, 0, bytes)?;
            disk.sync(&unfinished, &file)
        })
        .and_then(|()| disk.rename(&unfinished, path));
    if let Err(error) = written {
        // On a full disk the half that was written is space that others need. If even this fails, the next start
        // clears it.
        disk.remove(&unfinished).ok();
        return Err(ReplaceError::Not(error));
    }
    disk.sync_dir(parent(path)).map_err(ReplaceError::InDoubt)
}

/// Removes the file if it is there; gone for good when it returns `Ok`.
pub(super) fn remove_for_good(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        Ok(()) | Err(_) => disk.sync_dir(parent(path)),
    }
}

/// The folder of a path inside the store.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

fn unfinished_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    name.into()
}
