//! Calls by gRPC alone, for what `hotctl` does not ask as such.

use std::path::Path;
use std::{fs, iter};

use anyhow::{Context, Result, bail};
use hot_proto::v1::artifact_service_client::ArtifactServiceClient;
use hot_proto::v1::rollout_service_client::RolloutServiceClient;
use hot_proto::v1::upload_request::Part;
use hot_proto::v1::{ErrorDetail, StartModule, StartRequest, StartResponse, UploadHeader, UploadRequest};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use crate::{Node, sha256};

/// Offers a file with a signature to the node's own check, which `hotctl` would refuse before it asks a node, and gives
/// what it said against it.
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
    let answer = call(node, tokio_stream::iter(parts), async |channel, request| {
        ArtifactServiceClient::new(channel).upload(request).await
    })?;
    match answer {
        Ok(taken) => bail!("the node took it: {taken:?}"),
        Err(status) => detail(&status),
    }
}

/// Begins a rollout of a version that the node has; or what the node says against it.
///
/// # Errors
/// When the node can't be asked.
pub fn start(
    node: &Node,
    module: &str,
    version: &str,
    request_id: &str,
) -> Result<Result<StartResponse, ErrorDetail>> {
    let (module, version) = (module.to_owned(), version.to_owned());
    let modules = vec![StartModule { module, version, digests: Vec::new() }];
    let message = StartRequest { request_id: request_id.to_owned(), modules, ..StartRequest::default() };
    let answer = call(node, message, async |channel, request| {
        RolloutServiceClient::new(channel).start(request).await
    })?;
    answer.map_or_else(|status| detail(&status).map(Err), |response| Ok(Ok(response.into_inner())))
}

/// One call with the node's token.
fn call<T, R>(
    node: &Node,
    message: T,
    send: impl AsyncFnOnce(Channel, Request<T>) -> Result<Response<R>, Status>,
) -> Result<Result<Response<R>, Status>> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {}", node.token()?).parse().context("a token of ASCII")?;
    request.metadata_mut().insert("authorization", bearer);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("an executor")?;
    runtime.block_on(async {
        let endpoint = Endpoint::from_shared(format!("http://{}", node.grpc())).context("an address")?;
        Ok(send(endpoint.connect().await.context("the node's gRPC")?, request).await)
    })
}

fn detail(status: &Status) -> Result<ErrorDetail> {
    hot_proto::status::detail(status).with_context(|| format!("no details in {status:?}"))
}
