//! `hotctl trust check`.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hot_artifact::signature::{FileHashes, MODULE_NAMESPACE, Signature};
use hot_artifact::trust::{JudgeError, Validity};
use hot_artifact::{FileReader, Refusal};
use serde::Serialize;

use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::offer::unreadable;
use crate::output::{Tone, paint};
use crate::trust::TrustFiles;
use crate::{show, signing, trust};

/// Say who signed a file, whether that counts here, and if not, why
///
/// The file may be anything: only its signature is looked at. `verify` checks the module as well. Exit code 4 says that it
/// does not count.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  hotctl trust check greeter-1.1.0.so\n  \
                        hotctl trust check greeter-1.1.0.so --signature a.sig --revoked /etc/hotd/revoked_keys")]
pub(super) struct Args {
    /// The signed file
    file: PathBuf,

    /// Its signature [default: FILE.sig]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
}

/// What `trust check -o json` prints.
#[derive(Debug, Serialize)]
struct CheckedJson<'a> {
    file: &'a Path,
    counts: bool,
    principals: Vec<String>,
    kind: Option<&'a str>,
    fingerprint: Option<String>,
    certificate: Option<&'a str>,
    reason: Option<Refusal>,
    /// What it was judged by.
    signers: &'a Path,
    /// Null where no file of revoked keys is known.
    revoked: Option<&'a Path>,
    not_judged: Vec<String>,
}

pub(super) fn run(args: &Args, files: &TrustFiles, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let path = args.signature.clone().unwrap_or_else(|| signing::beside(&args.file));
    let armoured = signing::read(&path)?;
    let trusted = files.read()?;
    let hashes = FileReader::open(&args.file)
        .and_then(|reader| FileHashes::of(&reader))
        .map_err(|error| unreadable(&args.file, &error))?;
    let parsed = Signature::parse(&armoured);
    let judged = parsed.as_ref().map_err(|error| JudgeError::from(error.clone())).and_then(|signature| {
        signature.check(MODULE_NAMESPACE, hashes.by(signature.hash()))?;
        Ok(trusted.principals(signature, MODULE_NAMESPACE, Validity::At(SystemTime::now()))?)
    });
    let made = parsed.as_ref().ok();
    let (principals, reason) = match judged {
        Ok(principals) => (principals, None),
        Err(error) => (Vec::new(), Some(error.refusal())),
    };
    let exit = if reason.is_none() { Exit::Success } else { Exit::Refused };
    let key = made.map(Signature::key);
    let certificate = made.and_then(Signature::certificate).map(|of| of.id.as_str());
    if context.out.json() {
        context.out.object(&CheckedJson {
            file: &args.file,
            counts: reason.is_none(),
            principals,
            kind: key.map(|key| key.kind_name()),
            fingerprint: key.map(|key| key.fingerprint()),
            certificate,
            reason,
            signers: &files.signers,
            revoked: files.revoked.as_deref(),
            not_judged: trust::not_judged_of_signature(files),
        })?;
        return Ok(exit);
    }
    let by = key.map_or_else(String::new, |key| format!("{} {}", key.kind_name(), key.fingerprint()));
    match reason {
        None => {
            let with = certificate.map(|id| format!(", certificate {id}")).unwrap_or_default();
            let lists: Vec<String> = std::iter::once(&files.signers)
                .chain(&files.revoked)
                .map(|path| path.display().to_string())
                .collect();
            let text = format!(
                "{}: signed by {} with {by}{with}; it counts by {}",
                args.file.display(),
                principals.join(", "),
                lists.join(" and ")
            );
            let colour = context.out.colour();
            let left_out = trust::not_judged_of_signature(files);
            let lines = [paint(&text, Tone::Good, colour), show::inspect::not_judged(&left_out, colour)];
            context.out.text(&lines.join("\n"))?;
            Ok(exit)
        }
        Some(reason) => Err(crate::offer::named(&args.file, reason.into())),
    }
}
