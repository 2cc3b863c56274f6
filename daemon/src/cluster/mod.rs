//! Where assignments go and reports come from: on one node the node itself, [`Local`]; what a fleet shares is in [`etcd`],
//! which no config asks for yet.
//!
//! Does not know what assignments mean, and decides nothing.

pub mod etcd;
mod local;

pub use local::Local;
