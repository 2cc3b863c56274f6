//! What an ELF file says of itself, read the way the dynamic loader reads it: from the program headers and the
//! dynamic segment. Section headers are never looked at; they may be stripped, and they may lie.
//!
//! Nothing here decides about a node: [`crate::compat`] does. Every number in the file is taken as hostile; reads are
//! bounded, and what is kept on the heap is bounded by the constants below, however large the file is.

mod dynamic;
mod error;
mod image;
mod notes;
mod symbols;

pub use error::ElfError;

use crate::reader::ReadAt;
use crate::target::{Libc, Target};
use image::Image;

/// Most program headers: the linkers of today write about a dozen.
pub(crate) const MAX_SEGMENTS: u16 = 256;

/// Most bytes of one dynamic segment or of all note segments: real ones have a few hundred.
pub(crate) const MAX_TABLE: u64 = 1 << 20;

/// Most bytes of a name in the string table that is read at all.
pub(crate) const MAX_NAME: usize = 4096;

/// Most libraries that a file may need.
pub(crate) const MAX_NEEDED: usize = 256;

/// Most symbols that are looked at in one hash chain; chains of real files have under ten.
pub(crate) const MAX_CHAIN: u32 = 1 << 16;

/// What an ELF shared object says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// What it was built for.
    pub(crate) target: Target,
    /// The libraries that it needs, in its order.
    pub(crate) needed: Vec<String>,
    /// Its own name, if it gives one.
    pub(crate) soname: Option<String>,
    /// The text in its metadata note, without the padding.
    pub(crate) metadata: Vec<u8>,
}

/// Reads a 64-bit little-endian shared object with one metadata note and the entry symbol.
///
/// # Errors
/// The first reason why `reader` is no such file.
pub(crate) fn read(reader: &(impl ReadAt + ?Sized)) -> Result<Facts, ElfError> {
    let image = Image::read(reader)?;
    let dynamic = dynamic::Dynamic::read(&image)?;
    let metadata = notes::metadata(&image)?;
    symbols::check_entry(&image, &dynamic)?;
    let target = Target { machine: image.machine(), libc: libc_of(&dynamic.needed) };
    Ok(Facts { target, needed: dynamic.needed, soname: dynamic.soname, metadata })
}

fn libc_of(needed: &[String]) -> Libc {
    let needs = |test: fn(&str) -> bool| needed.iter().any(|name| test(name));
    if needs(|name| name == "libc.so.6") {
        Libc::Gnu
    } else if needs(|name| name == "libc.so" || name.starts_with("libc.musl-")) {
        Libc::Musl
    } else {
        Libc::None
    }
}

#[cfg(test)]
mod tests;
