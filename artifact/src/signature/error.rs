//! [`SignatureError`]: why a signature does not count.

use thiserror::Error;

use super::key::SUPPORTED;
use crate::refusal::{Refusal, quoted};

/// Why a signature is not accepted for a file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", self.refusal())]
#[non_exhaustive]
pub enum SignatureError {
    /// There is none.
    Missing,
    /// It is not one armoured SSHSIG and nothing else.
    Malformed {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A version of the format that is not known.
    UnknownVersion {
        /// The version.
        found: u32,
    },
    /// A hash that the format does not have.
    UnknownHash {
        /// Its name.
        found: String,
    },
    /// Made by a key of a kind, or of a strength, that is not accepted.
    UnsupportedKey {
        /// What kind it is.
        found: String,
    },
    /// Made for something else.
    WrongNamespace {
        /// The namespace that it was made for.
        found: String,
        /// The namespace that is accepted here.
        expected: String,
    },
    /// Made with a certificate that its authority did not sign.
    ForgedCertificate,
    /// Made with a security key that nobody touched.
    NotTouched {
        /// Fingerprint of the key.
        fingerprint: String,
    },
    /// A valid signature of other bytes, or no valid one at all.
    NotForTheseBytes {
        /// Fingerprint of the key that it names.
        fingerprint: String,
    },
}

impl SignatureError {
    /// The same in four parts and with a stable code.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        const SIGN: &str = "sign with `hotctl sign` or `ssh-keygen -Y sign -n hot-module -f KEY FILE`";
        let new = |code, found: String, expected: &str, advice: String| {
            Refusal::new(code, "signature", found, expected, advice)
        };
        match self {
            Self::Missing => new("signature.missing", "none".into(), "an SSHSIG of the file", SIGN.into()),
            Self::Malformed { problem } => new(
                "signature.malformed",
                (*problem).into(),
                "one armoured SSHSIG and nothing else",
                SIGN.into(),
            ),
            Self::UnknownVersion { found } => {
                new("signature.version", format!("version {found} of SSHSIG"), "version 1", SIGN.into())
            }
            Self::UnknownHash { found } => {
                new("signature.hash", format!("the hash {}", quoted(found)), "sha512 or sha256", SIGN.into())
            }
            Self::UnsupportedKey { found } => new(
                "signature.key",
                found.clone(),
                &format!("a key of kind {SUPPORTED}"),
                "make one with `ssh-keygen -t ed25519`".into(),
            ),
            Self::WrongNamespace { found, expected } => new(
                "signature.namespace",
                format!("namespace {}", quoted(found)),
                &format!("`{expected}`"),
                format!("sign with ssh-keygen -Y sign -n {expected}"),
            ),
            Self::ForgedCertificate => new(
                "signature.certificate",
                "a certificate that the authority it names did not sign".into(),
                "a certificate as the authority made it",
                "have it made anew with `ssh-keygen -s AUTHORITY -I ID -n PRINCIPAL KEY.pub`".into(),
            ),
            Self::NotTouched { fingerprint } => new(
                "signature.not_touched",
                format!("one by the security key {fingerprint} that nobody touched"),
                "a signature that a person confirmed by touching the key",
                "sign with a key that was made without -O no-touch-required".into(),
            ),
            Self::NotForTheseBytes { fingerprint } => new(
                "signature.other_bytes",
                format!("one by key {fingerprint} that is not of these bytes"),
                "a signature of exactly this file",
                "sign the file again, after its last change".into(),
            ),
        }
    }
}
