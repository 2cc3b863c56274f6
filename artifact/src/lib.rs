//! All that can be known of a module's file without running it.
#![forbid(unsafe_code)]

mod digest;
mod metadata;
mod name;
mod reader;
mod refusal;
mod route;
mod target;
mod version;

pub use digest::{DigestError, Sha256, Sha256Hasher};
pub use metadata::{FORMAT, MAX_ENTRIES, MAX_METADATA, Metadata, MetadataError, Requirement, State};
pub use name::{ModuleName, NameError};
pub use reader::{FileReader, ReadAt};
pub use refusal::Refusal;
pub use route::{Route, RouteError};
pub use target::{Libc, Machine, Target, TargetError};
pub use version::{Version, VersionError};
