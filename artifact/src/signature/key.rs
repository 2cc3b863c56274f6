//! [`PublicKey`]: a public key as its bytes in SSH's wire format (RFC 4253, 5656, 8709; `PROTOCOL.u2f`), and whether a
//! value was signed with it.
//!
//! Parsed here and not by `ssh-key`, whose parser takes what `ssh-keygen` refuses (compressed points) and has no weak
//! keys in view; the arithmetic is RustCrypto's and dalek's.

use std::fmt;
use std::ops::RangeInclusive;

use base64ct::{Base64, Base64Unpadded, Encoding as _};
use rsa::BigUint;
use sha2::Digest as _;
use thiserror::Error;

use super::wire::Wire;

/// Fewest bits of an RSA key: what `ssh-keygen` makes by itself, and 128 bits of strength.
const MIN_RSA_BITS: usize = 3072;

/// Most bits of an RSA key: what the `rsa` crate checks by itself, against keys that take minutes to check with.
const MAX_RSA_BITS: usize = 4096;

/// What sizes of an RSA key's modulus OpenSSH reads.
const OPENSSH_RSA_BYTES: RangeInclusive<usize> = 128..=2048;

/// Longest application of a security key's key: a domain's name has at most 253 characters.
const MAX_APPLICATION: usize = 255;

/// A kind of key that signatures are accepted of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ed25519,
    P256,
    P384,
    P521,
    Rsa,
    /// ed25519 in a security key.
    SkEd25519,
    /// ECDSA with P-256 in a security key.
    SkP256,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Ed25519, Self::P256, Self::P384, Self::P521, Self::Rsa, Self::SkEd25519, Self::SkP256];

    /// Its name in keys.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::P256 => "ecdsa-sha2-nistp256",
            Self::P384 => "ecdsa-sha2-nistp384",
            Self::P521 => "ecdsa-sha2-nistp521",
            Self::Rsa => "ssh-rsa",
            Self::SkEd25519 => "sk-ssh-ed25519@openssh.com",
            Self::SkP256 => "sk-ecdsa-sha2-nistp256@openssh.com",
        }
    }

    /// Its name in certificates.
    pub(crate) const fn certificate_name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519-cert-v01@openssh.com",
            Self::P256 => "ecdsa-sha2-nistp256-cert-v01@openssh.com",
            Self::P384 => "ecdsa-sha2-nistp384-cert-v01@openssh.com",
            Self::P521 => "ecdsa-sha2-nistp521-cert-v01@openssh.com",
            Self::Rsa => "ssh-rsa-cert-v01@openssh.com",
            Self::SkEd25519 => "sk-ssh-ed25519-cert-v01@openssh.com",
            Self::SkP256 => "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
        }
    }

    fn of(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().as_bytes() == name)
    }

    /// The kind of the key inside of a certificate with this name.
    pub(crate) fn of_certificate(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.certificate_name().as_bytes() == name)
    }

    /// Whether its private half is in a security key and signs more than the data: who touched it, and how often.
    pub(crate) const fn is_security_key(self) -> bool {
        matches!(self, Self::SkEd25519 | Self::SkP256)
    }
}

/// A public key of a kind that signatures are accepted of. Two are equal if their bytes in SSH's wire format are.
#[derive(Clone)]
pub struct PublicKey {
    blob: Vec<u8>,
    kind: Kind,
    pub(super) numbers: Numbers,
    /// SHA-256 of the application that a security key's key is for; zeros for others.
    pub(super) application: [u8; 32],
}

/// What the arithmetic is done with.
#[derive(Clone)]
pub(super) enum Numbers {
    Ed25519(ed25519_dalek::VerifyingKey),
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    P521(p521::ecdsa::VerifyingKey),
    Rsa(rsa::RsaPublicKey),
}

