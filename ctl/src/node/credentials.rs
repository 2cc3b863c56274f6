//! [`Credentials`]: the files by which a node at `https://` and the user trust each other, read at each connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

use crate::contexts::Files;
use crate::failure::Failure;

/// Three files that are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Whose certificates nodes have.
    pub authority: PathBuf,
    /// The user's own.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Why nothing can be shown, or nobody be judged, by them.
#[derive(Debug, Error)]
pub(crate) enum CredentialsError {
    /// A file can't be read, or is no PEM.
    #[error("{} can't be read as {what}: {source}", path.display())]
    Pem { path: PathBuf, what: &'static str, source: pem::Error },
    /// There is none in it.
    #[error("{} has no {what}, expected one in PEM", path.display())]
    Nothing { path: PathBuf, what: &'static str },
    /// rustls does not take it.
    #[error("{} can't be used: {source}", path.display())]
    Refused { path: PathBuf, source: rustls::Error },
}

impl Credentials {
    /// Those that are named in both, the former first. `None` where none is; to name some of them is a mistake.
    pub(super) fn choose(given: &Files, other: Option<&Files>) -> Result<Option<Self>, Failure> {
        let of = |pick: fn(&Files) -> &Option<PathBuf>| {
            pick(given).clone().or_else(|| other.and_then(|other| pick(other).clone()))
        };
        let (authority, certificate, key) =
            (of(|files| &files.authority), of(|files| &files.certificate), of(|files| &files.key));
        match (authority, certificate, key) {
            (None, None, None) => Ok(None),
            (Some(authority), Some(certificate), Some(key)) => Ok(Some(Self { authority, certificate, key })),
            (authority, certificate, key) => {
                let named = [
                    ("--node-authority", authority),
                    ("--certificate", certificate),
                    ("--identity-key", key),
                ];
                let missing = named.iter().filter(|(_, file)| file.is_none()).map(|(option, _)| *option);
                Err(Failure::usage(format!(
                    "{} missing: a node at https:// is called with --node-authority, --certificate and --identity-key together",
                    match missing.collect::<Vec<_>>()[..] {
                        [one] => format!("{one} is"),
                        ref several => format!("{} are", several.join(" and ")),
                    }
                )))
            }
        }
    }

    /// What TLS is spoken by, with the files as they are now.
    pub(super) fn client(&self) -> Result<Arc<ClientConfig>, CredentialsError> {
        let refused = |path: &Path, source| CredentialsError::Refused { path: path.to_owned(), source };
        let mut roots = RootCertStore::empty();
        for root in certificates(&self.authority)? {
            roots.add(root).map_err(|source| refused(&self.authority, source))?;
        }
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|source| match source {
            pem::Error::NoItemsFound => {
                CredentialsError::Nothing { path: self.key.clone(), what: "private key" }
            }
            source => CredentialsError::Pem { path: self.key.clone(), what: "a private key", source },
        })?;
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(|source| refused(&self.certificate, source))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key);
        let mut client = client.map_err(|source| refused(&self.key, source))?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        client.resumption = Resumption::disabled();
        Ok(Arc::new(client))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let failed = |source| CredentialsError::Pem { path: path.to_owned(), what: "certificates", source };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(failed)?.collect();
    let found = found.map_err(failed)?;
    if found.is_empty() {
        return Err(CredentialsError::Nothing { path: path.to_owned(), what: "certificate" });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: [Option<&str>; 3]) -> Files {
        let [authority, certificate, key] = names.map(|name| name.map(PathBuf::from));
        Files { authority, certificate, key }
    }

    #[test]
    fn all_three_or_none_and_what_was_given_comes_first() {
        let none = Files::default();
        assert_eq!(Credentials::choose(&none, None).expect("none"), None);
        let context = files([Some("ca"), Some("ann.pem"), Some("ann.key")]);
        let chosen =
            Credentials::choose(&files([Some("other"), None, None]), Some(&context)).expect("chosen");
        let chosen = chosen.expect("all three");
        assert_eq!((chosen.authority, chosen.key), ("other".into(), "ann.key".into()));
        let some = Credentials::choose(&files([Some("ca"), None, None]), None).expect_err("two are missing");
        assert_eq!(some.exit.code(), 2);
        assert!(
            some.sentence.starts_with("--certificate and --identity-key are missing"),
            "{}",
            some.sentence
        );
    }

    #[test]
    fn what_can_not_be_read_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let credentials = Credentials { authority: at("ca.pem"), certificate: at("a.pem"), key: at("a.key") };
        let missing = credentials.client().expect_err("no file").to_string();
        assert!(missing.contains("ca.pem can't be read as certificates"), "{missing}");
        std::fs::write(at("ca.pem"), "").expect("writes");
        let empty = credentials.client().expect_err("no certificate").to_string();
        assert!(empty.ends_with("ca.pem has no certificate, expected one in PEM"), "{empty}");
    }
}
