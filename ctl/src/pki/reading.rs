//! What is read out of a certificate that is there.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

use super::PkiError;
use super::leaf::Address;

/// What matters of a certificate here.
#[derive(Debug)]
pub(super) struct Found {
    /// The one common name of its subject.
    pub name: Option<String>,
    pub addresses: Vec<Address>,
    /// What it has besides, which one of ours never has.
    pub other: Option<String>,
    pub is_authority: bool,
    /// The whole of it, in DER.
    pub public_key: Vec<u8>,
    /// Seconds since 1970.
    pub from: i64,
    pub until: i64,
}

/// The text of a file.
pub(super) fn read(path: &Path, advice: &'static str) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| PkiError::Read { path: path.to_owned(), source, advice })
}

/// The text of a file of certificates, and what the first of them says.
pub(super) fn read_certificate(path: &Path, advice: &'static str) -> Result<(String, Found), PkiError> {
    let text = read(path, advice)?;
    let content =
        |found: String| PkiError::Content { path: path.to_owned(), expected: "certificate in PEM", found };
    let mut blocks = Pem::iter_from_buffer(text.as_bytes());
    let first = blocks.find(|block| block.as_ref().map_or(true, |block| block.label == "CERTIFICATE"));
    let first = first.ok_or_else(|| content("there is no line -----BEGIN CERTIFICATE-----".to_owned()))?;
    let first = first.map_err(|error| content(error.to_string()))?;
    let certificate = first.parse_x509().map_err(|error| content(error.to_string()))?;
    let found = found(&certificate);
    Ok((text, found))
}

fn found(certificate: &X509Certificate<'_>) -> Found {
    let mut names = certificate.subject().iter_common_name().map(|name| name.as_str().ok());
    let name = match (names.next().flatten(), names.next()) {
        (Some(name), None) => Some(name.to_owned()),
        _ => None,
    };
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let alternatives = alternatives.map_or(&[][..], |names| &names.value.general_names);
    let (mut addresses, mut other) = (Vec::new(), None);
    for alternative in alternatives {
        match address(alternative) {
            Some(address) => addresses.push(address),
            None => {
                other = Some(format!("it is for {alternative}, which is neither a host name nor an address"))
            }
        }
    }
    let is_server =
        certificate.extended_key_usage().ok().flatten().is_some_and(|usage| usage.value.server_auth);
    if is_server && addresses.is_empty() {
        other = Some("it is a server's and has no address".to_owned());
    }
    let validity = certificate.validity();
    Found {
        name,
        addresses,
        other,
        is_authority: certificate.is_ca(),
        public_key: certificate.public_key().raw.to_vec(),
        from: validity.not_before.timestamp(),
        until: validity.not_after.timestamp(),
    }
}

fn address(name: &GeneralName<'_>) -> Option<Address> {
    match name {
        GeneralName::DNSName(name) => Some(Address::Name((*name).to_owned())),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(Address::Ip)
        }
        _ => None,
    }
}
