//! Lines of allowed signers.

use super::Want::{Accepted, Refused, Stricter};
use super::{Cases, Want, good, with};
use crate::keys::{self, Maker};

/// What a line of trust can look like, for a key and for an authority. `KEY` stands for it and `CA` for its option.
pub(super) fn lines() -> Cases {
    let long = "x".repeat(1022);
    let longer = "x".repeat(1023);
    let forms: Vec<(String, Want)> = [
        ("anna CAnamespaces=\"hot-module\" KEY", Accepted),
        ("anna CAnamespaces=\"hot-module\" KEY a comment of \"words", Accepted),
        ("  \tanna \t CAnamespaces=\"hot-module\"\tKEY  ", Accepted),
        ("anna CANameSpaces=\"hot-module\" KEY", Accepted),
        ("berta,anna CAnamespaces=\"hot-module\" KEY", Accepted),
        ("anna CAnamespaces=\"git,hot-module\" KEY", Accepted),
        ("anna CAnamespaces=\"hot-*\" KEY", Accepted),
        ("anna CAnamespaces=\"h?t-module\" KEY", Accepted),
        ("anna CAnamespaces=\"*,!git\" KEY", Accepted),
        ("# a comment\n\n \t\nanna CAnamespaces=\"hot-module\" KEY", Accepted),
        ("anna CAnamespaces=\"hot-module\" KEY\r\n", Accepted),
        ("anna CAnamespaces=\"git\" KEY\nanna CAnamespaces=\"hot-module\" KEY", Accepted),
        ("anna CAnamespaces=\"hot-module\",valid-before=\"20200101Z\" KEY\nanna CAnamespaces=\"hot-module\" KEY", Accepted),
        ("anna namespaces=\"hot-module\" OTHER\nanna CAnamespaces=\"hot-module\" KEY", Accepted),
        ("anna CAnamespaces=\"hot-module\" KEY\n\0", Stricter),
        ("anna CAnamespaces=\"hot-module\" KEY\n\u{7}", Stricter),
        ("anna CAnamespaces=\"git\" KEY", Refused),
        ("anna CAnamespaces=\"\" KEY", Refused),
        ("anna CAnamespaces=\"Hot-Module\" KEY", Refused),
        ("anna CAnamespaces=\"*,!hot-module\" KEY", Refused),
        ("#anna CAnamespaces=\"hot-module\" KEY", Refused),
        ("", Refused),
        ("anna", Refused),
        ("anna CAnamespaces=\"hot-module\"", Refused),
        ("anna CAnamespaces=\"hot-module KEY", Refused),
        ("anna CAnamespaces=hot-module KEY", Refused),
        ("anna CAnamespace=\"hot-module\" KEY", Refused),
        ("anna CAnamespaces=\"hot-module\",unknown KEY", Refused),
        ("anna CAnamespaces=\"a\",namespaces=\"hot-module\" KEY", Refused),
        ("anna CAnamespaces=\"hot-module\"valid-after=\"20260101Z\" KEY", Refused),
        ("anna CAnamespaces=\"hot-module\", KEY", Refused),
        ("anna CAnamespaces=\"hot-module\",valid-after=\"2026\" KEY", Refused),
        ("anna CAnamespaces=\"hot-module\",valid-after=\"20261301Z\" KEY", Refused),
        ("anna CAnamespaces=\"hot-module\",valid-after=\"20260101Z\",valid-before=\"20260101Z\" KEY", Refused),
        ("anna CAnamespaces=\"hot-module\" ssh-ed25519 AAAA", Refused),
        ("LONG CAnamespaces=\"hot-module\" KEY", Accepted),
        ("LONGER,anna CAnamespaces=\"hot-module\" KEY", Refused),
        ("anna CAnamespaces=\"LONGER,hot-module\" KEY", Refused),
        ("anna CAnamespaces=\"LONG,hot-module\" KEY", Accepted),
        // Stricter.
        ("anna CAvalid-after=\"20260101Z\" KEY", Stricter),
        ("\"anna\" CAnamespaces=\"hot-module\" KEY", Stricter),
        ("anna,,berta CAnamespaces=\"hot-module\" KEY", Stricter),
        ("anna CAnamespaces=\"hot-module\" KEY\nbad line", Stricter),
        ("anna CAnamespaces=\"hot-\\module\" KEY\nanna CAnamespaces=\"hot-module\" KEY", Stricter),
        ("anna CAnamespaces=\"hot-module\",valid-after=\"20260101UTC\" KEY", Stricter),
        ("anna CAnamespaces=\"hot-module\",valid-before=\"20260631Z\" KEY", Stricter),
    ]
    .into_iter()
    .map(|(line, want)| (line.replace("LONGER", &longer).replace("LONG", &long), want))
    .collect();
    let mut cases = Vec::new();
    for maker in [Maker::key("ed25519"), Maker::key("sk-ecdsa"), Maker::certified("p256", "p256", "ca")] {
        let case = good(&maker, "sha512");
        for (line, want) in &forms {
            let text = line
                .replace("CA", maker.authority_option())
                .replace("KEY", &maker.trusted)
                .replace("OTHER", &keys::public("other"));
            // A certificate of anna's does not become one of a long name's by a line.
            let want = if maker.is_certificate && line.starts_with(&long) { Refused } else { *want };
            let principal = if line.starts_with(&long) { long.clone() } else { "anna".to_owned() };
            let name: String = format!("line {:?}", line.chars().take(90).collect::<String>());
            cases.push((
                with(&case, &name, |case| {
                    case.signers = text.into();
                    case.principal = principal;
                }),
                want,
            ));
        }
        cases.push((
            with(&case, "a line that is not UTF-8", |case| case.signers.extend(b"# \xff\n")),
            Stricter,
        ));
    }
    let key = Maker::key("ed25519");
    for (line, want) in [
        ("anna KEY", Stricter),
        ("ann* namespaces=\"hot-module\" KEY", Stricter),
        ("*,!berta namespaces=\"hot-module\" KEY", Stricter),
        ("anna cert-authority,namespaces=\"hot-module\" KEY", Refused),
        ("anna CERT-AUTHORITY,namespaces=\"hot-module\" KEY", Refused),
        ("anna namespaces=\"hot-module\" CERTIFICATE", Refused),
    ] {
        let text = line.replace("KEY", &key.trusted).replace("CERTIFICATE", &keys::certificate("ed25519"));
        cases.push((
            with(&good(&key, "sha512"), &format!("line {line:?}"), |case| case.signers = text.into()),
            want,
        ));
    }
    let weak = Maker::key("rsa2048");
    cases.push((good(&weak, "sha512"), Stricter));
    cases
}
