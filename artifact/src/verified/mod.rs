//! [`Verified`]: the only thing that can be handed to a host.

mod verdict;

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use rustix::fs::{MemfdFlags, SealFlags};
use thiserror::Error;

use crate::reader::{FileReader, ReadAt as _, for_each_piece};
use crate::refusal::Refusal;
use crate::signature::{Digests, Hash, Hashers, MODULE_NAMESPACE, Signature, SignatureError};
use crate::trust::{JudgeError, SignerError, Trust, Validity};
use crate::{
    CompatError, ElfError, Inspection, Metadata, MetadataError, ModuleName, Node, Sha256, Target, Version,
    elf, inspect,
};

pub use verdict::Verdict;

/// Largest file unless configured: 256 MiB.
pub const DEFAULT_MAX_SIZE: u64 = 256 << 20;

/// Bytes are copied in pieces of this size.
const PIECE: usize = 256 * 1024;

/// A module's file whose bytes were hashed, whose signature was checked against the node's trust, whose metadata was
/// parsed out of those same bytes, and which the node can run.
///
/// It owns a memory file that nobody can change any more, and the host loads from that: nothing between the check and
/// the load can put other bytes in. There is no way to make one but [`Verified::admit`], [`Verified::admit_as`] and
/// [`Verified::reload`], and [`Verified::again`] of one that was made.
#[derive(Debug)]
pub struct Verified {
    held: Held,
    inspection: Inspection,
    principal: String,
    fingerprint: String,
}

/// Bytes in memory that nobody can change, and their hashes.
#[derive(Debug)]
struct Held {
    file: FileReader,
    digests: Digests,
}

/// What a file is checked against.
#[derive(Debug, Clone, Copy)]
pub struct Checks<'a> {
    /// Whose signatures count.
    pub trust: &'a Trust,
    /// What has to be able to run it.
    pub node: &'a Node,
    /// Most bytes of a file.
    pub max_size: u64,
}

/// What a file was when it was let in.
#[derive(Debug, Clone, Copy)]
pub struct OnRecord<'a> {
    /// The identity of its bytes.
    pub digest: Sha256,
    /// Whose version it is.
    pub module: &'a ModuleName,
    /// Which version it is.
    pub version: &'a Version,
}

/// Why a file is not let in, or not loaded again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The source can't be read.
    #[error("can't read the file")]
    Read(#[source] io::Error),
    /// The sealed copy in memory can't be made.
    #[error("can't hold the file in memory; is there enough of it?")]
    Hold(#[source] io::Error),
    /// More bytes than allowed.
    #[error("{}", self.refusal())]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Not the bytes that are on record.
    #[error("{}", self.refusal())]
    OtherDigest {
        /// The digest of what was read.
        found: Sha256,
        /// The digest on record.
        expected: Sha256,
    },
    /// The bytes that are on record are another module's, or another version.
    #[error("{}", self.refusal())]
    OtherModule {
        /// What the file says that it is.
        found: String,
        /// What is on record.
        expected: String,
    },
    /// The signature does not count.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The signer is not allowed.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// Not a shared object with metadata and an entry.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// The metadata is wrong.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// This node can't run it.
    #[error(transparent)]
    Compat(#[from] CompatError),
}

impl From<JudgeError> for VerifyError {
    fn from(error: JudgeError) -> Self {
        match error {
            JudgeError::Signature(error) => Self::Signature(error),
            JudgeError::Signer(error) => Self::Signer(error),
        }
    }
}

impl VerifyError {
    /// The same in four parts and with a stable code.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Read(error) => inspect::unreadable(error),
            Self::Hold(error) => Refusal::new(
                "node.out_of_memory",
                "node",
                error.to_string(),
                "room in memory for the file",
                "free memory on the node and try again",
            ),
            Self::TooLarge { limit } => Refusal::new(
                "file.too_large",
                "file",
                format!("more than {limit} bytes"),
                format!("at most {limit} bytes"),
                "strip it, or raise max_artifact under [store]",
            ),
            Self::OtherDigest { found, expected } => Refusal::new(
                "file.other_digest",
                "digest",
                found.to_string(),
                expected.to_string(),
                "the stored file was damaged or changed; push the version again",
            ),
            Self::OtherModule { found, expected } => Refusal::new(
                "file.other_module",
                "metadata",
                format!("`{found}`"),
                format!("`{expected}`, as on record"),
                "the node's records were changed; push the version again",
            ),
            Self::Signature(error) => error.refusal(),
            Self::Signer(error) => error.refusal(),
            Self::Elf(error) => error.refusal(),
            Self::Metadata(error) => error.refusal(),
            Self::Compat(error) => error.refusal(),
        }
    }

    /// Whether what was read of a file that was let in before is not what it was then, or could not be read.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::OtherDigest { .. } | Self::Read(_))
    }

    /// Whether the file itself is refused, and would be again: not when the node merely could not read or hold it.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        !matches!(self, Self::Read(_) | Self::Hold(_) | Self::Elf(ElfError::Io(_)))
    }
}

