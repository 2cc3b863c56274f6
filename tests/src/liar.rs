//! A node that is none: it says in etcd that it is there and has an artifact, and does not mean well with whoever asks.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use hot_proto::v1::artifact_service_server::{ArtifactService, ArtifactServiceServer};
use hot_proto::v1::node_service_server::{NodeService, NodeServiceServer};
use hot_proto::v1::{self, FetchRequest, FetchResponse};
use serde_json::json;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use crate::{Etcd, sha256};

/// Bytes of one message.
const PIECE: usize = 16 * 1024;
/// Bytes before it stops.
const A_LITTLE: usize = 2 * PIECE;
/// Between two pieces of one that drips: 16 KiB/s.
const DRIP: Duration = Duration::from_secs(1);

/// What it does with those who ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// As many bytes as they ask for, of which one is another.
    OtherBytes,
    /// What they ask for, slowly.
    Drips,
    /// A little, and then nothing more, without an end.
    Stops,
    /// A little, and then the end.
    EndsEarly,
}

/// See the module. It is gone when this is dropped, but for what it wrote to etcd.
#[derive(Debug)]
pub struct Liar {
    asked: Arc<AtomicU64>,
    _folder: tempfile::TempDir,
    /// There until the end.
    runtime: Option<Runtime>,
}

#[derive(Clone, Debug)]
struct Services {
    name: String,
    bytes: Arc<Vec<u8>>,
    gives: Gives,
    asked: Arc<AtomicU64>,
}

impl Liar {
    /// Says that it is the node `name`, and has this file.
    ///
    /// # Errors
    /// When it can't listen, or etcd does not take what it says.
    pub fn join(etcd: &Etcd, name: &str, file: &Path, gives: Gives) -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for a socket")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("a runtime for a liar")?;
        let bytes = Arc::new(std::fs::read(file).context("the file")?);
        let (asked, digest) = (Arc::<AtomicU64>::default(), sha256(&bytes));
        let services = Services { name: name.to_owned(), bytes, gives, asked: Arc::clone(&asked) };
        let socket = folder.path().join("liar.sock");
        let listener = {
            let _entered = runtime.enter();
            UnixListenerStream::new(UnixListener::bind(&socket).context("a socket")?)
        };
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(ArtifactServiceServer::new(services.clone()))
                .add_service(NodeServiceServer::new(services))
                .serve_with_incoming(listener),
        );
        let node = json!({
            "target": format!("{}-gnu", std::env::consts::ARCH),
            "grpc": format!("unix:{}", socket.display()), "http": "", "hotd": "0.1.0", "since": 1,
        });
        etcd.put(&format!("hot/v1/fleet/nodes/{name}"), &node.to_string())?;
        etcd.put(&format!("hot/v1/fleet/alive/{name}"), &json!({ "since": 1 }).to_string())?;
        etcd.put(&format!("hot/v1/holders/{digest}/{name}"), "1")?;
        Ok(Self { asked, _folder: folder, runtime: Some(runtime) })
    }

    /// How often somebody has asked it for bytes.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Services {
    /// Gives what it gives of these bytes.
    async fn give(self, offset: usize, length: usize, to: mpsc::Sender<Result<FetchResponse, Status>>) {
        let end = self.bytes.len().min(offset.saturating_add(length));
        let mut wanted = self.bytes.get(offset..end).unwrap_or_default().to_vec();
        if self.gives == Gives::OtherBytes
            && let Some(first) = wanted.first_mut()
        {
            *first ^= 1;
        }
        let gives = match self.gives {
            Gives::OtherBytes | Gives::Drips => wanted.len(),
            Gives::Stops | Gives::EndsEarly => A_LITTLE.min(wanted.len()),
        };
        for piece in wanted[..gives].chunks(PIECE) {
            if self.gives == Gives::Drips {
                tokio::time::sleep(DRIP).await;
            }
            if to.send(Ok(FetchResponse { chunk: piece.to_vec().into() })).await.is_err() {
                return;
            }
        }
        if self.gives == Gives::Stops {
            to.closed().await;
        }
    }
}

#[tonic::async_trait]
impl ArtifactService for Services {
    type FetchStream = Pin<Box<dyn Stream<Item = Result<FetchResponse, Status>> + Send>>;

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let FetchRequest { offset, length, .. } = request.into_inner();
        let place = |number: u64| usize::try_from(number).map_err(|_large| Status::out_of_range("too large"));
        let (sender, pieces) = mpsc::channel(1);
        tokio::spawn(self.clone().give(place(offset)?, place(length)?, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(pieces).fuse())))
    }

    async fn begin(&self, _: Request<v1::BeginRequest>) -> Result<Response<v1::BeginResponse>, Status> {
        Err(Status::unimplemented("nobody pushes to it"))
    }

    async fn upload(
        &self,
        _: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        Err(Status::unimplemented("nobody pushes to it"))
    }
}

#[tonic::async_trait]
impl NodeService for Services {
    async fn list(
        &self,
        _: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        Err(Status::unimplemented("it knows of no others"))
    }

    async fn get(&self, _: Request<v1::GetNodeRequest>) -> Result<Response<v1::GetNodeResponse>, Status> {
        let node = v1::Node { name: self.name.clone(), ..v1::Node::default() };
        Ok(Response::new(v1::GetNodeResponse { node: Some(node) }))
    }

    async fn cordon(&self, _: Request<v1::CordonRequest>) -> Result<Response<v1::CordonResponse>, Status> {
        Err(Status::unimplemented("nobody operates it"))
    }

    async fn drain(&self, _: Request<v1::DrainRequest>) -> Result<Response<v1::DrainResponse>, Status> {
        Err(Status::unimplemented("nobody operates it"))
    }

    async fn uncordon(
        &self,
        _: Request<v1::UncordonRequest>,
    ) -> Result<Response<v1::UncordonResponse>, Status> {
        Err(Status::unimplemented("nobody operates it"))
    }

    async fn leave(&self, _: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveResponse>, Status> {
        Err(Status::unimplemented("nobody operates it"))
    }
}
