//! The keys of the cases, made once by `ssh-keygen` (those of security keys by our authenticator), and their
//! certificates.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use base64ct::{Base64, Encoding as _};
use hot_artifact::signature::FileHashes;

use crate::authenticator::{Authenticator, TOUCHED};
use crate::keygen;
use crate::parts::{Blob, signed_data};

pub(crate) const NAMESPACE: &str = "hot-module";

/// 2026-06-15T12:00:00Z
pub(crate) const NOW: u64 = 1_781_524_800;

pub(crate) const BYTES: &[u8] = b"what is signed";

/// The kinds of keys that sign, each also with a certificate.
pub(crate) const KINDS: [&str; 7] = ["ed25519", "p256", "p384", "p521", "rsa", "sk-ed25519", "sk-ecdsa"];

/// What makes signatures: a key, or its certificate.
#[derive(Clone, Debug)]
pub(crate) struct Maker {
    pub(crate) name: String,
    /// The kind of key, one of [`KINDS`] or a file of another key.
    kind: &'static str,
    /// What stands in the signature.
    blob: Vec<u8>,
    /// The key that a line of trust has: its own, or its authority's.
    pub(crate) trusted: String,
    pub(crate) is_certificate: bool,
}

impl Maker {
    pub(crate) fn key(kind: &'static str) -> Self {
        Self { name: kind.to_owned(), kind, blob: blob(kind), trusted: public(kind), is_certificate: false }
    }

    /// With the certificate in a file `NAME-cert.pub`, made by the authority.
    pub(crate) fn certified(kind: &'static str, file: &str, authority: &'static str) -> Self {
        let text = fs::read_to_string(FOLDER.join(format!("{file}-cert.pub"))).expect("a certificate");
        Self {
            name: format!("certificate {file}"),
            kind,
            blob: decode(&text),
            trusted: public(authority),
            is_certificate: true,
        }
    }

    /// All keys, and for each of them a certificate.
    pub(crate) fn all() -> Vec<Self> {
        let certified = |kind| Self::certified(kind, kind, "ca");
        KINDS.into_iter().map(Self::key).chain(KINDS.into_iter().map(certified)).collect()
    }

    /// The words before a namespace in a good line.
    pub(crate) fn authority_option(&self) -> &'static str {
        if self.is_certificate { "cert-authority," } else { "" }
    }

    pub(crate) fn line(&self, principals: &str, options: &str) -> String {
        format!("{principals} {}{options} {}\n", self.authority_option(), self.trusted)
    }

    pub(crate) fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The plain key, as a line of a `.pub` file.
    pub(crate) fn plain(&self) -> String {
        public(self.kind)
    }

    /// A good signature of these bytes.
    pub(crate) fn sign(&self, namespace: &str, hash: &str, bytes: &[u8]) -> Blob {
        let key = self.blob.clone();
        if let Some(authenticator) = authenticator(self.kind) {
            let value = authenticator.sign(&data(namespace, hash, bytes), TOUCHED, 42);
            return Blob::new(key, namespace, hash, value);
        }
        // The same value whether the key or its certificate is named: what is signed names neither.
        Blob { key, ..Blob::read(&keygen_sign(&FOLDER.join(self.kind), namespace, hash, bytes)) }
    }
}

/// What is signed of these bytes.
pub(crate) fn data(namespace: &str, hash: &str, bytes: &[u8]) -> Vec<u8> {
    let hashes = FileHashes::of(bytes).expect("memory can be read");
    let digest: &[u8] = if hash == "sha256" { hashes.sha256.as_bytes() } else { &hashes.sha512 };
    signed_data(namespace, hash, digest)
}

pub(crate) fn authenticator(kind: &str) -> Option<Authenticator> {
    match kind {
        "sk-ed25519" => Some(Authenticator::ed25519("ssh:")),
        "sk-ecdsa" => Some(Authenticator::ecdsa("ssh:hot")),
        _ => None,
    }
}

/// `ssh-keygen -Y sign` with a key file, or a certificate beside one.
pub(crate) fn keygen_sign(key: &Path, namespace: &str, hash: &str, bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut child = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", namespace, "-O", &format!("hashalg={hash}"), "-f"])
        .arg(key)
        .env_remove("SSH_AUTH_SOCK")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("ssh-keygen runs");
    child.stdin.take().expect("a pipe").write_all(bytes).expect("writes");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", key.display());
    output.stdout
}

/// Kind and base64 of a public key.
pub(crate) fn public(name: &str) -> String {
    let text = fs::read_to_string(FOLDER.join(format!("{name}.pub"))).expect("a public key");
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// A public key in SSH's wire format.
pub(crate) fn blob(name: &str) -> Vec<u8> {
    decode(&public(name))
}

/// The line of a certificate.
pub(crate) fn certificate(name: &str) -> String {
    fs::read_to_string(FOLDER.join(format!("{name}-cert.pub"))).expect("a certificate").trim_end().to_owned()
}

pub(crate) fn folder() -> &'static Path {
    &FOLDER
}