impl Verified {
    /// Lets a file in: everything is checked, with the time in which keys are allowed.
    ///
    /// `signature` is the armoured text. Nothing of the file runs, and nothing of it is parsed before the signature
    /// was found good.
    ///
    /// # Errors
    /// The first reason against it.
    pub fn admit(
        source: impl Read,
        signature: &[u8],
        checks: &Checks<'_>,
        now: SystemTime,
    ) -> Result<Self, VerifyError> {
        let signature = Signature::parse(signature)?;
        Self::verify(Held::of(source, &signature, checks)?, &signature, checks, Validity::At(now), None)
    }

    /// As [`Verified::admit`], of a file that was said to have this digest: of other bytes only that is said, if the
    /// signature is one at all and they are not too many.
    ///
    /// # Errors
    /// [`VerifyError::OtherDigest`], or the first reason against it.
    pub fn admit_as(
        digest: Sha256,
        source: impl Read,
        signature: &[u8],
        checks: &Checks<'_>,
        now: SystemTime,
    ) -> Result<Self, VerifyError> {
        let signature = Signature::parse(signature)?;
        let held = Held::of(source, &signature, checks)?;
        held.must_be(digest)?;
        Self::verify(held, &signature, checks, Validity::At(now), None)
    }

    /// Loads a file that was let in before, at boot or for a rollback: it must be what is on record, by its digest and
    /// by what it says of itself, and the key still be allowed; but the time in which it is allowed does not count, so
    /// that an expired key never stands in the way of a rollback.
    ///
    /// # Errors
    /// The first reason against it.
    pub fn reload(
        source: impl Read,
        expected: OnRecord<'_>,
        signature: &[u8],
        checks: &Checks<'_>,
    ) -> Result<Self, VerifyError> {
        let signature = Signature::parse(signature)?;
        let held = Held::of(source, &signature, checks)?;
        held.must_be(expected.digest)?;
        Self::verify(held, &signature, checks, Validity::AnyTime, Some(expected))
    }

    /// As [`Verified::reload`], of bytes that are held already: all is judged anew by what counts now, but nothing is read
    /// and hashed that nobody can have changed since it was.
    ///
    /// # Errors
    /// The first reason against it.
    pub fn again(
        self,
        expected: OnRecord<'_>,
        signature: &[u8],
        checks: &Checks<'_>,
    ) -> Result<Self, VerifyError> {
        let signature = Signature::parse(signature)?;
        let Self { held, inspection, .. } = self;
        if held.file.size() > checks.max_size {
            return Err(VerifyError::TooLarge { limit: checks.max_size });
        }
        held.must_be(expected.digest)?;
        let held = held.hashed_for(signature.hash())?;
        held.must_be_signed(&signature, checks, Validity::AnyTime)?;
        Self::judge(held, inspection, &signature, checks, Validity::AnyTime, Some(expected))
    }

    fn verify(
        held: Held,
        signature: &Signature,
        checks: &Checks<'_>,
        validity: Validity,
        expected: Option<OnRecord<'_>>,
    ) -> Result<Self, VerifyError> {
        held.must_be_signed(signature, checks, validity)?;
        let facts = elf::read(&held.file)?;
        let inspection = Inspection::new(facts, held.digests.identity, held.file.size())?;
        Self::judge(held, inspection, signature, checks, validity, expected)
    }

    /// What is said of bytes that a key which is allowed at all has signed, by what they say of themselves.
    fn judge(
        held: Held,
        inspection: Inspection,
        signature: &Signature,
        checks: &Checks<'_>,
        validity: Validity,
        expected: Option<OnRecord<'_>>,
    ) -> Result<Self, VerifyError> {
        // Else whoever can write the records could run one module's signed file in the place of another, whose rules
        // about signers may be stricter, or an old version in the place of a new one.
        let Metadata { name, version, .. } = &inspection.metadata;
        if let Some(OnRecord { module, version: recorded, .. }) = expected
            && (module != name || recorded != version)
        {
            let (found, expected) = (format!("{name} {version}"), format!("{module} {recorded}"));
            return Err(VerifyError::OtherModule { found, expected });
        }
        let principal = checks.trust.principal(signature, &inspection.metadata.name, validity)?;
        if let Some(reason) = checks.node.judge(&inspection).into_iter().next() {
            return Err(reason.into());
        }
        Ok(Self { held, inspection, principal, fingerprint: signature.key().fingerprint() })
    }

