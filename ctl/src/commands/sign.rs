//! `hotctl sign`.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use hot_artifact::signature::{MODULE_NAMESPACE, Signer, sign};
use serde::Serialize;

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::offer::Offer;
use crate::signing::{Keys, SigningError, beside, default_signer};
use crate::words;

/// Sign a module into FILE.sig, as `ssh-keygen -Y sign -n hot-module` does
///
/// With a key file, else with the key that `push` would take: a dev node's own, else the first one in ssh-agent that the
/// node trusts; without a node, the first one in ssh-agent. `push` sends FILE.sig by itself.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  hotctl sign greeter-1.1.0.so\n  hotctl sign greeter-1.1.0.so --key ~/.ssh/id_ed25519"
)]
pub(crate) struct Args {
    /// The module's file
    file: PathBuf,

    /// Sign with this OpenSSH private key, or with a certificate, KEY-cert.pub
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,

    /// Where to put the signature [default: FILE.sig]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,

    /// Replace a signature that is there
    #[arg(long)]
    force: bool,
}

/// What `sign -o json` prints.
#[derive(Debug, Serialize)]
struct SignedJson<'a> {
    file: &'a Path,
    signature: &'a Path,
    digest: String,
    fingerprint: &'a str,
    /// The id of the certificate. Null for a plain key.
    certificate: Option<&'a str>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let offer = Offer::open(&args.file)?;
    let path = args.signature.clone().unwrap_or_else(|| beside(&args.file));
    let mut signer = match &args.key {
        Some(key) => Signer::from_file(key).map_err(SigningError::from)?,
        None => default_signer(keys(context).await)?,
    };
    // As `ssh-keygen` does it, over its hash.
    let armoured = sign(&offer.reader, MODULE_NAMESPACE, &mut signer).map_err(SigningError::from)?;
    let fingerprint = signer.public_key().fingerprint();
    let certificate = signer.certificate().map(|certificate| certificate.id.as_str());
    write(&path, armoured.as_bytes(), args.force).map_err(|error| not_written(&path, &error))?;
    if context.out.json() {
        let digest = offer.digest();
        context.out.object(&SignedJson {
            file: &args.file,
            signature: &path,
            digest,
            fingerprint: &fingerprint,
            certificate,
        })?;
    } else {
        let with = certificate.map(|id| format!(", certificate {id}")).unwrap_or_default();
        context.out.text(&words::clean(&format!("{}: signed with {fingerprint}{with}", path.display())))?;
    }
    Ok(Exit::Success)
}

/// What the node says that a push would ask. `None`: there is none, or it does not answer, and signing needs none.
async fn keys(context: &Context<'_>) -> Option<Keys> {
    let client = context.connect().await.ok()?;
    Keys::of(&client).await.ok()
}

fn not_written(path: &Path, error: &io::Error) -> Failure {
    let sentence = if error.kind() == io::ErrorKind::AlreadyExists {
        format!(
            "{} is there already, and a signature is not replaced unasked: expected no file of that name; replace it with \
             --force, or write to another one with --signature FILE",
            path.display()
        )
    } else {
        format!("{} can't be written: {error}; check the folder and its permissions", path.display())
    };
    Failure::failed("file.not_written", sentence)
}

fn write(path: &Path, text: &[u8], force: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    options.open(path)?.write_all(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_not_replaced_by_accident() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = beside(&folder.path().join("a.so"));
        assert!(path.ends_with("a.so.sig"));
        write(&path, b"one, long", false).expect("writes");
        let there = not_written(&path, &write(&path, b"two", false).expect_err("is there")).sentence;
        assert!(there.contains("a.so.sig is there already") && there.contains("--force"), "{there}");
        write(&path, b"two", true).expect("replaces");
        assert_eq!(std::fs::read(&path).expect("reads"), b"two");
    }
}
