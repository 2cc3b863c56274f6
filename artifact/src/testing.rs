//! What the tests share: small modules built with the machine's C compiler, and keys and signatures made by the
//! machine's `ssh-keygen`, which everything about signatures is compared with.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use tempfile::TempDir;

/// A module of this name with these further lines of metadata, which needs libc.
pub(crate) fn source(name: &str, lines: &str) -> String {
    let lines = lines.escape_default();
    format!(
        "#include \"hot_module.h\"\n\
         HOT_MODULE_METADATA(\"{name}\", \"1.0.0\", \"{lines}\");\n\
         HOT_EXPORT const hot_table hot_module = {{ .abi = HOT_ABI, .size = sizeof(hot_table) }};\n\
         #include <stdio.h>\n\
         int probe(void) {{ return puts(\"probe\"); }}\n"
    )
}

/// What `cc` makes of a C source with these arguments.
pub(crate) fn compile(source: &str, arguments: &[&str]) -> Vec<u8> {
    let folder = TempDir::new().unwrap();
    let (input, output) = (folder.path().join("module.c"), folder.path().join("module.so"));
    std::fs::write(&input, source).unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../module/include");
    run(Command::new("cc").args(arguments).arg("-I").arg(include).arg(&input).arg("-o").arg(&output));
    std::fs::read(output).unwrap()
}

/// A good module, named `probe`, that serves `/probe`.
pub(crate) static PROBE: LazyLock<Vec<u8>> =
    LazyLock::new(|| compile(&source("probe", "routes = [\"/probe\"]\n"), &["-shared", "-fPIC", "-O1"]));

/// A folder with keys of each kind: `ed25519`, `other` (ed25519 too), `p256`, `p384`, `p521`, `rsa`, `rsa2048`.
///
/// It is beside the test binary and made once, under a lock: a test runner that has a process for each test would else
/// make RSA keys for seconds in each, and a static's folder is never removed.
static KEYS: LazyLock<PathBuf> = LazyLock::new(|| {
    let mut folder = std::env::current_exe().unwrap();
    folder.set_file_name("hot-artifact-test-keys");
    std::fs::create_dir_all(&folder).unwrap();
    let lock = std::fs::File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    for (file, kind, bits) in [
        ("ed25519", "ed25519", "256"),
        ("other", "ed25519", "256"),
        ("p256", "ecdsa", "256"),
        ("p384", "ecdsa", "384"),
        ("p521", "ecdsa", "521"),
        ("rsa", "rsa", "3072"),
        ("rsa2048", "rsa", "2048"),
    ] {
        if folder.join(format!("{file}.done")).exists() {
            continue;
        }
        let path = folder.join(file);
        for half in [path.clone(), path.with_extension("pub")] {
            // What a run that was stopped half-way has left; ssh-keygen would ask before it writes over that.
            if half.exists() {
                std::fs::remove_file(half).unwrap();
            }
        }
        run(Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-C", file, "-t", kind, "-b", bits, "-f"])
            .arg(path));
        std::fs::write(folder.join(format!("{file}.done")), "").unwrap();
    }
    folder
});

/// The private key file of a kind.
pub(crate) fn key(kind: &str) -> PathBuf {
    KEYS.join(kind)
}

/// The public key of a kind: kind and base64.
pub(crate) fn public(kind: &str) -> String {
    let text = std::fs::read_to_string(KEYS.join(format!("{kind}.pub"))).unwrap();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// `ssh-keygen -Y sign` of these bytes.
pub(crate) fn keygen_sign(kind: &str, namespace: &str, options: &[&str], bytes: &[u8]) -> String {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, bytes).unwrap();
    run(Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", namespace])
        .args(options)
        .arg("-f")
        .arg(key(kind))
        .arg(&file)
        .stderr(Stdio::null()));
    std::fs::read_to_string(folder.path().join("file.sig")).unwrap()
}

/// What `ssh-keygen -Y verify` is asked.
pub(crate) struct Question<'a> {
    pub(crate) allowed_signers: &'a str,
    pub(crate) principal: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) signature: &'a [u8],
    pub(crate) bytes: &'a [u8],
    pub(crate) options: &'a [&'a str],
    pub(crate) zone: &'a str,
}

/// Whether `ssh-keygen -Y verify` says yes.
pub(crate) fn keygen_verify(question: &Question<'_>) -> bool {
    let folder = TempDir::new().unwrap();
    let path = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let input = std::fs::File::open(path("file", question.bytes)).unwrap();
    Command::new("ssh-keygen")
        .args(["-q", "-Y", "verify", "-n", question.namespace, "-I", question.principal])
        .args(question.options)
        .arg("-f")
        .arg(path("allowed_signers", question.allowed_signers.as_bytes()))
        .arg("-s")
        .arg(path("file.sig", question.signature))
        .env("TZ", question.zone)
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

/// Runs a command that has to succeed.
pub(crate) fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
