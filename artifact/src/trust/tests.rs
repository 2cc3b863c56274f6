use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;
use crate::signature::{PublicKey, Signer};
use crate::testing::{Question, key, keygen_sign, keygen_verify, public};

const NAMESPACE: &str = "hot-module";

/// 2026-06-15T12:00:00Z, and the same for `ssh-keygen`.
const NOW: u64 = 1_781_524_800;
const NOW_OPTION: [&str; 2] = ["-O", "verify-time=20260615120000Z"];

fn at(seconds: u64) -> Validity {
    Validity::At(UNIX_EPOCH + Duration::from_secs(seconds))
}

fn public_key(kind: &str) -> PublicKey {
    Signer::from_file(&key(kind)).unwrap().public_key().clone()
}

/// What we say of the key `ed25519` at [`NOW`]: its principals, or why not.
fn ours(text: &str) -> Result<Vec<String>, String> {
    let signers = AllowedSigners::parse(text, Path::new("allowed")).map_err(|error| error.to_string())?;
    match signers.principals(&public_key("ed25519"), NAMESPACE, at(NOW)) {
        Ok(principals) => Ok(principals.to_vec()),
        Err(error) => Err(error.refusal().code.to_owned()),
    }
}

fn keygen_accepts(text: &str, principal: &str, signature: &str) -> bool {
    keygen_verify(&Question {
        allowed_signers: text,
        principal,
        namespace: NAMESPACE,
        signature: signature.as_bytes(),
        bytes: b"bytes",
        options: &NOW_OPTION,
        zone: "UTC",
    })
}

/// Lines (`KEY`, `OTHER` and `WEAK` stand for keys), what we say of `KEY`, and whether `ssh-keygen` accepts it for anna.
const FILES: &[(&str, Result<&str, &str>, bool)] = &[
    ("anna namespaces=\"hot-module\" KEY", Ok("anna"), true),
    ("anna namespaces=\"hot-module\" KEY a comment of words", Ok("anna"), true),
    ("  \tanna \t namespaces=\"hot-module\"\tKEY", Ok("anna"), true),
    ("anna NameSpaces=\"hot-module\" KEY", Ok("anna"), true),
    ("anna,berta namespaces=\"hot-module\" KEY", Ok("anna,berta"), true),
    ("anna namespaces=\"git,hot-module\" KEY", Ok("anna"), true),
    ("anna namespaces=\"hot-*\" KEY", Ok("anna"), true),
    ("anna namespaces=\"hot-?odule\" KEY", Ok("anna"), true),
    ("anna namespaces=\"*,!git\" KEY", Ok("anna"), true),
    ("anna namespaces=\"hot-module\",valid-after=\"20260101Z\" KEY", Ok("anna"), true),
    ("anna valid-before=\"20270101\",namespaces=\"hot-module\" KEY", Ok("anna"), true),
    ("anna namespaces=\"hot-module\",valid-after=\"20260615120000Z\" KEY", Ok("anna"), true),
    ("anna namespaces=\"hot-module\",valid-before=\"20260615120000Z\" KEY", Ok("anna"), true),
    ("# a comment\n\n \t\nanna namespaces=\"hot-module\" KEY\n", Ok("anna"), true),
    ("anna namespaces=\"hot-module\" KEY\r\n", Ok("anna"), true),
    ("anna namespaces=\"git\" KEY\nanna namespaces=\"hot-module\" KEY", Ok("anna"), true),
    (
        "anna namespaces=\"hot-module\",valid-before=\"20200101Z\" KEY\nanna namespaces=\"hot-module\" KEY",
        Ok("anna"),
        true,
    ),
    ("berta namespaces=\"hot-module\" KEY\nanna namespaces=\"hot-module\" KEY", Ok("berta"), true),
    ("anna namespaces=\"hot-module\" OTHER\nanna namespaces=\"hot-module\" KEY", Ok("anna"), true),
    // Not allowed, by both.
    ("", Err("signer.not_allowed"), false),
    ("anna namespaces=\"hot-module\" OTHER", Err("signer.not_allowed"), false),
    ("#anna namespaces=\"hot-module\" KEY", Err("signer.not_allowed"), false),
    ("anna namespaces=\"git\" KEY", Err("signer.not_for_namespace"), false),
    ("anna namespaces=\"\" KEY", Err("signer.not_for_namespace"), false),
    ("anna namespaces=\"Hot-Module\" KEY", Err("signer.not_for_namespace"), false),
    ("anna namespaces=\"hot-modul\" KEY", Err("signer.not_for_namespace"), false),
    ("anna namespaces=\"*,!hot-module\" KEY", Err("signer.not_for_namespace"), false),
    (
        "anna namespaces=\"hot-module\",valid-after=\"20260615120001Z\" KEY",
        Err("signer.not_yet_valid"),
        false,
    ),
    ("anna namespaces=\"hot-module\",valid-before=\"20260615115959Z\" KEY", Err("signer.expired"), false),
    // Stricter than ssh-keygen.
    ("anna KEY", Err("signer.not_allowed"), true),
    ("anna valid-after=\"20260101Z\" KEY", Err("signer.not_allowed"), true),
    ("ann* namespaces=\"hot-module\" KEY", Err("signer.not_allowed"), true),
    ("*,!berta namespaces=\"hot-module\" KEY", Err("signer.not_allowed"), true),
    (
        "\"anna\" namespaces=\"hot-module\" KEY",
        Err("allowed:1: principals in quotes; names have no white space here"),
        true,
    ),
    (
        "anna namespaces=\"hot-module\" KEY\nbad line",
        Err("allowed:2: no key; a line is `principals namespaces=\"hot-module\" kind base64`"),
        true,
    ),
    // For certificates only.
    ("anna cert-authority,namespaces=\"hot-module\" KEY", Err("signer.not_allowed"), false),
    ("anna namespaces=\"hot-module\" WEAK", Err("signer.not_allowed"), false),
    // Refused as a file.
    ("anna", Err("allowed:1: no key; a line is `principals namespaces=\"hot-module\" kind base64`"), false),
    (
        "anna namespaces=\"hot-module\"",
        Err("allowed:1: no key; a line is `principals namespaces=\"hot-module\" kind base64`"),
        false,
    ),
    (
        "anna namespaces=\"hot-module\" ssh-ed25519 AAAA",
        Err("allowed:1: a malformed key of kind `ssh-ed25519`"),
        false,
    ),
    ("anna namespaces=\"hot-module KEY", Err("allowed:1: a quote that is not closed"), false),
    ("anna namespaces=hot-module KEY", Err("allowed:1: the unknown option `namespaces`"), false),
    ("anna namespace=\"hot-module\" KEY", Err("allowed:1: the unknown option `namespace`"), false),
    (
        "anna namespaces=\"a\",namespaces=\"hot-module\" KEY",
        Err("allowed:1: the option namespaces twice"),
        false,
    ),
    (
        "anna namespaces=\"hot-module\"valid-after=\"20260101Z\" KEY",
        Err("allowed:1: `valid-after=\"20260101Z\"` behind an option"),
        false,
    ),
    ("anna namespaces=\"hot-module\", KEY", Err("allowed:1: the unknown option ``"), false),
    (
        "anna valid-after=\"2026\",namespaces=\"hot-module\" KEY",
        Err("allowed:1: valid-after is `2026`, a time that is not YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS"),
        false,
    ),
    (
        "anna valid-after=\"20270101Z\",valid-before=\"20260101Z\",namespaces=\"hot-module\" KEY",
        Err("allowed:1: a valid-before that is not later than its valid-after"),
        false,
    ),
    ("anna,,berta namespaces=\"hot-module\" KEY", Err("allowed:1: an empty name among the principals"), true),
];

