//! [`ReadAt`]: random access to a file's bytes without holding them on the heap.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes with a known length, readable at any place.
///
/// What reads through this trait copes with any content; a length that is wrong (a file cut short meanwhile) shows
/// as an error of kind [`io::ErrorKind::UnexpectedEof`].
pub trait ReadAt {
    /// How many bytes there are.
    fn size(&self) -> u64;

    /// Fills `buf` from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` when there are fewer bytes than asked for, else what the file says.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let found = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buf.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(found);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        self.as_slice().size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_exact_at(buf, offset)
    }
}

/// A regular file (or memfd) with the length that it had when it was wrapped.
#[derive(Debug)]
pub struct FileReader {
    file: File,
    size: u64,
}

impl FileReader {
    /// Wraps an open file.
    ///
    /// # Errors
    /// When the file's metadata can't be read.
    pub fn new(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }

    /// Opens the file at `path` for reading.
    ///
    /// # Errors
    /// When it can't be opened, or is not a regular file (opening a FIFO or reading a device could wait for ever).
    pub fn open(path: &std::path::Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Self::new(File::open(path)?)
    }

    /// The file that is read.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }
}

impl ReadAt for FileReader {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }
}

/// A piece is read at once: large enough that system calls don't show beside hashing, small enough for the cache.
const PIECE: usize = 256 * 1024;

/// Calls `take` with all bytes of `reader`, in order.
pub(crate) fn for_each_piece(reader: &(impl ReadAt + ?Sized), mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let size = reader.size();
    let mut piece = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE))];
    let mut offset = 0;
    while offset < size {
        let len = usize::try_from(size - offset).unwrap_or(PIECE).min(PIECE);
        reader.read_exact_at(&mut piece[..len], offset)?;
        take(&piece[..len]);
        offset += len as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_all_bytes_in_order() {
        for len in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 7] {
            let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
            let mut seen = Vec::new();
            for_each_piece(&bytes, |piece| seen.extend_from_slice(piece)).unwrap();
            assert_eq!(seen, bytes);
        }
    }

    #[test]
    fn reads_past_the_end_are_errors_even_where_offsets_overflow() {
        let bytes = vec![1, 2, 3];
        for (len, offset) in [(4, 0), (1, 3), (2, 2), (1, u64::MAX), (3, u64::MAX - 1)] {
            let error = bytes.read_exact_at(&mut vec![0; len], offset).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
