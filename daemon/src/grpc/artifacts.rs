//! Uploads: spool, hash, verify, commit.

use std::sync::Arc;
use std::time::SystemTime;

use hot_artifact::trust::Trust;
use hot_artifact::{Checks, Sha256, Verified, VerifyError};
use hot_proto::v1::{self, artifact_service_server::ArtifactService, upload_request::Part};
use tonic::{Code, Request, Response, Status, Streaming};

use super::Api;
use super::auth::Caller;
use super::convert::timestamp;
use super::refusal::{commit_refused, not_accepted, trust_frozen, upload_refused};
use super::status::{Refused, internal, invalid, refused};
use crate::journal::Entry;
use crate::store::{Begun, Committed, Spooled, Upload, UploadError, VersionRecord};

/// Longest pause between two messages of an upload; what has arrived stays for the next attempt.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(60);

/// A signature is about 300 bytes; certificates make it longer.
pub(super) const MAX_SIGNATURE: usize = 16 * 1024;

/// `hot.v1.ArtifactService`.
#[derive(Clone, Debug)]
pub(super) struct Artifacts(pub Api);

#[tonic::async_trait]
impl ArtifactService for Artifacts {
    async fn begin(&self, request: Request<v1::BeginRequest>) -> Result<Response<v1::BeginResponse>, Status> {
        let v1::BeginRequest { digest, size } = request.into_inner();
        let digest = parse_digest(&digest)?;
        let store = self.0.ledger.store().clone();
        let max_chunk = u32::try_from(hot_proto::MAX_CHUNK).unwrap_or(u32::MAX);
        if let Some(record) = store.artifact(&digest) {
            let artifact = Some(artifact(&self.0, &record));
            return Ok(Response::new(v1::BeginResponse { offset: record.size, artifact, max_chunk }));
        }
        let begun =
            crate::blocking(move || store.begin_upload(digest, size)).await.map_err(upload_refused)?;
        let offset = match begun {
            Begun::AlreadyHave => size,
            Begun::Upload(upload) => upload.offset(),
        };
        Ok(Response::new(v1::BeginResponse { offset, artifact: None, max_chunk }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        let by = Caller::of(&request);
        let mut parts = request.into_inner();
        let Some(Part::Header(header)) = next(&mut parts).await? else {
            return Err(invalid("header", "no header in the first message", "the header first, then chunks"));
        };
        let digest = parse_digest(&header.digest)?;
        let store = self.0.ledger.store().clone();
        if header.signature.len() > MAX_SIGNATURE {
            return Err(invalid(
                "signature",
                format!("{} bytes", header.signature.len()),
                "an armoured SSHSIG",
            ));
        }
        if let Some(record) = store.artifact(&digest) {
            return self.again(&header, &record).await;
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
        let spooled = receive(upload, header.offset, &mut parts).await?;
        let (record, committed) = self.commit(spooled, header.signature, by).await?;
        let already_had = committed == Committed::AlreadyThere;
        Ok(Response::new(v1::UploadResponse { artifact: Some(artifact(&self.0, &record)), already_had }))
    }
}

impl Artifacts {
    /// Whose signatures count for what is to be let in.
    async fn admitting(&self) -> Result<Arc<Trust>, Status> {
        self.0.trust.admitting().await.map_err(|frozen| trust_frozen(&frozen))
    }

    /// The node has these bytes: a signature, where there is one, must still be good for them.
    async fn again(
        &self,
        header: &v1::UploadHeader,
        record: &VersionRecord,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        let signature = if header.signature.is_empty() {
            record.signature.clone().into_bytes()
        } else {
            header.signature.clone()
        };
        let (ledger, trusted, max_size) =
            (self.0.ledger.clone(), self.admitting().await?, self.0.max_artifact);
        let digest = record.digest;
        crate::blocking(move || {
            let (file, _) = ledger.store().open_artifact(&digest).map_err(|error| internal(&error))?;
            let checks = Checks { trust: &trusted, node: ledger.machine(), max_size };
            Verified::admit(file, &signature, &checks, SystemTime::now())
                .map_err(|error| not_accepted(&error))
        })
        .await?;
        Ok(Response::new(v1::UploadResponse { artifact: Some(artifact(&self.0, record)), already_had: true }))
    }

    /// Verifies what was spooled and makes a version of it.
    async fn commit(
        &self,
        spooled: Spooled,
        signature: Vec<u8>,
        by: String,
    ) -> Result<(VersionRecord, Committed), Status> {
        let (ledger, trusted, max_size) =
            (self.0.ledger.clone(), self.admitting().await?, self.0.max_artifact);
        let uploader = by.clone();
        let (record, committed) = crate::blocking(move || {
            let file = spooled.open().map_err(|error| internal(&error))?;
            let checks = Checks { trust: &trusted, node: ledger.machine(), max_size };
            let verified = match Verified::admit(file, &signature, &checks, SystemTime::now()) {
                Ok(verified) => verified,
                Err(error) => {
                    if error.is_refusal() {
                        spooled.discard();
                    }
                    return Err(not_accepted(&error));
                }
            };
            let record = record_of(&verified, signature, uploader)?;
            let committed = ledger.store().commit(&spooled, record.clone()).map_err(commit_refused)?;
            Ok::<_, Status>((record, committed))
        })
        .await?;
        if committed == Committed::New {
            let VersionRecord { module, version, digest, principal, size, .. } = &record;
            let text = format!(
                "{module} {version} ({}, {size} bytes), signed by {principal}, is stored",
                digest.short()
            );
            let module = module.to_string();
            self.0
                .journal
                .write(Entry { kind: "artifact.committed", module, by, text, ..Entry::default() })
                .await;
        }
        Ok((record, committed))
    }
}

fn record_of(verified: &Verified, signature: Vec<u8>, by: String) -> Result<VersionRecord, Status> {
    let metadata = verified.metadata();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(VersionRecord {
        module: metadata.name.clone(),
        version: metadata.version.clone(),
        target: verified.target(),
        digest: verified.digest(),
        size: verified.size(),
        metadata: verified.metadata_text().to_owned(),
        principal: verified.principal().to_owned(),
        // What was verified is armour, which is ASCII.
        signature: String::from_utf8(signature).map_err(|error| internal(&error))?,
        at: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        by,
    })
}

/// Takes the chunks. Bytes that arrived are kept when the caller goes away.
async fn receive(
    upload: Upload,
    offset: u64,
    parts: &mut Streaming<v1::UploadRequest>,
) -> Result<Spooled, Status> {
    let mut at = offset;
    if offset != upload.offset() {
        return Err(upload_refused(UploadError::WrongOffset { expected: upload.offset(), found: offset }));
    }
    let upload = Arc::new(upload);
    while let Some(part) = next(parts).await? {
        let Part::Chunk(chunk) = part else {
            return Err(invalid("header", "a second header", "chunks after the first message"));
        };
        if chunk.is_empty() || chunk.len() > hot_proto::MAX_CHUNK {
            let expected = format!("1 to {} bytes", hot_proto::MAX_CHUNK);
            return Err(invalid("chunk", format!("{} bytes", chunk.len()), expected));
        }
        let writer = Arc::clone(&upload);
        at = crate::blocking(move || writer.write(at, &chunk)).await.map_err(upload_refused)?;
    }
    let upload = Arc::try_unwrap(upload)
        .map_err(|_still_writing| internal(&std::io::Error::other("an upload is still being written")))?;
    crate::blocking(move || upload.finish()).await.map_err(upload_refused)
}

async fn next(parts: &mut Streaming<v1::UploadRequest>) -> Result<Option<Part>, Status> {
    let message = tokio::time::timeout(PAUSE, parts.message()).await.map_err(|_elapsed| {
        Status::deadline_exceeded(format!(
            "nothing arrived for {} s; the bytes so far are kept: begin again and go on",
            PAUSE.as_secs()
        ))
    })??;
    match message {
        None => Ok(None),
        Some(v1::UploadRequest { part: Some(part) }) => Ok(Some(part)),
        Some(v1::UploadRequest { part: None }) => {
            Err(invalid("part", "an empty message", "a header or a chunk"))
        }
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
