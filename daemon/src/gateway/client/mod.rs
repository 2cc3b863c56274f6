//! Connections: who the clients are, what they speak, and how a connection ends.

mod conn;
mod converse;
mod first;
mod frames;
mod h2;
mod io;
mod socket;
mod tls;
mod tunnel;

pub(super) use conn::{Busy, Client};
pub(super) use converse::http1;
pub(super) use h2::Scratch;
pub(super) use io::{ClientIo, UNWANTED_AT_MOST};
pub(super) use tunnel::Tunnel;
