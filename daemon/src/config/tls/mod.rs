//! [`Tls`]: where the node's certificate and its key are, and who vouches for callers; and reading them.

mod authority;
mod fields;
mod validity;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SigningKey};
use thiserror::Error;

use super::Mistake;
use super::trust::read_bytes_bounded;

pub(crate) use authority::Authority;
pub(crate) use fields::{NameError, common_name};
pub(crate) use validity::Validity;

/// Largest file that is read: a chain and a key have some KiB.
const MAX_PEM: u64 = 1 << 20;

/// What a key with a passphrase has in its text, in the newer format and in the older ones.
const LOCKED: [&[u8]; 2] = [b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED"];

/// The permission of everybody to read a file.
const READ_BY_OTHERS: u32 = 0o004;

/// `[http.tls]`: where HTTP is spoken by way of TLS; and `[grpc.tls]`: where calls are taken from whoever has a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Addresses that it listens on, at least one.
    pub listen: Vec<SocketAddr>,
    /// The certificate and those that vouch for it, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// Of `[grpc.tls]`: the certificates of those who sign callers', in PEM. None: callers are asked for no certificate.
    pub authority: Option<PathBuf>,
}

/// Why there is no certificate to show.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("can't read {}, expected a file that the user who runs hotd may read", path.display())]
    Read {
        /// Which of them.
        of: Part,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It can't be told where something begins and ends in a file.
    #[error("{} is cut off, or is no PEM; write it anew", path.display())]
    Pem {
        /// Which of them.
        of: Part,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// There is nothing to show.
    #[error(
        "{} has no certificate, expected PEM with a line -----BEGIN CERTIFICATE-----: that of this node first, and behind it \
         those that vouch for it", path.display()
    )]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// What is in front is no certificate that rustls knows how to show.
    #[error("the first certificate in {} is not understood, expected one of X.509, version 3", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// There is no key.
    #[error("{} has no private key, expected one in PEM: PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// Only who knows its passphrase can read it.
    #[error(
        "the private key in {} has a passphrase, expected one without; take it off with `openssl pkey -in FILE -out NEW`",
        path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It is of a kind that is not known, or broken.
    #[error(
        "the private key in {} can't be used, expected one of RSA (2048 bits and more), of ECDSA (P-256, P-384) or Ed25519",
        path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// Nobody is there who could vouch for a caller.
    #[error(
        "{} has no certificate, expected PEM with a line -----BEGIN CERTIFICATE-----: those of the authorities that sign \
         callers' certificates", path.display()
    )]
    NoAuthority {
        /// The file.
        path: PathBuf,
    },
    /// One of the authorities' is no certificate that rustls understands.
    #[error("certificate {number} in {} is not understood, expected one of X.509, version 3", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Which of its certificates, from 1.
        number: usize,
        /// What is wrong.
        source: rustls::Error,
    },
    /// One of the authorities' may not sign others.
    #[error(
        "certificate {number} in {} is none of an authority, expected one that may sign others (CA:TRUE), like the ca.pem of \
         `hotctl pki init`", path.display()
    )]
    NotAuthority {
        /// The file.
        path: PathBuf,
        /// Which of its certificates, from 1.
        number: usize,
    },
    /// They are not of one another.
    #[error(
        "the key in {} is not that of the first certificate in {}, expected files that were made together, the certificate of \
         this node in front of those that vouch for it", key.display(), certificate.display()
    )]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// That of the key.
        key: PathBuf,
    },
}

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The certificates.
    Certificate,
    /// The key.
    Key,
    /// The certificates of those who vouch for callers.
    Authority,
}

/// What the files hold: a certificate and its key, and who vouches for callers.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// As rustls shows it.
    pub(crate) shown: Arc<CertifiedKey>,
    /// Where one is asked for.
    pub(crate) authority: Option<Authority>,
    /// From when until when it is good; none where that can't be read.
    pub(crate) validity: Option<Validity>,
    /// Whoever is on this machine may read the key.
    key_is_open: bool,
}

/// The lines of the config that name the files.
#[derive(Debug, Clone, Copy)]
pub(super) struct TlsLines {
    pub certificate: usize,
    pub key: usize,
    /// Where there is none, of what is there instead.
    pub authority: usize,
}

impl TlsError {
    /// Whether it may pass while the files stay as they are.
    pub(crate) const fn is_unread(&self) -> bool {
        matches!(self, Self::Read { .. })
    }

    const fn part(&self) -> Part {
        match self {
            Self::Read { of, .. } | Self::Pem { of, .. } => *of,
            Self::NoCertificate { .. } | Self::Certificate { .. } => Part::Certificate,
            Self::NoKey { .. } | Self::Locked { .. } | Self::Key { .. } | Self::Mismatch { .. } => Part::Key,
            Self::NoAuthority { .. } | Self::Authority { .. } | Self::NotAuthority { .. } => Part::Authority,
        }
    }
}

impl Tls {
    /// What is in the files as they are now.
    pub(crate) fn read(&self) -> Result<Identity, Vec<TlsError>> {
        let authority = self.authority.as_deref().map(Authority::read).transpose();
        match (self.read_certificate(), self.read_key(), authority) {
            (Ok(chain), Ok((key, key_is_open)), Ok(authority)) => {
                let identity = self.identity(chain, key, key_is_open).map_err(|error| vec![error])?;
                Ok(Identity { authority, ..identity })
            }
            (chain, key, authority) => {
                Err(chain.err().into_iter().chain(key.err()).chain(authority.err()).collect())
            }
        }
    }

