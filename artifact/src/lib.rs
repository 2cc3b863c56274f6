//! All that can be known of a module's file without running it: ELF, metadata, digest, signature, compatibility.
//!
//! Pure functions from bytes (or a random-access reader; a file is never whole on the heap) and from what is trusted
//! to a verdict. The one thing with an effect is [`Verified`]: it holds the bytes that were checked in a sealed
//! memory file, and is the only thing that a host can be given.
//!
//! Names, digests, versions, targets and routes are parsed here, once, into types; nothing behind this door checks
//! them again. Each refusal says field, found, expected and what to do, and has a stable code ([`Refusal`]).
//!
//! It does not store, fetch or load anything, and reads neither the clock nor any file of trust by itself. `hotd` and
//! `hotctl` call it.
#![forbid(unsafe_code)]

mod compat;
mod digest;
mod elf;
mod inspect;
mod libraries;
mod metadata;
mod name;
mod node;
mod reader;
mod refusal;
mod route;
pub mod signature;
mod target;
#[cfg(test)]
mod testing;
pub mod trust;
mod verified;
mod version;

pub use compat::{CompatError, check};
pub use digest::{DigestError, Sha256, Sha256Hasher};
pub use elf::{ElfError, Entry, Hazard, Import, Listed, NeededLibrary, Symbols, symbols};
pub use inspect::{InspectError, Inspection, inspect};
pub use libraries::{Libraries, Library};
pub use metadata::{FORMAT, MAX_ENTRIES, MAX_METADATA, Metadata, MetadataError, Requirement, State};
pub use name::{ModuleName, NameError};
pub use node::{Found, Node};
pub use reader::{FileReader, ReadAt};
pub use refusal::Refusal;
pub use route::{Route, RouteError};
pub use target::{Libc, Machine, Target, TargetError};
pub use verified::{Checks, DEFAULT_MAX_SIZE, OnRecord, Verdict, Verified, VerifyError};
pub use version::{Version, VersionError};
