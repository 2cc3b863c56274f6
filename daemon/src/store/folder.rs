//! The store's folder: whose it is, that only one `hotd` has it, where things are in it, and where damaged things go.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FlockOperation, access, flock};
use thiserror::Error;

use super::disk::{Disk, RealDisk, parent};

/// Sub-folders, made at the first start.
const FOLDERS: [&str; 6] = ["artifacts", "configs", "modules", "rollouts", "spool", "aside"];

/// Those with records, which a start goes by.
const WITH_RECORDS: [&str; 3] = ["artifacts", "modules", "rollouts"];

/// What the first start makes last. Until it is there the folder's own name may not be on the disk.
pub(super) const LAST_MADE: &str = "counters.json";

/// Damaged things that are kept for a person to look at; the oldest go first. An index can have tens of megabytes.
const MAX_ASIDE: usize = 8;

/// The folder can't be used. Nothing in it was changed.
#[derive(Debug, Error)]
pub enum FolderError {
    /// It is not there and can't be made.
    #[error("the data folder {} can't be made: {source}; {}", path.display(), way_out(source))]
    Make {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It can't be read, or something in it can't be made.
    #[error("cannot use the data folder {}", path.display())]
    Io {
        /// What was tried to make, read or write.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is something else under its name.
    #[error("{} is not a folder; name another data folder or move that away", path.display())]
    NoFolder {
        /// What is in the way.
        path: PathBuf,
    },
    /// It belongs to somebody else.
    #[error(
        "the data folder {} belongs to user {owner}, and this hotd runs as user {user}; run it as {owner}, or name \
         another folder", path.display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Whose it is: a user id.
        owner: u32,
        /// Who we are: a user id.
        user: u32,
    },
    /// Anybody may change it.
    #[error(
        "every user may write to the data folder {} (mode {mode:o}), expected this one alone; take that right away \
         (`chmod o-w`), or name a folder below it", path.display()
    )]
    Open {
        /// The folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It may be read but not written.
    #[error("the data folder {} can't be written: {source}; {}", path.display(), way_out(source))]
    ReadOnly {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "the data folder {} is in use by another hotd ({}); stop that one first, or name another folder",
        path.display(),
        pid.map_or_else(|| "its process id is not known".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process that has it, as it wrote itself down.
        pid: Option<u32>,
    },
}

/// What to do where the system refuses to make or write a folder.
fn way_out(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem => "mount its file system for writing, or name another folder",
        io::ErrorKind::PermissionDenied => {
            "make it and give it to the user who runs hotd (`chown`), or name another folder"
        }
        io::ErrorKind::NotADirectory => "a part of its path is a file, expected folders; name another one",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space, or name another folder"
        }
        _ => "name another folder",
    }
}

/// Makes the data folder where it is missing, with those above it, and checks that it is ours to use.
///
/// # Errors
/// It is not; nothing in it was changed.
pub(crate) fn prepare(root: &Path) -> Result<(), FolderError> {
    ready(&RealDisk, root)
}

/// What [`prepare`] and the opening of a store would say of a data folder that is there, and of the folders in it. Makes
/// nothing, and leaves aside whether another `hotd` has it.
///
/// # Errors
/// It is not ours to use.
pub(crate) fn check(root: &Path) -> Result<(), FolderError> {
    let must_be_folder = |path: &Path| match path.is_dir() {
        true => Ok(()),
        false => Err(FolderError::NoFolder { path: path.to_owned() }),
    };
    must_be_folder(root)?;
    usable(root)?;
    for below in FOLDERS.iter().map(|name| root.join(name)).filter(|below| below.exists()) {
        must_be_folder(&below)?;
        may_write(&below)?;
    }
    Ok(())
}

fn ready(disk: &dyn Disk, root: &Path) -> Result<(), FolderError> {
    make(disk, root)?;
    usable(root)
}

fn usable(root: &Path) -> Result<(), FolderError> {
    check_owner(root)?;
    may_write(root)
}

/// Root may write everywhere but where nobody may.
fn may_write(folder: &Path) -> Result<(), FolderError> {
    access(folder, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| FolderError::ReadOnly { path: folder.to_owned(), source: error.into() })
}

/// The folder, held by this process until it is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    lock: File,
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Not left to the closing of the descriptor: a child that is between fork and exec right now has it too.
        flock(&self.lock, FlockOperation::Unlock).ok();
    }
}

