//! [`Certificate`]: a public key with names, serial number and time, signed by an authority (`PROTOCOL.certkeys`).
//!
//! Parsed and checked against its own authority here. Whether that authority and these names count is
//! [`crate::trust`]'s.

use std::fmt;

use base64ct::{Base64, Encoding as _};

use super::key::{KeyError, Kind, PublicKey};
use super::value::Value;
use super::wire::Wire;

/// Most names in a certificate, as OpenSSH has it.
const MAX_PRINCIPALS: usize = 256;

const USER: u32 = 1;
const HOST: u32 = 2;

/// A certificate with a good signature of the authority that it names.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    blob: Vec<u8>,
    key: PublicKey,
    authority: PublicKey,
    /// What the authority numbered it with; 0 for not at all.
    pub serial: u64,
    /// What the authority calls it.
    pub id: String,
    /// The names that it is for.
    pub principals: Vec<String>,
    /// It is for a person or a program, and not for a host.
    pub for_user: bool,
    /// Seconds since 1970 from which on it is valid.
    pub valid_after: u64,
    /// Seconds since 1970 at which it is no longer valid.
    pub valid_before: u64,
    /// The names of the options that nobody may ignore.
    pub critical: Vec<String>,
}

/// Why bytes are not a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CertificateError {
    Malformed,
    Key(KeyError),
    /// Its authority did not sign it.
    NotSigned,
}

impl Certificate {
    /// Whether this is the start of a certificate and not of a plain key.
    pub(super) fn is_one(blob: &[u8]) -> bool {
        Wire::new(blob).string().is_some_and(|name| Kind::of_certificate(name).is_some())
    }

    /// Parses the text of a `-cert.pub` file: kind, base64, and a comment that is left out. `None`: it is none.
    pub(super) fn from_openssh(text: &str) -> Option<Result<Self, CertificateError>> {
        let mut words = text.split_ascii_whitespace();
        Kind::of_certificate(words.next()?.as_bytes())?;
        let blob = words.next().and_then(|base64| Base64::decode_vec(base64).ok());
        Some(blob.ok_or(CertificateError::Malformed).and_then(|blob| Self::from_blob(&blob)))
    }

    /// Parses a certificate in SSH's wire format and checks its authority's signature.
    ///
    /// Stricter than `ssh-keygen`: texts are UTF-8 without NUL, and the authority's key and signature are as strict as
    /// any (no SHA-1 with RSA, no short keys).
    pub(super) fn from_blob(blob: &[u8]) -> Result<Self, CertificateError> {
        let malformed = || CertificateError::Malformed;
        let mut wire = Wire::new(blob);
        let kind = wire.string().and_then(Kind::of_certificate).ok_or_else(malformed)?;
        let _nonce = wire.string().ok_or_else(malformed)?;
        let key = PublicKey::from_fields(kind, &mut wire).map_err(CertificateError::Key)?;
        let fields = Fields::read(&mut wire).ok_or_else(malformed)?;
        let authority = PublicKey::from_blob(fields.authority).map_err(CertificateError::Key)?;
        let signed = &blob[..blob.len() - wire.rest().len()];
        let value = wire.string().and_then(|value| Value::parse(&authority, value)).ok_or_else(malformed)?;
        wire.end().ok_or_else(malformed)?;
        value.check(&authority, signed).map_err(|_wrong| CertificateError::NotSigned)?;
        Ok(Self {
            blob: blob.to_vec(),
            key,
            authority,
            serial: fields.serial,
            id: fields.id.to_owned(),
            principals: fields.principals,
            for_user: fields.kind == USER,
            valid_after: fields.valid_after,
            valid_before: fields.valid_before,
            critical: fields.critical,
        })
    }

    /// The key in a well-formed certificate: what a list of revoked keys may have.
    pub(crate) fn key_of(blob: &[u8]) -> Option<PublicKey> {
        Self::from_blob(blob).ok().map(|certificate| certificate.key)
    }

    /// The key that it is about.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The key that signed it.
    #[must_use]
    pub const fn authority(&self) -> &PublicKey {
        &self.authority
    }

    /// In SSH's wire format.
    #[must_use]
    pub fn as_blob(&self) -> &[u8] {
        &self.blob
    }
}

/// What stands between the key and the signature.
struct Fields<'a> {
    serial: u64,
    kind: u32,
    id: &'a str,
    principals: Vec<String>,
    valid_after: u64,
    valid_before: u64,
    critical: Vec<String>,
    authority: &'a [u8],
}

impl<'a> Fields<'a> {
    fn read(wire: &mut Wire<'a>) -> Option<Self> {
        let serial = wire.u64()?;
        let kind = wire.u32().filter(|kind| matches!(*kind, USER | HOST))?;
        let id = wire.text()?;
        let mut names = Wire::new(wire.string()?);
        let mut principals = Vec::new();
        while !names.is_empty() {
            if principals.len() == MAX_PRINCIPALS {
                return None;
            }
            principals.push(names.text()?.to_owned());
        }
        let (valid_after, valid_before) = (wire.u64()?, wire.u64()?);
        let critical = option_names(wire.string()?)?;
        let _extensions = option_names(wire.string()?)?;
        let _reserved = wire.string()?;
        let authority = wire.string()?;
        Some(Self { serial, kind, id, principals, valid_after, valid_before, critical, authority })
    }
}

/// The names in a list of options, each of which has a value.
fn option_names(bytes: &[u8]) -> Option<Vec<String>> {
    let mut wire = Wire::new(bytes);
    let mut names = Vec::new();
    while !wire.is_empty() {
        names.push(wire.text()?.to_owned());
        wire.string()?;
    }
    Some(names)
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("key", &self.key)
            .field("authority", &self.authority)
            .field("serial", &self.serial)
            .field("id", &self.id)
            .field("principals", &self.principals)
            .finish_non_exhaustive()
    }
}
