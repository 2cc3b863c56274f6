//! Uploads under way: bytes that nobody vouches for yet. One file per digest, resumable at its length, bounded in
//! number, bytes and age. The oldest that nobody is writing gives way to a new one, so abandoned uploads block nobody.
//!
//! The offset is what was *written*, not what survives a power cut: whoever verifies the bytes reads what is really in the
//! file and hashes that, so lost bytes are noticed at the end and cost only the upload. Nothing is hashed here. What can
//! become nothing any more, since the disk did not take it or it was found wrong, is given up, and begun anew by whoever
//! comes next; those who still have it are told.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use hot_artifact::Sha256;
use thiserror::Error;

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

/// The bytes of an upload are not on the disk, and never will be: they were thrown away, for whoever shared them.
#[derive(Debug, Error)]
pub enum SyncError {
    /// The disk did not take them.
    #[error("cannot sync {}{}", path.display(), hint(source))]
    Io {
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// They had been thrown away before: the disk did not take them, or they were found to be others than announced.
    #[error("the bytes of {0} were thrown away meanwhile; upload them again from the start")]
    ThrownAway(Sha256),
}

impl SyncError {
    /// Whether free space on the disk would help.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
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
    live: Mutex<Live>,
}

#[derive(Debug)]
struct Part {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: File,
    total: u64,
    /// Bytes that were written. Locked while a piece is.
    offset: Mutex<u64>,
    /// Whether they are all on the disk. Locked while the disk is waited for, by those alone who need to know.
    synced: Mutex<bool>,
    /// The bytes were thrown away, and the name is another upload's, if anybody's. Set with `synced` locked.
    is_dead: AtomicBool,
}

/// An upload that goes on. Dropping it leaves what is there for a resumption.
#[derive(Debug, Clone)]
pub struct Upload {
    digest: Sha256,
    part: Arc<Part>,
}

/// As many bytes as an upload was said to have, of which nothing else is known, not even whether they have the digest:
/// whoever verifies them finds out. Dropping it leaves the file to the spool's bounds.
#[derive(Debug)]
pub struct Spooled {
    digest: Sha256,
    part: Arc<Part>,
}

impl Spool {
    pub(super) fn new(disk: Arc<dyn Disk>, folder: PathBuf, limits: SpoolLimits) -> Self {
        Self { disk, folder, limits, live: Mutex::default() }
    }

    /// Starts an upload or goes on with one.
    pub(super) fn begin(&self, digest: Sha256, total: u64, now: SystemTime) -> Result<Upload, UploadError> {
        self.check_size(total)?;
        let mut live = self.live();
        if let Some(upload) = under_way(&live, digest, total)? {
            return Ok(upload);
        }
        self.make_room(&live, digest, total, now)?;
        let part = Arc::new(self.open_part(digest, total)?);
        live.insert(digest, Arc::downgrade(&part));
        Ok(Upload { digest, part })
    }

    /// Bytes that are here of such an upload, which could go on. Changes nothing.
    pub(super) fn uploaded(&self, digest: Sha256, total: u64) -> Result<u64, UploadError> {
        self.check_size(total)?;
        let under_way = under_way(&self.live(), digest, total)?;
        if let Some(upload) = under_way {
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
        let live = self.live();
        let old = |e: &Entry| now.duration_since(e.written).is_ok_and(|age| age > self.limits.age);
        let abandoned = self.abandoned(&live);
        abandoned.iter().filter(|e| old(e)).filter(|e| self.disk.remove(&e.path).is_ok()).count()
    }

    /// What somebody writes, without what was thrown away.
    fn live(&self) -> MutexGuard<'_, Live> {
        let mut live = lock(&self.live);
        live.retain(|_, part| part.upgrade().is_some_and(|part| !part.is_dead()));
        live
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
        Ok(Part {
            disk: Arc::clone(&self.disk),
            path,
            file,
            total,
            offset: Mutex::new(offset),
            synced: Mutex::new(false),
            is_dead: AtomicBool::new(false),
        })
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
        let mut bytes = parts.iter().map(|part| part.total).sum::<u64>() + total;
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
    if part.total != total {
        return Err(UploadError::OtherTotal { digest, there: part.total, total });
    }
    Ok(Some(Upload { digest, part }))
}

type Live = HashMap<Sha256, Weak<Part>>;

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
        *lock(&self.part.offset)
    }

