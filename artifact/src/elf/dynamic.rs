//! [`Dynamic`]: the dynamic segment's entries, as the loader will take them.

use object::LittleEndian as LE;
use object::elf::{self, Dyn64, DynamicTag};

use super::image::Image;
use super::strings::Strings;
use super::{ElfError, MAX_NEEDED};
use crate::reader::ReadAt;

const PART: &str = "dynamic segment";

/// Most entries before the end: real files have about thirty, besides the libraries that they need.
const MAX_ENTRIES: usize = 1024;

const ENTRY: u64 = size_of::<Dyn64<LE>>() as u64;

/// The entries of the dynamic segment, up to the one that ends it.
#[derive(Debug)]
pub(super) struct Dynamic {
    /// Where the names of needed libraries are in the string table, in the file's order.
    needed: Vec<u64>,
    /// All others: each tag stands once.
    others: Vec<(DynamicTag, u64)>,
    strings: Strings,
}

/// Where the symbols' hash table is. The loader prefers the GNU one where there are both.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hash {
    Gnu(u64),
    SysV(u64),
}

impl Dynamic {
    pub(super) fn read<R: ReadAt + ?Sized>(image: &Image<'_, R>) -> Result<Self, ElfError> {
        let segment = image
            .segments(elf::PT_DYNAMIC)
            .next()
            .ok_or_else(|| ElfError::not_shared("an ELF file that is linked statically"))?;
        // The loader takes the address; a file whose offset says something else would be two files in one.
        image.check_content(PART, segment)?;
        let (mut needed, mut others) = (Vec::new(), Vec::new());
        let mut ended = false;
        for index in 0..segment.p_filesz.get(LE) / ENTRY {
            let entry: Dyn64<LE> = image.value(PART, segment.p_vaddr.get(LE) + index * ENTRY)?;
            match (entry.d_tag.get(LE), entry.d_val.get(LE)) {
                (elf::DT_NULL, _) => ended = true,
                // Linkers leave spare entries there, which are null too. Others are ones that the loader has lost.
                _ if ended => return Err(ElfError::malformed(PART, "entries after its end")),
                (elf::DT_NEEDED, _) if needed.len() == MAX_NEEDED => {
                    return Err(ElfError::malformed(
                        PART,
                        format!("more than {MAX_NEEDED} needed libraries"),
                    ));
                }
                (elf::DT_NEEDED, value) => needed.push(value),
                (tag, _) if others.iter().any(|(other, _)| *other == tag) => {
                    return Err(ElfError::malformed(PART, format!("the entry {:#x} twice", tag.0)));
                }
                (tag, value) => others.push((tag, value)),
            }
            if others.len() > MAX_ENTRIES {
                return Err(ElfError::malformed(PART, format!("more than {MAX_ENTRIES} entries")));
            }
        }
        if !ended {
            return Err(ElfError::malformed(PART, "no DT_NULL at its end"));
        }
        let find = |tag| others.iter().find(|(other, _)| *other == tag).map(|(_, value)| *value);
        let missing = |name: &str| ElfError::malformed(PART, format!("no {name}"));
        let strings = Strings::new(
            find(elf::DT_STRTAB).ok_or_else(|| missing("DT_STRTAB"))?,
            find(elf::DT_STRSZ).ok_or_else(|| missing("DT_STRSZ"))?,
        );
        Ok(Self { needed, others, strings })
    }

    /// The value of an entry that there may be.
    pub(super) fn get(&self, tag: DynamicTag) -> Option<u64> {
        self.others.iter().find(|(other, _)| *other == tag).map(|(_, value)| *value)
    }

    /// The value of an entry that there must be.
    pub(super) fn require(&self, tag: DynamicTag, name: &str) -> Result<u64, ElfError> {
        self.get(tag).ok_or_else(|| ElfError::malformed(PART, format!("no {name}")))
    }

    pub(super) const fn strings(&self) -> &Strings {
        &self.strings
    }

    /// The names of the needed libraries, in the file's order.
    pub(super) fn needed<R: ReadAt + ?Sized>(&self, image: &Image<'_, R>) -> Result<Vec<String>, ElfError> {
        self.needed.iter().map(|offset| self.strings.get(image, *offset)).collect()
    }

    /// The name of the file as a library.
    pub(super) fn soname<R: ReadAt + ?Sized>(
        &self,
        image: &Image<'_, R>,
    ) -> Result<Option<String>, ElfError> {
        self.get(elf::DT_SONAME).map(|offset| self.strings.get(image, offset)).transpose()
    }

    pub(super) fn hash(&self) -> Result<Hash, ElfError> {
        match (self.get(elf::DT_GNU_HASH), self.get(elf::DT_HASH)) {
            (Some(address), _) => Ok(Hash::Gnu(address)),
            (None, Some(address)) => Ok(Hash::SysV(address)),
            (None, None) => Err(ElfError::malformed(PART, "no DT_GNU_HASH or DT_HASH")),
        }
    }

    /// Refuses what the loader would not open as a library.
    pub(super) fn check_shared(&self) -> Result<(), ElfError> {
        let flags = self.get(elf::DT_FLAGS_1).unwrap_or(0);
        if flags & elf::DF_1_PIE.0 != 0 {
            return Err(ElfError::not_shared("a position-independent program (DF_1_PIE)"));
        }
        if flags & elf::DF_1_NOOPEN.0 != 0 {
            return Err(ElfError::not_shared("a library that may not be opened by a program (DF_1_NOOPEN)"));
        }
        Ok(())
    }
}
