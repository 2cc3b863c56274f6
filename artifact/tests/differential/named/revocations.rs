//! Revoked keys.

use super::Want::{Accepted, Refused, Stricter};
use super::{Cases, Want, good, with};
use sha2::Digest as _;

use crate::keys::{self, Maker};
use crate::parts::string;
use crate::{keygen, parts};

/// Files of revoked keys and KRLs, for keys and for certificates.
pub(super) fn revocations() -> Cases {
    let mut cases = Vec::new();
    let krl = |kind: u8, content: Vec<u8>| parts::krl(&[(kind, content)]);
    let of = |authority: &[u8], kind: u8, content: Vec<u8>| {
        krl(1, parts::krl_certificates(authority, &[(kind, content)]))
    };
    let number = |number: u64| number.to_be_bytes().to_vec();
    let (ca, other) = (keys::blob("ca"), keys::blob("other"));
    for kind in ["ed25519", "p521", "rsa", "sk-ecdsa"] {
        let key = Maker::key(kind);
        let certificate = Maker::certified(kind, kind, "ca");
        let (plain, own) = (key.plain(), key.blob().to_vec());
        let sha1 = |blob: &[u8]| sha1::Sha1::digest(blob).to_vec();
        let sha256 = |blob: &[u8]| sha2::Sha256::digest(blob).to_vec();
        // For the key, and for the certificate.
        let forms: Vec<(&str, Vec<u8>, Want, Want)> = vec![
            ("nothing", vec![], Accepted, Accepted),
            ("comments", b"# none\n\n  # still none\n".to_vec(), Accepted, Accepted),
            ("another key", format!("{}\n", keys::public("other")).into(), Accepted, Accepted),
            ("the key", format!("{plain}\n").into(), Refused, Refused),
            ("the key with a comment", format!("  {plain} of anna\r\n").into(), Refused, Refused),
            ("the key without a line end", plain.clone().into(), Refused, Refused),
            ("the key, commented out", format!("#{plain}\n").into(), Accepted, Accepted),
            ("the certificate", format!("{}\n", keys::certificate(kind)).into(), Refused, Refused),
            ("the authority", format!("{}\n", keys::public("ca")).into(), Accepted, Refused),
            ("a weak key", format!("{}\n", keys::public("rsa2048")).into(), Accepted, Accepted),
            ("nonsense", b"nonsense\n".to_vec(), Refused, Refused),
            ("a line of CR", b"\r\n".to_vec(), Refused, Refused),
            ("a key of another kind", b"ssh-dss AAAAB3NzaC1kc3M=\n".to_vec(), Refused, Refused),
            ("a key with options", format!("cert-authority {plain}\n").into(), Refused, Refused),
            ("an empty KRL", parts::krl(&[]), Accepted, Accepted),
            ("half of a KRL's magic", b"SSHKRL\n".to_vec(), Refused, Refused),
            ("a KRL's magic alone", b"SSHKRL\n\0".to_vec(), Refused, Refused),
            ("KRL: the key", krl(2, string(&own)), Refused, Refused),
            ("KRL: another key", krl(2, string(&other)), Accepted, Accepted),
            ("KRL: the authority", krl(2, string(&ca)), Accepted, Refused),
            ("KRL: SHA-1", krl(3, string(sha1(&own))), Refused, Refused),
            ("KRL: SHA-1 of the authority", krl(3, string(sha1(&ca))), Accepted, Refused),
            ("KRL: SHA-1 of another", krl(3, string(sha1(&other))), Accepted, Accepted),
            ("KRL: SHA-1, too long", krl(3, string([1; 21])), Refused, Refused),
            ("KRL: SHA-256", krl(5, string(sha256(&own))), Refused, Refused),
            ("KRL: SHA-256 of another", krl(5, string(sha256(&other))), Accepted, Accepted),
            ("KRL: serial number", of(&ca, 0x20, [number(3), number(7)].concat()), Accepted, Refused),
            ("KRL: another serial number", of(&ca, 0x20, number(8)), Accepted, Accepted),
            ("KRL: serial number 0", of(&ca, 0x20, number(0)), Refused, Refused),
            ("KRL: serial number of another authority", of(&other, 0x20, number(7)), Accepted, Accepted),
            ("KRL: serial number of any authority", of(b"", 0x20, number(7)), Accepted, Refused),
            ("KRL: range", of(&ca, 0x21, [number(7), number(9)].concat()), Accepted, Refused),
            ("KRL: range up to it", of(&ca, 0x21, [number(1), number(7)].concat()), Accepted, Refused),
            ("KRL: range below", of(&ca, 0x21, [number(1), number(6)].concat()), Accepted, Accepted),
            ("KRL: range from 0", of(&ca, 0x21, [number(0), number(6)].concat()), Refused, Refused),
            ("KRL: range back", of(&ca, 0x21, [number(9), number(1)].concat()), Refused, Refused),
            ("KRL: range cut short", of(&ca, 0x21, number(9)), Refused, Refused),
            ("KRL: bitmap", of(&ca, 0x22, [number(5), string([0b101])].concat()), Accepted, Refused),
            ("KRL: bitmap from 0", of(&ca, 0x22, [number(0), string([0, 0x80])].concat()), Accepted, Refused),
            (
                "KRL: bitmap of two bytes",
                of(&ca, 0x22, [number(1), string([1, 0x40])].concat()),
                Accepted,
                Refused,
            ),
            (
                "KRL: bitmap without it",
                of(&ca, 0x22, [number(5), string([0b11])].concat()),
                Accepted,
                Accepted,
            ),
            ("KRL: bitmap with 0", of(&ca, 0x22, [number(0), string([1])].concat()), Refused, Refused),
            ("KRL: negative bitmap", of(&ca, 0x22, [number(1), string([0x80])].concat()), Refused, Refused),
            ("KRL: empty bitmap", of(&ca, 0x22, [number(1), string([0_u8; 0])].concat()), Accepted, Accepted),
            (
                "KRL: bitmap past the end",
                of(&ca, 0x22, [number(u64::MAX), string([2])].concat()),
                Refused,
                Refused,
            ),
            (
                "KRL: bitmap up to the end",
                of(&ca, 0x22, [number(u64::MAX - 1), string([3])].concat()),
                Accepted,
                Accepted,
            ),
            (
                "KRL: bitmap of zeros, too long",
                of(&ca, 0x22, [number(1), string([0; 2050])].concat()),
                Refused,
                Refused,
            ),
            ("KRL: id", of(&ca, 0x23, string(format!("id-{kind}"))), Accepted, Refused),
            ("KRL: another id", of(&ca, 0x23, string(format!("id-{kind}x"))), Accepted, Accepted),
            ("KRL: id of any authority", of(b"", 0x23, string(format!("id-{kind}"))), Accepted, Refused),
            ("KRL: unknown part", of(&ca, 0x24, vec![]), Refused, Refused),
            ("KRL: unknown section", krl(9, vec![]), Refused, Refused),
            ("KRL: malformed authority", of(b"x", 0x20, number(3)), Refused, Refused),
            ("KRL: weak authority", of(&keys::blob("ca-rsa2048"), 0x20, number(7)), Accepted, Accepted),
            ("KRL: bytes behind", [parts::krl(&[]), vec![2]].concat(), Refused, Refused),
            ("KRL: id with NUL", of(&ca, 0x23, string(b"id\0")), Stricter, Stricter),
        ];
        for (name, revoked, for_key, for_certificate) in forms {
            for (maker, want) in [(&key, for_key), (&certificate, for_certificate)] {
                let revoked = revoked.clone();
                cases.push((
                    with(&good(maker, "sha512"), &format!("revoked: {name}"), |case| {
                        case.revoked = Some(revoked)
                    }),
                    want,
                ));
            }
        }
    }
    cases.push((
        with(&good(&Maker::key("ed25519"), "sha512"), "revoked: KRL by ssh-keygen", |case| {
            case.revoked = Some(made_by_keygen());
        }),
        Refused,
    ));
    cases.push((
        with(&good(&Maker::key("other"), "sha512"), "revoked: KRL by ssh-keygen of others", |case| {
            case.revoked = Some(made_by_keygen());
        }),
        Accepted,
    ));
    cases
}

/// A KRL as `ssh-keygen` writes it, with all that it can write.
fn made_by_keygen() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let text = format!(
        "serial: 3\nserial: 5-900\nserial: 5000-6000\nid: somebody\nkey: {}\nsha1: {}\nsha256: {}\n",
        keys::public("ed25519"),
        keys::public("p256"),
        keys::public("p384"),
    );
    std::fs::write(at("list"), text).expect("writes");
    let authority = keys::folder().join("ca.pub");
    keygen::run(&["-q", "-k", "-f", &at("krl"), "-s", authority.to_str().expect("UTF-8"), &at("list")]);
    std::fs::read(at("krl")).expect("a KRL")
}
