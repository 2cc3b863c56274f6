use std::io::{Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::signature::FileHashes;
use crate::testing::{PROBE, compile, keygen_sign, public, source};
use crate::trust::{AllowedSigners, ModuleRules, Revoked};

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_781_524_800)
}

fn trust(options: &str) -> Trust {
    let text = format!("anna namespaces=\"hot-module\"{options} {}\n", public("ed25519"));
    Trust {
        signers: AllowedSigners::parse(&text, Path::new("allowed")).unwrap(),
        revoked: Revoked::default(),
        modules: ModuleRules::default(),
    }
}

fn checks(trust: &Trust) -> Checks<'_> {
    static NODE: LazyLock<Node> = LazyLock::new(Node::native);
    Checks { trust, node: &NODE, max_size: DEFAULT_MAX_SIZE }
}

fn signed(bytes: &[u8]) -> String {
    keygen_sign("ed25519", "hot-module", &[], bytes)
}

fn admit(bytes: &[u8], signature: &str) -> Result<Verified, VerifyError> {
    Verified::admit(bytes, signature.as_bytes(), &checks(&trust("")), now())
}

fn code<T>(result: Result<T, VerifyError>) -> &'static str {
    result.err().map_or("ok", |error| error.refusal().code)
}

#[test]
fn a_signed_module_is_let_in_and_says_what_it_is() {
    let verified = admit(&PROBE, &signed(&PROBE)).unwrap();
    assert_eq!(verified.digest(), Sha256::of(&PROBE));
    assert_eq!(verified.metadata().name.as_str(), "probe");
    assert_eq!(verified.principal(), "anna");
    assert_eq!(verified.size(), PROBE.len() as u64);
    assert_eq!(verified.target(), Target::native());
    let mut held = Vec::new();
    for_each_piece(&FileReader::new(verified.file().try_clone().unwrap()).unwrap(), |p| {
        held.extend_from_slice(p)
    })
    .unwrap();
    assert_eq!(held, *PROBE);
}

#[test]
fn what_is_held_cannot_be_changed_by_anybody() {
    let verified = admit(&PROBE, &signed(&PROBE)).unwrap();
    let mut own = File::from(verified.try_clone_fd().unwrap());
    own.rewind().unwrap();
    assert!(own.write_all(b"x").is_err());
    assert!(own.set_len(1).is_err());
    assert!(own.set_len(1 << 20).is_err());
    let path = format!("/proc/self/fd/{}", verified.as_fd().as_raw_fd());
    let reopened = std::fs::OpenOptions::new().write(true).open(path);
    assert!(reopened.and_then(|mut file| file.write_all(b"x")).is_err());
    assert!(rustix::fs::fcntl_add_seals(&own, SealFlags::empty()).is_err(), "seals are sealed");
}

#[test]
fn each_reason_against_a_signature_has_its_code() {
    let good = signed(&PROBE);
    let mut flipped = PROBE.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(code(admit(&PROBE, "")), "signature.missing");
    assert_eq!(code(admit(&PROBE, &good[..100])), "signature.malformed");
    assert_eq!(code(admit(&flipped, &good)), "signature.other_bytes");
    assert_eq!(code(admit(&PROBE[..PROBE.len() - 1], &good)), "signature.other_bytes");
    assert_eq!(code(admit(&PROBE, &signed(b"another module"))), "signature.other_bytes");
    assert_eq!(code(admit(&PROBE, &keygen_sign("ed25519", "file", &[], &PROBE))), "signature.namespace");
    assert_eq!(code(admit(&PROBE, &keygen_sign("other", "hot-module", &[], &PROBE))), "signer.not_allowed");
}

#[test]
fn nothing_unsigned_is_parsed() {
    // A text file signed by a stranger: the signer is the reason, not the content.
    let text = b"no module at all";
    assert_eq!(code(admit(text, &keygen_sign("other", "hot-module", &[], text))), "signer.not_allowed");
    assert_eq!(code(admit(text, &signed(text))), "elf.not_elf");
}

