//! Files, signatures and lists of signers, as a stranger may hand them in.

use std::path::Path;

use hot_artifact::signature::{MODULE_NAMESPACE, Signature};
use hot_artifact::trust::{AllowedSigners, Revoked, Validity};
use hot_artifact::{Inspection, Metadata, Sha256, inspect, symbols};

/// A module's file. Let in: it is one. What is accepted twice is equal, and is so after a journey as JSON.
pub(crate) fn elf(file: &[u8]) -> bool {
    if let Ok(symbols) = symbols(file) {
        let (exported, imported) = (symbols.exported, symbols.imported);
        assert!(exported.first.len() <= 1024 && imported.first.len() <= 1024);
    }
    match inspect(file) {
        Ok(inspection) => {
            assert_eq!(inspection.size, file.len() as u64);
            assert_eq!(inspection.digest, Sha256::of(file));
            let stored = serde_json::to_vec(&inspection).expect("an inspection is plain data");
            let read: Inspection = serde_json::from_slice(&stored).expect("what was stored can be read");
            assert_eq!(read, inspection);
            assert!(inspection.hazards.iter().all(|hazard| !hazard.refusal().to_string().is_empty()));
            assert_eq!(inspect(file).ok(), Some(inspection), "a file is one module");
            true
        }
        Err(error) => {
            assert!(!error.refusal().to_string().is_empty(), "a refusal says why");
            false
        }
    }
}

/// The text of a metadata note. Let in: it is metadata, which then survives the store's JSON.
pub(crate) fn metadata(text: &[u8]) -> bool {
    match Metadata::parse(text) {
        Ok(metadata) => {
            let stored = serde_json::to_vec(&metadata).expect("metadata is plain data");
            let read: Metadata = serde_json::from_slice(&stored).expect("what was stored can be read");
            assert_eq!(read, metadata);
            true
        }
        Err(error) => {
            assert!(!error.refusal().to_string().is_empty(), "a refusal says why");
            false
        }
    }
}

/// An armoured signature. Let in: it is well-formed. It is never one for bytes of which nobody has signed the hash.
pub(crate) fn signature(armoured: &[u8]) -> bool {
    let Ok(signature) = Signature::parse(armoured) else { return false };
    let again = Signature::parse(armoured).expect("it parsed before");
    assert_eq!(
        (signature.key(), signature.namespace(), signature.hash()),
        (again.key(), again.namespace(), again.hash())
    );
    assert!(!signature.namespace().is_empty());
    // Of the right length for either hash, and the hash of nothing that the corpus has signed.
    let nobodys = &[0x5a; 64][..if signature.hash().as_str() == "sha256" { 32 } else { 64 }];
    assert!(signature.check(MODULE_NAMESPACE, nobodys).is_err(), "a forged signature");
    true
}

/// The text of an `allowed_signers` file. Let in: without a mistake. Each key that may sign has a principal.
pub(crate) fn signers(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    match AllowedSigners::parse(text, Path::new("allowed_signers")) {
        Ok(signers) => {
            let lines = text.split('\n').count();
            assert!(signers.notes().iter().all(|note| (1..=lines).contains(&note.line)));
            for key in signers.keys(MODULE_NAMESPACE) {
                let principals = signers.principals(key, MODULE_NAMESPACE, Validity::AnyTime);
                let principals = principals.expect("a key that may sign at some time may do so at any time");
                assert!(!principals.is_empty() && principals.iter().all(|name| !name.is_empty()));
            }
            true
        }
        Err(error) => {
            assert!(!error.problems.is_empty(), "a refusal says why");
            false
        }
    }
}

/// Signatures by a key and with a certificate, to ask what was revoked for.
const BY_KEY: &[u8] = include_bytes!("../corpus/signature/ed25519");
const BY_CERTIFICATE: &[u8] = include_bytes!("../corpus/signature/certificate");

/// The content of a file of revoked keys, or a KRL. Let in: all of it is understood. What it says of a key holds for the
/// key's certificates.
pub(crate) fn revoked(bytes: &[u8]) -> bool {
    let Ok(revoked) = Revoked::parse(bytes, Path::new("revoked")) else { return false };
    for armoured in [BY_KEY, BY_CERTIFICATE] {
        let signature = Signature::parse(armoured).expect("a signature by ssh-keygen");
        let key = revoked.key(signature.key());
        let check = revoked.check(&signature);
        assert!(key.is_none() || check.is_err(), "a key that is revoked counts");
        let certificate = signature.certificate();
        let authority = certificate.and_then(|certificate| revoked.key(certificate.authority()));
        assert!(authority.is_none() || check.is_err(), "an authority that is revoked counts");
        assert!(certificate.is_some() || key.is_some() || check.is_ok(), "a key counts that is not revoked");
    }
    true
}
