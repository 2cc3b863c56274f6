//! Space that was taken at start, so that what goes toward stable can be made durable on a full disk.
//!
//! One file of two halves, written full of zeros once, and from then on overwritten in place: no block has to be
//! found when it is needed, and nobody else can take it meanwhile (which they could if a spare file were deleted to
//! make room). Each write goes to the half that is *not* valid now, so a write that is torn leaves what was there
//! before. A half is magic, epoch, length, SHA-256 of these and the content, content; the valid half with the higher
//! epoch counts.
//!
//! What is in it are whole small files with their generations. It is emptied once they are in the files proper, so that
//! what it has is newer than these, or the same (`small`).

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use hot_artifact::{Sha256, Sha256Hasher};

use super::disk::{Disk, parent};

const MAGIC: &[u8; 8] = b"hotrsv01";
/// magic, epoch, length, sum
const HEAD: usize = 8 + 8 + 8 + 32;
/// Bytes of a half: the records of hundreds of modules, or of two that are as large as they may be.
const HALF: usize = 2 * 1024 * 1024;
const LEN: u64 = 2 * HALF as u64;
/// Zeros are written in pieces of this many bytes.
const PIECE: usize = 512 * 1024;

/// Content of the reserve: file name within the store to the bytes of that file (text: JSON in its envelope).
pub(super) type Contents = BTreeMap<String, String>;

/// The open reserve.
#[derive(Debug)]
pub(super) struct Reserve {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Option<File>,
    epoch: u64,
}

impl Reserve {
    /// Opens the reserve and reads what is in it. One that is missing or too small is made anew, after what it held
    /// was read; that this fails (the disk may be full already) is told by [`Reserve::is_ready`], not an error.
    ///
    /// # Errors
    /// When it is there and can't be read: what it holds may be all that is known of a step that was acknowledged.
    pub(super) fn open(disk: Arc<dyn Disk>, path: PathBuf) -> io::Result<(Self, Contents)> {
        let mut reserve = Self { disk, path, file: None, epoch: 0 };
        let opened = match OpenOptions::new().read(true).write(true).open(&reserve.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            opened => opened.ok(),
        };
        let (epoch, contents) = opened.as_ref().map(read).transpose()?.unwrap_or_default();
        reserve.epoch = epoch;
        // What is in it counts from now on, and the `hotd` that wrote it may have ended before it was on the disk. A disk
        // that does not take it now takes it with the file that it is of, or not at all.
        if let Some(file) = &opened {
            reserve.disk.sync(&reserve.path, file).ok();
        }
        let whole = |f: &File| f.metadata().is_ok_and(|m| m.len() == LEN);
        match opened {
            Some(file) if whole(&file) => reserve.file = Some(file),
            // Making it anew would empty it: it stays as it is for as long as it holds something.
            Some(file) if !contents.is_empty() => reserve.file = Some(file),
            Some(_) | None => reserve.prepare(),
        }
        Ok((reserve, contents))
    }

    /// Whether the space is there.
    pub(super) const fn is_ready(&self) -> bool {
        self.file.is_some()
    }

    /// Takes the space if it could not be taken so far.
    pub(super) fn prepare(&mut self) {
        if self.file.is_none() {
            self.file = self.make().ok();
        }
    }

    /// Puts `contents` in place of what was there; on the disk when it returns `Ok`.
    pub(super) fn store(&mut self, contents: &Contents) -> io::Result<()> {
        let body = serde_json::to_vec(contents)?;
        if HEAD + body.len() > HALF {
            let why = format!("{} bytes do not fit into a half of {}", HEAD + body.len(), HALF);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        let file = self.file.as_ref().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::StorageFull,
                "the space was never there: the disk was full at start",
            )
        })?;
        let epoch = self.epoch + 1;
        let len = body.len() as u64;
        let mut bytes = Vec::with_capacity(HEAD + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&epoch.to_le_bytes());
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(sum(epoch, len, &body).as_bytes());
        bytes.extend_from_slice(&body);
        self.disk.write_at(&self.path, file, offset(epoch), &bytes)?;
        self.disk.sync(&self.path, file)?;
        // Only now: a write that failed may have destroyed its half, and the next one goes there again.
        self.epoch = epoch;
        Ok(())
    }

    fn make(&self) -> io::Result<File> {
        let file = self.disk.create(&self.path)?;
        let filled = (|| {
            let zeros = vec![0; PIECE];
            let mut at = 0;
            while at < LEN {
                let n = usize::try_from(LEN - at).unwrap_or(PIECE).min(PIECE);
                self.disk.write_at(&self.path, &file, at, &zeros[..n])?;
                at += n as u64;
            }
            self.disk.sync(&self.path, &file)?;
            self.disk.sync_dir(parent(&self.path))
        })();
        if let Err(error) = filled {
            // Half a reserve is of no use, and the space is short.
            self.disk.remove(&self.path).ok();
            return Err(error);
        }
        Ok(file)
    }
}

/// What counts of it; nothing where neither half is whole.
fn read(file: &File) -> io::Result<(u64, Contents)> {
    let halves = [read_half(file, 0)?, read_half(file, HALF as u64)?];
    Ok(halves.into_iter().flatten().max_by_key(|(epoch, _)| *epoch).unwrap_or_default())
}

const fn offset(epoch: u64) -> u64 {
    (epoch % 2) * HALF as u64
}

/// `None`: it is not whole, by what it says of itself or since the file is too short.
fn read_half(file: &File, at: u64) -> io::Result<Option<(u64, Contents)>> {
    let read = |bytes: &mut [u8], at| match file.read_exact_at(bytes, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    };
    let mut head = [0; HEAD];
    if !read(&mut head, at)? {
        return Ok(None);
    }
    let Some((epoch, len)) = parse_head(&head) else { return Ok(None) };
    let mut body = vec![0; len];
    if !read(&mut body, at + HEAD as u64)? || sum(epoch, len as u64, &body).as_bytes() != &head[24..] {
        return Ok(None);
    }
    Ok(serde_json::from_slice(&body).ok().map(|contents| (epoch, contents)))
}

/// Epoch and length.
fn parse_head(head: &[u8; HEAD]) -> Option<(u64, usize)> {
    let word = |from: usize| head[from..from + 8].try_into().map(u64::from_le_bytes).ok();
    let len = usize::try_from(word(16)?).ok().filter(|len| *len <= HALF - HEAD)?;
    (&head[..8] == MAGIC).then_some((word(8)?, len))
}

fn sum(epoch: u64, len: u64, body: &[u8]) -> Sha256 {
    let mut hasher = Sha256Hasher::default();
    hasher.update(MAGIC);
    hasher.update(&epoch.to_le_bytes());
    hasher.update(&len.to_le_bytes());
    hasher.update(body);
    hasher.finish()
}