#[test]
fn what_the_node_cannot_run_is_refused_though_signed() {
    let module = |lines: &str| compile(&source("probe", lines), &["-shared", "-fPIC"]);
    for (lines, expected) in [
        ("state = { schema = 1, accepts = \"1\" }\n", "compat.state_not_served"),
        ("requires = [\"auth ^1\"]\n", "compat.requires_not_served"),
        ("owner = 1\n", "metadata.unknown_key"),
        ("[x-owner]\nname = \"team\"\n", "ok"),
    ] {
        let bytes = module(lines);
        assert_eq!(code(admit(&bytes, &signed(&bytes))), expected, "{lines}");
    }
    let trust = trust("");
    let node = Node { abi: 7, ..Node::native() };
    let older = Checks { node: &node, ..checks(&trust) };
    assert_eq!(
        code(Verified::admit(PROBE.as_slice(), signed(&PROBE).as_bytes(), &older, now())),
        "compat.abi"
    );
}

#[test]
fn a_verdict_begins_as_the_refusal_and_has_every_reason() {
    let judge = |bytes: &[u8], signature: Option<&str>, checks: &Checks<'_>| {
        let file = inspect(bytes).unwrap();
        let (found, hashes) = (checks.node.find(&file.needed), FileHashes::of(bytes).unwrap());
        let signature = signature.map(|armoured| (armoured.as_bytes(), &hashes));
        checks.judge(&file, &found, signature, now())
    };
    let codes = |verdict: &Verdict| -> Vec<&str> {
        verdict.reasons.iter().map(|reason| reason.refusal().code).collect()
    };
    let (trusted, nobody) = (trust(""), Trust::default());
    let bad = compile(
        &source("probe", "requires = [\"auth ^1\"]\n"),
        &["-shared", "-fPIC", "-Wl,-rpath,/opt/lib", "-Wl,-z,execstack"],
    );
    let against_bad = ["elf.executable_stack", "elf.search_path", "compat.requires_not_served"];
    let other = signed(b"another module");
    for (bytes, signature, trust, max_size, expected) in [
        (&*PROBE, signed(&PROBE), &trusted, DEFAULT_MAX_SIZE, vec![]),
        (&*PROBE, signed(&PROBE), &nobody, DEFAULT_MAX_SIZE, vec!["signer.not_allowed"]),
        (&*PROBE, other.clone(), &nobody, 1, vec!["file.too_large", "signature.other_bytes"]),
        (&bad, signed(&bad), &trusted, DEFAULT_MAX_SIZE, against_bad.to_vec()),
        (&bad, other, &trusted, 1, [&["file.too_large", "signature.other_bytes"], &against_bad[..]].concat()),
    ] {
        let checks = Checks { max_size, ..checks(trust) };
        let verdict = judge(bytes, Some(&signature), &checks);
        assert_eq!(codes(&verdict), expected);
        let admitted = code(Verified::admit(bytes.as_slice(), signature.as_bytes(), &checks, now()));
        assert_eq!(admitted, expected.first().copied().unwrap_or("ok"));
        let signer = verdict.signed.map(|signed| signed.principal);
        assert_eq!(signer.is_some(), !expected.iter().any(|code| code.starts_with("sign")));
        // Without a signature the rest is judged all the same.
        let rest: Vec<&str> = expected.into_iter().filter(|code| !code.starts_with("sign")).collect();
        assert_eq!(codes(&judge(bytes, None, &checks)), rest);
    }
}

#[test]
fn the_limit_is_exact() {
    let trust = trust("");
    let (signature, size) = (signed(&PROBE), PROBE.len() as u64);
    for (max_size, expected) in [(size, "ok"), (size - 1, "file.too_large"), (0, "file.too_large")] {
        let checks = Checks { max_size, ..checks(&trust) };
        assert_eq!(code(Verified::admit(PROBE.as_slice(), signature.as_bytes(), &checks, now())), expected);
    }
}

#[test]
fn time_counts_when_let_in_and_not_when_loaded_again() {
    let signature = signed(&PROBE);
    let again = |trust: &Trust, digest: Sha256| {
        let (module, version) = (&"probe".parse().unwrap(), &"1.0.0".parse().unwrap());
        let expected = OnRecord { digest, module, version };
        Verified::reload(PROBE.as_slice(), expected, signature.as_bytes(), &checks(trust))
    };
    let digest = Sha256::of(&PROBE);
    let expired = trust(",valid-before=\"20200101Z\"");
    let first = Verified::admit(PROBE.as_slice(), signature.as_bytes(), &checks(&expired), now());
    assert_eq!(code(first), "signer.expired");
    assert_eq!(again(&expired, digest).unwrap().principal(), "anna");
    assert_eq!(code(again(&trust(""), Sha256::of(b""))), "file.other_digest");
    let removed = Trust { signers: AllowedSigners::parse("", Path::new("allowed")).unwrap(), ..trust("") };
    assert_eq!(code(again(&removed, digest)), "signer.not_allowed");
}

