//! The module: loads it, checks its table, and calls it.
//!
//! It is never unloaded (thread-local destructors, threads left running, unique symbols): it ends with the process.

use hot_module::abi::{self, Host, Slice, Table};
use hot_module::{ABI, ENTRY_SYMBOL};
use hot_wire::host::Stage;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::ffi::c_void;
use std::mem::offset_of;
use thiserror::Error;

/// Why a module does not run.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    /// `dlopen` refused the file.
    #[error("the module can't be loaded")]
    Load(#[source] libloading::Error),
    /// There is no entry symbol.
    #[error("the module has no symbol `{ENTRY_SYMBOL}`")]
    NoEntry(#[source] libloading::Error),
    /// The table ends before its first function, or has no `start`.
    #[error("the table `{ENTRY_SYMBOL}` of {size} bytes has no `start`")]
    NoStart {
        /// The size that the table claims.
        size: u32,
    },
    /// The table is of another ABI.
    #[error(
        "the module was built for ABI {found} and this host has ABI {ABI}: build it with this release's header"
    )]
    Abi {
        /// The ABI that the table claims.
        found: u32,
    },
    /// Nothing in it could answer the requests that its routes bring.
    #[error(
        "the module's metadata has routes and its table has no `handle` to answer their requests: expected both, or \
         neither as in a background module. Add `handle`, or take `routes` out of the metadata"
    )]
    NoHandle,
    /// The module's `start` failed.
    #[error("the module's start failed: {0}")]
    Start(String),
}

impl StartError {
    /// The stage as hotd is told it.
    pub(crate) const fn stage(&self) -> Stage {
        match self {
            Self::Load(_) => Stage::Load,
            Self::NoEntry(_) | Self::NoStart { .. } | Self::NoHandle => Stage::Entry,
            Self::Abi { .. } => Stage::Abi,
            Self::Start(_) => Stage::Start,
        }
    }
}

/// A module that has started.
#[derive(Debug)]
pub(crate) struct Module {
    table: Table,
    /// What `start` gave, for the other functions to get.
    this: *mut c_void,
}

// SAFETY: `this` is only handed back to the module, whose contract is that `handle` and `health` may be called from any
// thread, many at a time (docs/abi.md, "Threads").
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

impl Module {
    /// Loads the file and starts the module, which `serves` if it has routes. `host` and `config` live as long as the
    /// process, as the contract asks.
    pub(crate) fn start(
        path: &str,
        host: &'static Host,
        config: &'static [u8],
        serves: bool,
    ) -> Result<Self, StartError> {
        let table = load(path)?;
        if table.abi != ABI {
            return Err(StartError::Abi { found: table.abi });
        }
        let start = table.start.ok_or(StartError::NoStart { size: table.size })?;
        if serves && table.handle.is_none() {
            return Err(StartError::NoHandle);
        }
        let mut this = std::ptr::null_mut();
        let mut why = Slice::EMPTY;
        // SAFETY: the module's function, called once and first, with a table and a config that live as long as the
        // process and places for one pointer and one slice.
        let status = unsafe { start(host, Slice::of(config), &raw mut this, &raw mut why) };
        if status == abi::OK {
            return Ok(Self { table, this });
        }
        // SAFETY: on failure `why` has been left empty or set to bytes that live until the process ends.
        let text = unsafe { text(why) };
        Err(StartError::Start(if text.is_empty() { format!("it answered {status}") } else { text }))
    }

    /// Calls `handle`; false if it has none. The exchange is open.
    pub(crate) fn handle(&self, exchange: abi::Exchange) -> bool {
        let Some(handle) = self.table.handle else { return false };
        // SAFETY: `this` is what `start` gave. `stop` has not been called, and will not be before this returns: the caller
        // counts this call as running, and had the exchange in the table when it began to, which is closed and found empty
        // before the running calls are waited for (`Engine::drain`). This is the only call for this exchange.
        unsafe { handle(self.this, exchange) };
        true
    }

    /// Calls `health`, one call at a time: what it says if it is not well.
    pub(crate) fn health(&self) -> Result<(), String> {
        let Some(health) = self.table.health else { return Ok(()) };
        let mut why = Slice::EMPTY;
        // SAFETY: `this` as in `handle`; the one thread that calls `health` is the one that calls `stop`. `why` is a
        // place for one slice.
        let status = unsafe { health(self.this, &raw mut why) };
        if status == abi::OK {
            return Ok(());
        }
        // SAFETY: the bytes live until the next call of `health`, which this thread makes.
        let text = unsafe { text(why) };
        Err(if text.is_empty() { format!("health answered {status}") } else { text })
    }

    /// Calls `stop`, the last call of all.
    pub(crate) fn stop(&self) {
        if let Some(stop) = self.table.stop {
            // SAFETY: `this` as in `handle`. The caller has drained the engine and is the thread that calls `health`: no
            // other call is running, and the process ends after this one.
            unsafe { stop(self.this) };
        }
    }
}

/// Loads the file and copies its table.
fn load(path: &str) -> Result<Table, StartError> {
    // SAFETY: this runs the constructors of a foreign file, which may do anything to this process. That is what the
    // process is for: it holds nothing else (docs/abi.md, "What is trusted"). hotd has verified the bytes.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(StartError::Load)?;
    // SAFETY: the symbol is read as an address only. That it is a data object was checked before the file came here.
    let entry = unsafe { library.get::<*const u8>(ENTRY_SYMBOL.as_bytes()) }.map(|symbol| *symbol);
    // Never dropped: see the module.
    std::mem::forget(library);
    let entry = entry.map_err(StartError::NoEntry)?;

    let mut table = Table {
        abi: 0,
        size: 0,
        start: None,
        handle: None,
        health: None,
        save: None,
        load: None,
        stop: None,
    };
    // SAFETY: the contract's table begins with two `u32`, `abi` and `size`.
    let [abi, size] = unsafe { entry.cast::<[u32; 2]>().read_unaligned() };
    // Of another ABI nothing more is known.
    if abi != ABI {
        return Err(StartError::Abi { found: abi });
    }
    if (size as usize) < offset_of!(Table, handle) {
        return Err(StartError::NoStart { size });
    }
    // Members past `size` stay null, and one that it cuts in two counts as past it.
    let known = (size as usize).min(size_of::<Table>()) / align_of::<Table>() * align_of::<Table>();
    // SAFETY: the module's table has `size` bytes, `known` is no more; ours has room for them, and every member that is
    // copied is whole: a number, or a function's address that may be null.
    unsafe { std::ptr::copy_nonoverlapping(entry, (&raw mut table).cast::<u8>(), known) };
    Ok(table)
}

/// # Safety
/// The slice is empty, or names bytes that can be read now.
unsafe fn text(slice: Slice) -> String {
    /// What fits into a message to hotd and a line for a person.
    const MAX: usize = 2000;
    if slice.ptr.is_null() {
        return String::new();
    }
    // SAFETY: the caller vouches for `len` bytes, so also for fewer.
    let bytes = unsafe { std::slice::from_raw_parts(slice.ptr, slice.len.min(MAX)) };
    String::from_utf8_lossy(bytes).into_owned()
}
