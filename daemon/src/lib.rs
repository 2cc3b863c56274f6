//! hotd as a library: one module for each room of the daemon.

pub mod args;
pub mod config;
pub mod gateway;
pub mod store;
pub mod supervisor;
pub mod telemetry;
