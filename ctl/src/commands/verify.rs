//! `hotctl verify`.

use std::path::PathBuf;

use serde::Serialize;

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::offer::Offer;
use crate::output::{Tone, paint};
use crate::trust::TrustFiles;
use crate::{show, signing, trust};

/// Check a module and its signature as a node like this machine would, without running it
///
/// By the allowed signers of the dev node on record, else of /etc/hotd/allowed_signers, whose revoked keys only --revoked
/// names. Exit code 4 says refused, and each reason is said.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  hotctl verify greeter-1.1.0.so\n  \
                        hotctl verify greeter-1.1.0.so --signature a.sig --allowed-signers signers")]
pub(crate) struct Args {
    #[command(flatten)]
    signed: SignedFile,
}

/// A file, and what its signature is judged by.
#[derive(Debug, clap::Args)]
pub(crate) struct SignedFile {
    /// The module's file
    pub file: PathBuf,

    /// Its signature [default: FILE.sig]
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,

    /// Whose signatures count, in OpenSSH's format [default: the dev node's, or /etc/hotd/allowed_signers]
    #[arg(long, value_name = "FILE")]
    pub allowed_signers: Option<PathBuf>,

    /// Keys that count no more: public keys, or a KRL [default: the dev node's]
    #[arg(long, value_name = "FILE")]
    pub revoked: Option<PathBuf>,
}

impl SignedFile {
    /// What its signature is judged by. `None`: there is nothing.
    pub(super) fn trust_files(&self, context: &Context<'_>) -> Result<Option<TrustFiles>, Failure> {
        context.trust_files(self.allowed_signers.as_deref(), self.revoked.as_deref())
    }
}

/// What `verify -o json` prints.
#[derive(Debug, Serialize)]
struct VerifiedJson<'a> {
    module: String,
    version: String,
    target: String,
    digest: String,
    principal: &'a str,
    fingerprint: &'a str,
    not_judged: Vec<String>,
}

pub(crate) fn run(Args { signed: args }: &Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let offer = Offer::open(&args.file)?;
    let signature = args.signature.clone().unwrap_or_else(|| signing::beside(&args.file));
    let signature = signing::read(&signature)?;
    let files = args.trust_files(context)?.ok_or_else(|| {
        Failure::failed(
            "signers.none",
            "no allowed signers to judge by: there is neither a dev node on record nor /etc/hotd/allowed_signers; name \
             a file with --allowed-signers FILE",
        )
    })?;
    let trust = files.read()?;
    if let Some((first, others)) = trust::judge(&offer, Some(&signature), Some(&trust))?.reasons.split_first()
    {
        return Err(trust::failure(&args.file, first, others));
    }
    let verified = trust::admit(&offer, &signature, &trust)?;
    let not_judged = trust::not_judged(true, Some(&files));
    if context.out.json() {
        context.out.object(&VerifiedJson {
            module: offer.module(),
            version: offer.version(),
            target: offer.inspection.target.to_string(),
            digest: offer.digest(),
            principal: verified.principal(),
            fingerprint: verified.fingerprint(),
            not_judged,
        })?;
    } else {
        let text = format!(
            "{}: {} {} is good, signed by {} ({})",
            args.file.display(),
            offer.module(),
            offer.version(),
            verified.principal(),
            verified.fingerprint()
        );
        let colour = context.out.colour();
        let lines = [paint(&text, Tone::Good, colour), show::inspect::not_judged(&not_judged, colour)];
        context.out.text(&lines.join("\n"))?;
    }
    Ok(Exit::Success)
}
