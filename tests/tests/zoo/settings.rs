//! What the programs under test can do yet.

/// Whether hot-spawn gives instances users and limits of their own, hot-host confines itself, and hotd tells their causes.
/// As long as they don't, what needs that is skipped, and says so.
pub(crate) const ISOLATES: bool = true;
