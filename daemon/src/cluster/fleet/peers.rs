//! How other nodes are called: by mutual TLS with this node's own certificate, and on one machine by their control sockets.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use crate::tls::TlsFiles;

/// How long a connection may take to be made, its handshake included.
const CONNECT: Duration = Duration::from_secs(3);
/// After so long without a sign of life a peer is asked for one, and after as long again the connection is given up.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Calls other nodes; clones are the same.
#[derive(Clone, Debug)]
pub struct Peers {
    /// What this node shows, and whom it believes.
    files: Option<TlsFiles>,
}

/// Why another node can't be called.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It has to be called by TLS, for which this node has no certificate.
    #[error("{url} is called by TLS, and this node has no [grpc.tls] with a certificate of its own")]
    NoCertificate {
        /// Where it is called.
        url: String,
    },
    /// What it says of itself is no place to call.
    #[error("{url:?} is no address of a node; expected https://HOST:PORT or unix:PATH")]
    NoAddress {
        /// What it says.
        url: String,
    },
    /// It does not answer, or is not who it should be.
    #[error("{url} can't be called")]
    Transport {
        /// Where.
        url: String,
        /// Why.
        source: tonic::transport::Error,
    },
}

/// Why TLS did not come about.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Name(#[from] InvalidDnsNameError),
}

impl Peers {
    /// By these files; without them only nodes of this machine can be called.
    #[must_use]
    pub const fn new(files: Option<TlsFiles>) -> Self {
        Self { files }
    }

    /// A connection to the node at `url`, by what the files hold now.
    ///
    /// # Errors
    /// It can't be made.
    pub async fn channel(&self, url: &str) -> Result<Channel, PeerError> {
        let transport = |source| PeerError::Transport { url: url.to_owned(), source };
        let no_address = || PeerError::NoAddress { url: url.to_owned() };
        if url.starts_with("unix:") {
            let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_malformed| no_address())?;
            return patient(endpoint).connect().await.map_err(transport);
        }
        let place = url.strip_prefix("https://").ok_or_else(no_address)?;
        let (host, _) = place.rsplit_once(':').ok_or_else(no_address)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let client = self.files.as_ref().and_then(TlsFiles::client);
        let connector =
            TlsConnector::from(client.ok_or_else(|| PeerError::NoCertificate { url: url.to_owned() })?);
        // The library would take `https` for its own TLS, of which there is none.
        let endpoint = Endpoint::from_shared(format!("http://{place}")).map_err(|_malformed| no_address())?;
        let place: Arc<str> = place.into();
        let dial = tower::service_fn(move |_| {
            let (connector, place, host) = (connector.clone(), Arc::clone(&place), host.clone());
            async move { shake(&connector, &place, host).await.map(TokioIo::new) }
        });
        patient(endpoint).connect_with_connector(dial).await.map_err(transport)
    }
}

fn patient(endpoint: Endpoint) -> Endpoint {
    endpoint.connect_timeout(CONNECT).http2_keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE)
}

async fn shake(
    connector: &TlsConnector,
    place: &str,
    host: String,
) -> Result<TlsStream<TcpStream>, HandshakeError> {
    let stream = TcpStream::connect(place).await?;
    stream.set_nodelay(true)?;
    Ok(connector.connect(ServerName::try_from(host)?, stream).await?)
}