    /// Writes the next piece and returns where to go on.
    ///
    /// # Errors
    /// [`UploadError::WrongOffset`], [`UploadError::TooMuch`], [`UploadError::Io`]; nothing of the piece is kept then.
    pub fn write(&self, offset: u64, piece: &[u8]) -> Result<u64, UploadError> {
        let part = &self.part;
        let mut there = lock(&part.offset);
        if offset != *there {
            return Err(UploadError::WrongOffset { expected: *there, found: offset });
        }
        let end = offset.saturating_add(piece.len() as u64);
        if end > part.total {
            return Err(UploadError::TooMuch { total: part.total, found: end });
        }
        if let Err(source) = part.disk.write_at(&part.path, &part.file, offset, piece) {
            // Half a piece would be taken for the whole of it after a restart. If this fails as well, the digest will
            // tell.
            part.disk.set_len(&part.path, &part.file, offset).ok();
            return Err(UploadError::Io { doing: "write", path: part.path.clone(), source });
        }
        *there = end;
        Ok(end)
    }

    /// Throws away what came, whoever else writes it: it is to begin anew.
    pub fn throw_away(&self) {
        let _synced = lock(&self.part.synced);
        self.part.die();
    }

    /// Ends the upload: all bytes are there.
    ///
    /// # Errors
    /// [`UploadError::Incomplete`].
    pub fn finish(self) -> Result<Spooled, UploadError> {
        let (there, total) = (self.offset(), self.part.total);
        if there != total {
            return Err(UploadError::Incomplete { there, total });
        }
        Ok(Spooled { digest: self.digest, part: self.part })
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
    pub fn size(&self) -> u64 {
        self.part.total
    }

    /// The bytes, for those who verify them.
    ///
    /// # Errors
    /// Those of opening a file.
    pub fn open(&self) -> io::Result<File> {
        // By descriptor, since another upload of the same digest may have been committed meanwhile; and opened anew,
        // since a duplicate could write and would share its position.
        File::open(format!("/proc/self/fd/{}", self.part.file.as_raw_fd()))
    }

    /// Throws the bytes away, as after a refusal; unless somebody else uploads them too, whose signature may be good.
    pub fn discard(self) {
        if Arc::strong_count(&self.part) == 1 {
            self.throw_away();
        }
    }

    /// Throws the bytes away, whoever else uploads them: they are not those that were announced, for nobody.
    pub fn throw_away(self) {
        let _synced = lock(&self.part.synced);
        self.part.die();
    }

    /// Where they are.
    pub(super) fn path(&self) -> &Path {
        &self.part.path
    }

    /// Returns once the bytes are on the disk, at once where they are already. [`Store::commit`](super::Store::commit)
    /// waits for it; whoever has something to do before may do it meanwhile.
    ///
    /// # Errors
    /// See [`SyncError`]; they have to be uploaded again.
    pub fn sync(&self) -> Result<(), SyncError> {
        self.synced().map(drop)
    }

    /// As [`Self::sync`]; as long as the lock is held, the file under their name is this one.
    pub(super) fn synced(&self) -> Result<MutexGuard<'_, bool>, SyncError> {
        let part = &self.part;
        let mut is_synced = lock(&part.synced);
        if part.is_dead() {
            return Err(SyncError::ThrownAway(self.digest));
        }
        if !*is_synced {
            part.disk.sync(&part.path, &part.file).map_err(|source| {
                // The system says it once and takes the bytes for written from then on: they must not be found again.
                part.die();
                SyncError::Io { path: part.path.clone(), source }
            })?;
            *is_synced = true;
        }
        Ok(is_synced)
    }
}

impl Part {
    fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Acquire)
    }

    /// Gives the file up, so that the next upload of this digest begins with none; `synced` has to be locked.
    fn die(&self) {
        if self.is_dead() {
            return;
        }
        match self.disk.remove(&self.path) {
            // What can't be removed now ends by the spool's bounds, and is begun at 0 until then.
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                self.disk.set_len(&self.path, &self.file, 0).ok();
            }
            Ok(()) | Err(_) => {}
        }
        self.is_dead.store(true, Ordering::Release);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic between two steps leaves an offset that is not past what was written.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
