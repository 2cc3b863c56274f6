//! A small linker: a module byte for byte, with any mistake that a case wants.

use std::ops::Range;

/// What is linked. Each part is well formed unless a case puts something else there.
#[derive(Clone, Debug)]
pub(crate) struct Elf {
    pub(crate) needed: Vec<String>,
    /// Symbol versions, by library.
    pub(crate) versions: Vec<(String, Vec<String>)>,
    /// Further entries of the dynamic segment with a number.
    pub(crate) dynamic: Vec<(u64, u64)>,
    /// Further entries of the dynamic segment with a text.
    pub(crate) texts: Vec<(u64, String)>,
    /// A note of metadata each.
    pub(crate) notes: Vec<String>,
    /// The content of the entry symbol.
    pub(crate) entry: Vec<u8>,
    /// Type (4 bits) of the entry symbol.
    pub(crate) entry_type: u8,
    /// How many symbols have the entry's name.
    pub(crate) entries: u64,
    /// The version of each of them; none: there is no table of versions.
    pub(crate) entry_versions: Vec<u16>,
    /// Flags of `PT_GNU_STACK`; `None`: there is none.
    pub(crate) stack: Option<u32>,
    /// Flags of the one loadable segment.
    pub(crate) flags: u32,
    /// Further program headers: type, flags, offset, address, size in the file, size in memory, alignment.
    pub(crate) segments: Vec<[u64; 7]>,
}

pub(crate) const METADATA: &str = "format = 1\nname = \"probe\"\nversion = \"1.0.0\"\nabi = 0\n";

impl Default for Elf {
    fn default() -> Self {
        Self {
            needed: vec!["libc.so.6".to_owned()],
            versions: vec![("libc.so.6".to_owned(), vec!["GLIBC_2.2.5".to_owned()])],
            dynamic: Vec::new(),
            texts: Vec::new(),
            notes: vec![METADATA.to_owned()],
            entry: [0, 16, 0, 0_u32].iter().flat_map(|word| word.to_le_bytes()).collect(),
            entry_type: 1,
            entries: 1,
            entry_versions: Vec::new(),
            stack: Some(6),
            flags: 4,
            segments: Vec::new(),
        }
    }
}

/// What is being written, and the string table that grows on the way.
struct Output {
    bytes: Vec<u8>,
    strings: Vec<u8>,
}

impl Output {
    fn word(&mut self, value: u64, size: usize) {
        self.bytes.extend_from_slice(&value.to_le_bytes()[..size]);
    }

    fn words(&mut self, values: &[(u64, usize)]) {
        values.iter().for_each(|(value, size)| self.word(*value, *size));
    }

    /// Pads to a multiple of eight and says where that is.
    fn here(&mut self) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.bytes.len() as u64
    }

    fn string(&mut self, text: &str) -> u64 {
        let at = self.strings.len() as u64;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }
}

impl Elf {
    /// The file: ELF header, program headers, notes, hash table, symbols, versions, entry, dynamic segment, strings.
    pub(crate) fn build(&self) -> Vec<u8> {
        let headers = 3 + self.notes.len().min(1) + usize::from(self.stack.is_some()) + self.segments.len();
        let mut out = Output { bytes: vec![0; 64 + 56 * (headers - 1)], strings: vec![0] };
        let notes = self.write_notes(&mut out);
        let hash = out.here();
        // One bucket, which begins with symbol 1. Each leads to the next, and the last to 0.
        out.words(&[(1, 4), (1 + self.entries, 4), (1, 4), (0, 4)]);
        (1..self.entries).for_each(|index| out.word(index + 1, 4));
        out.word(0, 4);
        let symbols = out.here();
        let name = out.string("hot_module");
        let entry = symbols + 24 * (1 + self.entries);
        out.words(&[(0, 8), (0, 8), (0, 8)]);
        let info = 0x10 | u64::from(self.entry_type);
        for _ in 0..self.entries {
            out.words(&[(name, 4), (info, 1), (0, 1), (1, 2), (entry, 8), (self.entry.len() as u64, 8)]);
        }
        out.bytes.extend_from_slice(&self.entry);
        let symbol_versions = out.here();
        out.word(0, 2);
        self.entry_versions.iter().for_each(|version| out.word((*version).into(), 2));
        let versions = self.write_versions(&mut out);
        let dynamic = self.write_dynamic(&mut out, hash, (symbols, symbol_versions), versions);
        let size = out.bytes.len() as u64;
        let mut segments = vec![[1, self.flags.into(), 0, 0, size, size, 4096]];
        segments.push([2, 4, dynamic.0, dynamic.0, dynamic.1, dynamic.1, 8]);
        if !self.notes.is_empty() {
            let size = notes.end - notes.start;
            segments.push([4, 4, notes.start, notes.start, size, size, 4]);
        }
        segments.extend(self.stack.map(|flags| [0x6474_e551, flags.into(), 0, 0, 0, 0, 16]));
        segments.extend(&self.segments);
        head(&mut out.bytes, &segments);
        out.bytes
    }

