use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use der::asn1::OctetStringRef;
use der::{Decode as _, Reader as _, SliceReader};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::super::{Config, ConfigError, Mistakes};

/// A key of RSA with its certificate, as `openssl req -x509 -newkey rsa:2048` and `openssl rsa -traditional` make them.
const RSA: [&str; 2] = [include_str!("rsa.pem"), include_str!("rsa.key")];

/// A config with TLS, in a folder of its own, and the files that it names.
struct Node {
    folder: TempDir,
}

impl Node {
    fn new([certificate, key]: [&str; 2]) -> Self {
        let node = Self { folder: tempfile::tempdir().unwrap() };
        node.put("chain.pem", certificate);
        node.put("key.pem", key);
        node.put("signers", "# nobody yet\n");
        node.configure("");
        node
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The mode is that of a key.
    fn put(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
        fs::set_permissions(self.at(name), Permissions::from_mode(0o640)).unwrap();
    }

    /// Writes the config, with further lines at its end.
    fn configure(&self, more: &str) {
        let at = |name: &str| self.at(name);
        let text = format!(
            "data_dir = {:?}\n[http.tls]\nlisten = [\"127.0.0.1:8443\"]\ncertificate = {:?}\nkey = {:?}\n[grpc]\n\
             socket = {:?}\n[spawn]\nsocket = {:?}\n[trust]\nallowed_signers = {:?}\n{more}",
            at("data"),
            at("chain.pem"),
            at("key.pem"),
            at("hotd.sock"),
            at("spawn.sock"),
            at("signers"),
        );
        self.put("hotd.toml", &text);
    }

    /// What a check says: mistakes, or else warnings. Without the name of the config.
    fn check(&self) -> Result<Vec<String>, Vec<String>> {
        let path = self.folder.path().join("hotd.toml");
        let bare = |text: String| text.replace(&format!("{}:", path.display()), "");
        match Config::check(&path) {
            Ok(checked) => {
                assert!(checked.files.contains(&self.folder.path().join("chain.pem")));
                assert!(checked.files.contains(&self.folder.path().join("key.pem")));
                assert!(Config::load(&path).is_ok());
                Ok(checked.idle.iter().map(|idle| bare(idle.to_string())).collect())
            }
            Err(ConfigError::Invalid(Mistakes(found))) => {
                assert!(Config::load(&path).is_err(), "what a check finds, a start finds as well");
                Err(found.iter().map(|mistake| bare(mistake.to_string())).collect())
            }
            Err(error) => Err(vec![error.to_string()]),
        }
    }
}

/// A certificate that is good until the first day of a year, and its key.
fn made(until: i32) -> [String; 2] {
    let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
    params.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    [params.self_signed(&key).unwrap().pem(), key.serialize_pem()]
}

fn node() -> Node {
    let [certificate, key] = made(4000);
    Node::new([&certificate, &key])
}

/// The same key as SEC1 has it, out of PKCS#8.
fn sec1(key: &KeyPair) -> String {
    let whole = key.serialize_der();
    let key = SliceReader::new(&whole).unwrap().sequence(|key| {
        key.tlv_bytes()?;
        key.tlv_bytes()?;
        let sec1 = OctetStringRef::decode(key)?.as_bytes().to_vec();
        key.read_slice(key.remaining_len())?;
        Ok(sec1)
    });
    in_pem("EC PRIVATE KEY", &key.unwrap())
}

fn in_pem(label: &str, der: &[u8]) -> String {
    use base64ct::{Base64, Encoding as _};
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", Base64::encode_string(der))
}

#[test]
fn keys_of_all_three_formats_are_read() {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(["a.example".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    assert_eq!(Node::new([&certificate, &key.serialize_pem()]).check(), Ok(vec![]), "PKCS#8");
    assert_eq!(Node::new([&certificate, &sec1(&key)]).check(), Ok(vec![]), "SEC1");
    assert!(RSA[1].contains("BEGIN RSA PRIVATE KEY"));
    assert_eq!(Node::new(RSA).check(), Ok(vec![]), "PKCS#1");
}

#[test]
fn a_chain_and_both_in_one_file_will_do() {
    let ([certificate, key], [other, _]) = (made(4000), made(4000));
    let chain = format!("whose it is\n{certificate}\n{other}");
    assert_eq!(Node::new([&chain, &key]).check(), Ok(vec![]));
    let both = format!("{key}{chain}");
    assert_eq!(Node::new([&both, &both]).check(), Ok(vec![]));
}

#[test]
fn what_can_not_be_used_is_said_with_what_was_expected() {
    let ([certificate, key], [other, other_key]) = (made(4000), made(4000));
    let broken = certificate.replacen("MII", "MIX", 1);
    let cut = &certificate[..certificate.len() / 2];
    let odd = in_pem("PRIVATE KEY", b"no key");
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old =
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIB\n-----END RSA PRIVATE KEY-----\n";
    let turned = format!("{other}{certificate}");
    for (certificate, key, line, words) in [
        ("", &*key, 4, "chain.pem has no certificate, expected PEM"),
        (&*key, &key, 4, "chain.pem has no certificate, expected PEM"),
        (cut, &key, 4, "chain.pem is cut off, or is no PEM; write it anew: "),
        (&broken, &key, 4, "the first certificate in "),
        (&certificate, "", 5, "key.pem has no private key, expected one in PEM"),
        (&certificate, &certificate, 5, "key.pem has no private key, expected one in PEM"),
        (&certificate, &key[..80], 5, "key.pem is cut off, or is no PEM; write it anew: "),
        (&certificate, &odd, 5, "key.pem can't be used, expected one of RSA"),
        (&certificate, locked, 5, "key.pem has a passphrase, expected one without"),
        (&certificate, old, 5, "key.pem has a passphrase, expected one without"),
        (&certificate, &other_key, 5, "key.pem is not that of the first certificate in "),
        (&turned, &key, 5, "key.pem is not that of the first certificate in "),
    ] {
        let found = Node::new([certificate, key]).check().unwrap_err();
        let part = if line == 4 { "certificate" } else { "key" };
        let begin = format!("{line}: [http.tls] {part}: ");
        assert!(
            found.len() == 1 && found[0].starts_with(&begin) && found[0].contains(words),
            "{words}: {found:#?}"
        );
    }
}

#[test]
fn a_file_that_can_not_be_read_is_named_and_all_is_said_at_once() {
    let node = node();
    fs::remove_file(node.at("chain.pem")).unwrap();
    fs::remove_file(node.at("key.pem")).unwrap();
    fs::create_dir(node.at("key.pem")).unwrap();
    node.configure("[log]\nlevel = \"inof\"\n");
    node.put("signers", "ada no key\n");
    let found = node.check().unwrap_err();
    let (chain, key) = (node.at("chain.pem"), node.at("key.pem"));
    let expected = "expected a file that the user who runs hotd may read";
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(
        found[0].starts_with(&format!("4: [http.tls] certificate: can't read {chain}, {expected}: No such")),
        "{found:#?}"
    );
    assert!(
        found[1].starts_with(&format!("5: [http.tls] key: can't read {key}, {expected}: not a regular")),
        "{found:#?}"
    );
    assert!(
        found[2].starts_with("13: [log] level: ") && found[3].starts_with(&node.at("signers")),
        "{found:#?}"
    );
}

#[test]
fn a_key_for_everybody_and_the_end_of_a_certificate_are_warned_of() {
    let [certificate, key] = made(2001);
    let node = Node::new([&certificate, &key]);
    fs::set_permissions(node.at("key.pem"), Permissions::from_mode(0o644)).unwrap();
    let warned = node.check().unwrap();
    assert_eq!(warned.len(), 2, "{warned:#?}");
    let expired =
        format!("the certificate in {} has expired on 2001-01-01T00:00:00Z, ", node.at("chain.pem"));
    assert!(warned[0].starts_with(&format!("4: [http.tls] certificate: {expired}")), "{warned:#?}");
    let open = format!(
        "5: [http.tls] key: every user of this machine may read the private key in {}",
        node.at("key.pem")
    );
    assert!(warned[1].starts_with(&open), "{warned:#?}");
}

/// `[grpc.tls]` beside the rest, with these certificates of authorities. What a check says, without the name of the config.
fn judged_by(authority: &str) -> Result<Vec<String>, Vec<String>> {
    let node = node();
    node.put("ca.pem", authority);
    node.configure(&format!(
        "[grpc.tls]\nlisten = [\"127.0.0.1:7443\"]\ncertificate = {:?}\nkey = {:?}\nauthority = {:?}\n",
        node.at("chain.pem"),
        node.at("key.pem"),
        node.at("ca.pem"),
    ));
    let folder = format!("{}/", node.folder.path().display());
    let bare = |texts: Vec<String>| texts.into_iter().map(|text| text.replace(&folder, "")).collect();
    node.check().map(bare).map_err(bare)
}

#[test]
fn an_authority_is_one_that_may_sign() {
    use crate::tls::made::Authority;
    let (one, two, [own, _]) = (Authority::new("one"), Authority::new("two"), made(4000));
    assert_eq!(judged_by(&one.pem), Ok(vec![]));
    assert_eq!(judged_by(&format!("{}{}", one.pem, two.pem)), Ok(vec![]));
    for (authority, words) in [
        ("", "ca.pem has no certificate, expected PEM with a line"),
        (&one.pem[..90], "ca.pem is cut off, or is no PEM"),
        (&*own, "certificate 1 in ca.pem is none of an authority, expected one that may sign others"),
        (&format!("{}{own}", one.pem), "certificate 2 in ca.pem is none of an authority"),
        (&in_pem("CERTIFICATE", b"no certificate"), "certificate 1 in ca.pem is not understood"),
    ] {
        let found = judged_by(authority).unwrap_err();
        let begin = "16: [grpc.tls] authority: ";
        assert!(
            found.len() == 1 && found[0].starts_with(begin) && found[0].contains(words),
            "{words}: {found:#?}"
        );
    }
}