/// Why bytes are not a public key that signatures are accepted of.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not a key in SSH's wire format.
    #[error("not a public key in OpenSSH's format")]
    Malformed,
    /// A key of another kind or strength.
    #[error("{found} is not supported; use {SUPPORTED}")]
    Unsupported {
        /// What kind it is.
        found: String,
    },
}

/// What keys are accepted, for messages.
pub(super) const SUPPORTED: &str =
    "ed25519, ecdsa, rsa (3072 to 4096 bits) or a security key (ed25519-sk, ecdsa-sk)";

impl PublicKey {
    /// Parses a key in SSH's wire format, as it stands in signatures and, in base64, in key files.
    ///
    /// # Errors
    /// When it is none, has trailing bytes or more than one spelling, or is of a kind that is not supported.
    pub fn from_blob(blob: &[u8]) -> Result<Self, KeyError> {
        let mut wire = Wire::new(blob);
        let name = wire.string().ok_or(KeyError::Malformed)?;
        let kind = Kind::of(name).ok_or_else(|| unsupported(name))?;
        let key = Self::from_fields(kind, &mut wire)?;
        wire.end().ok_or(KeyError::Malformed)?;
        Ok(key)
    }

    /// Parses what follows the name, in a key and, behind a nonce, in a certificate.
    pub(super) fn from_fields(kind: Kind, wire: &mut Wire<'_>) -> Result<Self, KeyError> {
        let fields = *wire;
        let numbers = match kind {
            Kind::Ed25519 | Kind::SkEd25519 => ed25519(wire)?,
            Kind::P256 | Kind::SkP256 | Kind::P384 | Kind::P521 => {
                ecdsa(kind, wire).ok_or(KeyError::Malformed)?
            }
            Kind::Rsa => rsa_numbers(wire)?,
        };
        let mut application = [0; 32];
        if kind.is_security_key() {
            let text = wire.text().filter(|text| text.len() <= MAX_APPLICATION).ok_or(KeyError::Malformed)?;
            application = sha2::Sha256::digest(text).into();
        }
        let taken = fields.rest().len() - wire.rest().len();
        let mut blob = Vec::with_capacity(taken + 64);
        super::wire::put_string(&mut blob, kind.name().as_bytes());
        blob.extend_from_slice(&fields.rest()[..taken]);
        Ok(Self { blob, kind, numbers, application })
    }

    /// Parses the two words of a key file or an `allowed_signers` line: kind and base64.
    pub(crate) fn from_words(kind: &str, base64: &str) -> Result<Self, KeyError> {
        let blob = Base64::decode_vec(base64).map_err(|_error| KeyError::Malformed)?;
        if Wire::new(&blob).string() != Some(kind.as_bytes()) {
            return Err(KeyError::Malformed);
        }
        Self::from_blob(&blob)
    }

    /// Parses a line of a `.pub` file: kind, base64, and a comment that is left out.
    ///
    /// # Errors
    /// As [`Self::from_blob`].
    pub fn from_openssh(line: &str) -> Result<Self, KeyError> {
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        match (words.next(), words.next()) {
            (Some(kind), Some(base64)) => Self::from_words(kind, base64.trim_end()),
            _ => Err(KeyError::Malformed),
        }
    }

    /// Whether these bytes are a key that `ssh-keygen` reads, of a kind that is accepted here though perhaps not of a
    /// strength that is: what a list of revoked keys may have.
    pub(crate) fn is_readable(blob: &[u8]) -> bool {
        let rsa = || {
            let mut wire = Wire::new(blob);
            wire.string().filter(|name| *name == b"ssh-rsa")?;
            let (exponent, modulus) = (wire.positive()?, wire.positive()?);
            wire.end()?;
            Some(OPENSSH_RSA_BYTES.contains(&modulus.len()) && exponent.len() <= *OPENSSH_RSA_BYTES.end())
        };
        Self::from_blob(blob).is_ok() || rsa() == Some(true)
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether its private half is in a security key.
    #[must_use]
    pub const fn is_in_security_key(&self) -> bool {
        self.kind.is_security_key()
    }

    /// The name of its kind, e.g. `ssh-ed25519`.
    #[must_use]
    pub const fn kind_name(&self) -> &'static str {
        self.kind.name()
    }

