//! `hotctl sign`.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::offer::Offer;
use crate::signing::sign_offline;

/// Sign a module into FILE.sig, as `ssh-keygen -Y sign -n hot-module` does
///
/// With a key file, else with the first key of ssh-agent. `push --signature` sends the signature.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl sign greeter-1.1.0.so --key ~/.ssh/id_ed25519")]
pub(crate) struct Args {
    /// The module's file
    file: PathBuf,

    /// Sign with this OpenSSH private key
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
}

/// Where the signature of `file` is when nothing else is said.
pub(crate) fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

pub(crate) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let offer = Offer::open(&args.file)?;
    let path = args.signature.clone().unwrap_or_else(|| beside(&args.file));
    let (armoured, fingerprint) = sign_offline(&offer, args.key.as_deref())?;
    write(&path, &armoured, args.force).map_err(|error| {
        let advice =
            if error.kind() == io::ErrorKind::AlreadyExists { "; replace it with --force" } else { "" };
        Failure::failed("file.not_written", format!("{} can't be written: {error}{advice}", path.display()))
    })?;
    if context.out.json() {
        let digest = offer.digest();
        context.out.object(&SignedJson {
            file: &args.file,
            signature: &path,
            digest,
            fingerprint: &fingerprint,
        })?;
    } else {
        context.out.text(&format!("{}: signed with {fingerprint}", path.display()))?;
    }
    Ok(Exit::Success)
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
        assert_eq!(write(&path, b"two", false).expect_err("is there").kind(), io::ErrorKind::AlreadyExists);
        write(&path, b"two", true).expect("replaces");
        assert_eq!(std::fs::read(&path).expect("reads"), b"two");
    }
}
