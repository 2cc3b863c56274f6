//! [`ModuleName`]: the name of a module, parsed once at the door.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Name of a module: `[a-z][a-z0-9-]{0,62}`.
///
/// The alphabet has neither `/` nor `.`, so a name is a file name on every system without escaping, can never
/// climb out of a folder, and fits into a host name label and a metric label as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModuleName(Box<str>);

/// Why a text is not the name of a module.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{}` is not a module name; one has 1 to 63 characters of a-z, 0-9 and -, and starts with a letter", found.escape_debug())]
pub struct NameError {
    /// What was found, cut to the first 80 characters.
    pub found: String,
}

impl ModuleName {
    /// Most characters (which are bytes) of a name: a label of a host name has no more.
    pub const MAX_LEN: usize = 63;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModuleName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut bytes = text.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
        let rest = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if first && rest && text.len() <= Self::MAX_LEN {
            Ok(Self(text.into()))
        } else {
            Err(NameError { found: text.chars().take(80).collect() })
        }
    }
}

impl TryFrom<String> for ModuleName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ModuleName> for String {
    fn from(name: ModuleName) -> Self {
        name.0.into()
    }
}

impl AsRef<str> for ModuleName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for ModuleName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModuleName({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_alphabet_parse() {
        for good in ["a", "greeter", "a-1", "a-", "x9", &"a".repeat(63)] {
            assert_eq!(good.parse::<ModuleName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn all_others_are_refused_with_what_was_found() {
        let long = "a".repeat(64);
        for bad in ["", "A", "1a", "-a", "a_b", "a/b", "../a", "a.b", "a b", "ä", "a\0", long.as_str()] {
            assert_eq!(bad.parse::<ModuleName>().unwrap_err().found, bad);
        }
    }

    #[test]
    fn a_giant_name_is_not_repeated_in_its_error() {
        assert_eq!("A".repeat(1 << 20).parse::<ModuleName>().unwrap_err().found.len(), 80);
    }
}
