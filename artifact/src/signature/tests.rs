use std::path::Path;
use std::process::{Child, Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::Sha256;
use crate::testing::{Question, key, keygen_sign, keygen_verify, public, run};

const BYTES: &[u8] = b"what is signed";
const NAMESPACE: &str = "hot-module";

fn digests(hash: Hash, bytes: &[u8]) -> Digests {
    let mut hashers = Hashers::new(hash);
    hashers.update(bytes);
    hashers.finish()
}

/// What we say of a signature of these bytes in the namespace of modules.
fn check(armoured: &[u8], bytes: &[u8]) -> Result<(), &'static str> {
    let check = || {
        let signature = Signature::parse(armoured)?;
        signature.check(NAMESPACE, digests(signature.hash(), bytes).signed())
    };
    check().map_err(|error: SignatureError| error.refusal().code)
}

/// What `ssh-keygen -Y verify` says of the same, with the key of this kind allowed for all.
fn keygen_accepts(kind: &str, signature: &[u8], bytes: &[u8]) -> bool {
    keygen_verify(&Question {
        allowed_signers: &format!("anna {}\n", public(kind)),
        principal: "anna",
        namespace: NAMESPACE,
        signature,
        bytes,
        options: &[],
        zone: "UTC",
    })
}

#[test]
fn what_ssh_keygen_signs_is_accepted() {
    for kind in ["ed25519", "p256", "p384", "p521", "rsa"] {
        for (option, hash) in [("hashalg=sha512", Hash::Sha512), ("hashalg=sha256", Hash::Sha256)] {
            let armoured = keygen_sign(kind, NAMESPACE, &["-O", option], BYTES);
            let signature = Signature::parse(armoured.as_bytes()).unwrap();
            assert_eq!(signature.hash(), hash);
            assert_eq!(signature.key().to_openssh(), public(kind));
            assert_eq!(check(armoured.as_bytes(), BYTES), Ok(()), "{kind} {option}");
            assert_eq!(check(armoured.as_bytes(), b"what was signed"), Err("signature.other_bytes"));
            assert_eq!(check(armoured.as_bytes(), b""), Err("signature.other_bytes"));
        }
    }
}

#[test]
fn what_we_sign_is_accepted_by_ssh_keygen() {
    for kind in ["ed25519", "p256", "p384", "p521", "rsa"] {
        let mut signer = Signer::from_file(&key(kind)).unwrap();
        let armoured = sign(BYTES, NAMESPACE, &mut signer).unwrap();
        assert!(keygen_accepts(kind, armoured.as_bytes(), BYTES), "{kind}");
        assert!(!keygen_accepts(kind, armoured.as_bytes(), b"other"), "{kind}");
        let shorter = sign_with(BYTES, NAMESPACE, Hash::Sha256, &mut signer).unwrap();
        assert_eq!(Signature::parse(shorter.as_bytes()).unwrap().hash(), Hash::Sha256);
        assert!(keygen_accepts(kind, shorter.as_bytes(), BYTES), "{kind}");
        let by_digest = sign_digest(Sha256::of(BYTES), NAMESPACE, &mut signer).unwrap();
        assert!(keygen_accepts(kind, by_digest.as_bytes(), BYTES), "{kind}");
        assert!(!keygen_accepts(kind, by_digest.as_bytes(), b"other"), "{kind}");
        if matches!(kind, "ed25519" | "rsa") {
            // These kinds of keys make one signature of the same bytes, so the whole text has to be the same.
            assert_eq!(armoured, keygen_sign(kind, NAMESPACE, &[], BYTES));
        }
    }
}

#[test]
fn keys_that_cannot_be_used_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let code = |path: &Path| match Signer::from_file(path) {
        Ok(_) => "ok".to_owned(),
        Err(error) => format!("{error:?}").split([' ', '(', '{']).next().unwrap().to_owned(),
    };
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "secret", "-f"]).arg(at("encrypted")));
    assert_eq!(code(&at("encrypted")), "Encrypted");
    let text = Signer::from_file(&at("encrypted")).unwrap_err().to_string();
    assert!(text.contains("ssh-add"), "{text}");
    assert_eq!(code(&at("missing")), "ReadKey");
    assert_eq!(code(folder.path()), "ReadKey");
    assert_eq!(code(&at("encrypted.pub")), "PublicKey");
    std::fs::write(at("text"), "hello").unwrap();
    assert_eq!(code(&at("text")), "NotAKey");
    assert_eq!(code(&key("rsa2048")), "Key");
}

