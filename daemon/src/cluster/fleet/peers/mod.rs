//! How other nodes are called: by mutual TLS with this node's own certificate, and on one machine by their control sockets.
//!
//! | room | what it is for |
//! |---|---|
//! | `dial` | a new connection, and that it leads to the node that was meant |
//! | `kept` | connections that are there already: pure |
//!
//! A connection is judged once, when it is made, and never made again in silence: one that has ended is thrown away, and the
//! next call makes another. Does not know what is said over it.

mod dial;
mod kept;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hot_rollout::Node;
use rustls::ClientConfig;
use tonic::transport::Channel;

use self::kept::Kept;
use crate::tls::TlsFiles;

/// How long a connection may take to be made, its handshake and the question who is there included.
const CONNECT: Duration = Duration::from_secs(3);

/// Calls other nodes; clones are the same.
#[derive(Clone, Debug)]
pub struct Peers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What this node shows, and whom it believes.
    files: Option<TlsFiles>,
    kept: Mutex<Kept<Connection>>,
}

/// A connection that is there, or was.
#[derive(Clone, Debug)]
struct Connection {
    channel: Channel,
    /// What it was made by. None: by a socket of this machine.
    client: Option<Arc<ClientConfig>>,
    ended: Arc<AtomicBool>,
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
    /// Nothing came about in time.
    #[error("{url} did not answer within {} s", CONNECT.as_secs())]
    Late {
        /// Where.
        url: String,
    },
    /// It does not answer, or shows a certificate that does not count.
    #[error("{url} can't be called")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        source: io::Error,
    },
    /// What answers does not speak as nodes do.
    #[error("{url} does not answer as a node")]
    Transport {
        /// Where.
        url: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// It shows a certificate that does not say whose it is.
    #[error("{url} shows a certificate that names nobody: {why}")]
    Unnamed {
        /// Where.
        url: String,
        /// Why.
        why: String,
    },
    /// It is another node than the one that was to be called.
    #[error("{url} is {found}, and not {meant}, as etcd says")]
    OtherNode {
        /// Where.
        url: String,
        /// Who should be there.
        meant: Node,
        /// Who is.
        found: String,
    },
    /// A socket of this machine is not of a hotd that this node believes.
    #[error(
        "{url} is a socket of user {uid}, and nodes of one machine call each other only where they run as one user"
    )]
    OtherUser {
        /// Where.
        url: String,
        /// Whose it is.
        uid: u32,
    },
    /// What listens at a socket of this machine does not say which node it is.
    #[error("{url} does not say which node it is: {why}")]
    Unknown {
        /// Where.
        url: String,
        /// What it says.
        why: String,
    },
}

impl Peers {
    /// By these files; without them only nodes of this machine can be called.
    #[must_use]
    pub fn new(files: Option<TlsFiles>) -> Self {
        Self(Arc::new(Inner { files, kept: Mutex::default() }))
    }

    /// A connection to `node`, which says that it is called at `url`: one that is there already, or a new one by what the
    /// files hold now. Whoever answers there and is not that node is not called.
    ///
    /// # Errors
    /// It can't be made.
    pub async fn channel(&self, node: &Node, url: &str) -> Result<Channel, PeerError> {
        let client = self.0.files.as_ref().and_then(TlsFiles::client);
        let place = (node.clone(), url.to_owned());
        if let Some(kept) = self.kept(client.as_ref()).find(&place, Instant::now()) {
            return Ok(kept.channel);
        }
        // It holds much while it shakes hands, and so would all who call somebody.
        let dial = Box::pin(dial::dial(node, url, client.clone()));
        let connection = tokio::time::timeout(CONNECT, dial).await;
        let connection = connection.map_err(|_elapsed| PeerError::Late { url: url.to_owned() })??;
        let channel = connection.channel.clone();
        self.kept(client.as_ref()).keep(place, connection, Instant::now());
        Ok(channel)
    }

    /// Those that can still be used.
    fn kept(&self, client: Option<&Arc<ClientConfig>>) -> MutexGuard<'_, Kept<Connection>> {
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.sweep(Instant::now(), |connection| connection.counts(client));
        kept
    }
}

impl Connection {
    /// Whether it is still there, and would be made in the same way.
    fn counts(&self, client: Option<&Arc<ClientConfig>>) -> bool {
        let as_now = match (&self.client, client) {
            (Some(then), Some(now)) => Arc::ptr_eq(then, now),
            (Some(_), None) => false,
            (None, _) => true,
        };
        as_now && !self.ended.load(Ordering::Acquire)
    }
}
