//! [`Version`]: the semver of a module, without build metadata.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Version of a module: a semver without build metadata, e.g. `1.2.0` or `2.0.0-rc.1`.
///
/// Build metadata is refused because semver gives it no order: `1.0.0+a` and `1.0.0+b` would be two versions that
/// neither comes before the other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(semver::Version);

/// Why a text is not a version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VersionError {
    /// Not a semver at all.
    #[error("`{}` is not a version: {reason}; write one like 1.2.0", found.escape_debug())]
    Malformed {
        /// What was found, cut to the first 80 characters.
        found: String,
        /// What the parser says.
        reason: String,
    },
    /// A semver with `+build`.
    #[error("version `{found}` has build metadata, which has no order; leave out `+{build}`")]
    BuildMetadata {
        /// What was found.
        found: String,
        /// The part behind the plus sign.
        build: String,
    },
    /// Longer than a file name or a label should be.
    #[error("a version of {found} characters is too long; it has at most {}", Version::MAX_LEN)]
    TooLong {
        /// How many bytes were found.
        found: usize,
    },
}

impl Version {
    /// Most bytes of a version, so that it fits into file names, labels and table cells.
    pub const MAX_LEN: usize = 128;

    /// The semver inside, e.g. to match it against a range.
    #[must_use]
    pub const fn as_semver(&self) -> &semver::Version {
        &self.0
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        if text.len() > Self::MAX_LEN {
            return Err(VersionError::TooLong { found: text.len() });
        }
        let parsed = semver::Version::parse(text).map_err(|error| VersionError::Malformed {
            found: text.chars().take(80).collect(),
            reason: error.to_string(),
        })?;
        if !parsed.build.is_empty() {
            return Err(VersionError::BuildMetadata {
                found: text.into(),
                build: parsed.build.as_str().into(),
            });
        }
        Ok(Self(parsed))
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_as_semver_does_and_prints_as_it_was_written() {
        let texts = ["0.0.0", "1.0.0-rc.1", "1.0.0", "1.2.0", "1.10.0", "18446744073709551615.0.0"];
        let versions: Vec<Version> = texts.iter().map(|text| text.parse().unwrap()).collect();
        assert!(versions.is_sorted());
        assert_eq!(versions.iter().map(ToString::to_string).collect::<Vec<_>>(), texts);
    }

    #[test]
    fn refuses_build_metadata_paths_and_overflow() {
        assert!(matches!("1.0.0+x".parse::<Version>(), Err(VersionError::BuildMetadata { .. })));
        assert!(matches!("1".repeat(129).parse::<Version>(), Err(VersionError::TooLong { found: 129 })));
        for bad in ["", "1", "1.0", "v1.0.0", "../1.0.0", "1.0.0-a/b", "18446744073709551616.0.0", "01.0.0"] {
            assert!(matches!(bad.parse::<Version>(), Err(VersionError::Malformed { .. })), "{bad}");
        }
    }
}
