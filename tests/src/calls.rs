//! Calls by gRPC alone, for what `hotctl` does not ask as such.

use std::iter;

use anyhow::{Context, Result, bail};
use hot_proto::v1::artifact_service_client::ArtifactServiceClient;
use hot_proto::v1::module_service_client::ModuleServiceClient;
use hot_proto::v1::plan_service_client::PlanServiceClient;
use hot_proto::v1::rollout_selector::By;
use hot_proto::v1::rollout_service_client::RolloutServiceClient;
use hot_proto::v1::upload_request::Part;
use hot_proto::v1::{
    AbortRequest, BeginRequest, ErrorDetail, GetRolloutRequest, PlanRequest, PlannedFile, PromoteRequest,
    RemoveRequest, RollbackRequest, Rollout, RolloutSelector, StartModule, StartRequest, StartResponse,
    UploadHeader, UploadRequest, UploadResponse,
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

    /// Bytes that the node has of an upload.
    ///
    /// # Errors
    /// What the node says against it.
    pub fn begin(&self, digest: &str, size: u64) -> Result<u64, Status> {
        let message = BeginRequest { digest: digest.to_owned(), size };
        let answer = self
            .ask(message, async |channel, request| ArtifactServiceClient::new(channel).begin(request).await);
        Ok(answer?.offset)
    }

    /// Uploads a file from a byte on, in chunks of so many bytes.
    ///
    /// # Errors
    /// What the node says against it.
    pub fn upload(
        &self,
        bytes: &[u8],
        signature: &[u8],
        offset: u64,
        chunk: usize,
    ) -> Result<UploadResponse, Status> {
        let parts = tokio_stream::iter(parts(bytes, signature, offset, chunk));
        self.ask(parts, async |channel, request| ArtifactServiceClient::new(channel).upload(request).await)
    }

    /// Begins a rollout of a version that the node has, by the node's own policy, or finds the one that this request
    /// began.
    ///
    /// # Errors
    /// What the node says against it.
    pub fn start(&self, module: &str, version: &str, request: &str) -> Result<Rollout, Status> {
        let (module, version) = (module.to_owned(), version.to_owned());
        let modules = vec![StartModule { module, version, digests: Vec::new() }];
        let message = StartRequest { request_id: request.to_owned(), modules, ..StartRequest::default() };
        let answer = self
            .ask(message, async |channel, request| RolloutServiceClient::new(channel).start(request).await);
        Ok(answer?.rollout.unwrap_or_default())
    }

    /// Promotes the running rollout of a module.
    ///
    /// # Errors
    /// What the node says against it.
    pub fn promote(&self, module: &str) -> Result<(), Status> {
        let message = PromoteRequest { rollout: latest(module), ..PromoteRequest::default() };
        let answer = self
            .ask(message, async |channel, request| RolloutServiceClient::new(channel).promote(request).await);
        answer.map(drop)
    }

    /// Aborts the running rollout of a module.
    ///
    /// # Errors
    /// What the node says against it.
    pub fn abort(&self, module: &str) -> Result<(), Status> {
        let message = AbortRequest { rollout: latest(module), ..AbortRequest::default() };
        let answer = self
            .ask(message, async |channel, request| RolloutServiceClient::new(channel).abort(request).await);
        answer.map(drop)
    }

    /// Moves a module back; the rollout that does it.
    ///
    /// # Errors
    /// What the node says against it.
    pub fn rollback(&self, module: &str) -> Result<Rollout, Status> {
        let message = RollbackRequest { module: module.to_owned(), ..RollbackRequest::default() };
        let answer = self.ask(message, async |channel, request| {
            RolloutServiceClient::new(channel).rollback(request).await
        });
        Ok(answer?.rollout.unwrap_or_default())
    }

    /// A rollout, running or over.
    ///
    /// # Errors
    /// What the node says against it.
    pub fn rollout(&self, id: &str) -> Result<Rollout, Status> {
        let rollout = Some(RolloutSelector { by: Some(By::Id(id.to_owned())) });
        let answer = self.ask(GetRolloutRequest { rollout }, async |channel, request| {
            RolloutServiceClient::new(channel).get(request).await
        });
        Ok(answer?.rollout.unwrap_or_default())
    }

    /// Removes a version.
    ///
    /// # Errors
    /// What the node says against it.
    pub fn remove(&self, module: &str, version: &str) -> Result<(), Status> {
        let message = RemoveRequest { module: module.to_owned(), version: version.to_owned() };
        let answer = self
            .ask(message, async |channel, request| ModuleServiceClient::new(channel).remove(request).await);
        answer.map(drop)
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Result<Channel> {
        let endpoint = Endpoint::from_shared(self.address.clone()).context("an address")?;
        endpoint.connect().await.context("the node's gRPC")
    }

    /// A message with the token, if it takes one.
    pub(crate) fn request<T>(&self, message: T) -> Result<Request<T>> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            let bearer = format!("Bearer {token}").parse().context("a token of ASCII")?;
            request.metadata_mut().insert("authorization", bearer);
        }
        Ok(request)
    }

    /// One call, alone on its connection; a node that can't be reached is a status, too.
    fn ask<T, R>(
        &self,
        message: T,
        send: impl AsyncFnOnce(Channel, Request<T>) -> Result<Response<R>, Status>,
    ) -> Result<R, Status> {
        let answer =
            call(self.clone(), message, send).map_err(|error| Status::unavailable(format!("{error:#}")));
        answer?.map(Response::into_inner)
    }
}

fn latest(module: &str) -> Option<RolloutSelector> {
    Some(RolloutSelector { by: Some(By::Module(module.to_owned())) })
}

/// The messages of an upload from a byte on.
fn parts(bytes: &[u8], signature: &[u8], offset: u64, chunk: usize) -> Vec<UploadRequest> {
    let header = UploadHeader {
        digest: sha256(bytes),
        size: bytes.len() as u64,
        offset,
        signature: signature.to_owned(),
        ..UploadHeader::default()
    };
    let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
    let chunks = rest.chunks(chunk).map(|chunk| Part::Chunk(chunk.to_vec().into()));
    iter::once(Part::Header(header)).chain(chunks).map(|part| UploadRequest { part: Some(part) }).collect()
}

/// Offers a file with a signature to the node's own check, which `hotctl` would refuse before it asks a node, and gives
/// what it said against it.
///
/// # Errors
/// When the node takes it, or can't be asked.
pub fn upload_refused(door: Door, bytes: &[u8], signature: &[u8]) -> Result<ErrorDetail> {
    let parts = tokio_stream::iter(parts(bytes, signature, 0, hot_proto::MAX_CHUNK));
    let answer = call(door, parts, async |channel, request| {
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
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("an executor")?;
    runtime.block_on(async { Ok(send(door.connect().await?, door.request(message)?).await) })
}

fn detail(status: &Status) -> Result<ErrorDetail> {
    hot_proto::status::detail(status).with_context(|| format!("no details in {status:?}"))
}
