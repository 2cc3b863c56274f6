//! The Rust SDK with all its features under test: each file in `tests/` is a part of it, against the host that
//! `hot_module::testing` is. That host against the real one is a matter of `hot-tests`.

#![forbid(unsafe_code)]

/// Every snippet of the guide is compiled and run as a test of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/modules.md")]
pub struct Guide;
