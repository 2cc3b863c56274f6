//! Uploads under way: bytes that nobody vouches for yet. One file per digest, resumable at its length, bounded in
//! number, bytes and age. The oldest that nobody is writing gives way to a new one, so abandoned uploads block nobody.
//!
//! The offset is what was *written*, not what survives a power cut: whoever verifies the bytes reads what is really in the
//! file and hashes that, so lost bytes are noticed at the end and cost only the upload. Nothing is hashed here.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use hot_artifact::Sha256;
use thiserror::Error;

use super::artifacts::CommitError;
use super::disk::Disk;
use super::small::{hint, is_full};

/// Room that an upload leaves on the disk for the small files that follow it.
const MARGIN: u64 = 1024 * 1024;

/// An upload was refused or broke off.
#[derive(Debug, Error)]
pub enum UploadError {
    /// More than a module may have.
    #[error("the file has {total} bytes, and this node takes at most {limit}")]
    TooLarge {
        /// Bytes that were announced.
        total: u64,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Somebody else uploads the same digest with another size: one of both is wrong.
    #[error("an upload of {digest} with {there} bytes is under way, not {total}")]
    OtherTotal {
        /// What is uploaded.
        digest: Sha256,
        /// Bytes announced by the other.
        there: u64,
        /// Bytes announced now.
        total: u64,
    },
    /// All places are taken by uploads that somebody is writing right now.
    #[error(
        "{count} uploads are under way, as many as this node takes at once; try again when one has ended"
    )]
    TooMany {
        /// Uploads under way.
        count: usize,
    },
    /// The disk would not hold it.
    #[error("the upload needs {needed} more bytes, and the disk of {} has {free}; free some space and try again", path.display())]
    NoSpace {
        /// Where the spool is.
        path: PathBuf,
        /// Bytes missing, with a margin.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The piece does not continue what is there.
    #[error("the piece starts at byte {found}; go on at byte {expected}")]
    WrongOffset {
        /// Where it must start.
        expected: u64,
        /// Where it starts.
        found: u64,
    },
    /// More bytes than announced.
    #[error("the piece ends at byte {found}, and the file was said to have {total}")]
    TooMuch {
        /// Bytes announced.
        total: u64,
        /// Where the piece ends.
        found: u64,
    },
    /// Finished too early.
    #[error("{there} of {total} bytes are here; go on at byte {there}")]
    Incomplete {
        /// Bytes that are there.
        there: u64,
        /// Bytes announced.
        total: u64,
    },
    /// The bytes are not those that were announced. They were thrown away: start again at 0.
    #[error("the bytes have digest {found}, and {expected} was announced; upload them again from the start")]
    WrongDigest {
        /// Announced.
        expected: Sha256,
        /// Computed.
        found: Sha256,
    },
    /// The system says no.
    #[error("cannot {doing} {}{}", path.display(), hint(source))]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl UploadError {
    /// Whether free space on the disk would help.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::NoSpace { .. } => true,
            Self::Io { source, .. } => is_full(source),
            _ => false,
        }
    }
}

/// Bounds of the spool.
#[derive(Debug, Clone)]
pub(super) struct SpoolLimits {
    /// Bytes of one upload.
    pub(super) artifact: u64,
    /// Uploads, abandoned ones included.
    pub(super) count: usize,
    /// Bytes of all uploads together.
    pub(super) bytes: u64,
    /// Age without a write after which one is removed.
    pub(super) age: Duration,
}

/// The folder of uploads.
#[derive(Debug)]
pub(super) struct Spool {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    limits: SpoolLimits,
    live: Mutex<HashMap<Sha256, Weak<Mutex<Part>>>>,
}

#[derive(Debug)]
struct Part {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: File,
    offset: u64,
    total: u64,
    /// Whether all bytes up to `offset` are on the disk.
    is_synced: bool,
}

/// An upload that goes on. Dropping it leaves what is there for a resumption.
#[derive(Debug, Clone)]
pub struct Upload {
    digest: Sha256,
    part: Arc<Mutex<Part>>,
}

/// As many bytes as an upload was said to have, of which nothing else is known, not even whether they have the digest:
/// whoever verifies them finds out. Dropping it leaves the file to the spool's bounds.
#[derive(Debug)]
pub struct Spooled {
    digest: Sha256,
    size: u64,
    path: PathBuf,
    part: Arc<Mutex<Part>>,
}

impl Spool {
    pub(super) fn new(disk: Arc<dyn Disk>, folder: PathBuf, limits: SpoolLimits) -> Self {
        Self { disk, folder, limits, live: Mutex::default() }
    }

