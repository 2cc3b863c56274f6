//! [`Image`]: the ELF header and program headers, checked against the file's size and each other, and reads by
//! address as the loaded program would see them.
//!
//! Where the loader takes an address and the file has an offset as well, both must name the same bytes; where it maps
//! whole pages, no two segments may share one: what is read here is what the loader will see.

use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::pod::{self, Pod};

use super::{ElfError, MAX_SEGMENTS};
use crate::reader::ReadAt;
use crate::target::Machine;

/// Most bytes of address space that all segments may span together: 1 TiB-sized `p_memsz` values are attacks, and
/// the largest real libraries (machine-learning runtimes) stay under 4 GiB.
const MAX_SPAN: u64 = 8 << 30;

/// Most bytes of thread-local storage: each thread gets its own, and glibc ends the process when it can't have it.
const MAX_TLS: u64 = 16 << 20;

/// Largest alignment of a segment; linkers write at most 2 MiB, for huge pages. The loader reserves so much address
/// space on top.
const MAX_ALIGN: u64 = 1 << 30;

/// The loader takes only the last, or each, of these; two of them mean that somebody reads another file than somebody
/// else.
const ONCE: [(elf::ProgramType, &str); 6] = [
    (elf::PT_DYNAMIC, "PT_DYNAMIC"),
    (elf::PT_INTERP, "PT_INTERP"),
    (elf::PT_PHDR, "PT_PHDR"),
    (elf::PT_TLS, "PT_TLS"),
    (elf::PT_GNU_STACK, "PT_GNU_STACK"),
    (elf::PT_GNU_RELRO, "PT_GNU_RELRO"),
];

const HEADERS: &str = "program headers";

/// The program headers of a file, and the file.
#[derive(Debug)]
pub(super) struct Image<'a, R: ?Sized> {
    reader: &'a R,
    machine: Machine,
    segments: Vec<ProgramHeader64<LE>>,
}

/// One value at `offset` of the file.
fn read_pod<T: Pod + Copy, R: ReadAt + ?Sized>(
    reader: &R,
    part: &'static str,
    offset: u64,
) -> Result<T, ElfError> {
    // `Pod` values need their alignment, which words of 64 bits have.
    let mut words = [0_u64; 8];
    let bytes = pod::bytes_of_slice_mut(&mut words);
    let buf = bytes
        .get_mut(..size_of::<T>())
        .ok_or_else(|| ElfError::malformed(part, "an entry larger than 64 bytes"))?;
    read(reader, part, buf, offset)?;
    match pod::from_bytes::<T>(pod::bytes_of_slice(&words)) {
        Ok((value, _rest)) => Ok(*value),
        Err(()) => Err(ElfError::malformed(part, "an entry larger than 64 bytes")),
    }
}

fn read<R: ReadAt + ?Sized>(
    reader: &R,
    part: &'static str,
    buf: &mut [u8],
    offset: u64,
) -> Result<(), ElfError> {
    let end = offset.saturating_add(buf.len() as u64);
    if end > reader.size() {
        return Err(ElfError::CutShort { part, end, size: reader.size() });
    }
    reader.read_exact_at(buf, offset).map_err(ElfError::Io)
}

impl<'a, R: ReadAt + ?Sized> Image<'a, R> {
    /// Reads and checks the headers.
    pub(super) fn read(reader: &'a R) -> Result<Self, ElfError> {
        let header = file_header(reader)?;
        let machine = machine(&header)?;
        let segments = segments(reader, &header)?;
        whole(reader, &header)?;
        let image = Self { reader, machine, segments };
        image.check_loads()?;
        image.check_others(header.e_phoff.get(LE))?;
        Ok(image)
    }

    /// The smallest page that its loader may map.
    fn page(&self) -> u64 {
        self.machine.pages()[0]
    }

    pub(super) const fn machine(&self) -> Machine {
        self.machine
    }

    /// The segments of one type, in the file's order. Each lies within the file.
    pub(super) fn segments(&self, kind: elf::ProgramType) -> impl Iterator<Item = &ProgramHeader64<LE>> {
        self.segments.iter().filter(move |segment| segment.p_type.get(LE) == kind)
    }

    /// Fills `buf` with the file's bytes from `offset` on.
    pub(super) fn read_file(&self, part: &'static str, offset: u64, buf: &mut [u8]) -> Result<(), ElfError> {
        read(self.reader, part, buf, offset)
    }

    /// Where in the file the byte at `address` comes from, and how many follow it there in the same segment.
    pub(super) fn place(&self, part: &'static str, address: u64) -> Result<(u64, u64), ElfError> {
        let found = self.segments(elf::PT_LOAD).find_map(|load| {
            let inside = address.checked_sub(load.p_vaddr.get(LE))?;
            let left = load.p_filesz.get(LE).checked_sub(inside).filter(|left| *left > 0)?;
            Some((load.p_offset.get(LE) + inside, left))
        });
        found.ok_or_else(|| {
            ElfError::malformed(part, format!("the address {address:#x} that no segment loads"))
        })
    }

