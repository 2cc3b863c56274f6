//! Trust: which keys and authorities may sign ([`AllowedSigners`]), which no more ([`Revoked`]), and whose modules
//! ([`ModuleRules`]).
//!
//! It reads no file and no clock: text and time are arguments.

mod allowed_signers;
mod certified;
mod error;
mod glob;
mod krl;
mod lines;
mod listing;
mod modules;
mod revoked;
mod time;

use std::time::SystemTime;

pub use allowed_signers::{AllowedSigners, Note};
pub use error::{JudgeError, SignerError};
pub(crate) use glob::matches as pattern_matches;
pub use lines::{AllowedSignersError, LineProblem};
pub use listing::{Allowed, Listed, Says, Standing, listing, standings};
pub use modules::{ModulePattern, ModulePatternError, ModuleRules};
pub use revoked::{MAX_REVOKED, Revoked, RevokedError};

use crate::ModuleName;
use crate::signature::{FileHashes, MODULE_NAMESPACE, Signature};

/// Whose signatures a node accepts, for which modules. By default nobody's.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The keys, each with its principals, namespaces and time.
    pub signers: AllowedSigners,
    /// What counts no more.
    pub revoked: Revoked,
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

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The principal.
    pub principal: String,
    /// Fingerprint of the key.
    pub fingerprint: String,
}

impl Trust {
    /// Judges an armoured signature of a module's file by the file's hashes alone, for those who don't have its bytes
    /// yet: whether a push of them would be let in. What may be loaded is for [`crate::Verified`] to say.
    ///
    /// # Errors
    /// Whatever [`crate::Verified::admit`] would say of the signature and its signer.
    pub fn judge(
        &self,
        armoured: &[u8],
        hashes: &FileHashes,
        module: &ModuleName,
        validity: Validity,
    ) -> Result<Signed, JudgeError> {
        let signature = Signature::parse(armoured)?;
        signature.check(MODULE_NAMESPACE, hashes.by(signature.hash()))?;
        let principal = self.principal(&signature, module, validity)?;
        Ok(Signed { principal, fingerprint: signature.key().fingerprint() })
    }

    /// All who may have signed in `namespace` with what `signature` was made with, which is not revoked. Never empty.
    ///
    /// # Errors
    /// When that is revoked, or not allowed at all, or not now.
    pub fn principals(
        &self,
        signature: &Signature,
        namespace: &str,
        validity: Validity,
    ) -> Result<Vec<String>, SignerError> {
        self.revoked.check(signature)?;
        self.signers.signers(signature, namespace, validity)
    }

    /// Who signed `module`: the first principal of the entry that allows the key and that may sign this module.
    ///
    /// # Errors
    /// When the key is revoked, or not allowed at all, not now, or not for this module.
    pub fn principal(
        &self,
        signature: &Signature,
        module: &ModuleName,
        validity: Validity,
    ) -> Result<String, SignerError> {
        let mut principals = self.principals(signature, MODULE_NAMESPACE, validity)?;
        match principals.iter().position(|principal| self.modules.allow(module, principal)) {
            Some(index) => Ok(principals.swap_remove(index)),
            None => Err(SignerError::NotForModule { principals, module: module.clone() }),
        }
    }
}

#[cfg(test)]
mod tests;
