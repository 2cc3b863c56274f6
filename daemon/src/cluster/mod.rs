//! Where assignments go and reports come from: on one node the node itself, [`Local`]; a fleet's store comes beside it
//! with the same verbs.
//!
//! Does not know what assignments mean, and decides nothing.

mod local;

pub use local::Local;
