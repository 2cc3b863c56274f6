//! Trust: which keys may sign ([`AllowedSigners`]) and whose modules ([`ModuleRules`]).
//!
//! It reads no file and no clock: text and time are arguments. Revoked keys and certificates are not here yet; their
//! lines are skipped with a note.

mod allowed_signers;
mod error;
mod glob;
mod lines;
mod modules;
mod time;

use std::time::SystemTime;

pub use allowed_signers::{AllowedSigners, Note};
pub use error::SignerError;
pub(crate) use glob::matches as pattern_matches;
pub use lines::{AllowedSignersError, LineProblem};
pub use modules::{ModuleRules, ModuleRulesError};

use crate::signature::Signature;
use crate::{ModuleName, signature};

/// Whose signatures a node accepts, for which modules.
#[derive(Debug, Clone)]
pub struct Trust {
    /// The keys, each with its principals, namespaces and time.
    pub signers: AllowedSigners,
    /// Which principals may sign which modules.
    pub modules: ModuleRules,
}

/// Whether the time in which a key is allowed counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// At admission: the key must be allowed at this time.
    At(SystemTime),
    /// At a later load of what was admitted: an expired key must not stand in the way of a rollback or a reboot, but
    /// one that was removed must.
    AnyTime,
}

impl Trust {
    /// Who signed `module`: the first principal of the entry that allows the key and that may sign this module.
    ///
    /// # Errors
    /// When the key is not allowed at all, not now, or not for this module.
    pub fn principal(
        &self,
        signature: &Signature,
        module: &ModuleName,
        validity: Validity,
    ) -> Result<String, SignerError> {
        let principals = self.signers.principals(signature.key(), signature::MODULE_NAMESPACE, validity)?;
        match principals.iter().find(|principal| self.modules.allow(module, principal)) {
            Some(principal) => Ok(principal.clone()),
            None => {
                Err(SignerError::NotForModule { principals: principals.to_vec(), module: module.clone() })
            }
        }
    }
}

#[cfg(test)]
mod tests;
