//! Making signatures: with an OpenSSH private key file or with ssh-agent.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rsa::rand_core::OsRng;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _, Signer as _};
use ssh_key::private::{KeypairData, RsaKeypair};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey};
use thiserror::Error;

use super::agent::{Agent, AgentError};
use super::blob::{Signature, signed_data};
use super::certificate::{Certificate, CertificateError};
use super::hashes::{Hash, Hashers};
use super::key::{KeyError, PublicKey};
use super::private::EcdsaKey;
use crate::reader::{ReadAt, for_each_piece};

/// Largest private key file that is read: one of a 4096-bit RSA key has 3.4 KiB.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// What a certificate's file has behind the name of its key's, as `ssh-keygen` writes it.
const CERTIFICATE: &[u8] = b"-cert.pub";

/// A key that can sign, wherever its private half is.
pub struct Signer {
    public: PublicKey,
    /// What is named in signatures in the key's place.
    certificate: Option<Box<Certificate>>,
    private: Private,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("public", &self.public).finish_non_exhaustive()
    }
}

enum Private {
    File(Box<PrivateKey>),
    Ecdsa(Box<EcdsaKey>),
    Agent(Agent),
}

/// Why nothing was signed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SignError {
    /// The key file can't be read.
    #[error("can't read the key file {}", path.display())]
    ReadKey {
        /// The key file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no private key in OpenSSH's format.
    #[error("{} is not a private key in OpenSSH's format; make one with `ssh-keygen -t ed25519`", path.display())]
    NotAKey {
        /// The key file.
        path: PathBuf,
    },
    /// The file is a public key.
    #[error("{} is the public half of a key; name the file without `.pub`, or add that one to ssh-agent", path.display())]
    PublicKey {
        /// The key file.
        path: PathBuf,
    },
    /// The file is a certificate that nothing can be signed with.
    #[error("the certificate {} {problem}; have one made with `ssh-keygen -s AUTHORITY -I ID -n PRINCIPAL -V +1d KEY.pub`", path.display())]
    Certificate {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The private key of a certificate is neither beside it nor in an agent.
    #[error("the private key of the certificate {} was not found; put it into {}, or add it to ssh-agent with `ssh-add`", path.display(), beside(key.as_deref()))]
    NoPrivateKey {
        /// The certificate's file.
        path: PathBuf,
        /// Where it would be; `None` where the certificate's file has no name that says so.
        key: Option<PathBuf>,
        /// Why there is no agent.
        source: AgentError,
    },
    /// The file is protected with a passphrase.
    #[error("the key {} is encrypted; add it to ssh-agent with `ssh-add {}` and sign with the agent", path.display(), path.display())]
    Encrypted {
        /// The key file.
        path: PathBuf,
    },
    /// The file says how to reach a key that is in a security key.
    #[error("the key {} is in a security key; add it to ssh-agent with `ssh-add {}` and sign with the agent", path.display(), path.display())]
    SecurityKey {
        /// The key file.
        path: PathBuf,
    },
    /// A key of a kind or strength that no node would accept.
    #[error("can't sign with this key")]
    Key(#[from] KeyError),
    /// ssh-agent gave no signature.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The file to sign can't be read.
    #[error("can't read what is to be signed")]
    Read(#[source] io::Error),
    /// The key made no signature, or one that it would not accept itself.
    #[error("the key {fingerprint} made no valid signature; check it with `ssh-keygen -y -f KEY`")]
    Failed {
        /// Fingerprint of the key.
        fingerprint: String,
    },
}

impl Signer {
    /// A signer with the private key in the file at `path`; or with the certificate there, `KEY-cert.pub`, and the private
    /// key in the file `KEY` beside it, or in ssh-agent where that one can't be used.
    ///
    /// # Errors
    /// When it can't be read, is encrypted, or is no key that signatures are accepted of.
    pub fn from_file(path: &Path) -> Result<Self, SignError> {
        let text =
            read_key_file(path).map_err(|source| SignError::ReadKey { path: path.to_owned(), source })?;
        if let Some(certificate) = std::str::from_utf8(&text).ok().and_then(Certificate::from_openssh) {
            return Self::with_certificate(path, certificate);
        }
        if ["ssh-", "ecdsa-", "sk-"].iter().any(|start| text.starts_with(start.as_bytes())) {
            return Err(SignError::PublicKey { path: path.to_owned() });
        }
        if let Some((public, key)) = EcdsaKey::read(&text) {
            let private = Private::Ecdsa(Box::new(key));
            return Ok(Self { public: PublicKey::from_blob(&public)?, certificate: None, private });
        }
        let Ok(private) = PrivateKey::from_openssh(&text) else {
            return Err(SignError::NotAKey { path: path.to_owned() });
        };
        if private.is_encrypted() {
            return Err(SignError::Encrypted { path: path.to_owned() });
        }
        let Ok(blob) = private.public_key().to_bytes() else {
            return Err(SignError::NotAKey { path: path.to_owned() });
        };
        let public = PublicKey::from_blob(&blob)?;
        if public.is_in_security_key() {
            return Err(SignError::SecurityKey { path: path.to_owned() });
        }
        Ok(Self { public, certificate: None, private: Private::File(Box::new(private)) })
    }

    fn with_certificate(
        path: &Path,
        certificate: Result<Certificate, CertificateError>,
    ) -> Result<Self, SignError> {
        let wrong = |problem| SignError::Certificate { path: path.to_owned(), problem };
        let certificate = certificate.map_err(|error| match error {
            CertificateError::Malformed => wrong("is malformed"),
            CertificateError::NotSigned => wrong("is not signed by the authority that it names"),
            CertificateError::Key(error) => SignError::Key(error),
        })?;
        let key = path
            .as_os_str()
            .as_bytes()
            .strip_suffix(CERTIFICATE)
            .map(|key| Path::new(OsStr::from_bytes(key)));
        let private = match key.filter(|key| key.exists()).map(Self::from_file) {
            None => Private::Agent(Agent::from_env().map_err(|source| SignError::NoPrivateKey {
                path: path.to_owned(),
                key: key.map(Path::to_owned),
                source,
            })?),
            // Without an agent, what it says is what to do.
            Some(Err(error @ (SignError::Encrypted { .. } | SignError::SecurityKey { .. }))) => {
                Private::Agent(Agent::from_env().map_err(|_no_agent| error)?)
            }
            Some(Ok(signer)) if signer.public == *certificate.key() => signer.private,
            Some(Ok(_)) => return Err(wrong("is about another key than the one beside it")),
            Some(Err(error)) => return Err(error),
        };
        Ok(Self { public: certificate.key().clone(), certificate: Some(Box::new(certificate)), private })
    }

    /// A signer with a key that `agent` holds, one of its [`Agent::identities`].
    #[must_use]
    pub const fn from_agent(agent: Agent, key: PublicKey) -> Self {
        Self { public: key, certificate: None, private: Private::Agent(agent) }
    }

    /// The public half.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The certificate that it signs with.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_deref()
    }

    /// The signature value, in SSH's wire format, of `data`.
    fn value(&mut self, data: &[u8]) -> Result<Vec<u8>, SignError> {
        let value = match &mut self.private {
            Private::Agent(agent) => return Ok(agent.sign(&self.public, data)?),
            Private::Ecdsa(key) => key.sign(data),
            Private::File(private) => match private.key_data() {
                KeypairData::Rsa(pair) => sign_rsa(pair, data),
                pair => pair.try_sign(data).ok(),
            }
            .and_then(|signature| Vec::try_from(signature).ok()),
        };
        value.ok_or_else(|| SignError::Failed { fingerprint: self.public.fingerprint() })
    }
}

/// Where the private key of a certificate is looked for.
fn beside(key: Option<&Path>) -> String {
    key.map_or_else(
        || "the file KEY beside it, and name it KEY-cert.pub".to_owned(),
        |key| key.display().to_string(),
    )
}

/// Bounded, because the path is a person's and may be anything.
fn read_key_file(path: &Path) -> io::Result<Vec<u8>> {
    let reader = crate::FileReader::open(path)?;
    if reader.size() > MAX_KEY_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large for a key"));
    }
    let mut text = Vec::new();
    for_each_piece(&reader, |piece| text.extend_from_slice(piece))?;
    Ok(text)
}

/// `ssh-key` 0.6 makes an RSA key of the prime p twice, which never signs (fixed in its 0.7), so this goes to `rsa`
/// directly; and with a random number to blind the computation with, because its duration depends on the key
/// (RUSTSEC-2023-0071).
fn sign_rsa(pair: &RsaKeypair, data: &[u8]) -> Option<ssh_key::Signature> {
    let number = |value| rsa::BigUint::try_from(value).ok();
    let key = rsa::RsaPrivateKey::from_components(
        number(&pair.public.n)?,
        number(&pair.public.e)?,
        number(&pair.private.d)?,
        vec![number(&pair.private.p)?, number(&pair.private.q)?],
    );
    let signer = rsa::pkcs1v15::SigningKey::<sha2::Sha512>::new(key.ok()?);
    let value = signer.try_sign_with_rng(&mut OsRng, data).ok()?;
    ssh_key::Signature::new(Algorithm::Rsa { hash: Some(HashAlg::Sha512) }, value.to_vec()).ok()
}

/// Signs everything in `reader` for `namespace`, with SHA-512: the armoured text that `ssh-keygen -Y sign` writes
/// unless told otherwise (and, where the kind of key makes the same signature every time, byte for byte that one).
///
/// # Errors
/// As [`sign_with`].
pub fn sign(
    reader: &(impl ReadAt + ?Sized),
    namespace: &str,
    signer: &mut Signer,
) -> Result<String, SignError> {
    sign_with(reader, namespace, Hash::Sha512, signer)
}

/// [`sign`] with a choice of the hash. SHA-256 is the identity of an artifact and computed in any case, so a node
/// checks a signature that uses it in a third of the time.
///
/// # Errors
/// When the reader fails or the key makes no signature. The signature is checked before it is given out.
pub fn sign_with(
    reader: &(impl ReadAt + ?Sized),
    namespace: &str,
    hash: Hash,
    signer: &mut Signer,
) -> Result<String, SignError> {
    let mut hashers = Hashers::new(hash);
    for_each_piece(reader, |piece| hashers.update(piece)).map_err(SignError::Read)?;
    sign_hash(hashers.finish().signed(), namespace, hash, signer)
}

/// [`sign_with`] SHA-256, for a file whose identity is known: nothing is read and hashed once more.
///
/// # Errors
/// When the key makes no signature. The signature is checked before it is given out.
pub fn sign_digest(digest: crate::Sha256, namespace: &str, signer: &mut Signer) -> Result<String, SignError> {
    sign_hash(digest.as_bytes(), namespace, Hash::Sha256, signer)
}

fn sign_hash(digest: &[u8], namespace: &str, hash: Hash, signer: &mut Signer) -> Result<String, SignError> {
    let value = signer.value(&signed_data(namespace, hash, digest))?;
    let maker = signer.certificate().map_or(signer.public.as_blob(), Certificate::as_blob);
    let armoured = Signature::armoured(maker, namespace, hash, &value);
    match Signature::parse(armoured.as_bytes()).and_then(|made| made.check(namespace, digest)) {
        Ok(()) => Ok(armoured),
        Err(_) => Err(SignError::Failed { fingerprint: signer.public.fingerprint() }),
    }
}

/// A new key pair, as text.
#[derive(Clone)]
pub struct GeneratedKey {
    /// The private key file's content, in OpenSSH's format, not encrypted. Write it with mode 0600.
    pub private: String,
    /// The public key: kind, base64 and comment, without a line end.
    pub public: String,
}

impl fmt::Debug for GeneratedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeneratedKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Makes an ed25519 key pair with `comment`, from the kernel's random numbers.
///
/// # Errors
/// When the kernel gives none.
pub fn generate_key(comment: &str) -> io::Result<GeneratedKey> {
    let make = || {
        let mut key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519)?;
        key.set_comment(comment);
        let private = key.to_openssh(LineEnding::LF)?.to_string();
        Ok(GeneratedKey { private, public: key.public_key().to_openssh()? })
    };
    make().map_err(|error: ssh_key::Error| io::Error::other(error))
}