/// Half of the keys with P-521 have a number with leading zeros, and one in 256 of the others.
#[test]
fn every_ecdsa_key_of_ssh_keygen_signs() {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..8 {
        let path = folder.path().join(format!("key{index}"));
        run(Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-t", "ecdsa", "-b", "521", "-f"])
            .arg(&path)
            .stdout(Stdio::null()));
        let mut signer = Signer::from_file(&path).unwrap();
        let armoured = sign(BYTES, NAMESPACE, &mut signer).unwrap();
        assert_eq!(check(armoured.as_bytes(), BYTES), Ok(()), "{index}");
    }
}

#[test]
fn a_generated_key_works_and_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let generated = generate_key("dev").unwrap();
    assert!(generated.public.starts_with("ssh-ed25519 ") && generated.public.ends_with(" dev"));
    assert!(!format!("{generated:?}").contains("PRIVATE"));
    let path = folder.path().join("key");
    std::fs::write(&path, &generated.private).unwrap();
    let mut signer = Signer::from_file(&path).unwrap();
    assert!(generated.public.starts_with(&signer.public_key().to_openssh()));
    let armoured = sign(BYTES, NAMESPACE, &mut signer).unwrap();
    assert_eq!(check(armoured.as_bytes(), BYTES), Ok(()));
}

/// A key of this kind in a folder, and a certificate about it for `anna` by the authority `other`.
fn certified(kind: &str, passphrase: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let keygen = |arguments: &[&str]| {
        run(Command::new("ssh-keygen").current_dir(folder.path()).arg("-q").args(arguments));
    };
    keygen(&["-t", kind, "-b", if kind == "rsa" { "3072" } else { "256" }, "-N", passphrase, "-f", "key"]);
    keygen(&["-s", key("other").to_str().unwrap(), "-I", "the id", "-n", "anna", "-V", "-1d:+1d", "key.pub"]);
    folder
}

/// What `ssh-keygen -Y verify` says of it with that authority allowed.
fn keygen_accepts_certified(armoured: &str, bytes: &[u8]) -> bool {
    keygen_verify(&Question {
        allowed_signers: &format!("anna cert-authority,namespaces=\"hot-module\" {}\n", public("other")),
        principal: "anna",
        namespace: NAMESPACE,
        signature: armoured.as_bytes(),
        bytes,
        options: &[],
        zone: "UTC",
    })
}

#[test]
fn a_certificate_signs_with_the_key_beside_it() {
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let folder = certified(kind, "");
        let mut signer = Signer::from_file(&folder.path().join("key-cert.pub")).unwrap();
        assert_eq!(signer.certificate().unwrap().id, "the id");
        let armoured = sign(BYTES, NAMESPACE, &mut signer).unwrap();
        assert_eq!(Signature::parse(armoured.as_bytes()).unwrap().certificate().unwrap().id, "the id");
        assert_eq!(check(armoured.as_bytes(), BYTES), Ok(()), "{kind}");
        assert!(keygen_accepts_certified(&armoured, BYTES), "{kind}");
        assert!(!keygen_accepts_certified(&armoured, b"other"), "{kind}");
        let plain =
            sign(BYTES, NAMESPACE, &mut Signer::from_file(&folder.path().join("key")).unwrap()).unwrap();
        assert!(Signature::parse(plain.as_bytes()).unwrap().certificate().is_none(), "it was not asked for");
        assert!(!keygen_accepts_certified(&plain, BYTES), "{kind}");
    }
}