    /// Starts an upload or goes on with one.
    pub(super) fn begin(&self, digest: Sha256, total: u64, now: SystemTime) -> Result<Upload, UploadError> {
        self.check_size(total)?;
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|_, part| part.strong_count() > 0);
        if let Some(upload) = under_way(&live, digest, total)? {
            return Ok(upload);
        }
        self.make_room(&live, digest, total, now)?;
        let part = Arc::new(Mutex::new(self.open_part(digest, total)?));
        live.insert(digest, Arc::downgrade(&part));
        Ok(Upload { digest, part })
    }

    /// Bytes that are here of such an upload, which could go on. Changes nothing.
    pub(super) fn uploaded(&self, digest: Sha256, total: u64) -> Result<u64, UploadError> {
        self.check_size(total)?;
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(upload) = under_way(&live, digest, total)? {
            return Ok(upload.offset());
        }
        let path = self.part_path(digest);
        let there = match fs::metadata(&path) {
            // One that is too long is begun anew.
            Ok(found) => Some(found.len()).filter(|len| *len <= total).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(source) => return Err(UploadError::Io { doing: "read", path, source }),
        };
        self.check_space(total - there)?;
        Ok(there)
    }

    /// Removes what nobody has written to for longer than the limit; says how many.
    pub(super) fn sweep(&self, now: SystemTime) -> usize {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|_, part| part.strong_count() > 0);
        let old = |e: &Entry| now.duration_since(e.written).is_ok_and(|age| age > self.limits.age);
        let abandoned = self.abandoned(&live);
        abandoned.iter().filter(|e| old(e)).filter(|e| self.disk.remove(&e.path).is_ok()).count()
    }

    fn open_part(&self, digest: Sha256, total: u64) -> Result<Part, UploadError> {
        let path = self.part_path(digest);
        let failed = |doing, source| UploadError::Io { doing, path: path.clone(), source };
        let (file, offset) = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => {
                let len = file.metadata().map_err(|e| failed("read", e))?.len();
                if len > total {
                    self.disk.set_len(&path, &file, 0).map_err(|e| failed("empty", e))?;
                }
                (file, if len > total { 0 } else { len })
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                (self.disk.create(&path).map_err(|e| failed("make", e))?, 0)
            }
            Err(e) => return Err(failed("open", e)),
        };
        self.check_space(total - offset)?;
        Ok(Part { disk: Arc::clone(&self.disk), path, file, offset, total, is_synced: false })
    }

    fn part_path(&self, digest: Sha256) -> PathBuf {
        self.folder.join(format!("{digest}.part"))
    }

    fn check_size(&self, total: u64) -> Result<(), UploadError> {
        let limit = self.limits.artifact;
        match total {
            0 => Err(UploadError::Empty),
            total if total > limit => Err(UploadError::TooLarge { total, limit }),
            _ => Ok(()),
        }
    }

    /// Whether the disk has room for so many more bytes.
    fn check_space(&self, missing: u64) -> Result<(), UploadError> {
        let needed = missing + MARGIN;
        // A file system that can't tell is not asked; its writes will say.
        let Ok(space) = rustix::fs::statvfs(&self.folder) else { return Ok(()) };
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < needed {
            return Err(UploadError::NoSpace { path: self.folder.clone(), needed, free });
        }
        Ok(())
    }

    /// Removes expired uploads, then the oldest abandoned ones until this one fits.
    fn make_room(&self, live: &Live, digest: Sha256, total: u64, now: SystemTime) -> Result<(), UploadError> {
        let parts: Vec<_> = live.values().filter_map(Weak::upgrade).collect();
        let mut count = parts.len() + 1;
        let mut bytes = parts.iter().map(|part| lock(part).total).sum::<u64>() + total;
        let mut abandoned = self.abandoned(live);
        abandoned.retain(|e| e.digest != Some(digest));
        abandoned.sort_by_key(|e| e.written);
        count += abandoned.len();
        bytes += abandoned.iter().map(|e| e.bytes).sum::<u64>();
        for entry in abandoned {
            let expired = now.duration_since(entry.written).is_ok_and(|age| age > self.limits.age);
            if (expired || count > self.limits.count || bytes > self.limits.bytes)
                && self.disk.remove(&entry.path).is_ok()
            {
                count -= 1;
                bytes -= entry.bytes;
            }
        }
        if count > self.limits.count || bytes > self.limits.bytes {
            return Err(UploadError::TooMany { count: parts.len() });
        }
        Ok(())
    }

    /// What is in the folder and not being written.
    fn abandoned(&self, live: &Live) -> Vec<Entry> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let entry = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.ok()?;
            let found = entry.metadata().ok()?;
            let path = entry.path();
            let digest = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok());
            Some(Entry { digest, bytes: found.len(), written: found.modified().ok()?, path })
        };
        let dead = |e: &Entry| e.digest.is_none_or(|digest| !live.contains_key(&digest));
        entries.filter_map(entry).filter(dead).collect()
    }
}

