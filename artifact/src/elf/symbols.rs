//! The entry symbol, looked up through the hash table as `dlsym` will, so that what is found here is what the host will
//! find. Where a loader has a choice, which it makes by versions of symbols, the file is refused: among several symbols of
//! that name, and of one that has a version.

use hot_module::ENTRY_SYMBOL;
use object::elf::{self, GnuHashHeader, HashHeader, Sym64};
use object::{LittleEndian as LE, U16, U32, U64};
use serde::{Deserialize, Serialize};

use super::dynamic::{Dynamic, Hash};
use super::image::Image;
use super::{ElfError, MAX_CHAIN};
use crate::reader::ReadAt;

const PART: &str = "symbol hash table";

const SYMBOL: u64 = size_of::<Sym64<LE>>() as u64;

/// The members of the module's table that there must be, `abi`, `size` and `start`.
const MIN_TABLE: u32 = 16;

/// The first two members of the module's table, as they stand in the file. The contract has it constant, and nothing
/// relocates two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The ABI that it was compiled for.
    pub abi: u32,
    /// How many bytes of the table there are; members past it are absent.
    pub size: u32,
}

impl Entry {
    /// The symbol that it is found by.
    pub const SYMBOL: &str = ENTRY_SYMBOL;
}

/// The entry symbol's content: a data object which the host can use.
pub(super) fn entry<R: ReadAt + ?Sized>(image: &Image<'_, R>, dynamic: &Dynamic) -> Result<Entry, ElfError> {
    if dynamic.get(elf::DT_SYMENT).is_some_and(|size| size != SYMBOL) {
        return Err(ElfError::malformed("dynamic symbols", "symbols of another size than 24 bytes"));
    }
    let found = match dynamic.hash()? {
        Hash::Gnu(address) => find_gnu(image, dynamic, address)?,
        Hash::SysV(address) => find_sysv(image, dynamic, address)?,
    };
    let (index, symbol) = found.0.filter(|(_, symbol)| is_defined(symbol)).ok_or(ElfError::NoEntry)?;
    if is_versioned(image, dynamic, index)? {
        return unusable("a symbol of a version");
    }
    match symbol.st_type() {
        elf::STT_OBJECT => {}
        elf::STT_FUNC => return unusable("a function"),
        elf::STT_GNU_IFUNC => return unusable("an indirect function"),
        elf::STT_TLS => return unusable("a thread-local object"),
        _ => return unusable("a symbol of no type"),
    }
    if !matches!(symbol.st_bind(), elf::STB_GLOBAL | elf::STB_WEAK) {
        return unusable("a symbol that is local");
    }
    if !matches!(symbol.st_visibility(), elf::STV_DEFAULT | elf::STV_PROTECTED) {
        return unusable("a symbol that is hidden");
    }
    let section = symbol.st_shndx.get(LE);
    if section == elf::SHN_ABS || section == elf::SHN_COMMON {
        return unusable("a symbol without a place in the file");
    }
    let (address, len) = (symbol.st_value.get(LE), symbol.st_size.get(LE));
    if len < MIN_TABLE.into() {
        return unusable(&format!("an object of {len} bytes"));
    }
    if !image.is_loaded(address, len) {
        return unusable("an object outside of what is loaded");
    }
    if image.place(PART, address).is_err() {
        return unusable("an object without content in the file");
    }
    let [abi, size] = image.value::<[U32<LE>; 2]>(ENTRY_SYMBOL, address)?.map(|word| word.get(LE));
    if size < MIN_TABLE || u64::from(size) > len {
        return unusable(&format!("an object of {len} bytes that says it has {size}"));
    }
    Ok(Entry { abi, size })
}

fn unusable<T>(found: &str) -> Result<T, ElfError> {
    Err(ElfError::EntryUnusable { found: found.to_owned() })
}

fn is_defined(symbol: &Sym64<LE>) -> bool {
    symbol.st_shndx.get(LE) != elf::SHN_UNDEF
}

/// Whether a loader takes the symbol at `index` for one of a version, or hides it from who asks for none.
fn is_versioned<R: ReadAt + ?Sized>(
    image: &Image<'_, R>,
    dynamic: &Dynamic,
    index: u32,
) -> Result<bool, ElfError> {
    let Some(table) = dynamic.get(elf::DT_VERSYM) else { return Ok(false) };
    let version: U16<LE> = image.value("symbol versions", table.saturating_add(u64::from(index) * 2))?;
    // 0 and 1 are no versions; the highest bit hides.
    Ok(version.get(LE) > 1)
}

