//! `hotctl inspect`.

use hot_artifact::symbols;

use super::Context;
use super::verify::SignedFile;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::{InspectJson, SignatureJson};
use crate::offer::Offer;
use crate::trust::TrustFiles;
use crate::{show, signing, trust};

/// Show what a file is without running it, and why a node would refuse it
///
/// Metadata, libraries, symbols and signer, and the verdict of a node like this machine with every reason. Exit code 4 says
/// that there are any.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  hotctl inspect greeter-1.1.0.so\n  \
                        hotctl inspect greeter-1.1.0.so --signature a.sig -o json")]
pub(crate) struct Args {
    #[command(flatten)]
    signed: SignedFile,
}

pub(crate) fn run(Args { signed: args }: &Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let offer = Offer::open(&args.file)?;
    let signature = signature(args)?;
    let files = match &signature {
        Some(_) => args.trust_files(context)?,
        None => None,
    };
    let trust = files.as_ref().map(TrustFiles::read).transpose()?;
    let verdict = trust::judge(&offer, signature.as_deref(), trust.as_ref())?;
    let not_judged = trust::not_judged(signature.is_some(), files.as_ref());
    let signature = signature.map(|armoured| SignatureJson::new(&armoured, files.as_ref(), &verdict));
    let symbols = symbols(&offer.reader).ok();
    let shown = InspectJson::new(&args.file, &offer.inspection, symbols, &verdict, signature, not_judged);
    if context.out.json() {
        context.out.object(&shown)?;
    } else {
        let lines = show::inspect::lines(&shown, context.out.colour());
        context.out.text(&lines.join("\n"))?;
    }
    Ok(if verdict.reasons.is_empty() { Exit::Success } else { Exit::Refused })
}

/// The signature that was named, or that is beside the file if there is one.
fn signature(args: &SignedFile) -> Result<Option<Vec<u8>>, Failure> {
    let path = match &args.signature {
        Some(path) => path.clone(),
        None => match signing::beside(&args.file) {
            path if path.exists() => path,
            _ => return Ok(None),
        },
    };
    Ok(Some(signing::read(&path)?))
}