#[test]
fn a_certificate_that_cannot_sign_says_why() {
    let folder = certified("ed25519", "");
    let path = folder.path().join("key-cert.pub");
    let problem = || Signer::from_file(&path).unwrap_err().to_string();
    std::fs::copy(key("ed25519"), folder.path().join("key")).unwrap();
    assert!(problem().contains("is about another key than the one beside it"), "{}", problem());
    let text = std::fs::read_to_string(&path).unwrap();
    let (kind, rest) = text.split_once(' ').unwrap();
    std::fs::write(&path, format!("{kind} {}", &rest[..40])).unwrap();
    assert!(problem().contains("is malformed; have one made with `ssh-keygen -s"), "{}", problem());
}

/// An ssh-agent of its own, ended with the test.
struct RunningAgent {
    child: Child,
    folder: tempfile::TempDir,
}

impl RunningAgent {
    fn start() -> Self {
        use std::io::{BufRead as _, BufReader};
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent");
        let mut child = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It listens before it says where.
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("SSH_AUTH_SOCK="), "{line}");
        Self { child, folder }
    }

    fn add(&self, kind: &str) {
        let mut command = Command::new("ssh-add");
        run(command.arg("-q").arg(key(kind)).env("SSH_AUTH_SOCK", self.socket()));
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("agent")
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn an_agent_signs_with_each_of_its_keys() {
    let running = RunningAgent::start();
    let kinds = ["ed25519", "p256", "p384", "p521", "rsa"];
    assert!(Agent::connect(&running.socket()).unwrap().identities().unwrap().is_empty());
    kinds.iter().chain(&["rsa2048"]).for_each(|kind| running.add(kind));
    let identities = Agent::connect(&running.socket()).unwrap().identities().unwrap();
    // The key of the kind that is not supported is left out.
    let comments: Vec<&str> = identities.iter().map(|identity| identity.comment.as_str()).collect();
    assert_eq!(comments, kinds);
    for identity in identities {
        let agent = Agent::connect(&running.socket()).unwrap();
        let mut signer = Signer::from_agent(agent, identity.key.clone());
        let armoured = sign(BYTES, NAMESPACE, &mut signer).unwrap();
        assert!(keygen_accepts(&identity.comment, armoured.as_bytes(), BYTES), "{}", identity.comment);
    }
}

#[test]
fn an_agent_without_the_key_refuses() {
    let running = RunningAgent::start();
    running.add("other");
    let foreign =
        PublicKey::from_blob(Signer::from_file(&key("ed25519")).unwrap().public_key().as_blob()).unwrap();
    let mut signer = Signer::from_agent(Agent::connect(&running.socket()).unwrap(), foreign);
    let error = sign(BYTES, NAMESPACE, &mut signer).unwrap_err();
    assert!(matches!(error, SignError::Agent(AgentError::Refused { .. })), "{error:?}");
}

#[test]
fn an_agent_that_lies_is_survived() {
    use std::io::{Read as _, Write as _};
    let folder = tempfile::tempdir().unwrap();
    let answers: [&[u8]; 7] = [
        b"",
        &[0, 0, 0, 0],
        &[0xff; 4],
        &[0, 0, 0, 1, 5],
        &[0, 0, 0, 5, 12, 0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 9, 12, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 9, 12],
    ];
    for answer in answers {
        let socket = folder.path().join("agent");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0; 5]).unwrap();
                stream.write_all(answer).unwrap();
            });
            assert!(Agent::connect(&socket).unwrap().identities().is_err(), "{answer:?}");
        });
        std::fs::remove_file(&socket).unwrap();
    }
}

#[test]
fn other_namespaces_are_told_apart() {
    for (namespace, expected) in [
        ("file", "signature.namespace"),
        ("hot-config:a", "signature.namespace"),
        ("Hot-Module", "signature.namespace"),
        ("hot-module", "ok"),
    ] {
        let armoured = keygen_sign("ed25519", namespace, &[], BYTES);
        assert_eq!(check(armoured.as_bytes(), BYTES).err().unwrap_or("ok"), expected, "{namespace}");
    }
    let error = Signature::parse(keygen_sign("ed25519", "file", &[], BYTES).as_bytes())
        .unwrap()
        .check(NAMESPACE, digests(Hash::Sha512, BYTES).signed())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "signature: found namespace `file`, expected `hot-module`; sign with ssh-keygen -Y sign -n hot-module"
    );
}

