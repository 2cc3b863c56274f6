//! An upload by gRPC alone, for files that `hotctl` would refuse before it asks a node.

use std::path::Path;
use std::{fs, iter};

use anyhow::{Context, Result, bail};
use hot_proto::v1::artifact_service_client::ArtifactServiceClient;
use hot_proto::v1::{ErrorDetail, UploadHeader, UploadRequest, upload_request::Part};
use tonic::Request;

use crate::{Node, sha256};

/// Offers a file with a signature to the node's own check, and gives what it said against it.
///
/// # Errors
/// When the node takes it, or can't be asked.
pub fn upload_refused(node: &Node, file: &Path, signature: &Path) -> Result<ErrorDetail> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    let signature = fs::read(signature).with_context(|| signature.display().to_string())?;
    let header = UploadHeader {
        digest: sha256(&bytes),
        size: bytes.len() as u64,
        signature,
        ..UploadHeader::default()
    };
    let chunks: Vec<_> =
        bytes.chunks(hot_proto::MAX_CHUNK).map(|chunk| Part::Chunk(chunk.to_vec().into())).collect();
    let parts = iter::once(Part::Header(header)).chain(chunks).map(|part| UploadRequest { part: Some(part) });
    let parts: Vec<_> = parts.collect();
    let (address, token) = (format!("http://{}", node.grpc()), node.token()?);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("an executor")?;
    let answer = runtime.block_on(async move {
        let mut client = ArtifactServiceClient::connect(address).await.context("the node's gRPC")?;
        let mut request = Request::new(tokio_stream::iter(parts));
        let bearer = format!("Bearer {token}").parse().context("a token of ASCII")?;
        request.metadata_mut().insert("authorization", bearer);
        anyhow::Ok(client.upload(request).await)
    })?;
    match answer {
        Ok(taken) => bail!("the node took it: {taken:?}"),
        Err(status) => {
            hot_proto::status::detail(&status).with_context(|| format!("no details in {status:?}"))
        }
    }
}
