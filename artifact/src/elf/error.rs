//! [`ElfError`]: why a file is no module that could be loaded.

use std::io;

use thiserror::Error;

use crate::refusal::Refusal;

/// Why a file is no shared object with metadata and an entry.
#[derive(Debug, Error)]
#[error("{}", self.refusal())]
#[non_exhaustive]
pub enum ElfError {
    /// The file could not be read.
    Io(#[source] io::Error),
    /// It does not start as ELF files do.
    NotElf {
        /// Its first bytes, at most four.
        found: Vec<u8>,
    },
    /// An ELF file of another word size, byte order or ELF version.
    WrongFormat {
        /// The field of the ELF header.
        field: &'static str,
        /// Its value.
        found: u32,
        /// The value that it should have, with its name.
        expected: &'static str,
    },
    /// For a machine that no node of this version runs on.
    UnknownMachine {
        /// `e_machine`
        found: u16,
    },
    /// An object file, a core dump, or a program.
    NotShared {
        /// What it is.
        found: &'static str,
    },
    /// It would take more memory than any module needs.
    TooMuchMemory {
        /// Whose size it is.
        part: &'static str,
        /// How many bytes.
        found: u64,
        /// Most bytes.
        limit: u64,
    },
    /// A header points outside of the file: it was cut short.
    CutShort {
        /// What lies outside.
        part: &'static str,
        /// Where that ends.
        end: u64,
        /// How long the file is.
        size: u64,
    },
    /// A header that contradicts another one or itself.
    Malformed {
        /// Which header or table.
        part: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// No note of owner `hot` and type 1.
    NoMetadata,
    /// More than one such note.
    SeveralMetadata {
        /// How many.
        found: usize,
    },
    /// The entry symbol is not among the dynamic symbols.
    NoEntry,
    /// There is an entry symbol, but not one data object that all loaders see.
    EntryUnusable {
        /// What it is instead.
        found: String,
    },
}

impl ElfError {
    pub(crate) fn malformed(part: &'static str, problem: impl Into<String>) -> Self {
        Self::Malformed { part, problem: problem.into() }
    }

    pub(crate) const fn not_shared(found: &'static str) -> Self {
        Self::NotShared { found }
    }

    /// The same in four parts and with a stable code.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        const BUILD: &str =
            "build it as a shared library for this machine (cc -shared, or crate-type cdylib)";
        const AGAIN: &str = "build or copy the file again";
        match self {
            Self::Io(error) => Refusal::new(
                "file.unreadable",
                "file",
                error.to_string(),
                "a readable file",
                "check it and retry",
            ),
            Self::NotElf { found } => {
                Refusal::new("elf.not_elf", "file", start(found), "an ELF shared object", BUILD)
            }
            Self::WrongFormat { field, found, expected } => {
                Refusal::new("elf.wrong_format", *field, found.to_string(), *expected, BUILD)
            }
            Self::UnknownMachine { found } => Refusal::new(
                "elf.unknown_machine",
                "e_machine",
                found.to_string(),
                "62 (x86_64), 183 (aarch64) or 243 (riscv64)",
                BUILD,
            ),
            Self::NotShared { found } => {
                Refusal::new("elf.not_shared", "file", *found, "an ELF shared object", BUILD)
            }
            Self::TooMuchMemory { part, found, limit } => Refusal::new(
                "elf.too_much_memory",
                *part,
                format!("{found} bytes of memory"),
                format!("at most {limit} bytes"),
                "build the file again; let it take large memory when it runs",
            ),
            Self::CutShort { part, end, size } => Refusal::new(
                "elf.cut_short",
                *part,
                format!("an end at byte {end}"),
                format!("an end within the file's {size} bytes"),
                AGAIN,
            ),
            Self::Malformed { part, problem } => {
                Refusal::new("elf.malformed", *part, problem, "what a linker writes", AGAIN)
            }
            Self::NoMetadata => Refusal::new(
                "elf.no_metadata",
                "metadata",
                "no ELF note of owner `hot` and type 1",
                "exactly one",
                "declare the module with the SDK's macro (Rust: `export!`, C: `HOT_MODULE_METADATA`)",
            ),
            Self::SeveralMetadata { found } => Refusal::new(
                "elf.several_metadata",
                "metadata",
                format!("{found} ELF notes of owner `hot` and type 1"),
                "exactly one",
                "link only one module into a file",
            ),
            Self::NoEntry => Refusal::new(
                "elf.no_entry",
                hot_module::ENTRY_SYMBOL,
                "no dynamic symbol of that name",
                "an exported data object",
                "declare the module with the SDK's macro and do not hide its symbol",
            ),
            Self::EntryUnusable { found } => Refusal::new(
                "elf.entry_unusable",
                hot_module::ENTRY_SYMBOL,
                found,
                "one exported constant object without a symbol version, with its own size in it",
                "declare the module with the SDK's macro, and neither hide its symbol nor give it a version",
            ),
        }
    }
}

/// The first bytes of a file, for people.
fn start(found: &[u8]) -> String {
    if found.is_empty() {
        "no bytes".to_owned()
    } else {
        format!("a file that starts with `{}`", found.escape_ascii())
    }
}
