//! What this machine, as a node, would say of a file and its signature.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hot_artifact::trust::{AllowedSigners, ModuleRules, Revoked, Trust};
use hot_artifact::{Checks, DEFAULT_MAX_SIZE, Node, Verified, VerifyError};

use crate::failure::Failure;
use crate::node::Found;
use crate::offer::{Offer, named, unreadable};

/// Where the service has its signers.
const SERVICE_SIGNERS: &str = "/etc/hotd/allowed_signers";

/// The file of allowed signers to judge by: what was said, else that of the dev node on record, else the service's.
/// `None`: there is none.
pub(crate) fn signers_file(given: Option<&Path>, found: Option<&Found>) -> Option<PathBuf> {
    if let Some(path) = given {
        return Some(path.to_owned());
    }
    let dev = found.and_then(|found| found.dev.as_ref()).map(|dev| dev.allowed_signers());
    dev.into_iter().chain([PathBuf::from(SERVICE_SIGNERS)]).find(|path| path.exists())
}

/// Reads the file of allowed signers. No rules about modules: those are in a node's config.
pub(crate) fn read(path: &Path) -> Result<Trust, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    let signers =
        AllowedSigners::parse(&text, path).map_err(|error| Failure::failed("signers.malformed", error))?;
    Ok(Trust { signers, revoked: Revoked::default(), modules: ModuleRules::default() })
}

/// Checks everything that a node like this machine would.
pub(crate) fn verify(offer: &Offer, signature: &[u8], trust: &Trust) -> Result<Verified, VerifyError> {
    let checks = Checks { trust, node: &Node::native(), max_size: DEFAULT_MAX_SIZE };
    let mut file = offer.reader.file();
    io::Seek::rewind(&mut file).map_err(VerifyError::Read)?;
    Verified::admit(file, signature, &checks, SystemTime::now())
}

/// A check that did not pass, as a failure that names the file.
pub(crate) fn failure(path: &Path, error: &VerifyError) -> Failure {
    let refusal = error.refusal();
    if error.is_refusal() {
        named(path, refusal.into())
    } else {
        named(path, Failure::failed(refusal.code, refusal))
    }
}
