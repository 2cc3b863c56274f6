//! Certificates.

use super::Want::{Accepted, Refused, Stricter};
use super::{Cases, good, with};
use crate::keys::{self, BYTES, Maker, NAMESPACE};
use crate::parts::Blob;

/// Certificates of every make, and lines for their authorities.
pub(super) fn certificates() -> Cases {
    let mut cases = Vec::new();
    for (file, authority, want) in [
        ("by-ca-p256", "ca-p256", Accepted),
        ("by-ca-rsa", "ca-rsa", Accepted),
        ("by-ca-rsa2048", "ca-rsa2048", Stricter),
        ("sha1", "ca-rsa", Stricter),
        ("by-ca-other", "ca", Refused),
        ("for-ever", "ca", Accepted),
        ("over", "ca", Refused),
        ("last-second", "ca", Accepted),
        ("first-second", "ca", Accepted),
        ("not-yet", "ca", Refused),
        ("of-host", "ca", Refused),
        ("forced", "ca", Stricter),
        ("critical", "ca", Stricter),
        ("verify-required", "ca", Stricter),
        ("extension", "ca", Accepted),
        ("numbered", "ca", Accepted),
        ("nobody", "ca", Refused),
    ] {
        let maker = Maker::certified("ed25519", file, authority);
        cases.push((good(&maker, "sha512"), want));
    }
    let maker = Maker::certified("ed25519", "mail", "ca");
    for (principals, want) in [
        ("anna@example.com", Accepted),
        ("*@example.com", Accepted),
        ("*", Accepted),
        ("*@example.com,!anna@*", Refused),
        ("berta@example.com", Refused),
        ("*@example.org", Refused),
    ] {
        let case = with(&good(&maker, "sha512"), &format!("for {principals}"), |case| {
            case.signers = maker.line(principals, "namespaces=\"hot-module\"").into();
            case.principal = "anna@example.com".to_owned();
        });
        cases.push((case, want));
    }
    let wild = Maker::certified("ed25519", "wild", "ca");
    cases.push((
        with(&good(&wild, "sha512"), "asked for its star", |case| {
            case.signers = wild.line("*", "namespaces=\"hot-module\"").into();
            case.principal = "*".to_owned();
        }),
        Stricter,
    ));
    let plain = Maker::certified("ed25519", "ed25519", "ca");
    let case = good(&plain, "sha512");
    let line = |text: String| text.into_bytes();
    cases.extend([
        (
            with(&case, "its key allowed, not its authority", |case| {
                case.signers = line(format!("anna namespaces=\"hot-module\" {}\n", keys::public("ed25519")));
            }),
            Refused,
        ),
        (
            with(&case, "its authority allowed as a key", |case| {
                case.signers = line(format!("anna namespaces=\"hot-module\" {}\n", keys::public("ca")));
            }),
            Refused,
        ),
        (
            with(&case, "itself in a line", |case| {
                case.signers =
                    line(format!("anna namespaces=\"hot-module\" {}\n", keys::certificate("ed25519")));
            }),
            Stricter,
        ),
        (
            with(&case, "made by ssh-keygen with the certificate", |case| {
                let file = keys::folder().join("ed25519-cert.pub");
                case.signature = keys::keygen_sign(&file, NAMESPACE, "sha512", BYTES);
            }),
            Accepted,
        ),
    ]);
    // Every part of a certificate changed: its authority did not sign that.
    let blob = plain.blob().to_vec();
    for at in (0..blob.len()).step_by(7) {
        cases.push((
            with(&case, &format!("byte {at} of the certificate changed"), |case| {
                let mut changed = Blob::read(&case.signature);
                changed.key[at] ^= 1;
                case.signature = changed.armoured();
            }),
            Refused,
        ));
    }
    cases
}
