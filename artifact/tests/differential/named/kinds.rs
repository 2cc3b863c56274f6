//! Every kind of key, hash and time.

use super::Want::{Accepted, Refused};
use super::{Cases, good, with};
use crate::keys::{self, BYTES, Maker, NAMESPACE, NOW};
use crate::parts::{self, Blob};

/// Each kind of key and certificate, each hash, and what FAULTS has for all of them.
pub(super) fn kinds() -> Cases {
    let mut cases = Vec::new();
    for (index, maker) in Maker::all().iter().enumerate() {
        for hash in ["sha256", "sha512"] {
            let case = good(maker, hash);
            let other = Maker::key("other").line("anna", "namespaces=\"hot-module\"");
            cases.extend([
                (case.clone(), Accepted),
                (with(&case, "other bytes", |case| case.bytes.push(b'x')), Refused),
                (with(&case, "no bytes", |case| case.bytes.clear()), Refused),
                (
                    with(&case, "another namespace", |case| {
                        case.signature = maker.sign("file", hash, BYTES).armoured();
                    }),
                    Refused,
                ),
                (with(&case, "another principal", |case| case.principal = "berta".to_owned()), Accepted),
                (with(&case, "another key", |case| case.signers = other.clone().into()), Refused),
                (with(&case, "the same key twice", |case| case.signers.extend_from_within(..)), Accepted),
                (
                    with(&case, "a signature of another file", |case| {
                        case.signature = maker.sign(NAMESPACE, hash, b"another module").armoured();
                    }),
                    Refused,
                ),
                (with(&case, "none", |case| case.signature.clear()), Refused),
                (
                    with(&case, "claimed by another", |case| {
                        let mut blob = Blob::read(&case.signature);
                        blob.key = keys::blob(if index == 1 { "p384" } else { "p256" });
                        case.signature = blob.armoured();
                    }),
                    Refused,
                ),
            ]);
        }
    }
    cases
}

/// Each kind, in and out of each window of time.
pub(super) fn times() -> Cases {
    let mut cases = Vec::new();
    let at = |offset: i64| parts::utc(NOW.saturating_add_signed(offset));
    let windows = [
        ("from now", format!("valid-after=\"{}\"", at(0)), Accepted),
        ("from the next second", format!("valid-after=\"{}\"", at(1)), Refused),
        ("until now", format!("valid-before=\"{}\"", at(0)), Accepted),
        ("until the last second", format!("valid-before=\"{}\"", at(-1)), Refused),
        ("around now", format!("valid-after=\"{}\",valid-before=\"{}\"", at(-1), at(1)), Accepted),
        ("long ago", "valid-before=\"20200101Z\"".to_owned(), Refused),
        ("in years", "valid-after=\"20300101Z\"".to_owned(), Refused),
        ("by days", "valid-after=\"20260614\",valid-before=\"20260617\"".to_owned(), Accepted),
    ];
    for maker in Maker::all() {
        let case = good(&maker, "sha512");
        for (name, window, want) in &windows {
            let line = maker.line("anna", &format!("namespaces=\"hot-module\",{window}"));
            cases.push((with(&case, name, |case| case.signers = line.into()), *want));
        }
    }
    cases
}
