//! Calls by gRPC alone, for what `hotctl` does not ask as such.

use std::iter;

use anyhow::{Context, Result, bail};
use hot_proto::v1::artifact_service_client::ArtifactServiceClient;
use hot_proto::v1::plan_service_client::PlanServiceClient;
use hot_proto::v1::rollout_service_client::RolloutServiceClient;
use hot_proto::v1::upload_request::Part;
use hot_proto::v1::{
    ErrorDetail, PlanRequest, PlannedFile, StartModule, StartRequest, StartResponse, UploadHeader,
    UploadRequest,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use crate::sha256;

/// Where the gRPC of a node is, and what it asks for there.
#[derive(Clone, Debug)]
pub struct Door {
    address: String,
    token: Option<String>,
}

impl Door {
    /// At `http://HOST:PORT` or `unix:PATH`, where it may ask for a token.
    pub(crate) const fn new(address: String, token: Option<String>) -> Self {
        Self { address, token }
    }
}

/// Offers a file with a signature to the node's own check, which `hotctl` would refuse before it asks a node, and gives
/// what it said against it.
///
/// # Errors
/// When the node takes it, or can't be asked.
pub fn upload_refused(door: Door, bytes: &[u8], signature: &[u8]) -> Result<ErrorDetail> {
    let header = UploadHeader {
        digest: sha256(bytes),
        size: bytes.len() as u64,
        signature: signature.to_owned(),
        ..UploadHeader::default()
    };
    let chunks: Vec<_> =
        bytes.chunks(hot_proto::MAX_CHUNK).map(|chunk| Part::Chunk(chunk.to_vec().into())).collect();
    let parts = iter::once(Part::Header(header)).chain(chunks).map(|part| UploadRequest { part: Some(part) });
    let parts: Vec<_> = parts.collect();
    let answer = call(door, tokio_stream::iter(parts), async |channel, request| {
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
    door: Door,
    module: &str,
    version: &str,
    request_id: &str,
) -> Result<Result<StartResponse, ErrorDetail>> {
    let (module, version) = (module.to_owned(), version.to_owned());
    let modules = vec![StartModule { module, version, digests: Vec::new() }];
    let message = StartRequest { request_id: request_id.to_owned(), modules, ..StartRequest::default() };
    let answer = call(door, message, async |channel, request| {
        RolloutServiceClient::new(channel).start(request).await
    })?;
    answer.map_or_else(|status| detail(&status).map(Err), |response| Ok(Ok(response.into_inner())))
}

/// What speaks against pushing one file, with its code each, as `PlanService` says.
///
/// # Errors
/// When the node can't be asked, or refuses to plan at all.
pub fn plan(door: Door, file: PlannedFile) -> Result<Vec<String>> {
    let message = PlanRequest { files: vec![file], ..PlanRequest::default() };
    let answer =
        call(door, message, async |channel, request| PlanServiceClient::new(channel).plan(request).await)?;
    let refusals = answer.context("a plan")?.into_inner().refusals.into_iter();
    Ok(refusals.map(|refusal| refusal.error.unwrap_or_default().code).collect())
}

/// One call with the node's token, if it has one.
fn call<T, R>(
    door: Door,
    message: T,
    send: impl AsyncFnOnce(Channel, Request<T>) -> Result<Response<R>, Status>,
) -> Result<Result<Response<R>, Status>> {
    let mut request = Request::new(message);
    if let Some(token) = door.token {
        let bearer = format!("Bearer {token}").parse().context("a token of ASCII")?;
        request.metadata_mut().insert("authorization", bearer);
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("an executor")?;
    runtime.block_on(async {
        let endpoint = Endpoint::from_shared(door.address).context("an address")?;
        Ok(send(endpoint.connect().await.context("the node's gRPC")?, request).await)
    })
}

fn detail(status: &Status) -> Result<ErrorDetail> {
    hot_proto::status::detail(status).with_context(|| format!("no details in {status:?}"))
}
