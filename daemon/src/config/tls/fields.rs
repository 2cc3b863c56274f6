//! What is read out of a certificate's DER (RFC 5280, section 4.1): its subject's name, its time, whether it may sign
//! others.
//!
//! Nothing else of it is looked at: whether it can be used at all, and whoever vouches for it, is found by rustls.

use der::asn1::AnyRef;
use der::{Decode as _, Reader, SliceReader, Tag, Tagged as _};
use thiserror::Error;

use super::validity::Validity;

/// The object identifier 2.5.4.3, `commonName`, in DER.
const COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];

/// 2.5.29.19, `basicConstraints`.
const BASIC_CONSTRAINTS: &[u8] = &[0x06, 0x03, 0x55, 0x1d, 0x13];

/// Longest name, bytes: `ub-common-name` of RFC 5280 is 64 characters.
const MAX_NAME: usize = 256;

/// Why a certificate says no name for whoever shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum NameError {
    /// It is no certificate.
    #[error("the certificate is not understood")]
    Malformed,
    /// It has none.
    #[error("the certificate's subject has no common name (CN), expected one, which is the caller's name")]
    Absent,
    /// It has more than one.
    #[error(
        "the certificate's subject has more than one common name (CN), expected one, which is the caller's name"
    )]
    Several,
    /// It is none that can be shown.
    #[error("the certificate's common name (CN) is empty, too long, or has other than printable characters")]
    Strange,
}

/// The name of whoever shows a certificate: the one common name of its subject.
pub(crate) fn common_name(certificate: &[u8]) -> Result<String, NameError> {
    let fields = Fields::of(certificate).map_err(|_malformed| NameError::Malformed)?;
    match &fields.names[..] {
        [] => Err(NameError::Absent),
        [Some(name)] => Ok(name.clone()),
        [None] => Err(NameError::Strange),
        _ => Err(NameError::Several),
    }
}

/// Some fields of a certificate.
#[derive(Debug)]
pub(super) struct Fields {
    /// The common names of its subject; none for one that can't be shown.
    names: Vec<Option<String>>,
    pub validity: Validity,
    /// Whether it may sign others.
    pub is_authority: bool,
}

impl Fields {
    pub(super) fn of(certificate: &[u8]) -> der::Result<Self> {
        SliceReader::new(certificate)?.sequence(|certificate| {
            let fields = certificate.sequence(Self::signed)?;
            skip_rest(certificate)?;
            Ok(fields)
        })
    }

    /// Of `tbsCertificate`.
    fn signed<'r>(signed: &mut impl Reader<'r>) -> der::Result<Self> {
        let has_version = matches!(signed.peek_tag()?, Tag::ContextSpecific { .. });
        // The version, if it is said; its number, how it is signed, and by whom.
        for _ in 0..3 + usize::from(has_version) {
            signed.tlv_bytes()?;
        }
        let validity = Validity::read(signed)?;
        let names = names(AnyRef::decode(signed)?)?;
        // Its public key.
        signed.tlv_bytes()?;
        let mut is_authority = false;
        while !signed.is_finished() {
            let field = AnyRef::decode(signed)?;
            // The extensions; what else may stand there are identifiers that nobody uses.
            if matches!(field.tag(), Tag::ContextSpecific { constructed: true, number } if number.value() == 3)
            {
                is_authority = may_sign(field.value())?;
            }
        }
        Ok(Self { names, validity, is_authority })
    }
}

/// The common names in a `Name`: a sequence of sets of pairs.
fn names(name: AnyRef<'_>) -> der::Result<Vec<Option<String>>> {
    let mut names = Vec::new();
    let mut sets = SliceReader::new(name.value())?;
    while !sets.is_finished() {
        let mut pairs = SliceReader::new(AnyRef::decode(&mut sets)?.value())?;
        while !pairs.is_finished() {
            pairs.sequence(|pair| {
                let (kind, value) = (pair.tlv_bytes()?, AnyRef::decode(pair)?);
                if kind == COMMON_NAME {
                    names.push(text(value));
                }
                Ok(())
            })?;
        }
    }
    Ok(names)
}

/// A string that can stand in a table and a log as it is.
fn text(value: AnyRef<'_>) -> Option<String> {
    let is_text = matches!(value.tag(), Tag::Utf8String | Tag::PrintableString | Tag::Ia5String);
    let text = std::str::from_utf8(value.value()).ok().filter(|_| is_text)?;
    let is_shown = |text: &&str| {
        (1..=MAX_NAME).contains(&text.len()) && text.trim() == *text && !text.contains(char::is_control)
    };
    Some(text).filter(is_shown).map(str::to_owned)
}

/// What the extensions say of that.
fn may_sign(extensions: &[u8]) -> der::Result<bool> {
    let mut extensions = SliceReader::new(AnyRef::from_der(extensions)?.value())?;
    let mut is_authority = false;
    while !extensions.is_finished() {
        extensions.sequence(|extension| {
            let kind = extension.tlv_bytes()?;
            // Whether it is critical, if that is said; then its value.
            let mut value = AnyRef::decode(extension)?;
            if value.tag() == Tag::Boolean {
                value = AnyRef::decode(extension)?;
            }
            if kind == BASIC_CONSTRAINTS {
                let constraints = AnyRef::from_der(value.value())?;
                is_authority = constraints.value().starts_with(&[0x01, 0x01, 0xff]);
            }
            skip_rest(extension)
        })?;
    }
    Ok(is_authority)
}

fn skip_rest<'r>(reader: &mut impl Reader<'r>) -> der::Result<()> {
    reader.read_slice(reader.remaining_len()).map(drop)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, DnValue, IsCa, KeyPair};

    use super::*;

    fn certificate(names: &[DnValue], is_ca: IsCa) -> Vec<u8> {
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Hot");
        for name in names {
            params.distinguished_name.push(DnType::CommonName, name.clone());
        }
        params.is_ca = is_ca;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn name(name: DnValue) -> Result<String, NameError> {
        common_name(&certificate(&[name], IsCa::NoCa))
    }

    #[test]
    fn the_callers_name_is_the_common_name() {
        assert_eq!(name(DnValue::Utf8String("ann@example.com".to_owned())).as_deref(), Ok("ann@example.com"));
        assert_eq!(name(DnValue::PrintableString("web-1".try_into().unwrap())).as_deref(), Ok("web-1"));
        assert_eq!(name(DnValue::Utf8String("Zoë".to_owned())).as_deref(), Ok("Zoë"));
        assert_eq!(common_name(&certificate(&[], IsCa::NoCa)), Err(NameError::Absent));
        for strange in ["", " ann", "a\nb", "a\u{1b}[2J", &"x".repeat(MAX_NAME + 1)] {
            assert_eq!(name(DnValue::Utf8String(strange.to_owned())), Err(NameError::Strange), "{strange:?}");
        }
        assert_eq!(common_name(b"\x30\x03\x02\x01\x01"), Err(NameError::Malformed));
        let whole = certificate(&["ann".into()], IsCa::NoCa);
        for end in 0..whole.len() {
            assert!(common_name(&whole[..end]).is_err(), "cut off at {end}");
        }
    }

    #[test]
    fn an_authority_may_sign_others() {
        let may = |is_ca| Fields::of(&certificate(&["a".into()], is_ca)).unwrap().is_authority;
        assert!(
            may(IsCa::Ca(BasicConstraints::Unconstrained)) && may(IsCa::Ca(BasicConstraints::Constrained(0)))
        );
        assert!(!may(IsCa::NoCa) && !may(IsCa::ExplicitNoCa));
    }
}