/// The upload of these bytes that somebody writes right now.
fn under_way(live: &Live, digest: Sha256, total: u64) -> Result<Option<Upload>, UploadError> {
    let Some(part) = live.get(&digest).and_then(Weak::upgrade) else { return Ok(None) };
    let there = lock(&part).total;
    if there != total {
        return Err(UploadError::OtherTotal { digest, there, total });
    }
    Ok(Some(Upload { digest, part }))
}

type Live = HashMap<Sha256, Weak<Mutex<Part>>>;

struct Entry {
    digest: Option<Sha256>,
    bytes: u64,
    written: SystemTime,
    path: PathBuf,
}

impl Upload {
    /// The digest that was announced.
    #[must_use]
    pub const fn digest(&self) -> Sha256 {
        self.digest
    }

    /// Where to go on: the number of bytes that are there.
    #[must_use]
    pub fn offset(&self) -> u64 {
        lock(&self.part).offset
    }

    /// Writes the next piece and returns where to go on.
    ///
    /// # Errors
    /// [`UploadError::WrongOffset`], [`UploadError::TooMuch`], [`UploadError::Io`]; nothing of the piece is kept then.
    pub fn write(&self, offset: u64, piece: &[u8]) -> Result<u64, UploadError> {
        let mut part = lock(&self.part);
        if offset != part.offset {
            return Err(UploadError::WrongOffset { expected: part.offset, found: offset });
        }
        let end = offset.saturating_add(piece.len() as u64);
        if end > part.total {
            return Err(UploadError::TooMuch { total: part.total, found: end });
        }
        part.is_synced = false;
        if let Err(source) = part.disk.write_at(&part.path, &part.file, offset, piece) {
            // Half a piece would be taken for the whole of it after a restart. If this fails as well, the digest will
            // tell.
            part.disk.set_len(&part.path, &part.file, offset).ok();
            return Err(UploadError::Io { doing: "write", path: part.path.clone(), source });
        }
        part.offset = end;
        Ok(end)
    }

    /// Ends the upload: all bytes are there.
    ///
    /// # Errors
    /// [`UploadError::Incomplete`].
    pub fn finish(self) -> Result<Spooled, UploadError> {
        let part = lock(&self.part);
        if part.offset != part.total {
            return Err(UploadError::Incomplete { there: part.offset, total: part.total });
        }
        let (size, path) = (part.total, part.path.clone());
        drop(part);
        Ok(Spooled { digest: self.digest, size, path, part: self.part })
    }
}

impl Spooled {
    /// The digest that was announced.
    #[must_use]
    pub const fn digest(&self) -> Sha256 {
        self.digest
    }

    /// Bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The bytes, for those who verify them.
    ///
    /// # Errors
    /// Those of opening a file.
    pub fn open(&self) -> io::Result<File> {
        // By descriptor, since another upload of the same digest may have been committed meanwhile; and opened anew,
        // since a duplicate could write and would share its position.
        File::open(format!("/proc/self/fd/{}", lock(&self.part).file.as_raw_fd()))
    }

    /// Throws the bytes away, as after a refusal; unless somebody else uploads them too, whose signature may be good.
    pub fn discard(self) {
        if Arc::strong_count(&self.part) > 1 {
            return;
        }
        let part = lock(&self.part);
        // What can't be removed now ends by the spool's bounds.
        part.disk.remove(&part.path).ok();
    }

    /// Where they are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns once the bytes are on the disk, at once where they are already. [`Store::commit`](super::Store::commit)
    /// waits for it; whoever has something to do before may do it meanwhile, but must not commit after an error, which
    /// the system tells only once.
    ///
    /// # Errors
    /// The disk did not take them.
    pub fn sync(&self) -> Result<(), CommitError> {
        let mut part = lock(&self.part);
        if !part.is_synced {
            let failed = |source| CommitError::Io { doing: "sync", path: self.path.clone(), source };
            part.disk.sync(&part.path, &part.file).map_err(failed)?;
            part.is_synced = true;
        }
        Ok(())
    }
}

fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    // A panic between two steps leaves an offset that is not past what was written.
    part.lock().unwrap_or_else(PoisonError::into_inner)
}