fn decode(line: &str) -> Vec<u8> {
    Base64::decode_vec(line.split_whitespace().nth(1).expect("base64")).expect("base64")
}

/// It is beside the test binary and made once, under a lock: RSA keys take seconds, and every test has a process of its
/// own.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let mut folder = std::env::current_exe().expect("a path");
    folder.set_file_name("hot-differential-keys");
    fs::create_dir_all(&folder).expect("a folder");
    let lock = fs::File::create(folder.join("lock")).expect("a file");
    lock.lock().expect("a lock");
    if !folder.join("done-1").exists() {
        for entry in fs::read_dir(&folder).expect("lists") {
            let path = entry.expect("an entry").path();
            if !path.ends_with("lock") {
                fs::remove_file(path).expect("removes what was not finished");
            }
        }
        make(&folder);
        fs::write(folder.join("done-1"), "").expect("writes");
    }
    folder
});

fn make(folder: &Path) {
    let at = |name: &str| folder.join(name).to_str().expect("UTF-8").to_owned();
    for (name, kind, bits) in [
        ("ed25519", "ed25519", "256"),
        ("other", "ed25519", "256"),
        ("p256", "ecdsa", "256"),
        ("p384", "ecdsa", "384"),
        ("p521", "ecdsa", "521"),
        ("rsa", "rsa", "3072"),
        ("rsa2048", "rsa", "2048"),
        ("ca", "ed25519", "256"),
        ("ca-p256", "ecdsa", "256"),
        ("ca-rsa", "rsa", "3072"),
        ("ca-rsa2048", "rsa", "2048"),
        ("ca-other", "ed25519", "256"),
    ] {
        keygen::run(&["-q", "-N", "", "-C", name, "-t", kind, "-b", bits, "-f", &at(name)]);
    }
    for kind in ["sk-ed25519", "sk-ecdsa"] {
        let key = authenticator(kind).expect("one of ours");
        fs::write(at(&format!("{kind}.pub")), format!("{} {kind}\n", key.public())).expect("writes");
    }
    // The certificate of a key `name`, in the file of another name.
    let certify = |file: &str, key: &str, authority: &str, options: &[&str]| {
        if file != key {
            fs::copy(at(&format!("{key}.pub")), at(&format!("{file}.pub"))).expect("copies");
        }
        let (authority, public) = (at(authority), at(&format!("{file}.pub")));
        let id = format!("id-{file}");
        let mut arguments = vec!["-q", "-s", &authority, "-I", &id];
        arguments.extend(options);
        arguments.push(&public);
        keygen::run(&arguments);
    };
    const YEAR: [&str; 2] = ["-V", "20260101000000Z:20270101000000Z"];
    let plain = ["-n", "anna,berta", "-z", "7", YEAR[0], YEAR[1]];
    for kind in KINDS {
        certify(kind, kind, "ca", &plain);
    }
    for (authority, hash) in
        [("ca-p256", ""), ("ca-rsa", "rsa-sha2-256"), ("ca-rsa2048", ""), ("ca-other", "")]
    {
        let mut options = plain.to_vec();
        if !hash.is_empty() {
            options.extend(["-t", hash]);
        }
        certify(&format!("by-{authority}"), "ed25519", authority, &options);
    }
    let named = ["-n", "anna"];
    for (file, options) in [
        ("for-ever", vec![]),
        ("over", vec!["-V", "20250101000000Z:20260615120000Z"]),
        ("last-second", vec!["-V", "20250101000000Z:20260615120001Z"]),
        ("first-second", vec!["-V", "20260615120000Z:20270101000000Z"]),
        ("not-yet", vec!["-V", "20260615120001Z:20270101000000Z"]),
        ("of-host", vec!["-h"]),
        ("forced", vec!["-O", "force-command=/bin/true"]),
        ("critical", vec!["-O", "critical:unknown@example.com=x"]),
        ("verify-required", vec!["-O", "verify-required"]),
        ("extension", vec!["-O", "extension:known@example.com"]),
        ("numbered", vec!["-z", "18446744073709551615"]),
    ] {
        certify(file, "ed25519", "ca", &[named.as_slice(), &options].concat());
    }
    certify("nobody", "ed25519", "ca", &[]);
    certify("wild", "ed25519", "ca", &["-n", "*"]);
    certify("mail", "ed25519", "ca", &["-n", "anna@example.com"]);
    // A certificate by RSA with SHA-1, which `ssh-keygen -Y verify` still takes.
    certify("sha1", "ed25519", "ca-rsa", &["-n", "anna", "-t", "ssh-rsa"]);
}