    fn write_notes(&self, out: &mut Output) -> Range<u64> {
        let start = out.here();
        for text in &self.notes {
            let len = text.len().next_multiple_of(4);
            out.words(&[(4, 4), (len as u64, 4), (1, 4)]);
            out.bytes.extend_from_slice(b"hot\0");
            out.bytes.extend_from_slice(text.as_bytes());
            out.bytes.resize(out.bytes.len() + len - text.len(), 0);
        }
        start..out.bytes.len() as u64
    }

    fn write_versions(&self, out: &mut Output) -> u64 {
        let start = out.here();
        for (index, (library, versions)) in self.versions.iter().enumerate() {
            let next = if index + 1 == self.versions.len() { 0 } else { 16 + 16 * versions.len() };
            let name = out.string(library);
            out.words(&[(1, 2), (versions.len() as u64, 2), (name, 4), (16, 4), (next as u64, 4)]);
            for (index, version) in versions.iter().enumerate() {
                let next = if index + 1 == versions.len() { 0 } else { 16 };
                let name = out.string(version);
                out.words(&[(hash(version).into(), 4), (0, 2), (2, 2), (name, 4), (next, 4)]);
            }
        }
        start
    }

    /// Where the dynamic segment is and how long; the strings are behind it.
    fn write_dynamic(
        &self,
        out: &mut Output,
        hash: u64,
        (symbols, symbol_versions): (u64, u64),
        versions: u64,
    ) -> (u64, u64) {
        let mut entries = Vec::new();
        for name in &self.needed {
            entries.push((1, out.string(name)));
        }
        for (tag, text) in &self.texts {
            entries.push((*tag, out.string(text)));
        }
        entries.extend(&self.dynamic);
        entries.extend([(4, hash), (6, symbols), (11, 24)]);
        if !self.entry_versions.is_empty() {
            entries.push((0x6fff_fff0, symbol_versions));
        }
        if !self.versions.is_empty() {
            entries.extend([(0x6fff_fffe, versions), (0x6fff_ffff, self.versions.len() as u64)]);
        }
        let start = out.here();
        let size = (entries.len() as u64 + 3) * 16;
        entries.extend([(5, start + size), (10, out.strings.len() as u64), (0, 0)]);
        for (tag, value) in entries {
            out.words(&[(tag, 8), (value, 8)]);
        }
        let strings = std::mem::take(&mut out.strings);
        out.bytes.extend_from_slice(&strings);
        (start, size)
    }
}

/// Writes the ELF header and the program headers over the start.
fn head(bytes: &mut [u8], segments: &[[u64; 7]]) {
    let mut out = Output { bytes: b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(), strings: Vec::new() };
    out.words(&[(3, 2), (62, 2), (1, 4), (0, 8), (64, 8), (0, 8), (0, 4), (64, 2), (56, 2)]);
    out.words(&[(segments.len() as u64, 2), (0, 2), (0, 2), (0, 2)]);
    for [kind, flags, offset, address, size, memory, align] in segments {
        out.words(&[(*kind, 4), (*flags, 4), (*offset, 8), (*address, 8), (*address, 8)]);
        out.words(&[(*size, 8), (*memory, 8), (*align, 8)]);
    }
    bytes[..out.bytes.len()].copy_from_slice(&out.bytes);
}

/// The hash of the gABI, which versions have as well.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0, |hash: u32, byte| {
        let hash = (hash << 4).wrapping_add(byte.into());
        (hash ^ (hash >> 24 & 0xf0)) & 0x0fff_ffff
    })
}
