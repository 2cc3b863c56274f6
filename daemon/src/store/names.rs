//! Names that the store turns into file names and keys. Each is parsed once, here or in `hot-artifact`, and what is
//! parsed is safe as a file name: that is the only way in which a name becomes a path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest identifier, in bytes: long enough for any UUID or ULID with a prefix, short enough for every file system.
const MAX_ID: usize = 64;

/// A text is no identifier.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{found:?} is no {what}: expected 1 to {MAX_ID} characters of a-z, 0-9 and -, the first not -")]
pub struct IdError {
    what: &'static str,
    found: String,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
                if text.is_empty() || text.len() > MAX_ID || text.starts_with('-') || !text.bytes().all(ok) {
                    return Err(IdError { what: $what, found: text.chars().take(MAX_ID + 1).collect() });
                }
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier!(
    /// The identity of a rollout: 1 to 64 of `a-z`, `0-9` and `-`, the first not `-`.
    RolloutId,
    "rollout id"
);
identifier!(
    /// What a client calls its request, so that the same request twice is one rollout. Same grammar as a rollout id.
    RequestId,
    "request id"
);

impl From<hot_artifact::Sha256> for RequestId {
    /// 64 hexadecimal digits: callers name their requests more freely than an identifier allows.
    fn from(digest: hot_artifact::Sha256) -> Self {
        Self(digest.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_safe_file_names() {
        for good in ["a", "r-1", "0c7d", &"x".repeat(MAX_ID)] {
            assert_eq!(good.parse::<RolloutId>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", ".", "..", "a/b", "A", "a b", "a\0", "ä", &"x".repeat(MAX_ID + 1)] {
            assert!(bad.parse::<RolloutId>().is_err(), "{bad:?}");
        }
    }
}