#[test]
fn a_name_has_a_line_where_a_key_or_an_authority_could_say_it() {
    let (one, two) = (public("ed25519"), public("p256"));
    let text = format!(
        "anna,berta namespaces=\"hot-*\",valid-before=\"20200101Z\" {one}\n\
         carla namespaces=\"file\" {two}\n\
         *@example.com,!eve@example.com cert-authority,namespaces=\"hot-module\" {two}\n"
    );
    let signers = AllowedSigners::parse(&text, Path::new("allowed")).unwrap();
    let has = |name: &str| signers.has_line_for(name, "hot-module");
    assert!(has("anna") && has("berta"), "what has expired is still loaded");
    assert!(has("dora@example.com"), "her certificate would say the name");
    for nobody in ["carla", "ann", "eve@example.com", "dora@example.org", "hot-*"] {
        assert!(!has(nobody), "{nobody}");
    }
}

#[test]
fn every_file_is_read_as_said_and_never_more_laxly_than_by_ssh_keygen() {
    let signature = keygen_sign("ed25519", NAMESPACE, &[], b"bytes");
    for (text, expected, keygen) in FILES {
        let text = text
            .replace("KEY", &public("ed25519"))
            .replace("OTHER", &public("other"))
            .replace("WEAK", &public("rsa2048"));
        let found = ours(&text);
        assert_eq!(
            found.clone().map(|names| names.join(",")),
            expected.map(Into::into).map_err(Into::into),
            "{text}"
        );
        assert_eq!(keygen_accepts(&text, "anna", &signature), *keygen, "ssh-keygen: {text}");
        for name in found.unwrap_or_default() {
            assert!(keygen_accepts(&text, &name, &signature), "laxer than ssh-keygen for {name}: {text}");
        }
    }
}

#[test]
fn every_mistake_is_reported_with_its_line() {
    let text = format!(
        "anna\n\n# fine\nberta namespaces=\"hot-module\" {}\nx\u{7}y ssh-ed25519 A\n",
        public("ed25519")
    );
    let error = AllowedSigners::parse(&text, Path::new("/etc/hotd/allowed_signers")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/etc/hotd/allowed_signers:1: no key; a line is `principals namespaces=\"hot-module\" kind base64`\n\
         /etc/hotd/allowed_signers:5: a control character (\\u{7})"
    );
}

