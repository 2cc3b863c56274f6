//! A security key in software: it signs what `PROTOCOL.u2f` says that one signs, byte for byte. Its keys are always the
//! same, from fixed seeds.

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use ed25519_dalek::Signer as _;
use sha2::{Digest as _, Sha256};

use crate::parts::{mpint, string};

/// A person touched it, in the flags.
pub(crate) const TOUCHED: u8 = 1;
/// A person gave a PIN or a finger, in the flags.
pub(crate) const VERIFIED: u8 = 4;

const ED25519: &str = "sk-ssh-ed25519@openssh.com";
const ECDSA: &str = "sk-ecdsa-sha2-nistp256@openssh.com";

#[derive(Debug)]
pub(crate) enum Authenticator {
    Ed25519(ed25519_dalek::SigningKey, &'static str),
    Ecdsa(p256::ecdsa::SigningKey, &'static str),
}

impl Authenticator {
    pub(crate) fn ed25519(application: &'static str) -> Self {
        Self::Ed25519(ed25519_dalek::SigningKey::from_bytes(&[7; 32]), application)
    }

    pub(crate) fn ecdsa(application: &'static str) -> Self {
        Self::Ecdsa(p256::ecdsa::SigningKey::from_slice(&[9; 32]).expect("a scalar"), application)
    }

    /// The public key in SSH's wire format.
    pub(crate) fn blob(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key, application) => {
                [string(ED25519), string(key.verifying_key().as_bytes()), string(application)].concat()
            }
            Self::Ecdsa(key, application) => {
                let point = key.verifying_key().to_encoded_point(false);
                [string(ECDSA), string("nistp256"), string(point.as_bytes()), string(application)].concat()
            }
        }
    }

    /// The line of its `.pub` file.
    pub(crate) fn public(&self) -> String {
        let kind = match self {
            Self::Ed25519(..) => ED25519,
            Self::Ecdsa(..) => ECDSA,
        };
        format!("{kind} {}", Base64::encode_string(&self.blob()))
    }

    /// The signature value of `data`: kind, signature, flags, counter.
    pub(crate) fn sign(&self, data: &[u8], flags: u8, counter: u32) -> Vec<u8> {
        let (kind, application) = match self {
            Self::Ed25519(_, application) => (ED25519, application),
            Self::Ecdsa(_, application) => (ECDSA, application),
        };
        let mut signed = Sha256::digest(application).to_vec();
        signed.push(flags);
        signed.extend(counter.to_be_bytes());
        signed.extend(Sha256::digest(data));
        let mut value = [string(kind), string(self.sign_raw(&signed))].concat();
        value.push(flags);
        value.extend(counter.to_be_bytes());
        value
    }

    /// The value as a browser would make it with ECDSA, which `ssh-keygen` takes.
    pub(crate) fn sign_in_browser(&self, data: &[u8], counter: u32) -> Vec<u8> {
        let (Self::Ecdsa(_, application) | Self::Ed25519(_, application)) = self;
        let challenge = Base64UrlUnpadded::encode_string(data);
        let origin = "https://example.com";
        let client = format!(
            r#"{{"type":"webauthn.get","challenge":"{challenge}","origin":"{origin}","crossOrigin":false}}"#
        );
        let mut signed = Sha256::digest(application).to_vec();
        signed.push(TOUCHED);
        signed.extend(counter.to_be_bytes());
        signed.extend(Sha256::digest(&client));
        let mut value =
            [string("webauthn-sk-ecdsa-sha2-nistp256@openssh.com"), string(self.sign_raw(&signed))].concat();
        value.push(TOUCHED);
        value.extend(counter.to_be_bytes());
        value.extend([string(origin), string(client), string("")].concat());
        value
    }

    fn sign_raw(&self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Ed25519(key, _) => key.sign(data).to_bytes().to_vec(),
            Self::Ecdsa(key, _) => {
                let signature: p256::ecdsa::Signature = key.sign(data);
                let (r, s) = signature.split_bytes();
                [string(mpint(&r)), string(mpint(&s))].concat()
            }
        }
    }
}
