//! Authorities, and the certificates that they sign, for tests.

use std::fs;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
};
use tempfile::TempDir;

use super::TlsFiles;
use crate::config;

/// Who signs.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// What is signed.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The common name.
    pub(crate) name: Option<&'a str>,
    /// The first days of years.
    pub(crate) from: i32,
    pub(crate) until: i32,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for 127.0.0.1 that is good now, and its key.
    pub(crate) fn issue(&self, name: &str) -> [String; 2] {
        self.sign(Wanted { name: Some(name), from: 2020, until: 4000 })
    }

    pub(crate) fn sign(&self, wanted: Wanted<'_>) -> [String; 2] {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Hot");
        if let Some(name) = wanted.name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.not_before = date_time_ymd(wanted.from, 1, 1);
        params.not_after = date_time_ymd(wanted.until, 1, 1);
        let key = KeyPair::generate().unwrap();
        [params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem()]
    }
}

/// The files of somebody who shows a certificate and takes those of an authority.
pub(crate) struct Party {
    folder: TempDir,
    pub(crate) config: config::Tls,
}

impl Party {
    pub(crate) fn new(authority: &Authority, [certificate, key]: &[String; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let config = config::Tls {
            listen: Vec::new(),
            certificate: at("own.pem"),
            key: at("own.key"),
            authority: Some(at("ca.pem")),
        };
        let party = Self { folder, config };
        party.put("own.pem", certificate);
        party.put("own.key", key);
        party.put("ca.pem", &authority.pem);
        party
    }

    /// A new file takes the place of the one before.
    pub(crate) fn put(&self, name: &str, text: &str) {
        let new = self.at("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.at(name)).unwrap();
    }

    pub(crate) fn open(&self) -> TlsFiles {
        TlsFiles::open(self.config.clone()).unwrap()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
