//! What counts of a small file where the reserve has something of it as well.

use super::envelope;
use super::small::{Key, ReadError};

/// What counts of a file while something else may be in it.
#[derive(Debug, Clone)]
pub(super) enum Newest {
    /// These bytes.
    Is(Vec<u8>),
    /// No such file: what is there of this generation, or of an older one, was refused.
    Gone(u64),
}

/// Before the name of a file that the reserve says is gone. One that does not know this has no file of such a name.
const GONE: char = '-';

impl Newest {
    /// How the reserve says it: a name and a text.
    pub(super) fn kept(&self, key: &Key) -> (String, String) {
        match self {
            Self::Is(bytes) => (key.to_string(), String::from_utf8_lossy(bytes).into_owned()),
            Self::Gone(generation) => (format!("{GONE}{key}"), generation.to_string()),
        }
    }

    pub(super) fn from_kept(name: &str, text: String) -> Option<(Key, Self)> {
        match name.strip_prefix(GONE) {
            None => Some((Key::parse(name)?, Self::Is(text.into_bytes()))),
            Some(name) => Some((Key::parse(name)?, Self::Gone(text.parse().ok()?))),
        }
    }

    /// Whether this counts, and not what was found in the file. Where that can't be told from the file this is the newer
    /// one: the reserve forgets what it has of a file before that is written again.
    pub(super) fn counts_beside(&self, key: &Key, file: &Result<(u64, Vec<u8>), ReadError>) -> bool {
        match (self, file) {
            (Self::Is(bytes), Ok((there, _))) => {
                envelope::open(key.kind(), bytes).is_ok_and(|(generation, _)| generation > *there)
            }
            (Self::Gone(generation), Ok((there, _))) => generation >= there,
            // A file that a newer hotd wrote is never replaced by what an older one left in the reserve.
            (_, Err(ReadError::Newer(_))) | (Self::Gone(_), Err(ReadError::Missing)) => false,
            (_, Err(ReadError::Missing | ReadError::Damaged(_))) => true,
            // What it has may be newer. Who opens the files gives up on it.
            (_, Err(ReadError::Io(_))) => false,
        }
    }
}
