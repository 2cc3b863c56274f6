//! The contract in Rust, by the ABI's own types: what `conforms.c` and `misuses.c` do in C, step for step of the same list
//! (`steps.def`). One module with both of their routes.
//!
//! | module | owns |
//! |---|---|
//! | `host` | the host's services as functions |
//! | `report` | how each step was answered |
//! | `conforms`, `misuses` | what may be done, and what may not |
//!
//! It does not use the safe side of the SDK, which would not let most of this be said; `tests/sdk` is about that one.

#![expect(unsafe_code, reason = "one side of a C ABI, used wrongly on purpose")]

mod bell;
mod conforms;
mod host;
mod misuses;
mod report;
#[path = "../../steps.rs"]
mod steps;

use host::bytes;
use hot_module::ABI;
use hot_module::abi::{self, Exchange, Host, Slice, Status, Table};
use hot_module::note::{Metadata, Note};
use std::ffi::c_void;
use std::ptr::null_mut;

const METADATA: Metadata<'static> =
    Metadata { name: "contract", version: "1.0.0", routes: &["/conforms", "/misuses"], lines: "" };

#[used]
#[unsafe(export_name = "hot_module_note")]
#[unsafe(link_section = ".note.hot")]
pub static NOTE: Note<{ METADATA.content_size() }> = METADATA.note();

#[used]
#[unsafe(export_name = "hot_module")]
#[expect(clippy::cast_possible_truncation, reason = "the table's size is asserted to be 56 bytes")]
pub static TABLE: Table = Table {
    abi: ABI,
    size: size_of::<Table>() as u32,
    start: Some(start),
    handle: Some(handle),
    health: Some(health),
    save: None,
    load: None,
    stop: Some(stop),
};

unsafe extern "C" fn start(
    services: *const Host,
    config: Slice,
    this: *mut *mut c_void,
    _why: *mut Slice,
) -> Status {
    // SAFETY: the host gives its table, which is complete in this version of the ABI and lives as long as the process.
    host::install(unsafe { &*services });
    // SAFETY: the host gives a place for one pointer.
    unsafe { this.write(null_mut()) };
    conforms::start(config);
    misuses::start();
    abi::OK
}

unsafe extern "C" fn handle(_this: *mut c_void, x: Exchange) {
    let mut target = Slice::EMPTY;
    host::target(x, &raw mut target);
    let path = String::from_utf8_lossy(bytes(target)).into_owned();
    match path.strip_prefix("/misuses/") {
        Some(what) => misuses::handle(what, x),
        None => conforms::handle(path.strip_prefix("/conforms/").unwrap_or_default(), x),
    }
}

unsafe extern "C" fn health(_this: *mut c_void, _why: *mut Slice) -> Status {
    abi::OK
}

unsafe extern "C" fn stop(_this: *mut c_void) {
    conforms::stop();
}
