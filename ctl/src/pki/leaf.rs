//! Whom a certificate is for, and what it is good for.

use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
};

use super::reading::read_certificate;
use super::{BACKDATED, PkiError};

/// Longest name: that of a common name in X.509.
const MAX_NAME: usize = 64;

/// Where a node is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Ip(IpAddr),
    Name(String),
}

/// Who a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    /// The common name, which nodes call a caller by.
    pub name: String,
    /// Where it is called, if it is a node.
    pub addresses: Vec<Address>,
}

/// A certificate with its key.
#[derive(Debug)]
pub(crate) struct Issued {
    pub certificate: String,
    pub key: String,
    pub until: String,
    /// It ends with its authority, before it was to.
    pub is_cut_short: bool,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse() {
            return Ok(Self::Ip(ip));
        }
        let label = |label: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            (1..=63).contains(&label.len()) && label.bytes().all(plain) && !label.starts_with('-')
        };
        if text.len() <= 253 && text.split('.').all(label) {
            return Ok(Self::Name(text.to_owned()));
        }
        Err(format!(
            "{text:?} is neither a host name nor an IP address: expected one like web-1.example or 10.0.0.1, without a port"
        ))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Subject {
    /// What can stand in a certificate, in a table and in the name of a file.
    pub(crate) fn name(text: &str) -> Result<String, String> {
        let plain = |character: char| !character.is_control() && character != '/';
        let fits = (1..=MAX_NAME).contains(&text.chars().count());
        if fits && text.chars().all(plain) && text.trim() == text && !text.starts_with(['.', '-']) {
            return Ok(text.to_owned());
        }
        Err(format!(
            "{text:?} is no name: expected one like web-1 or ann@example.com, of at most {MAX_NAME} characters that can be printed, \
             without a slash, a space at an end, or a dot or dash in front"
        ))
    }

    /// Whose certificate is in a file, and for how long it was good.
    pub(crate) fn read(file: &Path) -> Result<(Self, Duration), PkiError> {
        let (_, found) = read_certificate(file, "expected a certificate of `hotctl pki issue`")?;
        let content = |expected, found: &str| PkiError::Content {
            path: file.to_owned(),
            expected,
            found: found.to_owned(),
        };
        if found.is_authority {
            return Err(content(
                "certificate to renew",
                "it is an authority's, and a new one is made with `hotctl pki init`",
            ));
        }
        let name = found.name.ok_or_else(|| {
            content("certificate of `hotctl pki issue`", "its subject has not one common name (CN)")
        })?;
        if let Some(other) = found.other {
            return Err(content("certificate of `hotctl pki issue`", &other));
        }
        let span = u64::try_from(found.until.saturating_sub(found.from)).unwrap_or_default();
        // Without what ours are backdated by, or each would be good for longer than the one before.
        let span = Duration::from_secs(span).saturating_sub(BACKDATED);
        Ok((Self { name, addresses: found.addresses }, span))
    }

    /// What it is good for, as an `-o json` says it.
    pub(crate) fn usages(&self) -> &'static [&'static str] {
        if self.addresses.is_empty() { &["client"] } else { &["server", "client"] }
    }

    pub(super) fn params(&self) -> Result<CertificateParams, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.name.as_str());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !self.addresses.is_empty() {
            params.extended_key_usages.insert(0, ExtendedKeyUsagePurpose::ServerAuth);
        }
        for address in &self.addresses {
            params.subject_alt_names.push(match address {
                Address::Ip(ip) => SanType::IpAddress(*ip),
                Address::Name(name) => SanType::DnsName(Ia5String::try_from(name.as_str())?),
            });
        }
        Ok(params)
    }
}
