//! [`Verdict`]: all that speaks against a file, where [`super::Verified`] stops at the first.

use std::time::SystemTime;

use super::{Checks, VerifyError};
use crate::signature::FileHashes;
use crate::trust::{Signed, Validity};
use crate::{Found, Inspection, check};

/// What would be said of a file that is a module, by the same checks as let it in, for those who show one. It lets
/// nothing in.
#[derive(Debug)]
pub struct Verdict {
    /// Who signed it, where that counts.
    pub signed: Option<Signed>,
    /// Every reason against it: its size, its signature, then what the node lacks. None: it would be let in.
    pub reasons: Vec<VerifyError>,
}

impl Checks<'_> {
    /// Judges a file by what was read of it, on a node where the libraries `found` are, and its armoured signature by the
    /// file's hashes. Without those the signature is not judged.
    #[must_use]
    pub fn judge(
        &self,
        file: &Inspection,
        found: &Found,
        signature: Option<(&[u8], &FileHashes)>,
        now: SystemTime,
    ) -> Verdict {
        let mut reasons = Vec::new();
        if file.size > self.max_size {
            reasons.push(VerifyError::TooLarge { limit: self.max_size });
        }
        let signed = signature.and_then(|(armoured, hashes)| {
            let signed = self.trust.judge(armoured, hashes, &file.metadata.name, Validity::At(now));
            signed.map_err(|error| reasons.push(error.into())).ok()
        });
        reasons.extend(check(file, self.node, found).into_iter().map(VerifyError::from));
        Verdict { signed, reasons }
    }
}