/// The symbol of the entry's name in a chain, with its index. There may be one.
#[derive(Default)]
struct Found(Option<(u32, Sym64<LE>)>);

impl Found {
    /// Looks at the symbol at `index`. Also one that is not defined counts: `dlsym` takes it if it has an address.
    fn look<R: ReadAt + ?Sized>(
        &mut self,
        image: &Image<'_, R>,
        dynamic: &Dynamic,
        index: u32,
    ) -> Result<(), ElfError> {
        let symbols = dynamic.require(elf::DT_SYMTAB, "DT_SYMTAB")?;
        let symbol: Sym64<LE> =
            image.value("dynamic symbols", symbols.saturating_add(u64::from(index) * SYMBOL))?;
        let is_named = dynamic.strings().is(image, symbol.st_name.get(LE), ENTRY_SYMBOL)?;
        if is_named && self.0.replace((index, symbol)).is_some() {
            return unusable("several symbols of that name");
        }
        Ok(())
    }
}

/// See "DT_GNU_HASH" in the LSB, and `do_lookup_x` in glibc: Bloom filter, bucket, chain of hashes whose lowest bit
/// marks the end.
fn find_gnu<R: ReadAt + ?Sized>(
    image: &Image<'_, R>,
    dynamic: &Dynamic,
    table: u64,
) -> Result<Found, ElfError> {
    let header: GnuHashHeader<LE> = image.value(PART, table)?;
    let (buckets, base) = (header.bucket_count.get(LE), header.symbol_base.get(LE));
    let (filters, shift) = (header.bloom_count.get(LE), header.bloom_shift.get(LE));
    if buckets == 0 || !filters.is_power_of_two() || shift >= 32 {
        return Err(ElfError::malformed(PART, "an impossible header"));
    }
    let at = |start: u64, index: u32, size: u64| start.saturating_add(u64::from(index) * size);
    let filter_start = table.saturating_add(size_of::<GnuHashHeader<LE>>() as u64);
    let bucket_start = at(filter_start, filters, 8);
    let chain_start = at(bucket_start, buckets, 4);

    let hash = elf::gnu_hash(ENTRY_SYMBOL.as_bytes());
    let filter: U64<LE> = image.value(PART, at(filter_start, (hash / 64) & (filters - 1), 8))?;
    let passes = |bit: u32| filter.get(LE) >> (bit % 64) & 1 == 1;
    if !passes(hash) || !passes(hash >> shift) {
        return Ok(Found::default());
    }
    let bucket: U32<LE> = image.value(PART, at(bucket_start, hash % buckets, 4))?;
    let first = bucket.get(LE);
    if first == 0 {
        return Ok(Found::default());
    }
    if first < base {
        return Err(ElfError::malformed(PART, "a bucket below the first hashed symbol"));
    }
    let mut found = Found::default();
    for index in first..first.saturating_add(MAX_CHAIN) {
        let link: U32<LE> = image.value(PART, at(chain_start, index - base, 4))?;
        if link.get(LE) | 1 == hash | 1 {
            found.look(image, dynamic, index)?;
        }
        if link.get(LE) & 1 == 1 {
            return Ok(found);
        }
    }
    Err(ElfError::malformed(PART, "a chain without an end"))
}

/// See "Hash Table" in the gABI: bucket, then a linked list by index that ends with 0.
fn find_sysv<R: ReadAt + ?Sized>(
    image: &Image<'_, R>,
    dynamic: &Dynamic,
    table: u64,
) -> Result<Found, ElfError> {
    let header: HashHeader<LE> = image.value(PART, table)?;
    let (buckets, chains) = (header.bucket_count.get(LE), header.chain_count.get(LE));
    if buckets == 0 {
        return Err(ElfError::malformed(PART, "an impossible header"));
    }
    let word = |index: u64| -> Result<u32, ElfError> {
        let start = table.saturating_add(size_of::<HashHeader<LE>>() as u64);
        image.value::<U32<LE>>(PART, start.saturating_add(index * 4)).map(|word| word.get(LE))
    };
    let mut index = word(u64::from(elf::hash(ENTRY_SYMBOL.as_bytes()) % buckets))?;
    let mut found = Found::default();
    for _ in 0..MAX_CHAIN {
        if index == 0 {
            return Ok(found);
        }
        if index >= chains {
            return Err(ElfError::malformed(PART, "a link to a symbol that is not there"));
        }
        found.look(image, dynamic, index)?;
        index = word(u64::from(buckets) + u64::from(index))?;
    }
    Err(ElfError::malformed(PART, "a chain without an end"))
}
