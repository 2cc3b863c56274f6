//! [`Revoked`]: keys and certificates that count no more, whatever the allowed signers say.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding as _};
use thiserror::Error;

use super::SignerError;
use super::krl::{self, Krl};
use crate::refusal::quoted;
use crate::signature::{Certificate, PublicKey, Signature, Wire};

/// Largest file: as for the allowed signers.
pub const MAX_REVOKED: usize = 8 << 20;

/// What is revoked, out of a file of public keys, one in a line, or a key revocation list (KRL) of `ssh-keygen -k`.
///
/// As with `ssh-keygen -Y verify -r FILE`, a listed key takes its certificates with it, and an authority all that it
/// signed; and a file that is not understood in every line revokes everything: here it is not taken at all.
#[derive(Debug, Clone, Default)]
pub struct Revoked {
    file: PathBuf,
    keys: HashSet<Vec<u8>>,
    krl: Option<Krl>,
}

/// Why a file is not one of revoked keys.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{}: found {problem}, expected public keys, one in a line, or a KRL made by `ssh-keygen -k`", file.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct RevokedError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; `None` in a KRL.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: String,
}

impl Revoked {
    /// Parses the content of the file at `path`, which is only named in messages.
    ///
    /// # Errors
    /// The first thing in it that is not understood.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, RevokedError> {
        let error =
            |line, problem: &str| RevokedError { file: path.to_owned(), line, problem: problem.to_owned() };
        if bytes.len() > MAX_REVOKED {
            return Err(error(None, "more than 8 MiB"));
        }
        let mut revoked = Self { file: path.to_owned(), ..Self::default() };
        if bytes.starts_with(krl::MAGIC) {
            revoked.krl = Some(Krl::parse(bytes).map_err(|problem| error(None, problem))?);
            return Ok(revoked);
        }
        let text = std::str::from_utf8(bytes).map_err(|_error| error(None, "bytes that are neither"))?;
        for (number, line) in (1..).zip(text.split('\n')) {
            let line = line.trim_start_matches([' ', '\t']);
            // A line of a lone CR is no empty one to OpenSSH.
            if !line.is_empty() && !line.starts_with('#') {
                revoked.keys.insert(key_in(line).map_err(|problem| error(Some(number), &problem))?);
            }
        }
        Ok(revoked)
    }

    /// The file that it is from; an empty path without one.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether a plain key is listed, and by what.
    #[must_use]
    pub fn key(&self, key: &PublicKey) -> Option<&'static str> {
        if self.keys.contains(key.as_blob()) {
            return Some(krl::BY_KEY);
        }
        self.krl.as_ref().and_then(|krl| krl.revokes_key(key))
    }

    /// Checks that nothing that a signature was made with is revoked.
    ///
    /// # Errors
    /// [`SignerError::Revoked`].
    pub fn check(&self, signature: &Signature) -> Result<(), SignerError> {
        let certificate = signature.certificate();
        let by = self
            .key(signature.key())
            .or_else(|| {
                certificate.filter(|of| self.key(of.authority()).is_some()).map(|_| "its authority is listed")
            })
            .or_else(|| certificate.and_then(|of| self.krl.as_ref()?.revokes_certificate(of)));
        match by {
            None => Ok(()),
            Some(by) => Err(SignerError::Revoked {
                fingerprint: signature.key().fingerprint(),
                by,
                file: self.file.clone(),
            }),
        }
    }
}

/// The plain key in a line, in SSH's wire format.
fn key_in(line: &str) -> Result<Vec<u8>, String> {
    let mut words = line.trim_end_matches('\r').split([' ', '\t']).filter(|word| !word.is_empty());
    let (Some(kind), Some(base64)) = (words.next(), words.next()) else {
        return Err("a line that is no public key".to_owned());
    };
    let malformed = || format!("a key of kind {} that is malformed or not supported", quoted(kind));
    let blob = Base64::decode_vec(base64).map_err(|_error| malformed())?;
    if Wire::new(&blob).string() != Some(kind.as_bytes()) {
        return Err(malformed());
    }
    if let Some(key) = Certificate::key_of(&blob) {
        return Ok(key.as_blob().to_vec());
    }
    // One that is too weak to sign here may be listed all the same.
    if PublicKey::is_readable(&blob) { Ok(blob) } else { Err(malformed()) }
}