    /// The key in SSH's wire format.
    #[must_use]
    pub fn as_blob(&self) -> &[u8] {
        &self.blob
    }

    /// `SHA256:` and base64, as `ssh-keygen -l` shows it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", Base64Unpadded::encode_string(&sha2::Sha256::digest(&self.blob)))
    }

    /// Kind and base64, as in a `.pub` file, without a comment.
    #[must_use]
    pub fn to_openssh(&self) -> String {
        format!("{} {}", self.kind.name(), Base64::encode_string(&self.blob))
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.blob == other.blob
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.kind.name(), self.fingerprint())
    }
}

fn ed25519(wire: &mut Wire<'_>) -> Result<Numbers, KeyError> {
    let point = wire.string().and_then(|point| point.try_into().ok()).ok_or(KeyError::Malformed)?;
    let key = ed25519_dalek::VerifyingKey::from_bytes(point).map_err(|_error| KeyError::Malformed)?;
    if key.is_weak() {
        // Of small order: anybody can make signatures of it.
        return Err(KeyError::Unsupported { found: "an ed25519 key that protects nothing".to_owned() });
    }
    Ok(Numbers::Ed25519(key))
}

fn ecdsa(kind: Kind, wire: &mut Wire<'_>) -> Option<Numbers> {
    let curve: &[u8] = match kind {
        Kind::P384 => b"nistp384",
        Kind::P521 => b"nistp521",
        _ => b"nistp256",
    };
    if wire.string()? != curve {
        return None;
    }
    // Not compressed, as OpenSSH has it.
    let point = wire.string().filter(|point| point.first() == Some(&4))?;
    let coordinates = &point[1..];
    let (x, y) = coordinates.split_at(coordinates.len() / 2);
    // OpenSSH (`sshkey_ec_validate_public`) refuses points that no honest key has: a coordinate of half the bits.
    let honest = |number: &[u8]| number[..number.len() / 2].iter().any(|byte| *byte != 0);
    if !honest(x) || !honest(y) {
        return None;
    }
    match kind {
        Kind::P384 => p384::ecdsa::VerifyingKey::from_sec1_bytes(point).ok().map(Numbers::P384),
        Kind::P521 => p521::ecdsa::VerifyingKey::from_sec1_bytes(point).ok().map(Numbers::P521),
        _ => p256::ecdsa::VerifyingKey::from_sec1_bytes(point).ok().map(Numbers::P256),
    }
}

fn rsa_numbers(wire: &mut Wire<'_>) -> Result<Numbers, KeyError> {
    let exponent = wire.positive().ok_or(KeyError::Malformed)?;
    let modulus = wire.positive().ok_or(KeyError::Malformed)?;
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
        return Err(KeyError::Unsupported { found: format!("an RSA key of {bits} bits") });
    }
    let number = BigUint::from_bytes_be;
    match rsa::RsaPublicKey::new(number(modulus), number(exponent)) {
        Ok(key) if exponent.last().is_some_and(|byte| byte & 1 == 1) => Ok(Numbers::Rsa(key)),
        _ => Err(KeyError::Unsupported { found: "an RSA key with an unusual exponent".to_owned() }),
    }
}

/// A key that the parser does not know has a name all the same, which helps its owner more than "malformed".
fn unsupported(name: &[u8]) -> KeyError {
    match std::str::from_utf8(name) {
        Ok(name) if name.contains("-cert-v01@") => {
            KeyError::Unsupported { found: "a certificate".to_owned() }
        }
        Ok(name) if ["ssh-", "sk-", "webauthn-"].iter().any(|kind| name.starts_with(kind)) => {
            KeyError::Unsupported { found: format!("a key of kind {}", crate::refusal::quoted(name)) }
        }
        _ => KeyError::Malformed,
    }
}