#[test]
fn what_does_not_count_is_noted_and_named_where_it_matters() {
    let text = format!("anna {}\n", public("ed25519"));
    let signers = AllowedSigners::parse(&text, Path::new("allowed")).unwrap();
    assert_eq!(signers.notes().len(), 1);
    assert_eq!(signers.notes()[0].line, 1);
    let error = signers.principals(&public_key("ed25519"), NAMESPACE, at(NOW)).unwrap_err();
    assert!(error.to_string().contains("line 1 does not count: it names no namespaces"), "{error}");
    assert!(error.to_string().contains(&public_key("ed25519").fingerprint()), "{error}");
}

#[test]
fn time_counts_at_admission_only_and_removal_always() {
    let line = |namespaces: &str| {
        format!("anna namespaces=\"{namespaces}\",valid-before=\"20200101Z\" {}\n", public("ed25519"))
    };
    let ask = |text: &str, validity| {
        let signers = AllowedSigners::parse(text, Path::new("allowed")).unwrap();
        signers
            .principals(&public_key("ed25519"), NAMESPACE, validity)
            .map(<[String]>::to_vec)
            .map_err(|e| e.refusal().code)
    };
    assert_eq!(ask(&line(NAMESPACE), at(NOW)), Err("signer.expired"));
    assert_eq!(ask(&line(NAMESPACE), Validity::AnyTime), Ok(vec!["anna".to_owned()]));
    assert_eq!(ask(&line("git"), Validity::AnyTime), Err("signer.not_for_namespace"));
    assert_eq!(ask("", Validity::AnyTime), Err("signer.not_allowed"));
    assert_eq!(ask(&line(NAMESPACE), Validity::At(SystemTime::UNIX_EPOCH)), Ok(vec!["anna".to_owned()]));
}

#[test]
fn the_keys_to_choose_from_are_each_listed_once() {
    let (first, second) = (public("ed25519"), public("p256"));
    let text = format!(
        "a namespaces=\"hot-module\" {first}\nb namespaces=\"git\" {}\nc namespaces=\"hot-*\" {second}\nd namespaces=\"*\" {first}\n",
        public("other")
    );
    let signers = AllowedSigners::parse(&text, Path::new("allowed")).unwrap();
    let keys: Vec<String> = signers.keys(NAMESPACE).into_iter().map(PublicKey::to_openssh).collect();
    assert_eq!(keys, [first, second]);
}

#[test]
fn a_module_may_be_closed_to_a_signer() {
    let text = format!("berta,anna namespaces=\"hot-module\" {}\n", public("ed25519"));
    let trust = |rules: &[(&str, &str)]| Trust {
        signers: AllowedSigners::parse(&text, Path::new("allowed")).unwrap(),
        revoked: Revoked::default(),
        modules: ModuleRules::new(
            rules.iter().map(|(pattern, name)| ((*pattern).to_owned(), vec![(*name).to_owned()])),
        )
        .unwrap(),
    };
    let armoured = keygen_sign("ed25519", NAMESPACE, &[], b"bytes");
    let signature = Signature::parse(armoured.as_bytes()).unwrap();
    let ask = |trust: Trust| trust.principal(&signature, &"pay".parse().unwrap(), at(NOW));
    assert_eq!(ask(trust(&[])).unwrap(), "berta");
    assert_eq!(ask(trust(&[("pay", "anna")])).unwrap(), "anna");
    let refusal = ask(trust(&[("pay", "carla")])).unwrap_err().refusal();
    assert_eq!((refusal.code, refusal.found.as_str()), ("signer.not_for_module", "berta, anna"));
}

#[test]
fn hashes_are_enough_to_judge_a_signature() {
    let text = format!("anna namespaces=\"hot-module\" {}\n", public("ed25519"));
    let trust = Trust {
        signers: AllowedSigners::parse(&text, Path::new("allowed")).unwrap(),
        revoked: Revoked::default(),
        modules: ModuleRules::new([("pay".to_owned(), vec!["anna".to_owned()])]).unwrap(),
    };
    let judge = |armoured: &str, bytes: &[u8], module: &str| {
        let hashes = FileHashes::of(bytes).unwrap();
        trust
            .judge(armoured.as_bytes(), &hashes, &module.parse().unwrap(), at(NOW))
            .map(|signed| signed.principal)
            .map_err(|error| error.refusal().code)
    };
    for hash in ["hashalg=sha256", "hashalg=sha512"] {
        let armoured = keygen_sign("ed25519", NAMESPACE, &["-O", hash], b"bytes");
        assert_eq!(judge(&armoured, b"bytes", "pay").as_deref(), Ok("anna"), "{hash}");
        assert_eq!(judge(&armoured, b"other", "pay"), Err("signature.other_bytes"), "{hash}");
        assert_eq!(judge(&armoured, b"bytes", "greeter"), Err("signer.not_for_module"), "{hash}");
    }
    let foreign = keygen_sign("other", NAMESPACE, &[], b"bytes");
    assert_eq!(judge(&foreign, b"bytes", "pay"), Err("signer.not_allowed"));
    assert_eq!(judge("", b"bytes", "pay"), Err("signature.missing"));
}
