//! The signature value inside of SSHSIG and of certificates: parsed for the key that it says it is of, and checked.
//!
//! Formats: RFC 5656 (ECDSA), RFC 8332 (RSA with SHA-2), RFC 8709 (ed25519), `PROTOCOL.u2f` (security keys). As with
//! `ssh-keygen`, RSA signs with SHA-2 only. Stricter: numbers have one spelling, lengths are exact, and a security key
//! must have been touched.

use p256::ecdsa::signature::Verifier as _;
use sha2::Digest as _;

use super::key::{Kind, Numbers, PublicKey};
use super::wire::Wire;

/// In the flags that a security key signs: a person touched it.
const TOUCHED: u8 = 1;

/// A well-formed value for one kind of key.
#[derive(Debug, Clone)]
pub(super) struct Value {
    numbers: Signed,
    /// What a security key adds to the data: flags and counter.
    authenticator: Option<(u8, u32)>,
}

#[derive(Debug, Clone)]
enum Signed {
    Ed25519(ed25519_dalek::Signature),
    P256(p256::ecdsa::Signature),
    P384(p384::ecdsa::Signature),
    P521(p521::ecdsa::Signature),
    RsaSha256(rsa::pkcs1v15::Signature),
    RsaSha512(rsa::pkcs1v15::Signature),
}

/// Why a well-formed value does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is not of these data by this key.
    OtherData,
    /// Nobody touched the security key.
    NotTouched,
}

impl Value {
    /// The value, if it has one spelling and is one that `key` can make.
    pub(super) fn parse(key: &PublicKey, bytes: &[u8]) -> Option<Self> {
        let mut wire = Wire::new(bytes);
        let name = wire.string()?;
        let value = wire.string()?;
        let numbers = match (key.kind(), name) {
            (Kind::Rsa, b"rsa-sha2-256") => Signed::RsaSha256(rsa_value(key, value)?),
            (Kind::Rsa, b"rsa-sha2-512") => Signed::RsaSha512(rsa_value(key, value)?),
            (Kind::Rsa, _) => return None,
            (kind, name) if name != kind.name().as_bytes() => return None,
            (Kind::Ed25519 | Kind::SkEd25519, _) => Signed::Ed25519(ed25519_value(value)?),
            (Kind::P256 | Kind::SkP256, _) => {
                let [r, s] = scalars::<32>(value)?.map(p256::FieldBytes::from);
                Signed::P256(p256::ecdsa::Signature::from_scalars(r, s).ok()?)
            }
            (Kind::P384, _) => {
                let [r, s] = scalars::<48>(value)?.map(p384::FieldBytes::from);
                Signed::P384(p384::ecdsa::Signature::from_scalars(r, s).ok()?)
            }
            (Kind::P521, _) => {
                let [r, s] = scalars::<66>(value)?.map(|scalar| p521::FieldBytes::clone_from_slice(&scalar));
                Signed::P521(p521::ecdsa::Signature::from_scalars(r, s).ok()?)
            }
        };
        let authenticator = if key.kind().is_security_key() { Some((wire.u8()?, wire.u32()?)) } else { None };
        wire.end()?;
        Some(Self { numbers, authenticator })
    }

    /// Checks that it was made by `key` of `data`.
    pub(super) fn check(&self, key: &PublicKey, data: &[u8]) -> Result<(), Wrong> {
        let good = match self.authenticator {
            None => self.made_of(key, data),
            Some((flags, counter)) => {
                let mut signed = key.application.to_vec();
                signed.push(flags);
                signed.extend(counter.to_be_bytes());
                signed.extend(sha2::Sha256::digest(data));
                self.made_of(key, &signed)
            }
        };
        match self.authenticator {
            _ if !good => Err(Wrong::OtherData),
            Some((flags, _)) if flags & TOUCHED == 0 => Err(Wrong::NotTouched),
            _ => Ok(()),
        }
    }

    fn made_of(&self, key: &PublicKey, data: &[u8]) -> bool {
        match (&key.numbers, &self.numbers) {
            (Numbers::Ed25519(key), Signed::Ed25519(value)) => key.verify_strict(data, value).is_ok(),
            (Numbers::P256(key), Signed::P256(value)) => key.verify(data, value).is_ok(),
            (Numbers::P384(key), Signed::P384(value)) => key.verify(data, value).is_ok(),
            (Numbers::P521(key), Signed::P521(value)) => key.verify(data, value).is_ok(),
            (Numbers::Rsa(key), Signed::RsaSha256(value)) => {
                rsa::pkcs1v15::VerifyingKey::<sha2::Sha256>::new(key.clone()).verify(data, value).is_ok()
            }
            (Numbers::Rsa(key), Signed::RsaSha512(value)) => {
                rsa::pkcs1v15::VerifyingKey::<sha2::Sha512>::new(key.clone()).verify(data, value).is_ok()
            }
            // A value is parsed for one kind of key and checked with the same.
            _ => false,
        }
    }
}

/// With a scalar below the group's order (RFC 8032, section 5.1.7): OpenSSH takes a few that are above it, which makes two
/// signatures of one.
fn ed25519_value(bytes: &[u8]) -> Option<ed25519_dalek::Signature> {
    /// 2^252 + 27742317777372353535851937790883648493, highest byte first.
    const ORDER: [u8; 32] = [
        0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0xde, 0xf9, 0xde, 0xa2, 0xf7, 0x9c, 0xd6,
        0x58, 0x12, 0x63, 0x1a, 0x5c, 0xf5, 0xd3, 0xed,
    ];
    let bytes: &[u8; 64] = bytes.try_into().ok()?;
    let scalar = bytes[32..].iter().rev();
    scalar.lt(ORDER.iter()).then(|| ed25519_dalek::Signature::from_bytes(bytes))
}

/// As long as the modulus: OpenSSH puts zeros before one that is shorter.
fn rsa_value(key: &PublicKey, bytes: &[u8]) -> Option<rsa::pkcs1v15::Signature> {
    use rsa::traits::PublicKeyParts as _;
    let Numbers::Rsa(numbers) = &key.numbers else { return None };
    if bytes.len() != numbers.size() {
        return None;
    }
    bytes.try_into().ok()
}

/// The two numbers of an ECDSA signature, each as long as the curve's scalars.
fn scalars<const LEN: usize>(bytes: &[u8]) -> Option<[[u8; LEN]; 2]> {
    let mut wire = Wire::new(bytes);
    let mut scalar = || {
        let number = wire.positive()?;
        let mut padded = [0; LEN];
        padded.get_mut(LEN.checked_sub(number.len())?..)?.copy_from_slice(number);
        Some(padded)
    };
    let both = [scalar()?, scalar()?];
    wire.end()?;
    Some(both)
}
