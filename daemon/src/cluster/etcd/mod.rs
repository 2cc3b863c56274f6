//! What a fleet shares, in etcd: the keys, the connection, watches that come back, leases, and writes that only the leader
//! can make. `docs/decisions/0018` has the layout and why it is so.
//!
//! Does not know what assignments mean, and trusts nothing that it reads: an artifact runs because its signature says so,
//! and never because etcd does.

mod connection;
mod keys;
mod lease;
mod term;
mod watch;

pub use connection::{Connection, EtcdError, Files, Found, Listed, MAX_VALUE, Said, Settings};
pub use keys::{Folder, Key, Keys, LAYOUT};
pub use lease::Lease;
pub use term::{Leader, MAX_OPERATIONS, Stood, Term, Write, WriteError};
pub use watch::{News, Watch};
