//! TLS: what is different by way of it, and that all else is not.

mod handshake;
mod lasting;
mod renewal;
mod requests;
mod rig;
