//! A node for the tests of what `hotctl` does when a node or the connection fails: it says what a test tells it to.
//! The end-to-end tests use the real one.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use hot_proto::v1::artifact_service_server::{ArtifactService, ArtifactServiceServer};
use hot_proto::v1::rollout_service_server::{RolloutService, RolloutServiceServer};
use hot_proto::v1::upload_request::Part;
use hot_proto::v1::*;
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

use crate::node::{Address, Client, Found, Token};
use crate::output::{Format, Out};

/// What the node is to say, and what it was told.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// Bytes that it has.
    pub stored: Vec<u8>,
    /// For each upload in turn: after how many more bytes it is cut off. Afterwards it lets uploads through.
    pub cuts: VecDeque<usize>,
    /// What it says to every upload.
    pub refusal: Option<Status>,
    /// Largest chunk that it asks for.
    pub max_chunk: u32,
    /// The headers of all uploads.
    pub headers: Vec<UploadHeader>,
    /// The largest chunk that came.
    pub largest_chunk: usize,
    /// What each watch in turn says.
    pub watches: VecDeque<Vec<Result<Rollout, Status>>>,
    /// How many watches there were.
    pub watched: usize,
    /// It ends with its first watch.
    pub goes_away: bool,
}

/// A running fake node. Ends with the test's runtime.
#[derive(Debug)]
pub(crate) struct FakeNode {
    folder: tempfile::TempDir,
    script: Arc<Mutex<Script>>,
}

impl FakeNode {
    pub(crate) fn start(script: Script) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let script = Arc::new(Mutex::new(script));
        let gone = Arc::new(Notify::new());
        let service = Service(Arc::clone(&script), Arc::clone(&gone));
        let listener = UnixListener::bind(folder.path().join("node.sock")).expect("binds");
        let server = tonic::transport::Server::builder()
            .add_service(ArtifactServiceServer::new(service.clone()))
            .add_service(RolloutServiceServer::new(service));
        let incoming = UnixListenerStream::new(listener);
        tokio::spawn(server.serve_with_incoming_shutdown(incoming, async move { gone.notified().await }));
        Self { folder, script }
    }

    pub(crate) async fn client(&self) -> Client {
        self.client_or(&[]).await
    }

    /// One that asks these should this one be gone.
    pub(crate) async fn client_or(&self, others: &[&Self]) -> Client {
        let found = Found::at(Address::Unix(self.socket()), "the test says so");
        let others = others.iter().map(|other| Address::Unix(other.socket())).collect();
        let found = Found { others, ..found };
        let notice = Out::into_sink(Format::Text, std::io::sink()).notice();
        Client::connect(found, Token::default(), notice).await.expect("connects")
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("not poisoned")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("node.sock")
    }
}

#[derive(Clone, Debug)]
struct Service(Arc<Mutex<Script>>, Arc<Notify>);

impl Service {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().expect("not poisoned")
    }
}

#[tonic::async_trait]
impl ArtifactService for Service {
    type FetchStream = tokio_stream::Empty<Result<FetchResponse, Status>>;

    async fn fetch(&self, _: Request<FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        Err(Status::unimplemented("only nodes fetch"))
    }

    async fn begin(&self, _: Request<BeginRequest>) -> Result<Response<BeginResponse>, Status> {
        let script = self.script();
        let offset = script.stored.len() as u64;
        Ok(Response::new(BeginResponse { offset, artifact: None, max_chunk: script.max_chunk }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadResponse>, Status> {
        let mut messages = request.into_inner();
        let first = messages.message().await?.and_then(|message| message.part);
        let Some(Part::Header(header)) = first else { return Err(Status::invalid_argument("no header")) };
        let (mut left, refusal) = {
            let mut script = self.script();
            script.headers.push(header.clone());
            if header.offset != script.stored.len() as u64 {
                return Err(Status::internal("a wrong offset"));
            }
            (script.cuts.pop_front(), script.refusal.clone())
        };
        if let Some(status) = refusal {
            return Err(status);
        }
        while let Some(message) = messages.message().await? {
            let Some(Part::Chunk(chunk)) = message.part else {
                return Err(Status::invalid_argument("a second header"));
            };
            let mut script = self.script();
            script.largest_chunk = script.largest_chunk.max(chunk.len());
            let take = left.map_or(chunk.len(), |left| left.min(chunk.len()));
            script.stored.extend_from_slice(&chunk[..take]);
            if let Some(left) = &mut left {
                *left -= take;
                if *left == 0 {
                    return Err(Status::unavailable("cut off"));
                }
            }
        }
        if self.script().stored.len() as u64 != header.size {
            return Err(Status::unavailable("it ended early"));
        }
        let artifact = Artifact { digest: header.digest, principal: "dev".to_owned(), ..Artifact::default() };
        Ok(Response::new(UploadResponse { artifact: Some(artifact), already_had: false }))
    }
}

/// What the tests here do not ask for.
fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not in the fake"))
}

#[tonic::async_trait]
impl RolloutService for Service {
    type WatchStream = ReceiverStream<Result<WatchRolloutResponse, Status>>;

    async fn watch(&self, _: Request<WatchRolloutRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let messages = {
            let mut script = self.script();
            script.watched += 1;
            if script.goes_away {
                self.1.notify_one();
            }
            script.watches.pop_front().ok_or_else(|| Status::not_found("no such rollout"))?
        };
        let (sender, receiver) = tokio::sync::mpsc::channel(messages.len().max(1));
        for message in messages {
            let message = message.map(|rollout| WatchRolloutResponse { rollout: Some(rollout) });
            sender.try_send(message).expect("there is room");
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn start(&self, _: Request<StartRequest>) -> Result<Response<StartResponse>, Status> {
        not_here()
    }
    async fn get(&self, _: Request<GetRolloutRequest>) -> Result<Response<GetRolloutResponse>, Status> {
        not_here()
    }
    async fn list(&self, _: Request<ListRolloutsRequest>) -> Result<Response<ListRolloutsResponse>, Status> {
        not_here()
    }
    async fn promote(&self, _: Request<PromoteRequest>) -> Result<Response<PromoteResponse>, Status> {
        not_here()
    }
    async fn pause(&self, _: Request<PauseRequest>) -> Result<Response<PauseResponse>, Status> {
        not_here()
    }
    async fn resume(&self, _: Request<ResumeRequest>) -> Result<Response<ResumeResponse>, Status> {
        not_here()
    }
    async fn abort(&self, _: Request<AbortRequest>) -> Result<Response<AbortResponse>, Status> {
        not_here()
    }
    async fn rollback(&self, _: Request<RollbackRequest>) -> Result<Response<RollbackResponse>, Status> {
        not_here()
    }
    async fn lift(&self, _: Request<LiftRequest>) -> Result<Response<LiftResponse>, Status> {
        not_here()
    }
    async fn restart(&self, _: Request<RestartRequest>) -> Result<Response<RestartResponse>, Status> {
        not_here()
    }
}
