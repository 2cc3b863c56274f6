//! [`Symbols`]: all dynamic symbols of a file, for people.
//!
//! Nothing is decided by them: the loader binds each when it loads the file, and what it can't bind it says then.

use object::elf::{self, GnuHashHeader, HashHeader, Sym64};
use object::{LittleEndian as LE, U16, U32};

use super::dynamic::{Dynamic, Hash};
use super::image::Image;
use super::{ElfError, versions};
use crate::reader::ReadAt;

const PART: &str = "dynamic symbols";

const SYMBOL: u64 = size_of::<Sym64<LE>>() as u64;

/// Most symbols, and most buckets of their hash table, that are counted: the largest real libraries have some hundred
/// thousand, and each is a read.
const MAX_SYMBOLS: u32 = 1 << 20;

/// Most symbols of each kind that are kept with their names.
const MAX_LISTED: usize = 1024;

/// In a symbol's version: it is not the default one.
const HIDDEN: u16 = 0x8000;

/// What a file gives to others and what it wants of them by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbols {
    /// Names that it defines and others may use.
    pub exported: Listed<String>,
    /// What the loader has to find in its libraries.
    pub imported: Listed<Import>,
}

/// The first 1024 of many, in the file's order, and how many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// How many there are.
    pub count: u32,
    /// The first of them.
    pub first: Vec<T>,
}

/// A symbol that a file wants of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Its name, cut to 256 bytes.
    pub name: String,
    /// Its version, and the library that has to define that. None: whichever library has the name.
    pub version: Option<(String, String)>,
    /// The file can do without it.
    pub is_weak: bool,
}

impl<T> Listed<T> {
    const fn new() -> Self {
        Self { count: 0, first: Vec::new() }
    }

    fn add(&mut self, item: impl FnOnce() -> Result<T, ElfError>) -> Result<(), ElfError> {
        self.count += 1;
        if self.first.len() < MAX_LISTED {
            self.first.push(item()?);
        }
        Ok(())
    }
}

/// Reads the dynamic symbols of a shared object.
///
/// # Errors
/// When their tables are malformed, or too large to be shown. A file may be good all the same: this reads more of it than
/// [`crate::inspect`] does.
pub fn symbols(reader: &(impl ReadAt + ?Sized)) -> Result<Symbols, ElfError> {
    let image = Image::read(reader)?;
    let dynamic = Dynamic::read(&image)?;
    let versions = Versions::read(&image, &dynamic)?;
    let table = dynamic.require(elf::DT_SYMTAB, "DT_SYMTAB")?;
    let mut symbols = Symbols { exported: Listed::new(), imported: Listed::new() };
    // The first one is null.
    for index in 1..count(&image, &dynamic)? {
        let symbol: Sym64<LE> = image.value(PART, at(table, index, SYMBOL))?;
        let bind = symbol.st_bind();
        if bind == elf::STB_LOCAL {
            continue;
        }
        let name = || dynamic.strings().shown(&image, symbol.st_name.get(LE).into());
        if symbol.st_shndx.get(LE) == elf::SHN_UNDEF {
            symbols.imported.add(|| {
                let version = versions.of(&image, index)?;
                Ok(Import { name: name()?, version, is_weak: bind == elf::STB_WEAK })
            })?;
        } else if matches!(symbol.st_visibility(), elf::STV_DEFAULT | elf::STV_PROTECTED) {
            symbols.exported.add(name)?;
        }
    }
    Ok(symbols)
}

const fn at(start: u64, index: u32, size: u64) -> u64 {
    start.saturating_add((index as u64) * size)
}

/// How many symbols there are. No entry says it: the hash tables cover all of them, or all that follow the first which
/// is hashed.
fn count<R: ReadAt + ?Sized>(image: &Image<'_, R>, dynamic: &Dynamic) -> Result<u32, ElfError> {
    let many = || ElfError::malformed(PART, format!("more than {MAX_SYMBOLS}"));
    let table = match dynamic.hash()? {
        Hash::SysV(table) => {
            let header: HashHeader<LE> = image.value(PART, table)?;
            return Some(header.chain_count.get(LE)).filter(|count| *count <= MAX_SYMBOLS).ok_or_else(many);
        }
        Hash::Gnu(table) => table,
    };
    let header: GnuHashHeader<LE> = image.value(PART, table)?;
    let (buckets, base) = (header.bucket_count.get(LE), header.symbol_base.get(LE));
    if buckets > MAX_SYMBOLS {
        return Err(many());
    }
    let bucket_start =
        at(table.saturating_add(size_of::<GnuHashHeader<LE>>() as u64), header.bloom_count.get(LE), 8);
    let chain_start = at(bucket_start, buckets, 4);
    let mut last = 0;
    for index in 0..buckets {
        let bucket: U32<LE> = image.value(PART, at(bucket_start, index, 4))?;
        last = bucket.get(LE).max(last);
    }
    if last == 0 {
        return Some(base).filter(|count| *count <= MAX_SYMBOLS).ok_or_else(many);
    }
    let first = last
        .checked_sub(base)
        .ok_or_else(|| ElfError::malformed(PART, "a bucket below the first hashed symbol"))?;
    // The last bucket's chain is the last one, and the lowest bit marks its end.
    for index in first..MAX_SYMBOLS {
        let link: U32<LE> = image.value(PART, at(chain_start, index, 4))?;
        if link.get(LE) & 1 == 1 {
            return base.checked_add(index + 1).filter(|count| *count <= MAX_SYMBOLS).ok_or_else(many);
        }
    }
    Err(many())
}

/// The versions that the file's symbols name by number.
#[derive(Debug)]
struct Versions {
    /// Where the number of each symbol stands. None: no symbol has one.
    table: Option<u64>,
    /// Number, version, and its place in `libraries`.
    needed: Vec<(u16, String, usize)>,
    libraries: Vec<String>,
}

impl Versions {
    fn read<R: ReadAt + ?Sized>(image: &Image<'_, R>, dynamic: &Dynamic) -> Result<Self, ElfError> {
        let (mut needed, mut libraries) = (Vec::new(), Vec::<String>::new());
        versions::each_need(image, dynamic, |library, need| {
            if libraries.last().is_none_or(|last| last != library) {
                libraries.push(library.to_owned());
            }
            needed.push((need.number & !HIDDEN, need.version, libraries.len() - 1));
            Ok(())
        })?;
        Ok(Self { table: dynamic.get(elf::DT_VERSYM), needed, libraries })
    }

    /// The version of the symbol at `index`, and the library that has to define it.
    fn of<R: ReadAt + ?Sized>(
        &self,
        image: &Image<'_, R>,
        index: u32,
    ) -> Result<Option<(String, String)>, ElfError> {
        let Some(table) = self.table else { return Ok(None) };
        let number: U16<LE> = image.value(PART, at(table, index, 2))?;
        let number = number.get(LE) & !HIDDEN;
        let found = self.needed.iter().find(|(other, ..)| *other == number);
        Ok(found.map(|(_, version, library)| (version.clone(), self.libraries[*library].clone())))
    }
}
