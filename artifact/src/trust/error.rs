//! [`SignerError`]: why a good signature is of somebody who may not sign.

use std::path::PathBuf;

use thiserror::Error;

use crate::ModuleName;
use crate::refusal::Refusal;
use crate::signature::SignatureError;

/// Why a signature does not let a module in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JudgeError {
    /// The signature does not count.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The signer is not allowed.
    #[error(transparent)]
    Signer(#[from] SignerError),
}

impl JudgeError {
    /// The same in four parts and with a stable code.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Signature(error) => error.refusal(),
            Self::Signer(error) => error.refusal(),
        }
    }
}

/// Why the key of a signature is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", self.refusal())]
#[non_exhaustive]
pub enum SignerError {
    /// The key is not among the allowed signers.
    NotAllowed {
        /// Fingerprint of the key.
        fingerprint: String,
        /// The file of allowed signers.
        file: PathBuf,
        /// A line there that has the key and does not count, and why.
        near_miss: Option<(usize, &'static str)>,
    },
    /// The key is revoked, or the certificate, or the authority that made it.
    Revoked {
        /// Fingerprint of the key.
        fingerprint: String,
        /// What of it is listed.
        by: &'static str,
        /// The file of revoked keys.
        file: PathBuf,
    },
    /// The authority of a certificate is not among the allowed signers.
    AuthorityNotAllowed {
        /// What the certificate is.
        certificate: String,
        /// Fingerprint of the authority.
        authority: String,
        /// The file of allowed signers.
        file: PathBuf,
        /// A line there that has the authority and does not count, and why.
        near_miss: Option<(usize, &'static str)>,
    },
    /// The certificate is of an allowed authority, and does not count here.
    Certificate {
        /// What the certificate is.
        certificate: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The key is allowed, but not in this namespace.
    NotForNamespace {
        /// Fingerprint of the key.
        fingerprint: String,
        /// The namespace.
        namespace: String,
        /// The file of allowed signers.
        file: PathBuf,
        /// The line that allows it for others.
        line: usize,
    },
    /// The key is allowed, but not for this module.
    NotForModule {
        /// The principals of the key.
        principals: Vec<String>,
        /// The module.
        module: ModuleName,
    },
    /// The key, or its certificate, is allowed from a later time on.
    NotYetValid {
        /// The principal of the key.
        principal: String,
        /// When that time begins.
        from: String,
        /// Where that is said: file and line.
        place: String,
    },
    /// The key, or its certificate, was allowed up to an earlier time.
    Expired {
        /// The principal of the key.
        principal: String,
        /// When that time ended.
        until: String,
        /// Where that is said: file and line.
        place: String,
    },
}

impl SignerError {
    /// The same in four parts and with a stable code.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let new =
            |code, found, expected: String, advice| Refusal::new(code, "signer", found, expected, advice);
        match self {
            Self::NotAllowed { fingerprint, file, near_miss } => new(
                "signer.not_allowed",
                match near_miss {
                    Some((line, why)) => {
                        format!("key {fingerprint}, whose entry in line {line} does not count: {why}")
                    }
                    None => format!("key {fingerprint}"),
                },
                format!("a key in {}", file.display()),
                "sign with an allowed key, or have this one added there".to_owned(),
            ),
            Self::Revoked { fingerprint, by, file } => new(
                "signer.revoked",
                format!("key {fingerprint}, revoked by {}: {by}", file.display()),
                "a key that is not revoked".to_owned(),
                "sign with another key".to_owned(),
            ),
            Self::AuthorityNotAllowed { certificate, authority, file, near_miss } => new(
                "signer.authority_not_allowed",
                match near_miss {
                    Some((line, why)) => format!(
                        "{certificate} by the authority {authority}, whose entry in line {line} does not count: {why}"
                    ),
                    None => format!("{certificate} by the authority {authority}"),
                },
                format!("an authority that {} allows with cert-authority", file.display()),
                "sign with an allowed key, or have the authority added there".to_owned(),
            ),
            Self::Certificate { certificate, problem } => new(
                "signer.certificate",
                format!("{certificate}, {problem}"),
                "a user's certificate without critical options for a principal that its authority may name"
                    .to_owned(),
                "have one made with `ssh-keygen -s AUTHORITY -I ID -n PRINCIPAL -V +1d KEY.pub`".to_owned(),
            ),
            Self::NotForNamespace { fingerprint, namespace, file, line } => new(
                "signer.not_for_namespace",
                format!("key {fingerprint}, which {}:{line} allows for other namespaces", file.display()),
                format!("an entry with namespaces=\"{namespace}\""),
                format!("add {namespace} to the namespaces of that line"),
            ),
            Self::NotForModule { principals, module } => new(
                "signer.not_for_module",
                principals.join(", "),
                format!("a principal that may sign `{module}`"),
                "have one of them sign, or add the principal under [trust.modules]".to_owned(),
            ),
            Self::NotYetValid { principal, from, place } => new(
                "signer.not_yet_valid",
                format!("{principal}, allowed from {from} on"),
                "a key that is allowed now".to_owned(),
                format!("wait, or have an earlier begin in {place}"),
            ),
            Self::Expired { principal, until, place } => new(
                "signer.expired",
                format!("{principal}, allowed until {until}"),
                "a key that is allowed now".to_owned(),
                format!("sign with a newer key, or have a later end in {place}"),
            ),
        }
    }
}
