//! [`Cache`]: the loader's list of libraries, `/etc/ld.so.cache` of glibc, in the format that every glibc of the last
//! twenty years writes (`cache_file_new` in its `sysdeps/generic/dl-cache.h`).

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

const MAGIC: &[u8; 20] = b"glibc-ld.so.cache1.1";

/// Before it there may be a list in the format of before, which begins so, with its own number of entries.
const OLD_MAGIC: &[u8; 12] = b"ld.so-1.7.0\0";

/// Bytes of the header, and of an entry: flags, name, path (both as offsets), OS version, hardware.
const HEADER: usize = 48;
const ENTRY: usize = 24;
const OLD_HEADER: usize = 16;
const OLD_ENTRY: usize = 12;

/// Largest cache that is read: ten thousand libraries need about 1 MiB.
const MAX_SIZE: u64 = 16 << 20;

/// The list, as it was read.
#[derive(Debug)]
pub(super) struct Cache {
    /// From the header on, which offsets count from.
    bytes: Vec<u8>,
    entries: usize,
}

impl Cache {
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_SIZE).read_to_end(&mut bytes)?;
        Self::parse(bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a cache of ld.so"))
    }

    pub(super) fn parse(mut bytes: Vec<u8>) -> Option<Self> {
        if bytes.starts_with(OLD_MAGIC) {
            let old = OLD_HEADER.checked_add(OLD_ENTRY.checked_mul(word(&bytes, OLD_MAGIC.len())?)?)?;
            let start = old.next_multiple_of(8);
            bytes.drain(..start.min(bytes.len()));
        }
        if !bytes.starts_with(MAGIC) {
            return None;
        }
        let entries = word(&bytes, MAGIC.len())?;
        (HEADER.checked_add(ENTRY.checked_mul(entries)?)? <= bytes.len()).then_some(Self { bytes, entries })
    }

    /// The files of this name. There are several for several machines, and for kinds of processors of one machine;
    /// those define the same versions.
    pub(super) fn paths<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let entry = move |index: usize| {
            let at = HEADER + index * ENTRY;
            (self.text(word(&self.bytes, at + 4)?)? == name).then(|| self.text(word(&self.bytes, at + 8)?))?
        };
        (0..self.entries).filter_map(entry)
    }

    fn text(&self, offset: usize) -> Option<&str> {
        let text = self.bytes.get(offset..)?;
        let end = text.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&text[..end]).ok()
    }
}

/// The 32-bit word at `at`.
fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
}
