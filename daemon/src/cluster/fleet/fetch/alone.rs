//! Where what came from several is not what the digest says, one of them lied, and nobody knows which. So it is taken again,
//! all of it from one peer at a time, until it is right. Then what came before is compared with it, and who lied is known.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;

use hot_artifact::VerifyError;
use hot_rollout::Node;

use super::FetchError;
use super::origin::Origin;
use super::transfer::{Besides, Transfer};
use crate::store::{Spooled, Upload};

/// What was wrong, and from where it came.
#[derive(Debug)]
struct Wrong {
    file: File,
    origin: Origin,
}

/// What came of verifying.
enum Outcome {
    /// It is over, one way or the other.
    Over(Result<(), FetchError>),
    /// They are not the bytes of the digest; what is kept of them, where several gave them.
    OtherBytes(Option<Wrong>),
}

impl Transfer<'_> {
    /// Verifies what came, and takes it from one peer at a time where that is not what was asked for.
    pub(super) async fn settle(&mut self, upload: Arc<Upload>) -> Result<(), FetchError> {
        let wrong = match self.verify(upload).await? {
            Outcome::Over(result) => return result,
            Outcome::OtherBytes(wrong) => wrong,
        };
        let mut left = self.crew(true).await?;
        left.reverse();
        while let Some(peer) = left.pop() {
            let record = &self.version.record;
            let Some(upload) = self.fetcher.begin(record.digest, record.size).await? else { return Ok(()) };
            let besides = if left.is_empty() { Besides::Nobody } else { Besides::Instead };
            if !self.run(&upload, vec![peer], besides).await? {
                // The next one begins anew: else nobody would know again from whom it is.
                crate::blocking(move || upload.throw_away()).await;
                continue;
            }
            if let Outcome::Over(result) = self.verify(upload).await? {
                if let (Ok(()), Some(wrong)) = (&result, wrong) {
                    self.unmask(wrong).await;
                }
                return result;
            }
        }
        Err(self.nobody())
    }

    /// Makes a version of what came, if it is what was asked for. If it is not and one alone gave it, that one has lied.
    async fn verify(&mut self, upload: Arc<Upload>) -> Result<Outcome, FetchError> {
        let size = self.under_way.size;
        let upload = Arc::unwrap_or_clone(upload);
        let spooled = crate::blocking(move || upload.finish()).await?;
        let liar = self.under_way.origin.sole(size).cloned();
        let file = kept(&spooled, liar.as_ref());
        match self.fetcher.commit(spooled, self.version.record.clone()).await {
            Err(FetchError::Refused(error)) if matches!(*error, VerifyError::OtherDigest { .. }) => {
                let origin = std::mem::take(&mut self.under_way.origin);
                // What came was thrown away.
                self.under_way.resume(0);
                if let Some(liar) = liar {
                    self.lied(&liar).await;
                }
                Ok(Outcome::OtherBytes(file.map(|file| Wrong { file, origin })))
            }
            result => Ok(Outcome::Over(result)),
        }
    }

    /// Finds out who gave what was wrong, now that the right bytes are here.
    async fn unmask(&mut self, Wrong { file, origin }: Wrong) {
        let (store, digest) = (self.fetcher.0.ledger.store().clone(), self.version.record.digest);
        let liars = crate::blocking(move || {
            let right = store.open_artifact(&digest).ok()?.file;
            origin.liars(&file, &right).ok()
        });
        // What can't be read now is not held against anybody.
        let liars: BTreeSet<Node> = liars.await.unwrap_or_default();
        for liar in liars {
            self.lied(&liar).await;
        }
    }

    /// That nobody gave it, and why.
    pub(super) fn nobody(&self) -> FetchError {
        let why: Vec<String> = self.why.iter().map(|(node, why)| format!("{node}: {why}")).collect();
        let why = if why.is_empty() { "no node that is there has it".to_owned() } else { why.join("; ") };
        FetchError::NoPeer { digest: self.version.record.digest, why }
    }
}

/// What came, to be compared with what is right; the name of it may be gone by then. Where it is known who lied there is
/// nothing to find out.
fn kept(spooled: &Spooled, liar: Option<&Node>) -> Option<File> {
    match liar {
        Some(_) => None,
        None => spooled.open().ok(),
    }
}