/// The named variants of one good signature: what we say, and that `ssh-keygen` accepts what we accept.
#[test]
fn variants_of_the_armour_are_never_taken_more_laxly_than_by_ssh_keygen() {
    let good = keygen_sign("ed25519", NAMESPACE, &[], BYTES);
    let other = keygen_sign("ed25519", NAMESPACE, &[], b"other");
    let end = "-----END SSH SIGNATURE-----";
    let variants: Vec<(&str, Vec<u8>, &str)> = vec![
        ("as it is", good.clone().into(), "ok"),
        ("empty", Vec::new(), "signature.missing"),
        ("CRLF", good.replace('\n', "\r\n").into(), "signature.malformed"),
        ("no line end at the end", good.trim_end().into(), "ok"),
        (
            "on one line",
            [&good[..30], &good[30..].replace('\n', ""), "\n"]
                .concat()
                .replace(end, &format!("\n{end}"))
                .into(),
            "ok",
        ),
        ("an empty line first", format!("\n{good}").into(), "signature.malformed"),
        ("an empty line last", format!("{good}\n").into(), "signature.malformed"),
        ("text behind", format!("{good}x").into(), "signature.malformed"),
        ("two armours", format!("{good}{other}").into(), "signature.malformed"),
        ("two armours, the bad one first", format!("{other}{good}").into(), "signature.malformed"),
        ("no END", good.replace(end, "").into(), "signature.malformed"),
        ("no BEGIN", good[30..].into(), "signature.malformed"),
        (
            "another kind of armour",
            good.replace("SSH SIGNATURE", "SSH MESSAGE").into(),
            "signature.malformed",
        ),
        ("space in the base64", good.replacen('\n', "\n ", 2).into(), "signature.malformed"),
        ("a CR in the base64", good.replacen('\n', "\n\rA", 1).into(), "signature.malformed"),
        ("NUL", good.replace(end, &format!("\0{end}")).into(), "signature.malformed"),
        ("not text", [good.as_bytes(), &[0xff]].concat(), "signature.malformed"),
        ("too large", [good.as_bytes(), &[b'\n'; 9000]].concat(), "signature.malformed"),
    ];
    for (name, text, expected) in variants {
        let ours = check(&text, BYTES);
        assert_eq!(ours.err().unwrap_or("ok"), expected, "{name}");
        assert!(ours.is_err() || keygen_accepts("ed25519", &text, BYTES), "{name}: laxer than ssh-keygen");
    }
}

/// The fields of a blob: key, namespace, reserved, hash, signature.
fn blob_with(change: impl FnOnce(&mut Vec<u8>, &mut [Vec<u8>; 5])) -> String {
    let good = armour::decode(keygen_sign("ed25519", NAMESPACE, &[], BYTES).as_bytes()).unwrap();
    let mut wire = Wire::new(&good[10..]);
    let mut fields: [Vec<u8>; 5] = std::array::from_fn(|_| wire.string().unwrap().to_vec());
    let mut head = good[..10].to_vec();
    change(&mut head, &mut fields);
    fields.iter().for_each(|field| wire::put_string(&mut head, field));
    armour::encode(&head)
}