    /// Whether `len` bytes from `address` on are in one loaded segment, from the file or zeroed.
    pub(super) fn is_loaded(&self, address: u64, len: u64) -> bool {
        self.segments(elf::PT_LOAD).any(|load| {
            let inside = address.checked_sub(load.p_vaddr.get(LE));
            let left = inside.and_then(|inside| load.p_memsz.get(LE).checked_sub(inside));
            left.is_some_and(|left| len <= left)
        })
    }

    /// One value at `address`.
    pub(super) fn value<T: Pod + Copy>(&self, part: &'static str, address: u64) -> Result<T, ElfError> {
        let (offset, left) = self.place(part, address)?;
        if left < size_of::<T>() as u64 {
            return Err(ElfError::malformed(part, "an entry that reaches out of its segment"));
        }
        read_pod(self.reader, part, offset)
    }

    /// Loadable segments: present, in ascending order, no page in two of them, of a sane span.
    fn check_loads(&self) -> Result<(), ElfError> {
        let malformed = |problem: &str| Err(ElfError::malformed(HEADERS, problem));
        let fits = |page| self.segments(elf::PT_LOAD).all(|load| slide(load).is_multiple_of(page));
        for load in self.segments(elf::PT_LOAD) {
            let align = load.p_align.get(LE);
            if load.p_filesz.get(LE) > load.p_memsz.get(LE) {
                return malformed("a segment with more bytes in the file than in memory");
            }
            if align > MAX_ALIGN || (align > 1 && !align.is_power_of_two()) {
                return malformed("a loadable segment of an impossible alignment");
            }
        }
        if self.segments(elf::PT_LOAD).next().is_none() {
            return malformed("no loadable segment");
        }
        if !fits(self.page()) {
            return malformed("a loadable segment whose address and offset differ within a page");
        }
        // With pages of another size the loader refuses what does not fit them.
        self.machine.pages().iter().filter(|page| fits(**page)).try_for_each(|page| self.check_pages(*page))
    }

    fn check_pages(&self, page: u64) -> Result<(), ElfError> {
        let overflow = || ElfError::malformed(HEADERS, "an address that overflows");
        let (mut base, mut end) = (None, 0);
        for load in self.segments(elf::PT_LOAD) {
            let address = load.p_vaddr.get(LE);
            let start = address - address % page;
            if start < end {
                return Err(ElfError::malformed(
                    HEADERS,
                    "loadable segments that overlap, share a page or are not in order",
                ));
            }
            end = address.checked_add(load.p_memsz.get(LE)).ok_or_else(overflow)?;
            end = end.checked_next_multiple_of(page).ok_or_else(overflow)?;
            let found = end - *base.get_or_insert(start);
            if found > MAX_SPAN {
                return Err(ElfError::TooMuchMemory { part: "loadable segments", found, limit: MAX_SPAN });
            }
        }
        Ok(())
    }

    /// Segments that describe a part of what is loaded do describe a part of it.
    fn check_others(&self, headers: u64) -> Result<(), ElfError> {
        for (kind, name) in ONCE {
            if self.segments(kind).nth(1).is_some() {
                return Err(ElfError::malformed(HEADERS, format!("{name} twice")));
            }
        }
        if self.segments(elf::PT_PHDR).any(|segment| segment.p_offset.get(LE) != headers) {
            return Err(ElfError::malformed("PT_PHDR", "another place than the program headers'"));
        }
        for tls in self.segments(elf::PT_TLS) {
            let (size, align) = (tls.p_memsz.get(LE), tls.p_align.get(LE));
            if size > MAX_TLS {
                return Err(ElfError::TooMuchMemory { part: "PT_TLS", found: size, limit: MAX_TLS });
            }
            if align > MAX_TLS || (align > 1 && !align.is_power_of_two()) {
                return Err(ElfError::malformed("PT_TLS", "an impossible alignment"));
            }
            self.check_content("PT_TLS", tls)?;
        }
        for relro in self.segments(elf::PT_GNU_RELRO) {
            // The loader makes whole pages of it read-only, and linkers round its end up to one.
            let (start, size) = (relro.p_vaddr.get(LE), relro.p_memsz.get(LE));
            if !self.is_loaded_to_page(start, size) {
                return Err(ElfError::malformed("PT_GNU_RELRO", "memory that no segment loads"));
            }
        }
        Ok(())
    }

    /// What a segment has in the file is loaded from there to its address.
    pub(super) fn check_content(
        &self,
        part: &'static str,
        segment: &ProgramHeader64<LE>,
    ) -> Result<(), ElfError> {
        let size = segment.p_filesz.get(LE);
        if size > segment.p_memsz.get(LE) {
            return Err(ElfError::malformed(part, "more bytes in the file than in memory"));
        }
        if size == 0 {
            return Ok(());
        }
        let (offset, left) = self.place(part, segment.p_vaddr.get(LE))?;
        if offset != segment.p_offset.get(LE) || size > left {
            return Err(ElfError::malformed(part, "an address and an offset that disagree"));
        }
        Ok(())
    }