impl Folder {
    /// Makes the folder where it is missing, checks whose it is, and locks it.
    pub(super) fn open(disk: &dyn Disk, root: &Path) -> Result<Self, FolderError> {
        ready(disk, root)?;
        let lock = lock(root)?;
        for name in FOLDERS {
            let path = root.join(name);
            disk.create_dir(&path).map_err(|source| FolderError::Io { path, source })?;
        }
        // What is found counts from now on, and the `hotd` that wrote it may have ended before it was synced.
        let with_records = WITH_RECORDS.map(|name| root.join(name));
        for path in std::iter::once(root.to_owned()).chain(with_records) {
            disk.sync_dir(&path).map_err(|source| FolderError::Io { path, source })?;
        }
        Ok(Self { root: root.to_owned(), lock })
    }

    /// The folder's own path.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Takes a damaged file or folder out of the way, under a name that tells what it was.
    pub(super) fn set_aside(&self, disk: &dyn Disk, path: &Path) -> io::Result<PathBuf> {
        set_aside(disk, &self.root, path)
    }
}

/// Moves `path` into `root/aside`, keeping at most [`MAX_ASIDE`] things there.
pub(super) fn set_aside(disk: &dyn Disk, root: &Path, path: &Path) -> io::Result<PathBuf> {
    let folder = root.join("aside");
    let mut there: Vec<(u64, PathBuf)> = fs::read_dir(&folder)?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let number = path.file_name()?.to_str()?.split_once('-')?.0.parse().ok()?;
            Some((number, path))
        })
        .collect();
    there.sort();
    let next = there.last().map_or(1, |(number, _)| number + 1);
    for (_, oldest) in there.iter().take((there.len() + 1).saturating_sub(MAX_ASIDE)) {
        // A folder here is an old index; both kinds are of no use to the store itself, and what can't be removed
        // stands in nobody's way.
        if oldest.is_dir() { fs::remove_dir_all(oldest) } else { disk.remove(oldest) }.ok();
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let to = folder.join(format!("{next}-{name}"));
    disk.rename(path, &to)?;
    disk.sync_dir(&folder)?;
    disk.sync_dir(parent(path))?;
    Ok(to)
}

/// Makes the folder where it is missing, with those above it.
fn make(disk: &dyn Disk, root: &Path) -> Result<(), FolderError> {
    let failed = |source| FolderError::Make { path: root.to_owned(), source };
    match fs::metadata(root) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(FolderError::NoFolder { path: root.to_owned() }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if let Some(above) = root.parent().filter(|above| !above.as_os_str().is_empty()) {
                fs::create_dir_all(above).map_err(failed)?;
            }
            disk.create_dir(root).map_err(failed)?;
        }
        Err(source) => return Err(failed(source)),
    }
    // The start that made them may have failed, or ended, before they were on the disk.
    if root.join(LAST_MADE).exists() {
        return Ok(());
    }
    // The name of each folder is in the one above it. No start has made what is somebody else's, nor as a rule what is in a
    // folder that it may not read; and some file systems, on which nothing is made, know no fsync.
    let mut ours = root.ancestors().take_while(|path| path.parent().is_some() && is_ours(path));
    let sync = |path: &Path| match disk.sync_dir(parent(path)) {
        Err(e) if UNMADE.contains(&e.kind()) => Ok(()),
        done => done,
    };
    ours.try_for_each(sync).map_err(failed)
}

/// What syncing a folder says in which no start has made anything.
const UNMADE: [io::ErrorKind; 4] = [
    io::ErrorKind::PermissionDenied,
    io::ErrorKind::InvalidInput,
    io::ErrorKind::Unsupported,
    io::ErrorKind::ReadOnlyFilesystem,
];

fn is_ours(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.uid() == rustix::process::geteuid().as_raw())
}

fn check_owner(root: &Path) -> Result<(), FolderError> {
    let path = root.to_owned();
    let found = fs::metadata(root).map_err(|source| FolderError::Io { path: path.clone(), source })?;
    let (owner, user) = (found.uid(), rustix::process::geteuid().as_raw());
    // Root too: what it writes there, the owner could not read any more.
    if owner != user {
        return Err(FolderError::Foreign { path, owner, user });
    }
    let mode = found.permissions().mode() & 0o7777;
    if mode & 0o002 != 0 {
        return Err(FolderError::Open { path, mode });
    }
    Ok(())
}

fn lock(root: &Path) -> Result<File, FolderError> {
    let path = root.join("lock");
    let opened =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = opened.map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            FolderError::ReadOnly { path: root.to_owned(), source }
        }
        _ => FolderError::Io { path: path.clone(), source },
    })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(FolderError::InUse { path: root.to_owned(), pid });
        }
        Err(error) => return Err(FolderError::Io { path, source: error.into() }),
    }
    // Only for the sentence that the second one prints: on a full disk it does without.
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).ok();
    Ok(file)
}
