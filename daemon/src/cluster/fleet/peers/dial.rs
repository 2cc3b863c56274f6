//! A new connection to a node, which must be the one that was meant: by TLS the certificate names it; a socket of this
//! machine is of a hotd of the same user, and says its name. A `unix:` address that another machine wrote leads to whatever
//! has that path here, if only to this node itself.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hot_proto::v1::GetNodeRequest;
use hot_proto::v1::node_service_client::NodeServiceClient;
use hot_rollout::Node;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use super::{Connection, PeerError};
use crate::config::common_name;

/// After so long without a sign of life a peer is asked for one, and after as long again the connection is given up.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Bytes that may be on their way and are not read yet, of one answer and of all on a connection: enough for 20 MiB/s over
/// 50 ms, and what a node may hold of each of few peers.
const WINDOW: u32 = 1 << 20;
/// What requests by a socket name as their host: nobody looks at it.
const ANY_HOST: &str = "http://localhost";

pub(super) async fn dial(
    node: &Node,
    url: &str,
    client: Option<Arc<ClientConfig>>,
) -> Result<Connection, PeerError> {
    if let Some(path) = url.strip_prefix("unix:") {
        return by_socket(node, url, Path::new(path)).await;
    }
    let no_address = || PeerError::NoAddress { url: url.to_owned() };
    let place = url.strip_prefix("https://").ok_or_else(no_address)?;
    let (host, _) = place.rsplit_once(':').ok_or_else(no_address)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|_malformed| no_address())?;
    // The library would take `https` for its own TLS, of which there is none.
    let endpoint = Endpoint::from_shared(format!("http://{place}")).map_err(|_malformed| no_address())?;
    let client = client.ok_or_else(|| PeerError::NoCertificate { url: url.to_owned() })?;
    let stream = shake(&TlsConnector::from(Arc::clone(&client)), place, name).await;
    let stream = stream.map_err(|source| PeerError::Unreachable { url: url.to_owned(), source })?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let found = common_name(chain.first().map_or(&[], |first| first))
        .map_err(|error| PeerError::Unnamed { url: url.to_owned(), why: error.to_string() })?;
    is_meant(node, url, found)?;
    let (channel, ended) = speak(url, endpoint, stream).await?;
    Ok(Connection { channel, client: Some(client), ended })
}

async fn by_socket(node: &Node, url: &str, path: &Path) -> Result<Connection, PeerError> {
    let unreachable = |source| PeerError::Unreachable { url: url.to_owned(), source };
    let stream = UnixStream::connect(path).await.map_err(unreachable)?;
    let uid = stream.peer_cred().map_err(unreachable)?.uid();
    if uid != rustix::process::geteuid().as_raw() {
        return Err(PeerError::OtherUser { url: url.to_owned(), uid });
    }
    let (channel, ended) = speak(url, Endpoint::from_static(ANY_HOST), stream).await?;
    let unknown = |why: String| PeerError::Unknown { url: url.to_owned(), why };
    let asked = NodeServiceClient::new(channel.clone()).get(GetNodeRequest::default()).await;
    let answer = asked.map_err(|status| unknown(status.message().to_owned()))?.into_inner();
    let found = answer.node.ok_or_else(|| unknown("it answers nothing".to_owned()))?.name;
    is_meant(node, url, found)?;
    Ok(Connection { channel, client: None, ended })
}

fn is_meant(node: &Node, url: &str, found: String) -> Result<(), PeerError> {
    if found == node.as_str() {
        return Ok(());
    }
    Err(PeerError::OtherNode { url: url.to_owned(), meant: node.clone(), found })
}

async fn shake(
    connector: &TlsConnector,
    place: &str,
    name: ServerName<'static>,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(place).await?;
    stream.set_nodelay(true)?;
    connector.connect(name, stream).await
}

/// gRPC over this stream and no other: the library would connect again by itself, to whoever is there by then.
async fn speak<S>(url: &str, endpoint: Endpoint, stream: S) -> Result<(Channel, Arc<AtomicBool>), PeerError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let ended = Arc::new(AtomicBool::new(false));
    let mut once = Some(TokioIo::new(Told { stream, ended: Arc::clone(&ended) }));
    let hand_over = tower::service_fn(move |_: http::Uri| {
        let stream = once.take();
        async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    let endpoint = endpoint
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        // One that died in silence would else be found by the next call, which had to wait for that.
        .keep_alive_while_idle(true);
    let channel = endpoint.connect_with_connector(hand_over).await;
    let channel = channel.map_err(|source| PeerError::Transport { url: url.to_owned(), source })?;
    Ok((channel, ended))
}

/// A stream that tells when nobody speaks over it any more.
struct Told<S> {
    stream: S,
    ended: Arc<AtomicBool>,
}

impl<S> Drop for Told<S> {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Told<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, bytes)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Told<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
