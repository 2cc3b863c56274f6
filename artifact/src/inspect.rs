//! [`inspect`]: what a file is, for people, without deciding anything.

use std::io;

use serde::Serialize;
use thiserror::Error;

use crate::reader::ReadAt;
use crate::refusal::Refusal;
use crate::{ElfError, Metadata, MetadataError, Sha256, Target, elf};

/// What can be known of a module's file without running it and without trusting anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// What it says of itself.
    pub metadata: Metadata,
    /// Its identity.
    pub digest: Sha256,
    /// How many bytes it has.
    pub size: u64,
    /// What it was built for.
    pub target: Target,
    /// The libraries that it needs, in its order.
    pub needed: Vec<String>,
    /// Its own name as a library, if it gives one.
    pub soname: Option<String>,
}

/// Why a file can't be inspected: it is no module.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InspectError {
    /// It can't be read.
    #[error("can't read the file")]
    Io(#[source] io::Error),
    /// It is no shared object with metadata and an entry.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// Its metadata is wrong.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

impl InspectError {
    /// The same in four parts and with a stable code.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Io(error) => unreadable(error),
            Self::Elf(error) => error.refusal(),
            Self::Metadata(error) => error.refusal(),
        }
    }
}

pub(crate) fn unreadable(error: &io::Error) -> Refusal {
    Refusal::new("file.unreadable", "file", error.to_string(), "a readable file", "check it and try again")
}

/// Reads what a module's file is.
///
/// # Errors
/// When it can't be read or is no module.
pub fn inspect(reader: &(impl ReadAt + ?Sized)) -> Result<Inspection, InspectError> {
    let facts = elf::read(reader)?;
    let metadata = Metadata::parse(&facts.metadata)?;
    let digest = Sha256::of_reader(reader).map_err(InspectError::Io)?;
    Ok(Inspection {
        metadata,
        digest,
        size: reader.size(),
        target: facts.target,
        needed: facts.needed,
        soname: facts.soname,
    })
}
