//! What a module author touches: the C ABI and its types ([`abi`]), the metadata note ([`note`]), and a safe way to
//! write a module in Rust (feature `sdk`, on by default): start at [`Module`], and at `testing` for its tests.
//!
//! The core is `no_std` and has no dependencies: `hot-host` and `hot-artifact` use it for the types and constants that
//! both sides of the contract must agree on. The C header `include/hot_module.h` says the same in C; a test compares
//! the two. `docs/abi.md` is the contract in words.
//!
//! It does not load modules (`hot-host` does) and does not read metadata back (`hot-artifact` does).

#![no_std]
#![warn(missing_docs)]

#[cfg(feature = "sdk")]
extern crate std;

pub mod abi;
pub mod note;
#[cfg(feature = "async")]
#[expect(
    unsafe_code,
    reason = "one notice of the host's is a reference that crosses the C ABI and comes back"
)]
mod runtime;
#[cfg(feature = "sdk")]
#[expect(unsafe_code, reason = "the C ABI's tables and borrowed bytes are behind this safe side")]
mod sdk;

#[cfg(feature = "testing")]
#[expect(unsafe_code, reason = "the host's side of the C ABI")]
pub mod testing;

#[cfg(feature = "async")]
pub use http;
#[cfg(feature = "async")]
pub use runtime::{Async, AsyncModule, Body, BodyWriter, Deadline, Peer};
#[cfg(feature = "tower")]
pub use runtime::{HttpService, Tower, TowerModule};
#[cfg(feature = "config")]
pub use sdk::ConfigError;
#[cfg(feature = "log")]
pub use sdk::log_to_host;
#[cfg(feature = "sdk")]
pub use sdk::{
    CallError, Context, Counter, Error, Exchange, Gauge, Header, Headers, Histogram, Labelled, Level, Module,
    OrStatus, RawModule, Reader, Request, Response, StatusError, Timer, Writer, log, metrics, now, table,
};

/// The version of the contract that this crate speaks.
pub const ABI: u32 = 0;

/// The one symbol that a module defines: a data object of type [`abi::Table`].
pub const ENTRY_SYMBOL: &str = "hot_module";

/// The owner of the metadata note, without the NUL byte that ELF puts behind it.
pub const NOTE_OWNER: &str = "hot";

/// The type of the metadata note.
pub const NOTE_TYPE: u32 = 1;

/// The section of the metadata note. It is allocated, so a `PT_NOTE` segment covers it and stripping keeps it.
pub const NOTE_SECTION: &str = ".note.hot";

/// The value of `format`, the first key of the metadata text.
pub const METADATA_FORMAT: u32 = 1;
