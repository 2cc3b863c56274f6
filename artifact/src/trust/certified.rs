//! What makes a certificate count, beside its authority being allowed: for a user, without critical options, in time, and
//! with names that may be given.

use super::allowed_signers::seconds;
use super::{SignerError, Validity, glob, time};
use crate::refusal::quoted;
use crate::signature::Certificate;

/// How a certificate is named in messages.
pub(super) fn shown(certificate: &Certificate) -> String {
    format!("the certificate {} (serial {})", quoted(&certificate.id), certificate.serial)
}

/// Checks what no entry can change. Stricter than `ssh-keygen -Y verify`: it ignores critical options.
pub(super) fn is_usable(certificate: &Certificate) -> Result<(), SignerError> {
    let problem = if !certificate.for_user {
        "made for a host".to_owned()
    } else if let Some(option) = certificate.critical.first() {
        format!("with the critical option {}", quoted(option))
    } else if certificate.principals.is_empty() {
        "without principals".to_owned()
    } else {
        return Ok(());
    };
    Err(SignerError::Certificate { certificate: shown(certificate), problem })
}

/// The names of the certificate that an entry's patterns match. Only plain ones: a name with a comma is two in a list,
/// and one with a wildcard could be written into another list and match all.
pub(super) fn principals(certificate: &Certificate, patterns: &str) -> Vec<String> {
    let plain = |name: &&String| {
        !name.is_empty()
            && !name.contains(|c: char| c.is_control() || c.is_whitespace() || ",*?!\"".contains(c))
    };
    certificate
        .principals
        .iter()
        .filter(plain)
        .filter(|name| glob::list_matches(patterns, name))
        .cloned()
        .collect()
}

/// Checks the certificate's own time, if that counts. The end itself is outside.
pub(super) fn in_time(certificate: &Certificate, validity: Validity) -> Result<(), SignerError> {
    let Validity::At(now) = validity else { return Ok(()) };
    let now = u64::try_from(seconds(now)).unwrap_or(0);
    let shown_time = |at: u64| i64::try_from(at).map_or_else(|_error| at.to_string(), time::shown);
    let (principal, place) = (certificate.principals.join(","), shown(certificate));
    if now < certificate.valid_after {
        return Err(SignerError::NotYetValid { principal, from: shown_time(certificate.valid_after), place });
    }
    if now >= certificate.valid_before {
        return Err(SignerError::Expired { principal, until: shown_time(certificate.valid_before), place });
    }
    Ok(())
}
