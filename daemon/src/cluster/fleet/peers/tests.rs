use std::path::PathBuf;

use hot_proto::v1::node_service_client::NodeServiceClient;
use hot_proto::v1::node_service_server::{NodeService, NodeServiceServer};
use hot_proto::v1::{self, GetNodeRequest};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use super::*;
use crate::tls::made::{Authority, Party};

fn node(name: &str) -> Node {
    Node(name.to_owned())
}

/// Takes connections by TLS as a node does, and holds each until it is told to let go.
struct Holder {
    url: String,
    connected: mpsc::Receiver<mpsc::Sender<()>>,
}

impl Holder {
    async fn start(party: &Party) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let files = party.open();
        let (sender, connected) = mpsc::channel(8);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(stream) = TlsAcceptor::from(files.server()).accept(stream).await else { continue };
                let (let_go, mut told) = mpsc::channel(1);
                sender.send(let_go).await.unwrap();
                tokio::spawn(async move {
                    told.recv().await;
                    drop(stream);
                });
            }
        });
        Self { url, connected }
    }

    async fn next(&mut self) -> mpsc::Sender<()> {
        self.connected.recv().await.unwrap()
    }
}

#[tokio::test]
async fn a_connection_is_kept_until_it_ends_or_the_files_are_others() {
    let ours = Authority::new("ours");
    let mut n2 = Holder::start(&Party::new(&ours, &ours.issue("n2"))).await;
    let party = Party::new(&ours, &ours.issue("n1"));
    let files = party.open();
    let peers = Peers::new(Some(files.clone()));
    peers.channel(&node("n2"), &n2.url).await.unwrap();
    peers.channel(&node("n2"), &n2.url).await.unwrap();
    let first = n2.next().await;
    assert!(n2.connected.try_recv().is_err(), "both calls are by one connection");

    drop(first);
    let ended = || peers.kept(files.client().as_ref()).find(&(node("n2"), n2.url.clone()), Instant::now());
    tokio::time::timeout(CONNECT, async {
        while ended().is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    peers.channel(&node("n2"), &n2.url).await.unwrap();
    let _second = n2.next().await;

    let [certificate, key] = ours.issue("n1");
    party.put("own.pem", &certificate);
    party.put("own.key", &key);
    files.read_anew();
    peers.channel(&node("n2"), &n2.url).await.unwrap();
    let _third = n2.next().await;
}

#[tokio::test]
async fn whoever_shows_the_certificate_of_another_node_is_not_called() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let n3 = Holder::start(&Party::new(&ours, &ours.issue("n3"))).await;
    let peers = Peers::new(Some(Party::new(&ours, &ours.issue("n1")).open()));
    let refused = peers.channel(&node("n2"), &n3.url).await.unwrap_err();
    assert!(matches!(&refused, PeerError::OtherNode { found, .. } if found == "n3"), "{refused}");
    peers.channel(&node("n3"), &n3.url).await.unwrap();
    // Not even where a connection to that address is there.
    assert!(peers.channel(&node("n2"), &n3.url).await.is_err());

    let strange = Holder::start(&Party::new(&others, &others.issue("n2"))).await;
    let refused = peers.channel(&node("n2"), &strange.url).await.unwrap_err();
    assert!(matches!(refused, PeerError::Unreachable { .. }), "{refused}");
    let without = Peers::new(None).channel(&node("n3"), &n3.url).await.unwrap_err();
    assert!(matches!(without, PeerError::NoCertificate { .. }), "{without}");
}

/// Says that it is some node.
struct Named(&'static str);

#[tonic::async_trait]
impl NodeService for Named {
    async fn list(
        &self,
        _request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn get(&self, _request: Request<GetNodeRequest>) -> Result<Response<v1::GetNodeResponse>, Status> {
        let node = v1::Node { name: self.0.to_owned(), ..v1::Node::default() };
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

/// A socket at which that node answers.
fn at_socket(folder: &TempDir, name: &'static str) -> (PathBuf, JoinHandle<()>) {
    let path = folder.path().join(name);
    let listener = UnixListenerStream::new(UnixListener::bind(&path).unwrap());
    let server = tonic::transport::Server::builder()
        .add_service(NodeServiceServer::new(Named(name)))
        .serve_with_incoming(listener);
    (path, tokio::spawn(async move { server.await.unwrap() }))
}

#[tokio::test]
async fn a_socket_must_be_of_the_node_that_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, serving) = at_socket(&folder, "n2");
    let (peers, url) = (Peers::new(None), format!("unix:{}", socket.display()));
    let refused = peers.channel(&node("n3"), &url).await.unwrap_err();
    assert!(matches!(&refused, PeerError::OtherNode { found, .. } if found == "n2"), "{refused}");
    let channel = peers.channel(&node("n2"), &url).await.unwrap();
    let answer = NodeServiceClient::new(channel).get(GetNodeRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().node.unwrap().name, "n2");
    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled());
    let nobody = format!("unix:{}", folder.path().join("n9").display());
    let refused = peers.channel(&node("n9"), &nobody).await.unwrap_err();
    assert!(matches!(refused, PeerError::Unreachable { .. }), "{refused}");
    for url in ["http://10.0.0.1:7443", "https://10.0.0.1", "", "https://:1"] {
        let refused = peers.channel(&node("n9"), url).await.unwrap_err();
        assert!(matches!(refused, PeerError::NoAddress { .. }), "{url}: {refused}");
    }
}
