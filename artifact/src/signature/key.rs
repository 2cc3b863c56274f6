//! [`PublicKey`]: a public key as its bytes in SSH's wire format.

use std::fmt;

use base64ct::{Base64, Encoding as _};
use ssh_key::public::KeyData;
use ssh_key::{EcdsaCurve, HashAlg};
use thiserror::Error;

/// Fewest bits of an RSA key: what `ssh-keygen` makes by itself, and 128 bits of strength.
const MIN_RSA_BITS: usize = 3072;

/// Most bits of an RSA key: what the `rsa` crate checks by itself, against keys that take minutes to check with.
const MAX_RSA_BITS: usize = 4096;

/// A public key of a kind that signatures are accepted of. Two are equal if their bytes in SSH's wire format are.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    blob: Vec<u8>,
    data: KeyData,
}

/// Why bytes are not a public key that signatures are accepted of.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not a key in SSH's wire format.
    #[error("not a public key in OpenSSH's format")]
    Malformed,
    /// A key of another kind or strength.
    #[error("{found} is not supported; use ed25519, ecdsa (p256, p384) or rsa (3072 to 4096 bits)")]
    Unsupported {
        /// What kind it is.
        found: String,
    },
}

impl PublicKey {
    /// Parses a key in SSH's wire format, as it stands in signatures and, in base64, in key files.
    ///
    /// # Errors
    /// When it is none, has trailing bytes or more than one spelling, or is of a kind that is not supported.
    pub fn from_blob(blob: &[u8]) -> Result<Self, KeyError> {
        let Ok(key) = ssh_key::PublicKey::from_bytes(blob) else { return Err(unsupported_name(blob)) };
        if key.to_bytes().ok().as_deref() != Some(blob) {
            return Err(KeyError::Malformed);
        }
        let data = key.key_data().clone();
        let unsupported = |found: String| Err(KeyError::Unsupported { found });
        match &data {
            KeyData::Ed25519(_) => {}
            KeyData::Ecdsa(key) if key.curve() == EcdsaCurve::NistP521 => {
                return unsupported("a key of kind ecdsa-sha2-nistp521".into());
            }
            KeyData::Ecdsa(_) => {}
            KeyData::Rsa(key) => {
                let modulus = key.n.as_positive_bytes().ok_or(KeyError::Malformed)?;
                let bits =
                    modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
                if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
                    return unsupported(format!("an RSA key of {bits} bits"));
                }
            }
            other => return unsupported(format!("a key of kind {}", other.algorithm())),
        }
        Ok(Self { blob: blob.to_vec(), data })
    }

    /// Parses the two words of a key file or an `allowed_signers` line: kind and base64.
    pub(crate) fn from_words(kind: &str, base64: &str) -> Result<Self, KeyError> {
        let blob = Base64::decode_vec(base64).map_err(|_error| KeyError::Malformed)?;
        let mut rest = blob.as_slice();
        if super::blob::take_string(&mut rest) != Some(kind.as_bytes()) {
            return Err(KeyError::Malformed);
        }
        Self::from_blob(&blob)
    }

    /// The key in SSH's wire format.
    #[must_use]
    pub fn as_blob(&self) -> &[u8] {
        &self.blob
    }

    /// `SHA256:` and base64, as `ssh-keygen -l` shows it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.data.fingerprint(HashAlg::Sha256).to_string()
    }

    /// Kind and base64, as in a `.pub` file, without a comment.
    #[must_use]
    pub fn to_openssh(&self) -> String {
        format!("{} {}", self.data.algorithm(), Base64::encode_string(&self.blob))
    }

    pub(super) const fn data(&self) -> &KeyData {
        &self.data
    }

    /// Whether a signature of this algorithm can be one of this key.
    ///
    /// For RSA that is SHA-2 only, as `ssh-keygen` has it: `ssh-rsa` means SHA-1.
    pub(super) fn signs_with(&self, algorithm: &ssh_key::Algorithm) -> bool {
        match (&self.data, algorithm) {
            (KeyData::Rsa(_), ssh_key::Algorithm::Rsa { hash }) => hash.is_some(),
            (data, algorithm) => data.algorithm() == *algorithm,
        }
    }
}

/// A key that the parser does not know has a name all the same, which helps its owner more than "malformed".
fn unsupported_name(blob: &[u8]) -> KeyError {
    let mut rest = blob;
    match super::blob::take_string(&mut rest).map(std::str::from_utf8) {
        Some(Ok(name)) if name.contains("-cert-v01@") => {
            KeyError::Unsupported { found: "a certificate".to_owned() }
        }
        Some(Ok(name)) if ["sk-", "webauthn-", "ssh-dss"].iter().any(|kind| name.starts_with(kind)) => {
            KeyError::Unsupported { found: format!("a key of kind {}", name.escape_debug()) }
        }
        Some(Ok("ecdsa-sha2-nistp521")) => {
            KeyError::Unsupported { found: "a key of kind ecdsa-sha2-nistp521".to_owned() }
        }
        _ => KeyError::Malformed,
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.data.algorithm(), self.fingerprint())
    }
}
