//! A test that can't be tried on this machine.

use std::io::Write as _;

use anyhow::Result;

/// The end of such a test. It counts as passed, so it says why on standard error, in the words by which `scripts/test` finds
/// it and lists it at its end: tests of crates that do not use this one print the same.
///
/// # Errors
/// Never: it stands for the end of a test.
pub fn skipped(reason: &str) -> Result<()> {
    // Nothing can be done where that is closed.
    drop(writeln!(std::io::stderr(), "skipped: {reason}"));
    Ok(())
}