    /// As [`Self::is_loaded`], where the last page counts as a whole.
    fn is_loaded_to_page(&self, address: u64, len: u64) -> bool {
        let page = self.page();
        self.segments(elf::PT_LOAD).any(|load| {
            let end = load.p_vaddr.get(LE).saturating_add(load.p_memsz.get(LE)).next_multiple_of(page);
            let wanted = address.checked_add(len);
            address >= load.p_vaddr.get(LE) && wanted.is_some_and(|wanted| wanted <= end)
        })
    }
}

/// How far a segment's address is from its offset.
fn slide(segment: &ProgramHeader64<LE>) -> u64 {
    segment.p_vaddr.get(LE).wrapping_sub(segment.p_offset.get(LE))
}

fn file_header<R: ReadAt + ?Sized>(reader: &R) -> Result<FileHeader64<LE>, ElfError> {
    let mut start = [0; 4];
    let len = usize::try_from(reader.size()).unwrap_or(start.len()).min(start.len());
    reader.read_exact_at(&mut start[..len], 0).map_err(ElfError::Io)?;
    if start != elf::ELFMAG {
        return Err(ElfError::NotElf { found: start[..len].to_vec() });
    }
    let header: FileHeader64<LE> = read_pod(reader, "ELF header", 0)?;
    let ident = &header.e_ident;
    let bad = |field, found, expected| Err(ElfError::WrongFormat { field, found, expected });
    // As the loader has it: nothing but these, whatever the rest of the file says.
    if ident.class != elf::ELFCLASS64 {
        return bad("EI_CLASS", ident.class.0.into(), "2 (64 bits)");
    }
    if ident.data != elf::ELFDATA2LSB {
        return bad("EI_DATA", ident.data.0.into(), "1 (little-endian)");
    }
    if u32::from(ident.version.0) != 1 || header.e_version.get(LE) != 1 {
        return bad("e_version", header.e_version.get(LE), "1");
    }
    if !matches!(ident.os_abi, elf::ELFOSABI_SYSV | elf::ELFOSABI_GNU) {
        return bad("EI_OSABI", ident.os_abi.0.into(), "0 (System V) or 3 (GNU)");
    }
    if ident.abi_version != 0 {
        return bad("EI_ABIVERSION", ident.abi_version.into(), "0");
    }
    if ident.padding != [0; 7] {
        return bad("EI_PAD", 1, "0");
    }
    match header.e_type.get(LE) {
        elf::ET_DYN => Ok(header),
        elf::ET_EXEC => Err(ElfError::NotShared { found: "a program (ET_EXEC)" }),
        elf::ET_REL => Err(ElfError::NotShared { found: "an object file that was not linked (ET_REL)" }),
        elf::ET_CORE => Err(ElfError::NotShared { found: "a core dump (ET_CORE)" }),
        _ => Err(ElfError::NotShared { found: "an ELF file of an unknown type" }),
    }
}

/// Refuses a file whose end is missing. Section headers are not needed and may be removed, and nothing reads them; but
/// where a file says that it has them, they lie at its end, so a download that broke off shows there.
fn whole<R: ReadAt + ?Sized>(reader: &R, header: &FileHeader64<LE>) -> Result<(), ElfError> {
    let (start, count) = (header.e_shoff.get(LE), header.e_shnum.get(LE));
    let size = u64::from(count) * u64::from(header.e_shentsize.get(LE));
    let end = start.saturating_add(size);
    if start != 0 && end > reader.size() {
        return Err(ElfError::CutShort { part: "section headers", end, size: reader.size() });
    }
    Ok(())
}

fn machine(header: &FileHeader64<LE>) -> Result<Machine, ElfError> {
    match header.e_machine.get(LE) {
        elf::EM_X86_64 => Ok(Machine::X86_64),
        elf::EM_AARCH64 => Ok(Machine::Aarch64),
        elf::EM_RISCV => Ok(Machine::Riscv64),
        other => Err(ElfError::UnknownMachine { found: other.0 }),
    }
}

fn segments<R: ReadAt + ?Sized>(
    reader: &R,
    header: &FileHeader64<LE>,
) -> Result<Vec<ProgramHeader64<LE>>, ElfError> {
    const ENTRY: u16 = 56;
    const { assert!(size_of::<ProgramHeader64<LE>>() == ENTRY as usize) };
    let (count, entry) = (header.e_phnum.get(LE), header.e_phentsize.get(LE));
    if entry != ENTRY {
        return Err(ElfError::malformed("e_phentsize", format!("entries of {entry} bytes")));
    }
    if count == 0 || count > MAX_SEGMENTS {
        return Err(ElfError::malformed("e_phnum", format!("{count} program headers")));
    }
    let mut segments = Vec::with_capacity(count.into());
    for index in 0..count {
        let offset = header.e_phoff.get(LE).saturating_add(u64::from(index) * u64::from(ENTRY));
        let segment: ProgramHeader64<LE> = read_pod(reader, HEADERS, offset)?;
        let end = segment.p_offset.get(LE).saturating_add(segment.p_filesz.get(LE));
        if end > reader.size() {
            return Err(ElfError::CutShort { part: "segment", end, size: reader.size() });
        }
        segments.push(segment);
    }
    Ok(segments)
}
