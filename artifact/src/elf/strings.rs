//! [`Strings`]: names out of the dynamic string table.

use std::cell::Cell;

use super::image::Image;
use super::{ElfError, MAX_NAME, MAX_NAMES};
use crate::reader::ReadAt;

const PART: &str = "string table";

/// The dynamic string table: where it is, and how much more may be read out of it.
#[derive(Debug)]
pub(super) struct Strings {
    address: u64,
    size: u64,
    /// Many entries can point to one long name: what is kept of them together is bounded.
    left: Cell<usize>,
}

impl Strings {
    pub(super) const fn new(address: u64, size: u64) -> Self {
        Self { address, size, left: Cell::new(MAX_NAMES) }
    }

    /// The name at `offset`, which is kept.
    pub(super) fn get<R: ReadAt + ?Sized>(
        &self,
        image: &Image<'_, R>,
        offset: u64,
    ) -> Result<String, ElfError> {
        let mut buf = [0; MAX_NAME + 1];
        let (name, ended) = self.read(image, offset, &mut buf)?;
        if !ended {
            return Err(ElfError::malformed(PART, format!("a name of more than {MAX_NAME} bytes")));
        }
        let name = std::str::from_utf8(name)
            .map_err(|_bytes| ElfError::malformed(PART, "a name that is not UTF-8"))?;
        let left = self.left.get().checked_sub(name.len()).ok_or_else(|| {
            ElfError::malformed(PART, format!("names of more than {MAX_NAMES} bytes together"))
        })?;
        self.left.set(left);
        Ok(name.to_owned())
    }

    /// The start of the text at `offset`, for people.
    pub(super) fn shown<R: ReadAt + ?Sized>(
        &self,
        image: &Image<'_, R>,
        offset: u64,
    ) -> Result<String, ElfError> {
        let mut buf = [0; MAX_NAME + 1];
        let (text, _) = self.read(image, offset, &mut buf)?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Whether `name` is at `offset`.
    pub(super) fn is<R: ReadAt + ?Sized>(
        &self,
        image: &Image<'_, R>,
        offset: u32,
        name: &str,
    ) -> Result<bool, ElfError> {
        let mut buf = [0; MAX_NAME + 1];
        let (found, ended) = self.read(image, offset.into(), &mut buf)?;
        Ok(ended && found == name.as_bytes())
    }

    /// What is at `offset` up to the end of the name or of `buf`, and which of the two it was.
    fn read<'b, R: ReadAt + ?Sized>(
        &self,
        image: &Image<'_, R>,
        offset: u64,
        buf: &'b mut [u8],
    ) -> Result<(&'b [u8], bool), ElfError> {
        let left = self
            .size
            .checked_sub(offset)
            .ok_or_else(|| ElfError::malformed(PART, format!("a name at {offset} of {} bytes", self.size)))?;
        let (place, loaded) = image.place(PART, self.address.saturating_add(offset))?;
        let len = usize::try_from(left.min(loaded)).unwrap_or(usize::MAX).min(buf.len());
        let whole = len == buf.len();
        let bytes = &mut buf[..len];
        image.read_file(PART, place, bytes)?;
        match bytes.iter().position(|byte| *byte == 0) {
            Some(end) => Ok((&bytes[..end], true)),
            None if whole => Ok((bytes, false)),
            None => Err(ElfError::malformed(PART, "a name without an end")),
        }
    }
}
