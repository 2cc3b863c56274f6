//! [`EcdsaKey`]: the private half of an ECDSA key out of OpenSSH's file format (`PROTOCOL.key`), not encrypted.
//!
//! `ssh-key` 0.6 reads these as well, but not those whose number has leading zero bytes: half of the keys with P-521 and
//! one in 256 of the others.

use base64ct::{Base64, Encoding as _};
use p256::ecdsa::signature::Signer as _;
use zeroize::Zeroizing;

use super::key::Kind;
use super::wire::{Wire, put_string};

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";

pub(super) enum EcdsaKey {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
}

impl EcdsaKey {
    /// The public half in SSH's wire format, and the private half. `None` when the text is not such a key.
    pub(super) fn read(text: &[u8]) -> Option<(Vec<u8>, Self)> {
        let text = std::str::from_utf8(text).ok()?.trim();
        let body = Zeroizing::new(text.strip_prefix(BEGIN)?.strip_suffix(END)?.replace(['\r', '\n'], ""));
        let bytes = Zeroizing::new(Base64::decode_vec(&body).ok()?);
        let mut wire = Wire::new(bytes.strip_prefix(MAGIC)?);
        let (cipher, derivation, _options) = (wire.string()?, wire.string()?, wire.string()?);
        if (cipher, derivation, wire.u32()?) != (b"none", b"none", 1) {
            return None;
        }
        let public = wire.string()?;
        let mut private = Wire::new(wire.string()?);
        if private.u32()? != private.u32()? {
            return None;
        }
        let kind = private.string()?;
        let (_curve, _point) = (private.string()?, private.string()?);
        let scalar = private.positive()?;
        let key = match kind {
            kind if kind == Kind::P256.name().as_bytes() => {
                Self::P256(p256::ecdsa::SigningKey::from_slice(padded::<32>(scalar)?.as_slice()).ok()?)
            }
            kind if kind == Kind::P384.name().as_bytes() => {
                Self::P384(p384::ecdsa::SigningKey::from_slice(padded::<48>(scalar)?.as_slice()).ok()?)
            }
            kind if kind == Kind::P521.name().as_bytes() => {
                Self::P521(p521::ecdsa::SigningKey::from_slice(padded::<66>(scalar)?.as_slice()).ok()?)
            }
            _ => return None,
        };
        Some((public.to_vec(), key))
    }

    /// The signature value, in SSH's wire format, of `data`.
    pub(super) fn sign(&self, data: &[u8]) -> Option<Vec<u8>> {
        let (kind, scalars) = match self {
            Self::P256(key) => {
                let value: p256::ecdsa::Signature = key.try_sign(data).ok()?;
                (Kind::P256, value.to_vec())
            }
            Self::P384(key) => {
                let value: p384::ecdsa::Signature = key.try_sign(data).ok()?;
                (Kind::P384, value.to_vec())
            }
            Self::P521(key) => {
                let value: p521::ecdsa::Signature = key.try_sign(data).ok()?;
                (Kind::P521, value.to_vec())
            }
        };
        let (r, s) = scalars.split_at(scalars.len() / 2);
        let mut numbers = Vec::new();
        put_positive(&mut numbers, r);
        put_positive(&mut numbers, s);
        let mut value = Vec::new();
        put_string(&mut value, kind.name().as_bytes());
        put_string(&mut value, &numbers);
        Some(value)
    }
}

/// A number of any length as one of a fixed length.
fn padded<const LEN: usize>(number: &[u8]) -> Option<Zeroizing<[u8; LEN]>> {
    let mut padded = Zeroizing::new([0; LEN]);
    padded.get_mut(LEN.checked_sub(number.len())?..)?.copy_from_slice(number);
    Some(padded)
}

/// An `mpint` above zero, from bytes of a fixed length.
fn put_positive(out: &mut Vec<u8>, bytes: &[u8]) {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let mut number = bytes[zeros..].to_vec();
    if number.first().is_some_and(|byte| byte & 0x80 != 0) {
        number.insert(0, 0);
    }
    put_string(out, &number);
}
