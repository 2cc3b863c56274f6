//! [`inspect`]: what a file is, for people, without deciding anything.

use std::io;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::reader::ReadAt;
use crate::refusal::Refusal;
use crate::{ElfError, Entry, Hazard, Metadata, MetadataError, NeededLibrary, Sha256, Target, elf};

/// What can be known of a module's file without running it and without trusting anybody: plain data, which says
/// nothing of any node. [`crate::check`] decides from it and from what a node has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// What it says of itself.
    pub metadata: Metadata,
    /// The same as it stands in the file, TOML.
    pub metadata_text: String,
    /// Its identity.
    pub digest: Sha256,
    /// How many bytes it has.
    pub size: u64,
    /// What it was built for.
    pub target: Target,
    /// The libraries that it needs, in its order, with the symbol versions that they must define.
    pub needed: Vec<NeededLibrary>,
    /// Its own name as a library, if it gives one.
    pub soname: Option<String>,
    /// The start of the table that it exports.
    pub entry: Entry,
    /// What it asks of the loader and no module may; empty for a module that can be let in.
    pub hazards: Vec<Hazard>,
}

impl Inspection {
    /// What a file with these facts and this digest is.
    ///
    /// # Errors
    /// When the metadata in it is wrong.
    pub(crate) fn new(facts: elf::Facts, digest: Sha256, size: u64) -> Result<Self, MetadataError> {
        let elf::Facts { target, needed, soname, entry, hazards, metadata } = facts;
        // What parses as TOML is UTF-8.
        let metadata_text = String::from_utf8_lossy(&metadata).into_owned();
        let metadata = Metadata::parse(&metadata)?;
        Ok(Self { metadata, metadata_text, digest, size, target, needed, soname, entry, hazards })
    }
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
    let digest = Sha256::of_reader(reader).map_err(InspectError::Io)?;
    Ok(Inspection::new(facts, digest, reader.size())?)
}
