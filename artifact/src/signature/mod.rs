//! Signatures in OpenSSH's SSHSIG format: reading, checking, and making them with a key file or ssh-agent. The format
//! is OpenSSH's `PROTOCOL.sshsig`.
//!
//! Who may sign what is not decided here: that is [`crate::trust`]. We are never laxer than `ssh-keygen -Y verify`;
//! where we are stricter, the place says so.

mod agent;
mod armour;
mod blob;
mod certificate;
mod error;
mod hashes;
mod key;
mod private;
mod sign;
mod value;
mod wire;

pub use agent::{Agent, AgentError, Identity};
pub use blob::Signature;
pub use certificate::Certificate;
pub use error::SignatureError;
pub(crate) use hashes::{Digests, Hashers};
pub use hashes::{FileHashes, Hash};
pub use key::{KeyError, PublicKey};
pub use sign::{GeneratedKey, SignError, Signer, generate_key, sign, sign_digest, sign_with};
pub(crate) use wire::Wire;

use crate::ModuleName;

/// Namespace of the signatures of module files.
pub const MODULE_NAMESPACE: &str = "hot-module";

/// Namespace of the signatures of a module's config. It names the module, so that one module's config is not
/// another's.
#[must_use]
pub fn config_namespace(module: &ModuleName) -> String {
    format!("hot-config:{module}")
}

#[cfg(test)]
mod tests;
