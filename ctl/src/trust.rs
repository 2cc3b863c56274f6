//! What this machine, as a node, would say of a file and its signature.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hot_artifact::signature::FileHashes;
use hot_artifact::trust::{AllowedSigners, Revoked, Signed, Trust};
use hot_artifact::{Checks, DEFAULT_MAX_SIZE, Found as Libraries, Node, Verified, VerifyError};

use crate::failure::Failure;
use crate::node::Found;
use crate::offer::{Offer, named, unreadable};

/// Where the service has its signers.
const SERVICE_SIGNERS: &str = "/etc/hotd/allowed_signers";

/// What is left out where no file of it is known.
const REVOKED: &str = "revoked keys (--revoked FILE)";

/// What only a node's config says of signers.
const RULES: &str =
    "which principals may sign which modules ([trust.modules] in a node's config; `hotctl plan` asks one)";

/// What only a node knows.
const NODES_OWN: &str = "what a node's config and store say: allowed libraries, rules about modules, size limit, floors, \
                         quarantine, versions and routes that are taken (`hotctl plan` asks one)";

/// The files that signatures are judged by.
#[derive(Debug)]
pub(crate) struct TrustFiles {
    /// Who may sign.
    pub signers: PathBuf,
    /// What counts no more, where that is known.
    pub revoked: Option<PathBuf>,
}

/// What a node like this machine would say of a file.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// Who signed it, where that counts.
    pub signed: Option<Signed>,
    /// All that speaks against it.
    pub reasons: Vec<VerifyError>,
    /// The libraries that it needs and that are here.
    pub libraries: Libraries,
}

impl TrustFiles {
    /// What was said, else those of the dev node on record, else the service's, whose revoked keys only its config
    /// names. `None`: there are none.
    pub(crate) fn find(
        signers: Option<&Path>,
        revoked: Option<&Path>,
        found: Option<&Found>,
    ) -> Option<Self> {
        let revoked = revoked.map(Path::to_owned);
        if let Some(signers) = signers {
            return Some(Self { signers: signers.to_owned(), revoked });
        }
        if let Some(dev) = found.and_then(|found| found.dev.as_ref())
            && dev.allowed_signers().exists()
        {
            let revoked = revoked.or_else(|| Some(dev.revoked_keys()).filter(|path| path.exists()));
            return Some(Self { signers: dev.allowed_signers(), revoked });
        }
        let service = PathBuf::from(SERVICE_SIGNERS);
        service.exists().then_some(Self { signers: service, revoked })
    }

    /// Reads them. No rules about modules: those are in a node's config.
    pub(crate) fn read(&self) -> Result<Trust, Failure> {
        let path = &self.signers;
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        let signers = AllowedSigners::parse(&text, path)
            .map_err(|error| Failure::failed("signers.malformed", error))?;
        Ok(Trust { signers, revoked: self.read_revoked()?, ..Trust::default() })
    }

    /// Reads what counts no more, where that is known.
    pub(crate) fn read_revoked(&self) -> Result<Revoked, Failure> {
        let Some(path) = &self.revoked else { return Ok(Revoked::default()) };
        let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
        Revoked::parse(&bytes, path).map_err(|error| Failure::failed("revoked.malformed", error))
    }
}

/// Judges a file as a node like this machine would, with its signature where there is one. Who signed it is not judged
/// where nothing says who may (`trust`).
pub(crate) fn judge(
    offer: &Offer,
    signature: Option<&[u8]>,
    trust: Option<&Trust>,
) -> Result<Verdict, Failure> {
    let nobody = Trust::default();
    let node = Node::native();
    let checks = Checks { trust: trust.unwrap_or(&nobody), node: &node, max_size: DEFAULT_MAX_SIZE };
    let libraries = node.find(&offer.inspection.needed);
    let hashes = signature.map(|_| FileHashes::of(&offer.reader)).transpose();
    let hashes = hashes.map_err(|error| unreadable(&offer.path, &error))?;
    let judged =
        checks.judge(&offer.inspection, &libraries, signature.zip(hashes.as_ref()), SystemTime::now());
    let mut reasons = judged.reasons;
    reasons.retain(|reason| trust.is_some() || !matches!(reason, VerifyError::Signer(_)));
    Ok(Verdict { signed: judged.signed, reasons, libraries })
}

/// What a verdict about a signature alone leaves out.
pub(crate) fn not_judged_of_signature(files: &TrustFiles) -> Vec<String> {
    let revoked = files.revoked.is_none().then_some(REVOKED);
    revoked.into_iter().chain([RULES]).map(str::to_owned).collect()
}

/// What the verdict leaves out.
pub(crate) fn not_judged(is_signed: bool, files: Option<&TrustFiles>) -> Vec<String> {
    let mut left_out = Vec::new();
    if !is_signed {
        left_out.push(
            "its signature, since there is none beside it (`hotctl push` makes one, as `hotctl sign` does)",
        );
    } else if files.is_none() {
        left_out.push("who may sign (--allowed-signers FILE)");
    }
    if is_signed && files.is_none_or(|files| files.revoked.is_none()) {
        left_out.push(REVOKED);
    }
    left_out.push("whether the libraries have the imported symbols, beyond their versions");
    left_out.push(NODES_OWN);
    left_out.into_iter().map(str::to_owned).collect()
}

/// Lets a file in as a node like this machine would.
pub(crate) fn admit(offer: &Offer, signature: &[u8], trust: &Trust) -> Result<Verified, Failure> {
    let checks = Checks { trust, node: &Node::native(), max_size: DEFAULT_MAX_SIZE };
    let mut file = offer.reader.file();
    io::Seek::rewind(&mut file).map_err(|error| unreadable(&offer.path, &error))?;
    Verified::admit(file, signature, &checks, SystemTime::now())
        .map_err(|error| failure(&offer.path, &error, &[]))
}

/// What spoke against a file, as a failure that names it, with the further reasons.
pub(crate) fn failure(path: &Path, first: &VerifyError, others: &[VerifyError]) -> Failure {
    let refusal = first.refusal();
    let mut failure = if first.is_refusal() {
        named(path, refusal.into())
    } else {
        named(path, Failure::failed(refusal.code, refusal))
    };
    failure.more = others.iter().map(|other| named(path, other.refusal().into())).collect();
    failure
}
