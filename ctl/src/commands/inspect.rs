//! `hotctl inspect`.

use hot_artifact::Inspection;
use hot_artifact::signature::Signature;
use serde::Serialize;

use super::verify::SignedFile;
use super::{Context, sign};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::offer::Offer;
use crate::output::{Tone, paint};
use crate::{signing, trust, words};

/// Show what a file is without running it: metadata, digest, signer
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  hotctl inspect greeter-1.1.0.so\n  \
                        hotctl inspect greeter-1.1.0.so --signature a.sig -o json")]
pub(crate) struct Args {
    #[command(flatten)]
    signed: SignedFile,
}

/// What `inspect -o json` prints.
#[derive(Debug, Serialize)]
struct InspectJson<'a> {
    name: String,
    version: String,
    abi: u32,
    routes: Vec<String>,
    requires: Vec<String>,
    /// Null for a module without state.
    state: Option<StateJson>,
    target: String,
    digest: String,
    size: u64,
    needed: Vec<&'a str>,
    soname: Option<&'a str>,
    /// Null without a signature.
    signature: Option<SignatureJson>,
}

#[derive(Debug, Serialize)]
struct StateJson {
    schema: u32,
    accepts: [u32; 2],
}

#[derive(Debug, Serialize)]
struct SignatureJson {
    /// Of the key that it names. Empty when it can't be read.
    fingerprint: String,
    /// Who signed, when it counts. Null when it does not, or there are no allowed signers to judge by.
    principal: Option<String>,
    /// Why it does not count, or why that is not known. Empty when it counts.
    problem: String,
}

pub(crate) fn run(Args { signed: args }: &Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let offer = Offer::open(&args.file)?;
    let signature = signature(args, &offer, context)?;
    if context.out.json() {
        context.out.object(&json(&offer.inspection, signature))?;
    } else {
        let lines = lines(&offer.inspection, signature.as_ref(), context.out.colour());
        context.out.text(&lines.join("\n"))?;
    }
    Ok(Exit::Success)
}

/// What is to be said of the signature, where there is one.
fn signature(
    args: &SignedFile,
    offer: &Offer,
    context: &Context<'_>,
) -> Result<Option<SignatureJson>, Failure> {
    let path = match &args.signature {
        Some(path) => path.clone(),
        None => match sign::beside(&args.file) {
            path if path.exists() => path,
            _ => return Ok(None),
        },
    };
    let armoured = signing::read(&path)?;
    let fingerprint =
        Signature::parse(&armoured).map(|parsed| parsed.key().fingerprint()).unwrap_or_default();
    let found = context.find().ok();
    let Some(signers) = trust::signers_file(args.allowed_signers.as_deref(), found.as_ref()) else {
        let problem =
            "not checked: no allowed signers to judge by; name them with --allowed-signers FILE".to_owned();
        return Ok(Some(SignatureJson { fingerprint, principal: None, problem }));
    };
    let trust = trust::read(&signers)?;
    let (principal, problem) = match trust::verify(offer, &armoured, &trust) {
        Ok(verified) => (Some(verified.principal().to_owned()), String::new()),
        Err(error) => (None, error.refusal().to_string()),
    };
    Ok(Some(SignatureJson { fingerprint, principal, problem }))
}

fn json(inspection: &Inspection, signature: Option<SignatureJson>) -> InspectJson<'_> {
    let metadata = &inspection.metadata;
    InspectJson {
        name: metadata.name.to_string(),
        version: metadata.version.to_string(),
        abi: metadata.abi,
        routes: metadata.routes.iter().map(ToString::to_string).collect(),
        requires: requires(inspection),
        state: metadata.state.as_ref().map(|state| StateJson {
            schema: state.schema,
            accepts: [*state.accepts.start(), *state.accepts.end()],
        }),
        target: inspection.target.to_string(),
        digest: inspection.digest.to_string(),
        size: inspection.size,
        needed: needed(inspection),
        soname: inspection.soname.as_deref(),
        signature,
    }
}

fn needed(inspection: &Inspection) -> Vec<&str> {
    inspection.needed.iter().map(|library| library.name.as_str()).collect()
}

fn requires(inspection: &Inspection) -> Vec<String> {
    inspection.metadata.requires.iter().map(|needs| format!("{} {}", needs.module, needs.versions)).collect()
}

fn lines(inspection: &Inspection, signature: Option<&SignatureJson>, colour: bool) -> Vec<String> {
    let metadata = &inspection.metadata;
    let mut lines = vec![paint(&format!("{} {}", metadata.name, metadata.version), Tone::Strong, colour)];
    let mut field = |name: &str, text: &str| {
        if !text.is_empty() {
            lines.push(format!("  {name:<10}{}", words::clean(text)));
        }
    };
    let routes: Vec<String> = metadata.routes.iter().map(ToString::to_string).collect();
    field("routes", if routes.is_empty() { "none: a background module" } else { "" });
    field("routes", &routes.join(" "));
    field("requires", &requires(inspection).join(", "));
    if let Some(state) = &metadata.state {
        let (from, to) = (state.accepts.start(), state.accepts.end());
        field("state", &format!("schema {}, accepts {from} to {to}", state.schema));
    }
    field("abi", &metadata.abi.to_string());
    field("target", &inspection.target.to_string());
    field("needs", &needed(inspection).join(" "));
    field("sha256", &inspection.digest.to_string());
    field("size", &words::size(inspection.size));
    match signature {
        None => field("signature", "none beside it"),
        Some(SignatureJson { fingerprint, principal: Some(principal), .. }) => {
            field("signature", &format!("good, by {principal} ({fingerprint})"));
        }
        // The problem names the key where it is about the key.
        Some(SignatureJson { fingerprint, problem, .. }) if problem.contains(fingerprint.as_str()) => {
            field("signature", problem);
        }
        Some(SignatureJson { fingerprint, problem, .. }) => {
            field("signature", &format!("by {fingerprint}: {problem}"));
        }
    }
    lines
}
