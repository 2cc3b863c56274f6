//! [`Signature`]: the blob inside the armour, parsed, and the check of it against a file's hash.

use rsa::signature::Verifier as _;

use super::armour;
use super::error::SignatureError;
use super::hashes::Hash;
use super::key::{KeyError, PublicKey};

const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;

/// A signature of a file, well-formed but not yet checked against anything.
#[derive(Debug, Clone)]
pub struct Signature {
    key: PublicKey,
    namespace: String,
    hash: Hash,
    inner: ssh_key::Signature,
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
        let mut rest = blob.strip_prefix(MAGIC).ok_or_else(|| malformed("no SSHSIG inside the armour"))?;
        let version = take_u32(&mut rest).ok_or_else(|| malformed("a blob that was cut short"))?;
        if version != VERSION {
            return Err(SignatureError::UnknownVersion { found: version });
        }
        let mut field = || take_string(&mut rest).ok_or_else(|| malformed("a blob that was cut short"));
        let (key, namespace, reserved, hash, inner) = (field()?, field()?, field()?, field()?, field()?);
        if !rest.is_empty() {
            return Err(malformed("bytes behind the end of the blob"));
        }
        if !reserved.is_empty() {
            return Err(malformed("content in its reserved field"));
        }
        let key = PublicKey::from_blob(key).map_err(|error| match error {
            KeyError::Malformed => malformed("a public key that is malformed"),
            KeyError::Unsupported { found } => SignatureError::UnsupportedKey { found },
        })?;
        let namespace = match std::str::from_utf8(namespace) {
            Ok(text) if !text.is_empty() => text.to_owned(),
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
        let inner =
            inner_signature(&key, inner).ok_or_else(|| malformed("a signature value that is malformed"))?;
        Ok(Self { key, namespace, hash, inner })
    }

    /// The key that it says it was made with. Nothing is known of it before [`Self::check`].
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
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
    /// [`SignatureError::WrongNamespace`] or [`SignatureError::NotForTheseBytes`].
    pub fn check(&self, namespace: &str, digest: &[u8]) -> Result<(), SignatureError> {
        if self.namespace != namespace {
            return Err(SignatureError::WrongNamespace {
                found: self.namespace.clone(),
                expected: namespace.to_owned(),
            });
        }
        let message = signed_data(namespace, self.hash, digest);
        match self.key.data().verify(&message, &self.inner) {
            Ok(()) => Ok(()),
            Err(_) => Err(SignatureError::NotForTheseBytes { fingerprint: self.key.fingerprint() }),
        }
    }

    /// The armoured text of a signature made by `key` of `signed_data(namespace, hash, ...)`.
    pub(super) fn armoured(key: &PublicKey, namespace: &str, hash: Hash, inner: &[u8]) -> String {
        let mut blob = MAGIC.to_vec();
        blob.extend(VERSION.to_be_bytes());
        for field in [key.as_blob(), namespace.as_bytes(), b"", hash.as_str().as_bytes(), inner] {
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

/// The signature value, if it has one spelling and is one that `key` can make.
pub(super) fn inner_signature(key: &PublicKey, bytes: &[u8]) -> Option<ssh_key::Signature> {
    let signature = ssh_key::Signature::try_from(bytes).ok()?;
    let spelled = Vec::try_from(signature.clone()).ok()?;
    (spelled == bytes && key.signs_with(&signature.algorithm())).then_some(signature)
}

pub(super) fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(u32::from_be_bytes(*head))
}

/// A `string` of RFC 4251: its length as 32 bits, then its bytes.
pub(super) fn take_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut after = *rest;
    let len = usize::try_from(take_u32(&mut after)?).ok()?;
    let (head, tail) = after.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

pub(super) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    // Every caller's bytes come out of a text or frame that is bounded far below 4 GiB.
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend(len.to_be_bytes());
    out.extend_from_slice(bytes);
}
