//! What came is verified as what is uploaded is, or it is thrown away.

use std::sync::Arc;
use std::time::SystemTime;

use hot_artifact::{Checks, Sha256, Verified, VerifyError};

use super::{FetchError, Fetcher};
use crate::store::{Begun, Spooled, Upload, UploadError, VersionRecord};

impl Fetcher {
    /// Where what comes is put. None: it is here already.
    pub(super) async fn begin(&self, digest: Sha256, size: u64) -> Result<Option<Arc<Upload>>, UploadError> {
        let store = self.0.ledger.store().clone();
        Ok(match crate::blocking(move || store.begin_upload(digest, size)).await? {
            Begun::Upload(upload) => Some(Arc::new(upload)),
            Begun::AlreadyHave => None,
        })
    }

    /// Verifies what came, as what is uploaded is, and makes a version of it.
    pub(super) async fn commit(&self, spooled: Spooled, record: VersionRecord) -> Result<(), FetchError> {
        let trust = self.0.trust.admitting().await.map_err(FetchError::Frozen)?;
        let (ledger, max_size) = (self.0.ledger.clone(), self.0.max_artifact);
        crate::blocking(move || {
            let file = spooled.open().map_err(VerifyError::Read)?;
            let checks = Checks { trust: &trust, node: ledger.machine(), max_size };
            let signature = record.signature.as_bytes();
            let verified = Verified::admit_as(spooled.digest(), file, signature, &checks, SystemTime::now());
            let verified = match verified {
                Ok(verified) => verified,
                Err(error) => {
                    // Whoever sent it: it is not what was announced, or not for this node.
                    spooled.throw_away();
                    return Err(FetchError::from(error));
                }
            };
            let record = VersionRecord {
                module: verified.metadata().name.clone(),
                version: verified.metadata().version.clone(),
                target: verified.target(),
                size: verified.size(),
                metadata: verified.metadata_text().to_owned(),
                principal: verified.principal().to_owned(),
                ..record
            };
            ledger.store().commit(&spooled, record)?;
            ledger.hold(verified);
            Ok(())
        })
        .await
    }
}
