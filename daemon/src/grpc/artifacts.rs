//! Uploads: spool, hash, verify, commit.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hot_artifact::trust::Trust;
use hot_artifact::{Checks, Sha256, Verified, VerifyError};
use hot_proto::v1::{self, artifact_service_server::ArtifactService, upload_request::Part};
use tonic::{Code, Request, Response, Status, Streaming};

use super::Api;
use super::auth::Caller;
use super::convert::timestamp;
use super::giving::{Giving, Pieces};
use super::refusal::{
    commit_refused, not_accepted, not_shared, not_signed_again, not_uploaded, trust_frozen, upload_refused,
};
use super::status::{Refused, internal, invalid, refused};
use super::turns::Turns;
use crate::journal::Entry;
use crate::store::{
    Begun, Committed, Opened, SignAgainError, Spooled, Store, Upload, UploadError, VersionRecord,
};

/// A signature is about 300 bytes; certificates make it longer.
pub(super) const MAX_SIGNATURE: usize = 16 * 1024;

/// `hot.v1.ArtifactService`.
#[derive(Clone, Debug)]
pub(super) struct Artifacts {
    api: Api,
    /// Of verifications: each has a core to itself, and holds a copy of the file.
    verifying: Turns,
    giving: Giving,
}

#[tonic::async_trait]
impl ArtifactService for Artifacts {
    type FetchStream = Pieces;

    async fn fetch(&self, request: Request<v1::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let v1::FetchRequest { digest, offset, length } = request.into_inner();
        Ok(Response::new(self.giving.give(parse_digest(&digest)?, offset, length).await?))
    }

