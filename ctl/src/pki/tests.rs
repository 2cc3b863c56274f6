use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::reading::read_certificate;
use super::*;

const ADVICE: &str = "try another";

fn authority(folder: &Path, days: u32) -> Authority {
    Authority::make(folder, "prod", days).expect("makes");
    Authority::open(folder).expect("opens")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("is there").permissions().mode() & 0o777
}

fn node() -> Subject {
    let addresses = ["10.0.0.1", "::1", "web-1.example"].map(|text| text.parse().expect("an address"));
    Subject { name: "web-1".to_owned(), addresses: addresses.to_vec() }
}

#[test]
fn an_authority_is_made_once_and_its_key_is_nobody_elses() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().join("new/ca");
    drop(authority(&at, 3650));
    let [certificate, key] = Authority::files(&at);
    assert_eq!((mode(&certificate), mode(&key), mode(&at)), (0o644, 0o600, 0o700));
    let before = fs::read(&key).expect("reads");
    let again = Authority::make(&at, "prod", 1).expect_err("is there").to_string();
    assert!(again.contains("ca.pem is there already") && again.ends_with("in another folder"), "{again}");
    fs::remove_file(&certificate).expect("removes");
    assert!(Authority::make(&at, "prod", 1).is_err(), "one of both is enough");
    assert_eq!(fs::read(&key).expect("reads"), before);
    assert_eq!(fs::read_dir(&at).expect("lists").count(), 1, "nothing else is left");
}

#[test]
fn a_certificate_says_who_where_and_until_when() {
    let folder = tempfile::tempdir().expect("a folder");
    let ours = authority(folder.path(), 100);
    let file = folder.path().join("web-1.pem");
    let issued = ours.issue(&node(), DAY * 30).expect("issues");
    assert!(!issued.is_cut_short);
    fs::write(&file, &issued.certificate).expect("writes");
    let (_, found) = read_certificate(&file, ADVICE).expect("reads");
    let now = seconds(SystemTime::now());
    assert!((found.from + 300 - now).abs() < 60 && (found.until - now - 30 * 86_400).abs() < 60, "{found:?}");
    assert!(!found.is_authority && found.other.is_none());
    let (subject, span) = Subject::read(&file).expect("reads");
    assert_eq!(subject, node());
    assert_eq!(span, DAY * 30);
    let text = fs::read(&file).expect("reads");
    let (_, pem) = x509_parser::pem::parse_x509_pem(&text).expect("PEM");
    let certificate = pem.parse_x509().expect("X.509");
    let usage = certificate.extended_key_usage().expect("parses").expect("is there").value;
    assert!(usage.server_auth && usage.client_auth && !usage.any);
    assert!(
        certificate.raw_serial().len() == 16 && certificate.serial != x509_parser::num_bigint::BigUint::ZERO
    );

    let long =
        ours.issue(&Subject { name: "ann".to_owned(), addresses: vec![] }, DAY * 1000).expect("issues");
    assert!(long.is_cut_short, "it can't be good for longer than its authority");
}

#[test]
fn what_is_no_authority_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = Authority::open(folder.path()).expect_err("none").to_string();
    assert!(missing.contains("ca.pem can't be read") && missing.contains("hotctl pki init DIR"), "{missing}");
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let ours = authority(&one, 10);
    drop(authority(&two, 10));
    let [[certificate, _], [_, other_key]] = [&one, &two].map(|at| Authority::files(at));
    fs::copy(&certificate, two.join("ca.pem")).expect("copies");
    let mixed = Authority::open(&two).expect_err("another's key").to_string();
    assert!(mixed.contains("ca.key is not that of the certificate in "), "{mixed}");
    fs::write(two.join("ca.pem"), ours.issue(&node(), DAY).expect("issues").certificate).expect("writes");
    let leaf = Authority::open(&two).expect_err("no authority").to_string();
    assert!(leaf.contains("it may not sign others"), "{leaf}");
    fs::copy(&certificate, two.join("ca.pem")).expect("copies");
    fs::write(&other_key, "no key").expect("writes");
    assert!(
        Authority::open(&two).expect_err("no key").to_string().contains("no private key of an authority")
    );
    let itself = Subject::read(&certificate).expect_err("an authority").to_string();
    assert!(itself.contains("it is an authority's"), "{itself}");
}

#[test]
fn names_and_addresses() {
    for good in ["web-1", "ann@example.com", "Zoë", "a b"] {
        assert_eq!(Subject::name(good).as_deref(), Ok(good));
    }
    for wrong in ["", " a", "a/b", "../x", ".x", "-x", "a\nb", &"x".repeat(65)] {
        assert!(Subject::name(wrong).is_err(), "{wrong:?}");
    }
    for (text, shown) in [("10.0.0.1", "10.0.0.1"), ("[::1]", "::1"), ("web-1.example", "web-1.example")] {
        assert_eq!(text.parse::<Address>().expect(text).to_string(), shown);
    }
    for wrong in ["", "web 1", "web-1:7443", "https://web-1", "10.0.0.1:7443", "a..b", "-a"] {
        assert!(wrong.parse::<Address>().is_err(), "{wrong:?}");
    }
}

#[test]
fn a_pair_is_replaced_with_its_permissions_and_never_for_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let (certificate, key) = (at("web-1.pem"), at("web-1.key"));
    write_new([(&certificate, "c1"), (&key, "k1")], ADVICE).expect("writes");
    assert_eq!((mode(&certificate), mode(&key)), (0o644, 0o600));
    assert!(write_new([(&certificate, "c2"), (&key, "k2")], ADVICE).is_err());
    assert_eq!(fs::read_to_string(&key).expect("reads"), "k1");
    // Somebody let everybody read it.
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("sets");
    fs::set_permissions(&certificate, fs::Permissions::from_mode(0o640)).expect("sets");
    let link = at("link.pem");
    std::os::unix::fs::symlink(&certificate, &link).expect("links");
    write_over([(&link, "c2"), (&key, "k2")]).expect("replaces");
    assert_eq!((mode(&certificate), mode(&key)), (0o640, 0o640));
    assert_eq!(fs::read_to_string(&certificate).expect("reads"), "c2");
    assert_eq!(fs::read_to_string(&key).expect("reads"), "k2");
    assert!(fs::symlink_metadata(&link).expect("is there").is_symlink());
    assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 3, "nothing else is left");
}
