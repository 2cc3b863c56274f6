//! [`Authority`]: who signs the certificates of callers.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::fields::Fields;
use super::validity::Validity;
use super::{Part, TlsError, certificates};

/// Whoever signs the certificates of callers, one or more.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    pub(crate) roots: Arc<RootCertStore>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Authority {
    /// All certificates of the file: each must be an authority's.
    pub(super) fn read(path: &Path) -> Result<Self, TlsError> {
        let certificates = certificates(Part::Authority, path)?;
        if certificates.is_empty() {
            return Err(TlsError::NoAuthority { path: path.to_owned() });
        }
        let mut roots = RootCertStore::empty();
        for (certificate, number) in certificates.iter().zip(1..) {
            let of = |source| TlsError::Authority { path: path.to_owned(), number, source };
            roots.add(certificate.clone()).map_err(of)?;
            if !Fields::of(certificate).is_ok_and(|fields| fields.is_authority) {
                return Err(TlsError::NotAuthority { path: path.to_owned(), number });
            }
        }
        Ok(Self { roots: Arc::new(roots), certificates })
    }

    /// From when until when each is good, by its number in the file.
    pub(super) fn validities(&self) -> impl Iterator<Item = (usize, Validity)> {
        let validity = |(certificate, number): (&CertificateDer<'_>, usize)| {
            Some((number, Validity::of(certificate).ok()?))
        };
        self.certificates.iter().zip(1..).filter_map(validity)
    }
}

/// The same certificates in the same order.
impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.certificates == other.certificates
    }
}
