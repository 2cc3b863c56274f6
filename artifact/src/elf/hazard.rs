//! [`Hazard`]: what the loader would do for a file and no module may ask for.

use object::LittleEndian as LE;
use object::elf::{self, DynamicTag, ProgramFlags};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::ElfError;
use super::dynamic::Dynamic;
use super::image::Image;
use crate::reader::ReadAt;
use crate::refusal::{Refusal, quoted};

/// What a file asks of the loader that no module may: other files than the node's own libraries, or memory that is
/// writable and executable.
///
/// Such a file is well formed, and would load; so it can be shown with all that it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
#[serde(rename_all = "snake_case")]
#[error("{}", self.refusal())]
#[non_exhaustive]
pub enum Hazard {
    /// `DT_RPATH` or `DT_RUNPATH`: folders of its own to search for libraries.
    SearchPath {
        /// The entry's name.
        entry: String,
        /// The folders, cut to 255 bytes.
        path: String,
    },
    /// `DT_AUDIT` or `DT_DEPAUDIT`: libraries that would watch the loader.
    Audit {
        /// The entry's name.
        entry: String,
        /// The libraries, cut to 255 bytes.
        path: String,
    },
    /// `DT_FILTER` or `DT_AUXILIARY`: a library whose symbols would stand in for the file's own.
    Filter {
        /// The entry's name.
        entry: String,
        /// The library, cut to 255 bytes.
        path: String,
    },
    /// `DT_CONFIG`: a file that would configure the loader.
    Config {
        /// The file, cut to 255 bytes.
        path: String,
    },
    /// A needed library that is not named by its name alone.
    NeededPath {
        /// What stands there: empty, with a slash, or with a `$` that the loader would replace.
        name: String,
    },
    /// The stack would be executable.
    ExecutableStack {
        /// Whether `PT_GNU_STACK` says so; else there is none, which says the same.
        declared: bool,
    },
    /// `DT_TEXTREL` or `DF_TEXTREL`: the loader would write into code.
    TextRelocations,
    /// A segment that is writable and executable.
    WritableCode {
        /// Its address.
        address: u64,
    },
}

/// Entries of the dynamic segment that make the loader read a file which the module names.
const FILES: [(DynamicTag, &str, Make); 7] = [
    (elf::DT_RPATH, "DT_RPATH", |entry, path| Hazard::SearchPath { entry, path }),
    (elf::DT_RUNPATH, "DT_RUNPATH", |entry, path| Hazard::SearchPath { entry, path }),
    (elf::DT_AUDIT, "DT_AUDIT", |entry, path| Hazard::Audit { entry, path }),
    (elf::DT_DEPAUDIT, "DT_DEPAUDIT", |entry, path| Hazard::Audit { entry, path }),
    (elf::DT_FILTER, "DT_FILTER", |entry, path| Hazard::Filter { entry, path }),
    (elf::DT_AUXILIARY, "DT_AUXILIARY", |entry, path| Hazard::Filter { entry, path }),
    (elf::DT_CONFIG, "DT_CONFIG", |_, path| Hazard::Config { path }),
];

type Make = fn(String, String) -> Hazard;

/// All hazards of a file: those of the segments, then those of the dynamic segment.
pub(super) fn of<R: ReadAt + ?Sized>(
    image: &Image<'_, R>,
    dynamic: &Dynamic,
    needed: &[String],
) -> Result<Vec<Hazard>, ElfError> {
    let mut found = Vec::new();
    let has = |flags: ProgramFlags, flag: ProgramFlags| flags.0 & flag.0 != 0;
    for load in image.segments(elf::PT_LOAD) {
        let flags = load.p_flags.get(LE);
        if has(flags, elf::PF_W) && has(flags, elf::PF_X) {
            found.push(Hazard::WritableCode { address: load.p_vaddr.get(LE) });
        }
    }
    match image.segments(elf::PT_GNU_STACK).next() {
        None => found.push(Hazard::ExecutableStack { declared: false }),
        Some(stack) if has(stack.p_flags.get(LE), elf::PF_X) => {
            found.push(Hazard::ExecutableStack { declared: true });
        }
        Some(_) => {}
    }
    let flags = dynamic.get(elf::DT_FLAGS).unwrap_or(0);
    if dynamic.get(elf::DT_TEXTREL).is_some() || flags & elf::DF_TEXTREL.0 != 0 {
        found.push(Hazard::TextRelocations);
    }
    for (tag, name, make) in FILES {
        if let Some(offset) = dynamic.get(tag) {
            found.push(make(name.to_owned(), dynamic.strings().shown(image, offset)?));
        }
    }
    found.extend(needed.iter().filter_map(|name| Hazard::of_name(name)));
    Ok(found)
}

impl Hazard {
    /// The hazard of needing a library of this name: the loader takes one with a slash as a path, and replaces what
    /// begins with a dollar sign (`$ORIGIN`, `$LIB`).
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        (name.is_empty() || name.contains(['/', '$'])).then(|| Self::NeededPath { name: name.to_owned() })
    }

    /// The same in four parts and with a stable code.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        const SYSTEM: &str = "libraries by name, from the node's own folders";
        const LINK: &str = "link the library into the module, or install it on the node";
        match self {
            Self::SearchPath { entry, path } => Refusal::new(
                "elf.search_path",
                entry,
                format!("the folders {}", quoted(path)),
                SYSTEM,
                "link without -rpath (patchelf --remove-rpath removes it)",
            ),
            Self::Audit { entry, path } => Refusal::new(
                "elf.audit",
                entry,
                format!("the auditing library {}", quoted(path)),
                "none",
                "link without --audit and --depaudit",
            ),
            Self::Filter { entry, path } => Refusal::new(
                "elf.filter",
                entry,
                format!("the library {} in place of the module's own symbols", quoted(path)),
                "none",
                "link without --filter and --auxiliary",
            ),
            Self::Config { path } => Refusal::new(
                "elf.config",
                "DT_CONFIG",
                format!("the file {}", quoted(path)),
                "none",
                "link without a configuration of the loader",
            ),
            Self::NeededPath { name } if name.is_empty() => {
                Refusal::new("elf.needed_path", "needed library", "an empty name", SYSTEM, LINK)
            }
            Self::NeededPath { name } => Refusal::new(
                "elf.needed_path",
                "needed library",
                format!("{}, which is no plain name", quoted(name)),
                SYSTEM,
                LINK,
            ),
            Self::ExecutableStack { declared } => Refusal::new(
                "elf.executable_stack",
                "PT_GNU_STACK",
                if *declared { "an executable stack" } else { "nothing, which means an executable stack" },
                "a stack that is not executable",
                "link with -z noexecstack; assembly needs a .note.GNU-stack section, and nested functions in C have \
                 to go",
            ),
            Self::TextRelocations => Refusal::new(
                "elf.text_relocations",
                "dynamic segment",
                "relocations in code (DT_TEXTREL)",
                "position-independent code",
                "compile everything in it with -fPIC",
            ),
            Self::WritableCode { address } => Refusal::new(
                "elf.writable_code",
                "program headers",
                format!("a segment at {address:#x} that is writable and executable"),
                "segments that are one or the other",
                "link without -N and without a linker script that joins them",
            ),
        }
    }
}
