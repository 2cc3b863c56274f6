//! [`Dynamic`]: what the dynamic segment says, as the loader will take it.

use object::LittleEndian as LE;
use object::elf::{self, Dyn64, Sym64};

use super::image::Image;
use super::{ElfError, MAX_NAME, MAX_NEEDED, MAX_TABLE};
use crate::reader::ReadAt;

const PART: &str = "dynamic segment";

/// The entries of the dynamic segment that matter here.
#[derive(Debug)]
pub(super) struct Dynamic {
    pub(super) needed: Vec<String>,
    pub(super) soname: Option<String>,
    pub(super) symbols: u64,
    pub(super) hash: Hash,
    strings: Strings,
}

/// Where the symbols' hash table is. The loader prefers the GNU one where there are both.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hash {
    Gnu(u64),
    SysV(u64),
}

#[derive(Debug, Clone, Copy)]
struct Strings {
    address: u64,
    size: u64,
}

/// Entries as they stand, before they are checked.
#[derive(Debug, Default)]
struct Entries {
    needed: Vec<u64>,
    soname: Option<u64>,
    strings: Option<u64>,
    strings_size: Option<u64>,
    symbols: Option<u64>,
    symbol_size: Option<u64>,
    gnu_hash: Option<u64>,
    hash: Option<u64>,
    flags_1: Option<u64>,
}

impl Dynamic {
    pub(super) fn read<R: ReadAt + ?Sized>(image: &Image<'_, R>) -> Result<Self, ElfError> {
        let entries = Entries::read(image)?;
        if entries.flags_1.unwrap_or(0) & elf::DF_1_PIE.0 != 0 {
            return Err(ElfError::NotShared { found: "a position-independent program (DF_1_PIE)" });
        }
        let missing = |name: &str| ElfError::malformed(PART, format!("no {name}"));
        let strings = Strings {
            address: entries.strings.ok_or_else(|| missing("DT_STRTAB"))?,
            size: entries.strings_size.ok_or_else(|| missing("DT_STRSZ"))?,
        };
        if entries.symbol_size.is_some_and(|size| size != size_of::<Sym64<LE>>() as u64) {
            return Err(ElfError::malformed(PART, "symbols of another size than 24 bytes"));
        }
        let hash = match (entries.gnu_hash, entries.hash) {
            (Some(address), _) => Hash::Gnu(address),
            (None, Some(address)) => Hash::SysV(address),
            (None, None) => return Err(missing("DT_GNU_HASH or DT_HASH")),
        };
        let text = |offset: u64| strings.get(image, offset);
        Ok(Self {
            needed: entries.needed.iter().map(|offset| text(*offset)).collect::<Result<_, _>>()?,
            soname: entries.soname.map(text).transpose()?,
            symbols: entries.symbols.ok_or_else(|| missing("DT_SYMTAB"))?,
            hash,
            strings,
        })
    }

    /// The name at `offset` of the string table.
    pub(super) fn name<R: ReadAt + ?Sized>(
        &self,
        image: &Image<'_, R>,
        offset: u32,
    ) -> Result<String, ElfError> {
        self.strings.get(image, offset.into())
    }
}

impl Strings {
    fn get<R: ReadAt + ?Sized>(self, image: &Image<'_, R>, offset: u64) -> Result<String, ElfError> {
        const PART: &str = "string table";
        let left = self
            .size
            .checked_sub(offset)
            .ok_or_else(|| ElfError::malformed(PART, format!("a name at {offset} of {} bytes", self.size)))?;
        let address = self.address.saturating_add(offset);
        let (place, loaded) = image.place(PART, address)?;
        let len = usize::try_from(left.min(loaded)).unwrap_or(MAX_NAME).min(MAX_NAME);
        let mut bytes = image.read_file(PART, place, len)?;
        let end = bytes
            .iter()
            .position(|byte| *byte == 0)
            .ok_or_else(|| ElfError::malformed(PART, "a name without an end"))?;
        bytes.truncate(end);
        String::from_utf8(bytes).map_err(|_bytes| ElfError::malformed(PART, "a name that is not UTF-8"))
    }
}

impl Entries {
    fn read<R: ReadAt + ?Sized>(image: &Image<'_, R>) -> Result<Self, ElfError> {
        let mut segments = image.segments(elf::PT_DYNAMIC);
        let segment =
            segments.next().ok_or(ElfError::NotShared { found: "an ELF file that is linked statically" })?;
        if segments.next().is_some() {
            return Err(ElfError::malformed(PART, "two of them"));
        }
        // The loader takes the address; a file whose offset says something else would be two files in one.
        let address = segment.p_vaddr.get(LE);
        let (offset, left) = image.place(PART, address)?;
        let size = segment.p_filesz.get(LE);
        if offset != segment.p_offset.get(LE) || size > left {
            return Err(ElfError::malformed(PART, "an address and an offset that disagree"));
        }
        if size > MAX_TABLE {
            return Err(ElfError::malformed(PART, format!("{size} bytes")));
        }
        let mut entries = Self::default();
        for index in 0..size / size_of::<Dyn64<LE>>() as u64 {
            let entry: Dyn64<LE> = image.value(PART, address + index * size_of::<Dyn64<LE>>() as u64)?;
            if entry.d_tag.get(LE) == elf::DT_NULL {
                return Ok(entries);
            }
            entries.take(entry.d_tag.get(LE), entry.d_val.get(LE))?;
        }
        Err(ElfError::malformed(PART, "no DT_NULL at its end"))
    }

    fn take(&mut self, tag: elf::DynamicTag, value: u64) -> Result<(), ElfError> {
        let slot = match tag {
            elf::DT_NEEDED if self.needed.len() == MAX_NEEDED => {
                return Err(ElfError::malformed(PART, format!("more than {MAX_NEEDED} needed libraries")));
            }
            elf::DT_NEEDED => {
                self.needed.push(value);
                return Ok(());
            }
            elf::DT_SONAME => &mut self.soname,
            elf::DT_STRTAB => &mut self.strings,
            elf::DT_STRSZ => &mut self.strings_size,
            elf::DT_SYMTAB => &mut self.symbols,
            elf::DT_SYMENT => &mut self.symbol_size,
            elf::DT_GNU_HASH => &mut self.gnu_hash,
            elf::DT_HASH => &mut self.hash,
            elf::DT_FLAGS_1 => &mut self.flags_1,
            _ => return Ok(()),
        };
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(ElfError::malformed(PART, format!("the entry {:#x} twice", tag.0))),
        }
    }
}
