//! An artifact as it is read: open, and what was found of its bytes. Who loads it verifies them; nothing is checked here but
//! whether a file is there in its length.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use hot_artifact::Sha256;
use thiserror::Error;

use super::files::{Files, Known};
use super::records::VersionRecord;

/// Which of the files that an artifact has had since the start: each that is put in place is another one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Placed(u64);

/// The file of an artifact, open.
#[derive(Debug)]
pub struct Opened {
    /// The file.
    pub file: File,
    /// Which one it is.
    pub placed: Placed,
    /// What is known of the artifact.
    pub record: Arc<VersionRecord>,
}

/// An artifact can't be opened.
#[derive(Debug, Error)]
pub enum ArtifactError {
    /// No version has this digest.
    #[error("no version on this node has digest {0}")]
    Unknown(Sha256),
    /// Its file can't be opened.
    #[error("cannot open {}; push the version again", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Known {
    fn placed(&self, digest: &Sha256) -> Placed {
        self.placed.get(digest).copied().unwrap_or_default()
    }

    /// An artifact has got a file, for good.
    pub(super) fn place(&mut self, digest: Sha256) {
        self.last_placed.0 += 1;
        self.placed.insert(digest, self.last_placed);
    }
}

impl Files {
    pub(super) fn artifact_path(&self, digest: &Sha256) -> PathBuf {
        self.root.join("artifacts").join(format!("{digest}.so"))
    }

    /// What is known of an artifact that is a version's here, unless its bytes were found damaged.
    pub(super) fn sound_artifact(&self, digest: &Sha256) -> Option<Arc<VersionRecord>> {
        let known = self.known();
        known.artifacts.get(digest).filter(|_| !known.damaged.contains(digest)).cloned()
    }

    /// The bytes of the file that was read are not what they were, or can't be read: the next upload of them is taken. One
    /// that has taken its place since is not meant.
    pub(super) fn found_damaged(&self, digest: &Sha256, read: Placed) {
        let mut first = false;
        self.change_known(|known| {
            let is_there = known.artifacts.contains_key(digest) && known.placed(digest) == read;
            first = is_there && known.damaged.insert(*digest);
        });
        if first {
            let path = self.artifact_path(digest);
            tracing::warn!(path = %path.display(), "an artifact is damaged on the disk; push the same file again");
        }
    }

    /// Opens an artifact for reading. Who loads it verifies it again: nothing is checked here but whether it is there in
    /// its length.
    pub(super) fn open_artifact(&self, digest: &Sha256) -> Result<Opened, ArtifactError> {
        let (record, placed) = {
            let known = self.known();
            let record = known.artifacts.get(digest).cloned().ok_or(ArtifactError::Unknown(*digest))?;
            (record, known.placed(digest))
        };
        let path = self.artifact_path(digest);
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let is_damaged = match &opened {
            Ok((len, _)) => *len != record.size,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if is_damaged {
            self.found_damaged(digest, placed);
        }
        let (_, file) = opened.map_err(|source| ArtifactError::Io { path, source })?;
        Ok(Opened { file, placed, record })
    }
}
