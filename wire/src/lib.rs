//! The frames between `hotd`, `hot-spawn` and `hot-host`, without IO: bytes in, messages out.
//!
//! Three protocols meet here, and nowhere else do the processes know each other:
//!
//! * [`data`]: the stream between a gateway thread and a host, which carries HTTP exchanges. Its encoders append to a
//!   buffer and its decoder slices the buffer that was read, since every request of every user passes through it.
//! * [`host`]: the control socket between `hotd` and a host, one message per packet.
//! * [`spawn`]: the control socket between `hotd` and `hot-spawn`, one message per packet.
//!
//! [`metrics`] has what a module counts, as it travels in messages of [`host`]; [`isolation`] how an instance is held, as
//! the control sockets tell it.
//!
//! Nothing that arrives is trusted beyond its own length: a decoder never panics, never allocates more than it was
//! given, and answers what it can't read with a typed error. All integers are little-endian.
//!
//! In a rolling deployment a newer `hotd` talks to older hosts, and the reverse. So messages grow at their end: a
//! decoder ignores bytes behind the fields that it knows, an added field has a meaning for its absence, and a kind is
//! never used again. A kind that a peer may not know is sent only to one that has said that it does (see
//! [`host::Features`]); one that comes all the same is skipped. [`PROTOCOL`] changes only when that is not enough.
//!
//! What this crate does not do: read or write sockets, pass descriptors, hold time-outs, or judge what a message asks.
#![forbid(unsafe_code)]

mod codec;
pub mod data;
pub mod host;
pub mod isolation;
pub mod metrics;
pub mod spawn;

pub use codec::{MAX_MESSAGE, MessageError, TooLarge};

/// The version of all three protocols, said in each `Hello`. Peers with another number can't talk to each other;
/// growth at the end of messages does not change it.
pub const PROTOCOL: u16 = 1;