#[test]
fn another_modules_file_is_not_loaded_in_the_place_of_one() {
    let again = |module: &str, version: &str| {
        let (module, version) = (&module.parse().unwrap(), &version.parse().unwrap());
        let expected = OnRecord { digest: Sha256::of(&PROBE), module, version };
        code(Verified::reload(PROBE.as_slice(), expected, signed(&PROBE).as_bytes(), &checks(&trust(""))))
    };
    assert_eq!(again("probe", "1.0.0"), "ok");
    assert_eq!(again("pay", "1.0.0"), "file.other_module");
    assert_eq!(again("probe", "1.0.1"), "file.other_module");
}

#[test]
fn a_source_that_fails_is_no_refusal() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _buf: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let trust = trust("");
    let error = Verified::admit(Failing, signed(&PROBE).as_bytes(), &checks(&trust), now()).unwrap_err();
    assert!(!error.is_refusal());
    assert!(admit(&PROBE, "").unwrap_err().is_refusal());
}

#[test]
fn what_is_held_is_judged_anew_and_not_read_again() {
    let (allowed, sha512) = (trust(""), signed(&PROBE));
    let sha256 = keygen_sign("ed25519", "hot-module", &["-O", "hashalg=sha256"], &PROBE);
    let other_digest = Sha256::of(b"");
    let again = |made_with: &str, trust: &Trust, digest: Sha256, module: &str, signature: &str| {
        let held = admit(&PROBE, made_with).unwrap();
        let (module, version) = (&module.parse().unwrap(), &"1.0.0".parse().unwrap());
        let inode =
            |verified: &Verified| std::os::unix::fs::MetadataExt::ino(&verified.file().metadata().unwrap());
        let before = inode(&held);
        let expected = OnRecord { digest, module, version };
        let again = held.again(expected, signature.as_bytes(), &checks(trust));
        assert!(again.as_ref().map_or(true, |again| inode(again) == before), "it is another file");
        code(again)
    };
    let digest = Sha256::of(&PROBE);
    // Signed again meanwhile, over the other hash or the same.
    for made_with in [&sha512, &sha256] {
        for signature in [&sha512, &sha256] {
            assert_eq!(again(made_with, &allowed, digest, "probe", signature), "ok");
        }
    }
    let expired = trust(",valid-before=\"20200101Z\"");
    assert_eq!(again(&sha512, &expired, digest, "probe", &sha512), "ok");
    let nobody = Trust { signers: AllowedSigners::parse("", Path::new("allowed")).unwrap(), ..trust("") };
    for (trust, digest, module, signature, expected) in [
        (&nobody, digest, "probe", &*sha512, "signer.not_allowed"),
        (&allowed, other_digest, "probe", &*sha512, "file.other_digest"),
        (&allowed, digest, "pay", &*sha512, "file.other_module"),
        (&allowed, digest, "probe", &*signed(b"another module"), "signature.other_bytes"),
        (&allowed, digest, "probe", "", "signature.missing"),
    ] {
        assert_eq!(again(&sha512, trust, digest, module, signature), expected);
    }
    let small = Checks { max_size: 1, ..checks(&allowed) };
    let (module, version) = (&"probe".parse().unwrap(), &"1.0.0".parse().unwrap());
    let held = admit(&PROBE, &sha512).unwrap();
    let too_large = held.again(OnRecord { digest, module, version }, sha512.as_bytes(), &small);
    assert_eq!(code(too_large), "file.too_large");
}

#[test]
fn a_file_that_is_not_what_it_was_said_to_be_is_looked_at_no_further() {
    let trust = Trust { signers: AllowedSigners::parse("", Path::new("allowed")).unwrap(), ..trust("") };
    let as_digest = |digest| {
        code(Verified::admit_as(digest, PROBE.as_slice(), signed(&PROBE).as_bytes(), &checks(&trust), now()))
    };
    assert_eq!(as_digest(Sha256::of(b"")), "file.other_digest");
    assert_eq!(as_digest(Sha256::of(&PROBE)), "signer.not_allowed");
}
