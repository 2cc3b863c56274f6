//! Why nothing new is let in, and why a node does not start.

use std::fmt;
use std::time::SystemTime;

use thiserror::Error;

use crate::config::TrustError;

/// Why the files as they are now do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// When that was noticed.
    pub since: SystemTime,
    /// The first thing that is wrong, with its line where it has one.
    first: String,
    /// How many more there are.
    more: usize,
    /// The key of the config that names the file of the first: `allowed_signers` or `revoked`.
    pub(crate) key: &'static str,
    /// The node has started with a copy of what a file said before.
    from_copy: bool,
}

/// `FILE:LINE: PROBLEM (and N more)`.
impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first)?;
        match self.more {
            0 => {}
            1 => f.write_str(" (and one more mistake)")?,
            more => write!(f, " (and {more} more mistakes)")?,
        }
        if self.from_copy {
            f.write_str("; the node has started with its copy of what the file said before")?;
        }
        Ok(())
    }
}

impl Frozen {
    /// Its stable word.
    pub const CODE: &str = "trust.frozen";
    /// What to do.
    pub const ADVICE: &str = "Mend the file; it is read anew at once. Until then nothing new is let in, and what is \
                              stored can still be gone back to.";

    pub(super) fn new(errors: &[&TrustError], from_copy: bool, since: SystemTime) -> Option<Self> {
        let key = errors.first()?.key();
        let mut mistakes = errors.iter().flat_map(|error| match error {
            TrustError::Invalid(mistakes) => mistakes.to_string().lines().map(str::to_owned).collect(),
            TrustError::Read { .. } | TrustError::ReadRevoked { .. } | TrustError::Revoked(_) => {
                vec![crate::describe(*error)]
            }
        });
        let first = mistakes.next()?;
        Some(Self { since, first, more: mistakes.count(), key, from_copy })
    }

    /// Nothing is known to be wrong, but what the files say now can't be known in time.
    pub(super) fn for_now(why: &str) -> Self {
        let first = why.to_owned();
        Self { since: SystemTime::now(), first, more: 0, key: "allowed_signers", from_copy: false }
    }

    /// Whether both say the same, whenever it began.
    pub(super) fn says(&self, other: &Self) -> bool {
        Self { since: other.since, ..self.clone() } == *other
    }
}

/// Why a node does not start: it never knew whom to trust.
#[derive(Debug, Error)]
#[error("{}", of.iter().map(|error| crate::describe(error)).collect::<Vec<_>>().join("\n"))]
pub struct Untrusted {
    /// What is wrong with each file: at least one.
    pub(super) of: Vec<TrustError>,
}
