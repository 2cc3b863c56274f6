//! A rollout as bytes and back. The log explains, the snapshot is the truth.
//!
//! The bytes are JSON: `{"format":1,"id":"...","rollout":{...}}`. `format` and `id` keep their place and meaning in
//! every format to come, so that a daemon can name, and pause, a rollout that it does not understand.

use serde::{Deserialize, Serialize};

use crate::ident::RolloutId;
use crate::machine::Rollout;

/// The format that this version writes, and the only one that it reads so far.
pub const FORMAT: u32 = 1;

/// Why bytes are no rollout.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A newer daemon wrote it. It must not be run by guesswork: leave it paused, nodes go back by their expiry.
    #[error("rollout {id} is in format {found}, this version reads format {FORMAT}")]
    UnknownFormat {
        /// Which rollout.
        id: RolloutId,
        /// Its format.
        found: u32,
    },
    /// It is damaged.
    #[error("the snapshot of a rollout cannot be read")]
    Malformed(#[source] serde_json::Error),
}

#[derive(Deserialize)]
struct Head {
    format: u32,
    id: RolloutId,
}

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    id: &'a RolloutId,
    rollout: &'a Rollout,
}

#[derive(Deserialize)]
struct Read {
    rollout: Rollout,
}

impl Rollout {
    /// The whole rollout as bytes.
    ///
    /// # Errors
    /// Never in practice: all of it is plain data with text keys. The type says so because writing JSON can fail.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Written { format: FORMAT, id: &self.spec().id, rollout: self })
    }

    /// The rollout that was encoded. Call [`Rollout::resume`] before anything else.
    ///
    /// # Errors
    /// [`DecodeError::UnknownFormat`] if it was written by a newer version, [`DecodeError::Malformed`] if it is
    /// damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Head { format, id } = serde_json::from_slice(bytes).map_err(DecodeError::Malformed)?;
        if format != FORMAT {
            return Err(DecodeError::UnknownFormat { id, found: format });
        }
        let Read { rollout } = serde_json::from_slice(bytes).map_err(DecodeError::Malformed)?;
        Ok(rollout)
    }
}
