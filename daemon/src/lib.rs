//! hotd as a library: one module for each room of the daemon.

pub mod gateway;
pub mod store;
