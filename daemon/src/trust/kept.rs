//! The files of trust as they counted last, kept in the data folder: what a node that starts goes by where one of the
//! operator's own has a mistake or can't be read.
//!
//! Two files with the operator's very bytes, `trust/allowed_signers` and `trust/revoked`, mode 0600, each replaced as a
//! whole and on the disk before it counts as kept. Nothing reads them while the operator's file can be read.

use std::io;
use std::path::{Path, PathBuf};

use crate::{config, store};

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Signers,
    Revoked,
}

/// The copies of one data folder.
#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
}

impl Kept {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { folder: data_dir.join("trust") }
    }

    /// The copies in the place of the operator's files.
    pub(super) fn instead_of(&self, own: &config::Trust) -> config::Trust {
        config::Trust {
            allowed_signers: self.path(Which::Signers),
            revoked: Some(self.path(Which::Revoked)),
            ..own.clone()
        }
    }

    /// Keeps what the file says from now on; `None`: there is no such file any more.
    pub(super) fn keep(&self, which: Which, bytes: Option<&[u8]>) -> io::Result<()> {
        store::keep_file(&self.path(which), bytes)
    }

    fn path(&self, which: Which) -> PathBuf {
        self.folder.join(match which {
            Which::Signers => "allowed_signers",
            Which::Revoked => "revoked",
        })
    }
}
