//! The gateway against hosts that these tests play, by way of real sockets on both sides.
#![forbid(unsafe_code)]
#![expect(clippy::panic, reason = "a helper that gets what it did not ask for ends its test")]

mod access;
mod bounds;
mod client;
mod conformance;
mod crash;
mod drain;
mod flow;
mod h2;
mod host;
mod http;
mod isolation;
mod lasting;
mod picks;
mod rig;
mod routes;
mod stalls;
mod streams;
mod tls;
