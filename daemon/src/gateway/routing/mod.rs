//! Who gets a request: the table, the pick, and the bounds on what a module has in flight.

mod deck;
mod hosts;
mod limits;
mod place;
mod routes;
mod table;

pub(super) use limits::{Full, Gate, Permit};
pub(super) use place::{Choice, Placed, Refusal, Wish};
pub(super) use routes::Routes;
pub use table::{Backend, Conflict, ModuleTable, RESERVED_PREFIX, Role, Table, conflicts};
