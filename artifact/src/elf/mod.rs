//! What an ELF file says of itself, read the way the dynamic loader reads it: from the program headers and the
//! dynamic segment. Section headers are never looked at; they may be stripped, and they may lie.
//!
//! Nothing here decides about a node: [`crate::compat`] does. Every number in the file is taken as hostile; reads are
//! bounded, and what is kept on the heap is bounded by the constants below, however large the file is.

mod dynamic;
mod error;
mod hazard;
mod image;
mod listing;
mod notes;
mod strings;
mod symbols;
mod versions;

pub use error::ElfError;
pub use hazard::Hazard;
pub use listing::{Import, Listed, Symbols, symbols};
use object::elf::PT_INTERP;
use serde::{Deserialize, Serialize};
pub use symbols::Entry;

use crate::reader::ReadAt;
use crate::target::{Libc, Machine, Target};
use dynamic::Dynamic;
use image::Image;

/// Most program headers: the linkers of today write about a dozen.
pub(crate) const MAX_SEGMENTS: u16 = 256;

/// Most bytes of all note segments: real ones have a few hundred.
pub(crate) const MAX_NOTES: u64 = 1 << 20;

/// Most bytes of a name of a library or version: that of a file can't be longer.
pub(crate) const MAX_NAME: usize = 255;

/// Most bytes of all names that are kept: real files stay below 4 KiB.
pub(crate) const MAX_NAMES: usize = 64 * 1024;

/// Most libraries that a file may need.
pub(crate) const MAX_NEEDED: usize = 256;

/// Most entries of the lists of needed or of defined versions: glibc defines about 50.
pub(crate) const MAX_VERSIONS: usize = 1024;

/// Most symbols that are looked at in one hash chain; chains of real files have under ten.
pub(crate) const MAX_CHAIN: u32 = 1 << 16;

/// What an ELF shared object says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// What it was built for.
    pub(crate) target: Target,
    /// The libraries that it needs, in its order.
    pub(crate) needed: Vec<NeededLibrary>,
    /// Its own name, if it gives one.
    pub(crate) soname: Option<String>,
    /// The start of the module's table.
    pub(crate) entry: Entry,
    /// What it asks of the loader and no module may.
    pub(crate) hazards: Vec<Hazard>,
    /// The text in its metadata note, without the padding.
    pub(crate) metadata: Vec<u8>,
}

/// A library that a file needs, and what it needs of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeededLibrary {
    /// The name by which the loader looks for it, e.g. `libc.so.6`.
    pub name: String,
    /// Symbol versions that it must define, e.g. `GLIBC_2.34`, in the file's order.
    pub versions: Vec<String>,
}

/// Reads a 64-bit little-endian shared object with one metadata note and the entry symbol.
///
/// # Errors
/// The first reason why `reader` is no such file.
pub(crate) fn read(reader: &(impl ReadAt + ?Sized)) -> Result<Facts, ElfError> {
    let image = Image::read(reader)?;
    let loaded = Loaded::read(&image)?;
    let metadata = notes::metadata(&image)?;
    let entry = symbols::entry(&image, &loaded.dynamic)?;
    let Loaded { needed, soname, hazards, .. } = loaded;
    let target = Target { machine: image.machine(), libc: libc_of(&needed) };
    Ok(Facts { target, needed, soname, entry, hazards, metadata })
}

/// What the loader takes from any shared object, module or not.
#[derive(Debug)]
struct Loaded {
    dynamic: Dynamic,
    needed: Vec<NeededLibrary>,
    soname: Option<String>,
    hazards: Vec<Hazard>,
}

impl Loaded {
    fn read<R: ReadAt + ?Sized>(image: &Image<'_, R>) -> Result<Self, ElfError> {
        if image.segments(PT_INTERP).next().is_some() {
            return Err(ElfError::not_shared("a program, which names its interpreter (PT_INTERP)"));
        }
        let dynamic = Dynamic::read(image)?;
        dynamic.check_shared()?;
        let names = dynamic.needed(image)?;
        let soname = dynamic.soname(image)?;
        let hazards = hazard::of(image, &dynamic, &names)?;
        let library = |name| NeededLibrary { name, versions: Vec::new() };
        let mut needed: Vec<_> = names.into_iter().map(library).collect();
        versions::needed(image, &dynamic, &mut needed)?;
        Ok(Self { dynamic, needed, soname, hazards })
    }
}

/// The machine that a library is for and the symbol versions that it defines.
///
/// # Errors
/// When it is no ELF file that could be loaded.
pub(crate) fn library(reader: &(impl ReadAt + ?Sized)) -> Result<(Machine, Vec<String>), ElfError> {
    let image = Image::read(reader)?;
    let dynamic = Dynamic::read(&image)?;
    Ok((image.machine(), versions::defined(&image, &dynamic)?))
}

fn libc_of(needed: &[NeededLibrary]) -> Libc {
    let needs = |test: fn(&str) -> bool| needed.iter().any(|library| test(&library.name));
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