    /// The files that are named.
    pub(super) fn into_files(self) -> impl Iterator<Item = PathBuf> {
        [self.certificate, self.key].into_iter().chain(self.authority)
    }

    /// The table that has the keys.
    const fn table(&self) -> &'static str {
        if self.authority.is_some() { "grpc.tls" } else { "http.tls" }
    }

    /// What a person has to see to though all can be used, a sentence each.
    pub(crate) fn warnings(&self, identity: &Identity, now: SystemTime) -> Vec<(Part, String)> {
        let expiry = self.expiry(identity.validity, now).map(|text| (Part::Certificate, text));
        let ends = identity.authority.iter().flat_map(|authority| self.ends(authority, now));
        let ends = ends.map(|text| (Part::Authority, text));
        let open = identity.key_is_open.then(|| {
            let text = format!(
                "every user of this machine may read the private key in {0}, expected that of hotd alone; take that from the \
                 others with `chmod o-r {0}`",
                self.key.display()
            );
            (Part::Key, text)
        });
        expiry.into_iter().chain(open).chain(ends).collect()
    }

    /// What is wrong with the time for which the certificate is good, if anything.
    pub(crate) fn expiry(&self, validity: Option<Validity>, now: SystemTime) -> Option<String> {
        let trouble = validity?.trouble(now)?;
        Some(format!("the certificate in {} {trouble}", self.certificate.display()))
    }

    /// What is wrong with the times for which the authorities' certificates are good, a sentence each.
    pub(crate) fn ends(&self, authority: &Authority, now: SystemTime) -> Vec<String> {
        let file = self.authority.as_deref().unwrap_or_else(|| Path::new("")).display();
        let troubles = authority.validities().filter_map(|(number, validity)| {
            let trouble = validity.trouble_of_authority(now)?;
            Some(format!("certificate {number} in {file} {trouble}"))
        });
        troubles.collect()
    }

    /// What a person has to see to; where the files can't be used, why not instead.
    pub(super) fn check(&self, config: &Path, lines: TlsLines) -> Result<Vec<Mistake>, Vec<Mistake>> {
        let mistake = |part, text: &str| {
            let (key, line) = match part {
                Part::Certificate => ("certificate", lines.certificate),
                Part::Key => ("key", lines.key),
                Part::Authority => ("authority", lines.authority),
            };
            Mistake { file: config.to_owned(), line, text: format!("[{}] {key}: {text}", self.table()) }
        };
        match self.read() {
            Ok(identity) => {
                let warnings = self.warnings(&identity, SystemTime::now());
                Ok(warnings.into_iter().map(|(part, text)| mistake(part, &text)).collect())
            }
            Err(errors) => {
                Err(errors.iter().map(|error| mistake(error.part(), &crate::describe(error))).collect())
            }
        }
    }

    fn read_certificate(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let path = &self.certificate;
        let chain = certificates(Part::Certificate, path)?;
        let Some(first) = chain.first() else { return Err(TlsError::NoCertificate { path: path.clone() }) };
        match ParsedCertificate::try_from(first) {
            Ok(_) => Ok(chain),
            Err(source) => Err(TlsError::Certificate { path: path.clone(), source }),
        }
    }

    /// The second is whether everybody may read it.
    fn read_key(&self) -> Result<(Arc<dyn SigningKey>, bool), TlsError> {
        let (of, path) = (Part::Key, self.key.clone());
        let text = read(of, &path)?;
        if LOCKED.iter().any(|locked| text.windows(locked.len()).any(|found| found == *locked)) {
            return Err(TlsError::Locked { path });
        }
        let key = match PrivateKeyDer::from_pem_slice(&text) {
            Ok(key) => key,
            Err(pem::Error::NoItemsFound) => return Err(TlsError::NoKey { path }),
            Err(source) => return Err(TlsError::Pem { of, path, source }),
        };
        let is_open = path.metadata().is_ok_and(|found| found.mode() & READ_BY_OTHERS != 0);
        match any_supported_type(&key) {
            Ok(key) => Ok((key, is_open)),
            Err(source) => Err(TlsError::Key { path, source }),
        }
    }

    fn identity(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: Arc<dyn SigningKey>,
        key_is_open: bool,
    ) -> Result<Identity, TlsError> {
        let validity = chain.first().map(|first| Validity::of(first));
        if let Some(Err(error)) = &validity {
            tracing::debug!(%error, "it can't be told until when the certificate is good");
        }
        let shown = CertifiedKey::new(chain, key);
        // All keys of ring's say their public one.
        if shown.keys_match().is_err() {
            let (certificate, key) = (self.certificate.clone(), self.key.clone());
            return Err(TlsError::Mismatch { certificate, key });
        }
        let validity = validity.and_then(Result::ok);
        Ok(Identity { shown: Arc::new(shown), authority: None, validity, key_is_open })
    }
}

/// All certificates in a file.
fn certificates(of: Part, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(of, path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    all.map_err(|source| TlsError::Pem { of, path: path.to_owned(), source })
}

fn read(of: Part, path: &Path) -> Result<Vec<u8>, TlsError> {
    read_bytes_bounded(path, MAX_PEM).map_err(|source| TlsError::Read { of, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
