//! [`Signature`]: the blob inside the armour, parsed, and the check of it against a file's hash.

use super::armour;
use super::certificate::{Certificate, CertificateError};
use super::error::SignatureError;
use super::hashes::Hash;
use super::key::{KeyError, PublicKey};
use super::value::{Value, Wrong};
use super::wire::{Wire, put_string};

const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;

/// A signature of a file, well-formed but not yet checked against anything.
#[derive(Debug, Clone)]
pub struct Signature {
    maker: Maker,
    namespace: String,
    hash: Hash,
    value: Value,
}

/// What a signature names as its key.
#[derive(Debug, Clone)]
enum Maker {
    Key(Box<PublicKey>),
    Certificate(Box<Certificate>),
}

impl Maker {
    fn from_blob(blob: &[u8]) -> Result<Self, SignatureError> {
        let key_error = |error| match error {
            KeyError::Malformed => SignatureError::Malformed { problem: "a public key that is malformed" },
            KeyError::Unsupported { found } => SignatureError::UnsupportedKey { found },
        };
        if !Certificate::is_one(blob) {
            return PublicKey::from_blob(blob).map(Box::new).map(Self::Key).map_err(key_error);
        }
        match Certificate::from_blob(blob) {
            Ok(certificate) => Ok(Self::Certificate(Box::new(certificate))),
            Err(CertificateError::Key(error)) => Err(key_error(error)),
            Err(CertificateError::Malformed) => {
                Err(SignatureError::Malformed { problem: "a certificate that is malformed" })
            }
            Err(CertificateError::NotSigned) => Err(SignatureError::ForgedCertificate),
        }
    }

    fn key(&self) -> &PublicKey {
        match self {
            Self::Key(key) => key,
            Self::Certificate(certificate) => certificate.key(),
        }
    }
}

impl Signature {
    /// Parses an armoured signature.
    ///
    /// Stricter than `ssh-keygen`: the reserved field has to be empty (it ignores the content), the version is 1 (it
    /// takes 0 too), and the namespace is UTF-8.
    ///
    /// # Errors
    /// When there is none, or it is anything else than one well-formed signature by a supported kind of key.
    pub fn parse(armoured: &[u8]) -> Result<Self, SignatureError> {
        let blob = armour::decode(armoured)?;
        let malformed = |problem| SignatureError::Malformed { problem };
        let rest = blob.strip_prefix(MAGIC).ok_or_else(|| malformed("no SSHSIG inside the armour"))?;
        let mut wire = Wire::new(rest);
        let version = wire.u32().ok_or_else(|| malformed("a blob that was cut short"))?;
        if version != VERSION {
            return Err(SignatureError::UnknownVersion { found: version });
        }
        let mut field = || wire.string().ok_or_else(|| malformed("a blob that was cut short"));
        let (maker, namespace, reserved, hash, value) = (field()?, field()?, field()?, field()?, field()?);
        if !wire.is_empty() {
            return Err(malformed("bytes behind the end of the blob"));
        }
        if !reserved.is_empty() {
            return Err(malformed("content in its reserved field"));
        }
        let maker = Maker::from_blob(maker)?;
        let namespace = match std::str::from_utf8(namespace) {
            Ok(text) if !text.is_empty() && !text.contains('\0') => text.to_owned(),
            _ => return Err(malformed("a namespace that is empty or not text")),
        };
        let hash = match hash {
            b"sha256" => Hash::Sha256,
            b"sha512" => Hash::Sha512,
            other => {
                return Err(SignatureError::UnknownHash {
                    found: String::from_utf8_lossy(other).into_owned(),
                });
            }
        };
        let value = Value::parse(maker.key(), value)
            .ok_or_else(|| malformed("a signature value that is malformed"))?;
        Ok(Self { maker, namespace, hash, value })
    }

    /// The key that it says it was made with; of a certificate, the one that it is about. Nothing is known of it before
    /// [`Self::check`].
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        self.maker.key()
    }

    /// The certificate that it was made with, if it was one.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        match &self.maker {
            Maker::Key(_) => None,
            Maker::Certificate(certificate) => Some(certificate),
        }
    }

    /// What it was made for.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// How the file has to be hashed to check it.
    #[must_use]
    pub const fn hash(&self) -> Hash {
        self.hash
    }

    /// Checks that it was made by its key, for `namespace`, of the file that has `digest` (by [`Self::hash`]).
    ///
    /// # Errors
    /// [`SignatureError::WrongNamespace`], [`SignatureError::NotForTheseBytes`], or, of a security key,
    /// [`SignatureError::NotTouched`].
    pub fn check(&self, namespace: &str, digest: &[u8]) -> Result<(), SignatureError> {
        if self.namespace != namespace {
            return Err(SignatureError::WrongNamespace {
                found: self.namespace.clone(),
                expected: namespace.to_owned(),
            });
        }
        let message = signed_data(namespace, self.hash, digest);
        match self.value.check(self.key(), &message) {
            Ok(()) => Ok(()),
            Err(Wrong::OtherData) => {
                Err(SignatureError::NotForTheseBytes { fingerprint: self.key().fingerprint() })
            }
            Err(Wrong::NotTouched) => {
                Err(SignatureError::NotTouched { fingerprint: self.key().fingerprint() })
            }
        }
    }

    /// The armoured text of a signature of `signed_data(namespace, hash, ...)` by a maker: a key, or a certificate about it,
    /// in SSH's wire format.
    pub(super) fn armoured(maker: &[u8], namespace: &str, hash: Hash, inner: &[u8]) -> String {
        let mut blob = MAGIC.to_vec();
        blob.extend(VERSION.to_be_bytes());
        for field in [maker, namespace.as_bytes(), b"", hash.as_str().as_bytes(), inner] {
            put_string(&mut blob, field);
        }
        armour::encode(&blob)
    }
}

/// What is signed: not the file but, under a prefix that no other use of SSH keys has, what it is and its hash.
pub(super) fn signed_data(namespace: &str, hash: Hash, digest: &[u8]) -> Vec<u8> {
    let mut data = MAGIC.to_vec();
    for field in [namespace.as_bytes(), b"", hash.as_str().as_bytes(), digest] {
        put_string(&mut data, field);
    }
    data
}
