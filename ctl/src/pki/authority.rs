//! [`Authority`]: who signs.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData as _, date_time_ymd,
};

use super::leaf::{Issued, Subject};
use super::reading::{Found, read, read_certificate};
use super::{BACKDATED, DAY, PkiError, new_folder, seconds, serial, shown, write_new};

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";

/// What its name has besides the common one, so that it is nobody's whom it signs for.
const ORGANISATION: &str = "hot";

/// A folder with the certificate and the key of an authority.
#[derive(Debug)]
pub(crate) struct Authority {
    certificate: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// Until when it is good, in seconds since 1970.
    until: i64,
}

impl Authority {
    /// Where those of the authority in `folder` are.
    pub(crate) fn files(folder: &Path) -> [PathBuf; 2] {
        [folder.join(CERTIFICATE), folder.join(KEY)]
    }

    /// Makes one for so many days. Gives until when it is good.
    pub(crate) fn make(folder: &Path, name: &str, days: u32) -> Result<String, PkiError> {
        let [certificate, key] = Self::files(folder);
        let now = SystemTime::now();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, ORGANISATION);
        // No other one has this name, whatever both are called: whoever is signed by the wrong one is told that, and not that
        // a signature is bad.
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, format!("{:08x}", rand::random::<u32>()));
        params.distinguished_name.push(DnType::CommonName, name);
        // It signs nodes and people, and no further authorities.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial());
        let until = set_validity(&mut params, now, seconds(now + DAY * days));
        let pair = KeyPair::generate()?;
        let text = params.self_signed(&pair)?.pem();
        new_folder(folder)?;
        let advice = "use that authority, or make one in another folder";
        write_new([(&certificate, &text), (&key, &pair.serialize_pem())], advice)?;
        Ok(shown(until))
    }

    /// That of a folder.
    pub(crate) fn open(folder: &Path) -> Result<Self, PkiError> {
        const ADVICE: &str = "expected the folder of an authority: make one with `hotctl pki init DIR`";
        let [certificate, key] = Self::files(folder);
        let (text, Found { is_authority, public_key, until, .. }) = read_certificate(&certificate, ADVICE)?;
        let content = |path: &Path, expected, found: &str| PkiError::Content {
            path: path.to_owned(),
            expected,
            found: found.to_owned(),
        };
        if !is_authority {
            return Err(content(&certificate, "certificate of an authority", "it may not sign others"));
        }
        let pair = KeyPair::from_pem(&read(&key, ADVICE)?)
            .map_err(|error| content(&key, "private key of an authority in PEM", &error.to_string()))?;
        if pair.subject_public_key_info() != public_key {
            return Err(PkiError::Mismatch { certificate, key });
        }
        if until <= seconds(SystemTime::now()) {
            return Err(PkiError::Expired { path: certificate, until: shown(until) });
        }
        let issuer = Issuer::from_ca_cert_pem(&text, pair)?;
        Ok(Self { certificate, issuer, until })
    }

    /// Its certificate, by which others judge what it signs.
    pub(crate) fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// A certificate with a new key, for so long and no longer than its own.
    pub(crate) fn issue(&self, subject: &Subject, span: Duration) -> Result<Issued, PkiError> {
        let now = SystemTime::now();
        let mut params = subject.params()?;
        params.serial_number = Some(serial());
        params.use_authority_key_identifier_extension = true;
        let wanted = seconds(now + span);
        let until = set_validity(&mut params, now, wanted.min(self.until));
        let pair = KeyPair::generate()?;
        let certificate = params.signed_by(&pair, &self.issuer)?.pem();
        Ok(Issued {
            certificate,
            key: pair.serialize_pem(),
            until: shown(until),
            is_cut_short: wanted > self.until,
        })
    }
}

/// From a little before now on until then, which it gives.
fn set_validity(params: &mut CertificateParams, now: SystemTime, until: i64) -> i64 {
    /// The last second that a certificate can say.
    const LAST: i64 = 253_402_300_799;
    let at = |seconds: i64| {
        date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    };
    let until = until.min(LAST);
    params.not_before = at(seconds(now - BACKDATED));
    params.not_after = at(until);
    until
}