#[test]
fn variants_of_the_blob_are_refused_by_name() {
    let cases = [
        ("unchanged", blob_with(|_, _| ()), "ok"),
        ("no magic", blob_with(|head, _| head[0] = b'X'), "signature.malformed"),
        ("version 0", blob_with(|head, _| head[9] = 0), "signature.version"),
        ("version 2", blob_with(|head, _| head[9] = 2), "signature.version"),
        ("reserved content", blob_with(|_, fields| fields[2] = b"x".to_vec()), "signature.malformed"),
        ("an unknown hash", blob_with(|_, fields| fields[3] = b"md5".to_vec()), "signature.hash"),
        ("another hash", blob_with(|_, fields| fields[3] = b"sha256".to_vec()), "signature.other_bytes"),
        ("an empty namespace", blob_with(|_, fields| fields[1].clear()), "signature.malformed"),
        ("a namespace with NUL", blob_with(|_, fields| fields[1].push(0)), "signature.malformed"),
        ("bytes behind", blob_with(|_, fields| fields[4].extend([0; 4])), "signature.malformed"),
        ("a short signature", blob_with(|_, fields| fields[4].truncate(80)), "signature.malformed"),
        ("bytes behind the key", blob_with(|_, fields| fields[0].push(0)), "signature.malformed"),
        ("another kind", blob_with(|_, fields| fields[0] = public_blob("p521")), "signature.malformed"),
        ("weak RSA", blob_with(|_, fields| fields[0] = public_blob("rsa2048")), "signature.key"),
    ];
    for (name, text, expected) in cases {
        let ours = check(text.as_bytes(), BYTES);
        assert_eq!(ours.err().unwrap_or("ok"), expected, "{name}");
        assert!(ours.is_err() || keygen_accepts("ed25519", text.as_bytes(), BYTES), "{name}");
    }
}

/// The public key of a kind in SSH's wire format.
fn public_blob(kind: &str) -> Vec<u8> {
    use base64ct::Encoding as _;
    base64ct::Base64::decode_vec(public(kind).split(' ').nth(1).unwrap()).unwrap()
}

#[test]
fn every_flipped_bit_of_a_signature_is_noticed() {
    for kind in ["ed25519", "p256", "p521", "rsa"] {
        let blob = armour::decode(keygen_sign(kind, NAMESPACE, &[], BYTES).as_bytes()).unwrap();
        // All bits of the short ones; RSA takes a millisecond each.
        let step = if kind == "rsa" { 9 } else { 1 };
        for bit in (0..8 * blob.len()).step_by(step) {
            let mut changed = blob.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(check(armour::encode(&changed).as_bytes(), BYTES).is_err(), "{kind} bit {bit}");
        }
        for len in 0..blob.len() {
            assert!(check(armour::encode(&blob[..len]).as_bytes(), BYTES).is_err(), "{kind} length {len}");
        }
    }
}

#[test]
fn every_cut_of_the_armour_is_noticed() {
    let good = keygen_sign("ed25519", NAMESPACE, &[], BYTES);
    // Without its last character, the line end, it is whole.
    for len in 0..good.len() - 1 {
        assert!(check(&good.as_bytes()[..len], BYTES).is_err(), "{len}");
    }
}

#[test]
fn fingerprints_are_those_of_ssh_keygen() {
    for kind in ["ed25519", "p256", "p521", "rsa"] {
        let output = Command::new("ssh-keygen").arg("-l").arg("-f").arg(key(kind)).output().unwrap();
        let ours = Signer::from_file(&key(kind)).unwrap().public_key().fingerprint();
        assert!(String::from_utf8(output.stdout).unwrap().contains(&ours));
    }
}

#[test]
fn one_pass_gives_both_digests() {
    let both = digests(Hash::Sha512, BYTES);
    assert_eq!(both.identity, Sha256::of(BYTES));
    assert_eq!(both.signed().len(), 64);
    assert_eq!(digests(Hash::Sha256, BYTES).signed(), Sha256::of(BYTES).as_bytes());
    let hashes = FileHashes::of(BYTES).unwrap();
    assert_eq!(hashes.by(Hash::Sha256), Sha256::of(BYTES).as_bytes());
    assert_eq!(hashes.by(Hash::Sha512), both.signed());
}

proptest! {
    #[test]
    fn any_text_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(Signature::parse(&bytes).is_err());
    }

    #[test]
    fn any_blob_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(Signature::parse(armour::encode(&[b"SSHSIG\0\0\0\x01", bytes.as_slice()].concat()).as_bytes()).is_err());
        prop_assert!(PublicKey::from_blob(&bytes).is_err());
    }

    #[test]
    fn an_armour_holds_what_was_put_in(bytes in proptest::collection::vec(any::<u8>(), 1..600)) {
        prop_assert_eq!(armour::decode(armour::encode(&bytes).as_bytes()).unwrap(), bytes);
    }
}
