//! What is signed of a file is its hash: [`Hash`] says by which, [`FileHashes`] has both, of one pass over the bytes.

use std::io;

use sha2::Digest as _;

use crate::reader::{ReadAt, for_each_piece};

/// How the signed file was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// `sha256`
    Sha256,
    /// `sha512`, what `ssh-keygen` uses unless told
    Sha512,
}

impl Hash {
    /// The name in the blob.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

/// The hashes that a signature of a file can be of: enough to judge one without the bytes.
///
/// Whoever has them from somebody else knows what that one says of the bytes, and no more: only
/// [`crate::Verified`] is made of bytes that were hashed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHashes {
    /// SHA-256, the identity of an artifact.
    pub sha256: crate::Sha256,
    /// SHA-512.
    pub sha512: [u8; 64],
}

impl FileHashes {
    /// Both hashes of everything in `reader`.
    ///
    /// # Errors
    /// When the reader fails.
    pub fn of(reader: &(impl ReadAt + ?Sized)) -> io::Result<Self> {
        let mut hashers = Hashers::new(Hash::Sha512);
        for_each_piece(reader, |piece| hashers.update(piece))?;
        let digests = hashers.finish();
        let sha512 =
            digests.signed().try_into().map_err(|_length| io::Error::other("a hash of a wrong length"))?;
        Ok(Self { sha256: digests.identity, sha512 })
    }

    /// The one by this hash.
    #[must_use]
    pub fn by(&self, hash: Hash) -> &[u8] {
        match hash {
            Hash::Sha256 => self.sha256.as_bytes(),
            Hash::Sha512 => &self.sha512,
        }
    }
}

/// SHA-256, and beside it SHA-512 where a signature needs that, of the same bytes in one pass.
#[derive(Debug, Clone)]
pub(crate) struct Hashers {
    sha256: sha2::Sha256,
    sha512: Option<sha2::Sha512>,
}

/// The results of [`Hashers`].
#[derive(Debug, Clone)]
pub(crate) struct Digests {
    pub(crate) identity: crate::Sha256,
    sha512: Option<[u8; 64]>,
}

impl Hashers {
    pub(crate) fn new(hash: Hash) -> Self {
        let sha512 = (hash == Hash::Sha512).then(sha2::Sha512::new);
        Self { sha256: sha2::Sha256::new(), sha512 }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }

    pub(crate) fn finish(self) -> Digests {
        Digests {
            identity: crate::Sha256::from_bytes(self.sha256.finalize().into()),
            sha512: self.sha512.map(|hasher| hasher.finalize().into()),
        }
    }
}

impl Digests {
    /// The digest that signatures with the hash of these hashers are of.
    pub(crate) fn signed(&self) -> &[u8] {
        self.sha512.as_ref().map_or(self.identity.as_bytes(), <[u8; 64]>::as_slice)
    }

    /// The one by this hash, where it was computed.
    pub(crate) fn by(&self, hash: Hash) -> Option<&[u8]> {
        match hash {
            Hash::Sha256 => Some(self.identity.as_bytes()),
            Hash::Sha512 => self.sha512.as_ref().map(<[u8; 64]>::as_slice),
        }
    }
}