    async fn begin(&self, request: Request<v1::BeginRequest>) -> Result<Response<v1::BeginResponse>, Status> {
        let v1::BeginRequest { digest, size } = request.into_inner();
        let digest = parse_digest(&digest)?;
        let store = self.api.ledger.store().clone();
        let max_chunk = u32::try_from(hot_proto::MAX_CHUNK).unwrap_or(u32::MAX);
        if let Some(record) = store.sound_artifact(&digest) {
            let artifact = Some(artifact(&self.api, &record));
            return Ok(Response::new(v1::BeginResponse { offset: record.size, artifact, max_chunk }));
        }
        let offset = crate::blocking(move || store.uploaded(digest, size)).await.map_err(upload_refused)?;
        Ok(Response::new(v1::BeginResponse { offset, artifact: None, max_chunk }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        let by = Caller::of(&request);
        let mut parts = request.into_inner();
        let mut patience = Patience::new(self.api.upload_patience);
        let Some(Part::Header(mut header)) = patience.next(&mut parts).await? else {
            return Err(invalid("header", "no header in the first message", "the header first, then chunks"));
        };
        let digest = parse_digest(&header.digest)?;
        let store = self.api.ledger.store().clone();
        if header.signature.len() > MAX_SIGNATURE {
            return Err(invalid(
                "signature",
                format!("{} bytes", header.signature.len()),
                "an armoured SSHSIG",
            ));
        }
        if let Some(record) = store.artifact(&digest)
            && header.signature.is_empty()
        {
            header.signature = record.signature.clone().into_bytes();
        }
        if store.sound_artifact(&digest).is_some()
            && let Some(record) = self.again(digest, header.signature.clone(), by.clone()).await?
        {
            let artifact = Some(artifact(&self.api, &record));
            return Ok(Response::new(v1::UploadResponse { artifact, already_had: true }));
        }
        // What can't be let in is refused before its file is taken.
        self.admitting().await?;
        hot_artifact::signature::Signature::parse(&header.signature)
            .map_err(|error| not_accepted(&VerifyError::from(error)))?;
        let begun = crate::blocking(move || store.begin_upload(digest, header.size)).await;
        let Begun::Upload(upload) = begun.map_err(upload_refused)? else {
            return Err(refused(Refused {
                grpc: Code::Aborted,
                code: "upload_overtaken",
                field: "digest",
                found: "another caller has just completed this upload".to_owned(),
                expected: String::new(),
                advice: "Begin again.".to_owned(),
            }));
        };
        let spooled = receive(upload, header.offset, &mut parts, patience).await?;
        let (record, committed) = self.commit(spooled, header.signature, by).await?;
        let already_had = committed == Committed::AlreadyThere;
        Ok(Response::new(v1::UploadResponse { artifact: Some(artifact(&self.api, &record)), already_had }))
    }
}

impl Artifacts {
    pub(super) fn new(api: Api) -> Self {
        Self { giving: Giving::new(api.clone()), api, verifying: Turns::per_core() }
    }

    /// Whose signatures count for what is to be let in.
    async fn admitting(&self) -> Result<Arc<Trust>, Status> {
        self.api.trust.admitting().await.map_err(|frozen| trust_frozen(&frozen))
    }

    /// The node has these bytes. The signature must be good for them, and is kept: whoever signed them last vouches for
    /// them. None: the disk has them no more, and they are to be taken as if the node never had them.
    async fn again(
        &self,
        digest: Sha256,
        signature: Vec<u8>,
        by: String,
    ) -> Result<Option<Arc<VersionRecord>>, Status> {
        let (ledger, trusted, max_size) =
            (self.api.ledger.clone(), self.admitting().await?, self.api.max_artifact);
        let verify = move || -> Result<Option<(Verified, String)>, Status> {
            let opened = ledger.store().open_artifact(&digest).map_err(|error| internal(&error));
            let verified = opened.and_then(|Opened { file, placed, .. }| {
                let checks = Checks { trust: &trusted, node: ledger.machine(), max_size };
                Verified::admit_as(digest, file, &signature, &checks, SystemTime::now())
                    .inspect_err(|error| ledger.note_damage(&digest, placed, error))
                    .map_err(|error| not_accepted(&error))
            });
            match verified {
                Err(_) if ledger.store().sound_artifact(&digest).is_none() => Ok(None),
                verified => Ok(Some((verified?, text(signature)?))),
            }
        };
        let Some((verified, signature)) = self.verifying.run(verify).await? else { return Ok(None) };
        let this = self.clone();
        crate::to_its_end(async move { this.signed_again(verified, signature, by).await }).await.map(Some)
    }

    /// Verifies what was spooled and makes a version of it.
    async fn commit(
        &self,
        spooled: Spooled,
        signature: Vec<u8>,
        by: String,
    ) -> Result<(Arc<VersionRecord>, Committed), Status> {
        let trusted = self.admitting().await?;
        let (spooled, signature) = (Arc::new(spooled), Arc::new(signature));
        // The disk is busy with the bytes for about as long as the processor: neither waits for the other.
        let (synced, verified) = tokio::join!(
            crate::blocking({
                let spooled = Arc::clone(&spooled);
                move || spooled.sync()
            }),
            self.verifying.run({
                let spooled = Arc::clone(&spooled);
                let (ledger, max_size) = (self.api.ledger.clone(), self.api.max_artifact);
                let signature = Arc::clone(&signature);
                move || {
                    let file = spooled.open().map_err(VerifyError::Read)?;
                    let checks = Checks { trust: &trusted, node: ledger.machine(), max_size };
                    Verified::admit_as(spooled.digest(), file, &signature, &checks, SystemTime::now())
                }
            }),
        );
        let (spooled, signature) = (sole(spooled)?, sole(signature)?);
        let verified = match verified {
            Ok(verified) => verified,
            Err(error) => {
                let is_other = matches!(error, VerifyError::OtherDigest { .. });
                if is_other {
                    crate::blocking(move || spooled.throw_away()).await;
                } else if error.is_refusal() {
                    crate::blocking(move || spooled.discard()).await;
                }
                return Err(not_uploaded(&error));
            }
        };
        synced.map_err(|error| commit_refused(error.into()))?;
        let (this, signature) = (self.clone(), text(signature)?);
        crate::to_its_end(async move { this.stored(spooled, verified, signature, by).await }).await
    }

    /// Makes a version of what was verified, and tells.
    async fn stored(
        self,
        spooled: Spooled,
        verified: Verified,
        signature: String,
        by: String,
    ) -> Result<(Arc<VersionRecord>, Committed), Status> {
        let (ledger, uploaded) = (self.api.ledger.clone(), record_of(&verified, signature, by.clone()));
        let record = uploaded.clone();
        let (committed, kept) = crate::blocking(move || {
            let committed = ledger.store().commit(&spooled, record.clone()).map_err(commit_refused)?;
            let kept = match committed {
                Committed::New => Ok((Arc::new(record), None)),
                // It has a signature, maybe another one: the damaged bytes', or that of a caller who was faster.
                Committed::Mended | Committed::AlreadyThere => {
                    sign_again(ledger.store(), &verified, record.signature)
                }
            };
            if kept.is_ok() {
                ledger.hold(verified);
            }
            Ok::<_, Status>((committed, kept))
        })
        .await?;
        if let Some(fleet) = &self.api.fleet
            && let Err(error) = fleet.share_version(uploaded.clone()).await
        {
            return Err(not_shared(&crate::describe(&error)));
        }
        // The bytes are there, whatever became of the signature.
        if let Some(entry) = told(committed, &uploaded, by.clone()) {
            self.api.journal.write(entry).await;
        }
        let (record, former) = kept?;
        self.tell_signed(&record, former.as_deref(), by).await;
        Ok((record, committed))
    }

    /// Keeps the signature of stored bytes that were verified with it, and tells.
    async fn signed_again(
        self,
        verified: Verified,
        signature: String,
        by: String,
    ) -> Result<Arc<VersionRecord>, Status> {
        let ledger = self.api.ledger.clone();
        let (record, former) =
            crate::blocking(move || sign_again(ledger.store(), &verified, signature)).await?;
        self.tell_signed(&record, former.as_deref(), by).await;
        if let Some(fleet) = &self.api.fleet {
            // It may not have been told when these bytes came.
            let shared = fleet.share_version((*record).clone()).await;
            shared.map_err(|error| not_shared(&crate::describe(&error)))?;
        }
        Ok(record)
    }

    /// Tells that a version has another signature, if it has.
    async fn tell_signed(&self, record: &VersionRecord, former: Option<&VersionRecord>, by: String) {
        let Some(former) = former else { return };
        let VersionRecord { module, version, digest, principal, .. } = record;
        let text = format!(
            "{module} {version} ({}) was signed again, by {principal}; the signature before was by {}",
            digest.short(),
            former.principal
        );
        let module = module.to_string();
        self.api.journal.write(Entry { kind: "artifact.signed", module, by, text, ..Entry::default() }).await;
    }
}

/// What happened to the bytes of a version, if anything did.
fn told(committed: Committed, record: &VersionRecord, by: String) -> Option<Entry> {
    let VersionRecord { module, version, digest, principal, size, .. } = record;
    let digest = digest.short();
    let (kind, text) = match committed {
        Committed::New => (
            "artifact.committed",
            format!("{module} {version} ({digest}, {size} bytes), signed by {principal}, is stored"),
        ),
        Committed::Mended => (
            "artifact.mended",
            format!(
                "the file of {module} {version} ({digest}, {size} bytes) was damaged on this node's disk; the bytes that \
                 were pushed again took its place"
            ),
        ),
        Committed::AlreadyThere => return None,
    };
    Some(Entry { kind, module: module.to_string(), by, text, ..Entry::default() })
}

/// What nobody else has any more.
fn sole<T>(shared: Arc<T>) -> Result<T, Status> {
    Arc::try_unwrap(shared)
        .map_err(|_shared| internal(&std::io::Error::other("an upload is still being read")))
}

/// Keeps the signature that a stored artifact was verified with. What is known of it now, and what was before if that is
/// something else.
fn sign_again(
    store: &Store,
    verified: &Verified,
    signature: String,
) -> Result<(Arc<VersionRecord>, Option<Arc<VersionRecord>>), Status> {
    let digest = verified.digest();
    let former = store.sign_again(&digest, &signature, verified.principal()).map_err(not_signed_again)?;
    let record = store.artifact(&digest).ok_or(SignAgainError::Unknown(digest)).map_err(not_signed_again)?;
    Ok((record, former))
}

/// A signature that was verified is armour, which is ASCII.
fn text(signature: Vec<u8>) -> Result<String, Status> {
    String::from_utf8(signature).map_err(|error| internal(&error))
}

fn record_of(verified: &Verified, signature: String, by: String) -> VersionRecord {
    let metadata = verified.metadata();
    VersionRecord {
        module: metadata.name.clone(),
        version: metadata.version.clone(),
        target: verified.target(),
        digest: verified.digest(),
        size: verified.size(),
        metadata: verified.metadata_text().to_owned(),
        principal: verified.principal().to_owned(),
        signature,
        at: crate::clock::of_day().0,
        by,
    }
}

/// Sends a file from an offset on, as far as somebody takes it.
/// Takes the chunks. Bytes that arrived are kept when the caller goes away.
async fn receive(
    upload: Upload,
    offset: u64,
    parts: &mut Streaming<v1::UploadRequest>,
    mut patience: Patience,
) -> Result<Spooled, Status> {
    let mut at = offset;
    if offset != upload.offset() {
        return Err(upload_refused(UploadError::WrongOffset { expected: upload.offset(), found: offset }));
    }
    let upload = Arc::new(upload);
    while let Some(part) = patience.next(parts).await? {
        let Part::Chunk(chunk) = part else {
            return Err(invalid("header", "a second header", "chunks after the first message"));
        };
        if chunk.is_empty() || chunk.len() > hot_proto::MAX_CHUNK {
            let expected = format!("1 to {} bytes", hot_proto::MAX_CHUNK);
            return Err(invalid("chunk", format!("{} bytes", chunk.len()), expected));
        }
        patience.arrived(chunk.len());
        let writer = Arc::clone(&upload);
        at = crate::blocking(move || writer.write(at, &chunk)).await.map_err(upload_refused)?;
    }
    let upload = Arc::try_unwrap(upload)
        .map_err(|_still_writing| internal(&std::io::Error::other("an upload is still being written")))?;
    crate::blocking(move || upload.finish()).await.map_err(upload_refused)
}

/// How slow an upload may be: each chunk's worth of bytes has a time of its own. Who sends a byte now and then would else
/// hold one of few places for years; what has arrived stays for the next attempt, so that slow lines get there as well.
/// Only what the node waits for the caller counts, not what it takes itself to write what came.
#[derive(Debug)]
struct Patience {
    span: Duration,
    left: Duration,
    arrived: usize,
}

impl Patience {
    fn new(span: Duration) -> Self {
        Self { span, left: span, arrived: 0 }
    }

    fn arrived(&mut self, bytes: usize) {
        self.arrived += bytes;
        if self.arrived >= hot_proto::MAX_CHUNK {
            *self = Self::new(self.span);
        }
    }

    fn waited(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }

    /// The next message, if it comes in time.
    async fn next(&mut self, parts: &mut Streaming<v1::UploadRequest>) -> Result<Option<Part>, Status> {
        let begun = Instant::now();
        let message = tokio::time::timeout(self.left, parts.message()).await;
        self.waited(begun.elapsed());
        let message = message.map_err(|_elapsed| self.too_slow())??;
        match message {
            None => Ok(None),
            Some(v1::UploadRequest { part: Some(part) }) => Ok(Some(part)),
            Some(v1::UploadRequest { part: None }) => {
                Err(invalid("part", "an empty message", "a header or a chunk"))
            }
        }
    }

    fn too_slow(&self) -> Status {
        refused(Refused {
            grpc: Code::DeadlineExceeded,
            code: "upload_slow",
            field: "chunk",
            found: format!("{} bytes in {:?}", self.arrived, self.span),
            expected: format!("at least {} bytes or the rest of the file", hot_proto::MAX_CHUNK),
            advice: "What has arrived is kept: begin again and go on.".to_owned(),
        })
    }
}

fn parse_digest(text: &str) -> Result<Sha256, Status> {
    text.parse().map_err(|_no_digest| invalid("digest", text, "64 lower-case hexadecimal digits"))
}

pub(super) fn artifact(api: &Api, record: &VersionRecord) -> v1::Artifact {
    v1::Artifact {
        module: record.module.to_string(),
        version: record.version.to_string(),
        target: record.target.to_string(),
        digest: record.digest.to_string(),
        size: record.size,
        principal: record.principal.clone(),
        committed: Some(timestamp(record.at)),
        routes: api.ledger.routes(&record.digest).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_chunks_worth_of_bytes_has_a_time_of_its_own() {
        let span = Duration::from_secs(60);
        let mut patience = Patience::new(span);
        patience.waited(Duration::from_secs(40));
        patience.arrived(hot_proto::MAX_CHUNK - 1);
        patience.waited(Duration::from_secs(15));
        assert_eq!(patience.left, Duration::from_secs(5));
        patience.arrived(1);
        assert_eq!((patience.left, patience.arrived), (span, 0));
        patience.waited(Duration::from_secs(61));
        assert_eq!(patience.left, Duration::ZERO);
    }
}