    /// The identity of the bytes.
    #[must_use]
    pub const fn digest(&self) -> Sha256 {
        self.inspection.digest
    }

    /// What the module says of itself.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.inspection.metadata
    }

    /// The metadata as it stands in the file, TOML.
    #[must_use]
    pub fn metadata_text(&self) -> &str {
        &self.inspection.metadata_text
    }

    /// What it was built for.
    #[must_use]
    pub const fn target(&self) -> Target {
        self.inspection.target
    }

    /// Who signed it.
    #[must_use]
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// Fingerprint of the key that signed it.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// How many bytes it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.held.file.size()
    }

    /// The sealed memory file, e.g. to read it.
    #[must_use]
    pub const fn file(&self) -> &File {
        self.held.file.file()
    }

    /// A descriptor of its own for the same sealed memory file, e.g. to pass it to a host.
    ///
    /// # Errors
    /// When the process has no more descriptors.
    pub fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.held.file.file().as_fd().try_clone_to_owned()
    }
}

impl AsFd for Verified {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.held.file.file().as_fd()
    }
}

impl Held {
    fn of(source: impl Read, signature: &Signature, checks: &Checks<'_>) -> Result<Self, VerifyError> {
        Self::hashed(sealed_copy(source, checks.max_size)?, signature.hash())
    }

    /// Hashed out of the sealed file, not on the way in: what is checked is what is held, whoever else there is.
    fn hashed(file: FileReader, hash: Hash) -> Result<Self, VerifyError> {
        let mut hashers = Hashers::new(hash);
        for_each_piece(&file, |piece| hashers.update(piece)).map_err(VerifyError::Hold)?;
        Ok(Self { file, digests: hashers.finish() })
    }

    /// With the hash that such a signature is over. One that is there is of these very bytes.
    fn hashed_for(self, hash: Hash) -> Result<Self, VerifyError> {
        if self.digests.by(hash).is_some() { Ok(self) } else { Self::hashed(self.file, hash) }
    }

    fn must_be(&self, expected: Sha256) -> Result<(), VerifyError> {
        match self.digests.identity {
            found if found == expected => Ok(()),
            found => Err(VerifyError::OtherDigest { found, expected }),
        }
    }

    /// Whether the key is allowed at all comes before anything is parsed; whether for this module needs its name.
    fn must_be_signed(
        &self,
        signature: &Signature,
        checks: &Checks<'_>,
        validity: Validity,
    ) -> Result<(), VerifyError> {
        let Some(digest) = self.digests.by(signature.hash()) else {
            // A hash that was not computed is not what was signed.
            let fingerprint = signature.key().fingerprint();
            return Err(SignatureError::NotForTheseBytes { fingerprint }.into());
        };
        signature.check(MODULE_NAMESPACE, digest)?;
        checks.trust.principals(signature, MODULE_NAMESPACE, validity)?;
        Ok(())
    }
}

/// A copy of `source` in memory that can't be changed any more by anybody.
fn sealed_copy(mut source: impl Read, max_size: u64) -> Result<FileReader, VerifyError> {
    let hold = |error: rustix::io::Errno| VerifyError::Hold(error.into());
    let mut file = File::from(memfd().map_err(hold)?);
    let mut piece = vec![0; PIECE];
    let mut size = 0_u64;
    loop {
        let len = match source.read(&mut piece) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(VerifyError::Read(error)),
        };
        size += len as u64;
        if size > max_size {
            return Err(VerifyError::TooLarge { limit: max_size });
        }
        file.write_all(&piece[..len]).map_err(VerifyError::Hold)?;
    }
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).map_err(hold)?;
    FileReader::new(file).map_err(VerifyError::Hold)
}

/// It is mapped and never executed as a program, so it need not have execute permission; systems that refuse other
/// memory files (`vm.memfd_noexec = 2`) take it so. Kernels before 6.3 don't know the flag.
fn memfd() -> rustix::io::Result<OwnedFd> {
    const NAME: &str = "hot-artifact";
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create(NAME, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(NAME, flags),
        other => other,
    }
}

#[cfg(test)]
mod tests;
