//! [`Image`]: the ELF header and program headers, checked against the file's size and each other, and reads by
//! address as the loaded program would see them.

use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::pod::{self, Pod};

use super::{ElfError, MAX_SEGMENTS};
use crate::reader::ReadAt;
use crate::target::Machine;

/// Most bytes of address space that all segments may span together: 1 TiB-sized `p_memsz` values are attacks, and
/// the largest real libraries (machine-learning runtimes) stay under 4 GiB.
const MAX_SPAN: u64 = 8 << 30;

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
        Ok(image)
    }

    pub(super) const fn machine(&self) -> Machine {
        self.machine
    }

    /// The segments of one type, in the file's order. Each lies within the file.
    pub(super) fn segments(&self, kind: elf::ProgramType) -> impl Iterator<Item = &ProgramHeader64<LE>> {
        self.segments.iter().filter(move |segment| segment.p_type.get(LE) == kind)
    }

    /// `len` bytes of a segment's content. The caller bounds `len`.
    pub(super) fn read_file(&self, part: &'static str, offset: u64, len: usize) -> Result<Vec<u8>, ElfError> {
        let mut bytes = vec![0; len];
        read(self.reader, part, &mut bytes, offset)?;
        Ok(bytes)
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

    /// Loadable segments: present, in ascending order, not overlapping, of a sane span.
    fn check_loads(&self) -> Result<(), ElfError> {
        const PART: &str = "program headers";
        let mut first = None;
        let mut end = 0;
        for load in self.segments(elf::PT_LOAD) {
            let (start, size) = (load.p_vaddr.get(LE), load.p_memsz.get(LE));
            if load.p_filesz.get(LE) > size {
                return Err(ElfError::malformed(
                    PART,
                    "a segment with more bytes in the file than in memory",
                ));
            }
            if start < end {
                return Err(ElfError::malformed(PART, "loadable segments that overlap or are not in order"));
            }
            end = start
                .checked_add(size)
                .ok_or_else(|| ElfError::malformed(PART, "an address that overflows"))?;
            let base = *first.get_or_insert(start);
            if end - base > MAX_SPAN {
                return Err(ElfError::malformed(PART, format!("segments that span {} bytes", end - base)));
            }
        }
        match first {
            Some(_) => Ok(()),
            None => Err(ElfError::malformed(PART, "no loadable segment")),
        }
    }
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
    if ident.class != elf::ELFCLASS64 {
        return bad("EI_CLASS", ident.class.0.into(), "2 (64 bits)");
    }
    if ident.data != elf::ELFDATA2LSB {
        return bad("EI_DATA", ident.data.0.into(), "1 (little-endian)");
    }
    if u32::from(ident.version.0) != 1 || header.e_version.get(LE) != 1 {
        return bad("e_version", header.e_version.get(LE), "1");
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
    const PART: &str = "program headers";
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
        let segment: ProgramHeader64<LE> = read_pod(reader, PART, offset)?;
        let end = segment.p_offset.get(LE).saturating_add(segment.p_filesz.get(LE));
        if end > reader.size() {
            return Err(ElfError::CutShort { part: "segment", end, size: reader.size() });
        }
        segments.push(segment);
    }
    Ok(segments)
}
