//! Armours.

use super::Want::{Accepted, Refused, Stricter};
use super::{Cases, Want, good, with};
use crate::keys::{self, Maker, NAMESPACE};
use crate::parts;

/// What can be wrong with a signature's text.
pub(super) fn armours() -> Cases {
    let mut cases = Vec::new();
    for maker in [Maker::key("ed25519"), Maker::key("sk-ed25519"), Maker::certified("p384", "p384", "ca")] {
        let case = good(&maker, "sha512");
        let text = String::from_utf8(case.signature.clone()).expect("text");
        let other = String::from_utf8(maker.sign(NAMESPACE, "sha512", b"other").armoured()).expect("text");
        let blob = parts::unarmour(&case.signature);
        let forms: Vec<(&str, Vec<u8>, Want)> = vec![
            ("a line end only", "\n".into(), Refused),
            ("half of it", text[..text.len() / 2].into(), Refused),
            ("without its last line", text[..text.len() - parts::END.len() - 1].into(), Refused),
            ("without the last line end", text.trim_end().into(), Accepted),
            ("trailing text", format!("{text}more\n").into(), Stricter),
            ("a trailing line end", format!("{text}\n").into(), Stricter),
            ("trailing bytes", [text.as_bytes(), &[0, 0xff]].concat(), Stricter),
            ("twice", format!("{text}{text}").into(), Stricter),
            ("then another", format!("{text}{other}").into(), Stricter),
            ("another, then it", format!("{other}{text}").into(), Refused),
            ("CRLF", text.replace('\n', "\r\n").into(), Refused),
            (
                "CRLF but in the first line",
                text.replace('\n', "\r\n").replacen("\r\n", "\n", 1).into(),
                Stricter,
            ),
            ("CR", text.replace('\n', "\r").into(), Refused),
            ("a line end before", format!("\n{text}").into(), Refused),
            ("a space before", format!(" {text}").into(), Refused),
            ("a byte order mark before", format!("\u{feff}{text}").into(), Refused),
            ("one line", parts::armour(&blob, 1 << 20), Accepted),
            ("one column", parts::armour(&blob, 1), Accepted),
            ("64 columns", parts::armour(&blob, 64), Accepted),
            ("76 columns", parts::armour(&blob, 76), Accepted),
            ("empty lines within", text.replace('\n', "\n\n").replacen("\n\n", "\n", 1).into(), Stricter),
            ("an empty line at the start", text.replacen('\n', "\n\n", 1).into(), Accepted),
            ("spaces within", text.replacen("\nU1", "\n U1", 1).into(), Stricter),
            ("tabs within", text.replacen("\nU1", "\n\tU1", 1).into(), Stricter),
            ("a NUL within", text.replacen("\nU1", "\n\0U1", 1).into(), Refused),
            ("other letters within", text.replacen("\nU1", "\n*U1", 1).into(), Refused),
            ("lower case", text.replacen("BEGIN", "begin", 1).into(), Refused),
            (
                "words behind the first marker",
                text.replacen(parts::BEGIN, &format!("{} x", parts::BEGIN), 1).into(),
                Refused,
            ),
            (
                "words behind the last marker",
                text.replacen(parts::END, &format!("{} x", parts::END), 1).into(),
                Stricter,
            ),
            (
                "the last marker within a line",
                text.replacen(&format!("\n{}", parts::END), parts::END, 1).into(),
                Refused,
            ),
            ("nothing between", format!("{}\n{}\n", parts::BEGIN, parts::END).into(), Refused),
            (
                "more base64",
                text.replacen(&format!("\n{}", parts::END), &format!("\nAAAA\n{}", parts::END), 1).into(),
                Refused,
            ),
            ("a PGP signature", text.replace("SSH", "PGP").into(), Refused),
            ("a key", keys::public("ed25519").into(), Refused),
            ("9 KiB", parts::armour(&[blob.clone(), vec![0; 9000]].concat(), 70), Refused),
            ("9 KiB behind", format!("{text}{}", "x".repeat(9000)).into(), Stricter),
        ];
        for (name, signature, want) in forms {
            cases.push((with(&case, name, |case| case.signature = signature), want));
        }
    }
    cases
}
