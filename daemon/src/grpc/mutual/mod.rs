//! The door for callers from elsewhere: TCP, and TLS in which both show a certificate.
//!
//! Knows nothing of the services behind it. It does the handshakes, bounds what callers can hold, says who each is
//! ([`Caller`]), and ends the connections of those who would not be let in any more.

mod connection;
mod quiet;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::{CertificateError, OtherError};
use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt as _};

pub(super) use self::connection::Shown;
use self::connection::{Connection, Held};
use self::quiet::Quiet;
use super::listen::patient;
use crate::config::{NameError, common_name};
use crate::tls::{Mutual, TlsFiles};

/// Callers that are connected at once. Some hundred nodes call each other, and each person has one.
pub(crate) const MAX_CONNECTIONS: usize = 1024;
/// Handshakes under way. One more ends the oldest: whoever means to hold all of them up has to begin as many as this in the
/// time that an honest one takes.
const MAX_HANDSHAKES: usize = 256;
/// An honest one takes two round trips.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long somebody who is not let in may take to hear it.
const PARTING: Duration = Duration::from_secs(1);
/// Between two looks at who would still be let in, besides those at each change of the files: a certificate may expire.
const JUDGE_EVERY: Duration = Duration::from_secs(30);
/// After so long without a byte the system asks whether the caller is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Connections that the executor has not taken yet.
const WAITING: usize = 16;

/// Why somebody was not let in.
#[derive(Debug, Error)]
enum UnadmittedError {
    /// No TLS, or a certificate that does not count.
    #[error("the handshake failed")]
    Handshake(#[source] io::Error),
    /// Nothing came of it in time.
    #[error("the handshake was not over after {HANDSHAKE_WITHIN:?}")]
    Late(#[from] tokio::time::error::Elapsed),
    /// The certificate does not say who it is.
    #[error(transparent)]
    Unnamed(#[from] NameError),
    /// It counted when it was shown.
    #[error("its certificate counts no more")]
    Outdated(#[from] rustls::Error),
    /// There are too many.
    #[error("{MAX_CONNECTIONS} callers are connected already")]
    Full,
}

impl UnadmittedError {
    fn of_handshake(error: io::Error) -> Self {
        let of_tls = error.get_ref().and_then(|error| error.downcast_ref());
        if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other)))) = of_tls
            && let Some(unnamed) = other.downcast_ref::<NameError>()
        {
            return Self::Unnamed(*unnamed);
        }
        Self::Handshake(error)
    }
}

/// Lets callers in at the listeners, by what the files hold then; none where those are of no such TLS. Ends when nobody takes
/// them any more.
pub(super) fn callers(
    listeners: Vec<TcpListener>,
    files: &TlsFiles,
) -> impl Stream<Item = io::Result<Connection>> + use<> {
    let (sender, receiver) = mpsc::channel(WAITING);
    if let Some(mutual) = files.mutual() {
        let door =
            Door { files: files.clone(), held: Arc::default(), places: places(), quiet: Arc::default() };
        tokio::spawn(door.open(listeners, mutual, sender));
    }
    ReceiverStream::new(receiver).map(Ok)
}

fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_CONNECTIONS))
}

/// What the handshakes share.
#[derive(Clone, Debug)]
struct Door {
    files: TlsFiles,
    /// Who is connected.
    held: Arc<Held>,
    places: Arc<Semaphore>,
    quiet: Arc<Quiet>,
}

impl Door {
    async fn open(
        self,
        listeners: Vec<TcpListener>,
        mut mutual: watch::Receiver<Arc<Mutual>>,
        sender: mpsc::Sender<Connection>,
    ) {
        let mut arriving = tokio_stream::StreamMap::new();
        for (number, listener) in listeners.into_iter().enumerate() {
            arriving.insert(number, Box::pin(patient(TcpListenerStream::new(listener))));
        }
        let (mut handshakes, mut order) = (JoinSet::new(), VecDeque::<AbortHandle>::new());
        let mut clock = tokio::time::interval(JUDGE_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some((_, arrived)) = arriving.next() => {
                    let Ok(stream) = arrived else { continue };
                    order.retain(|handshake| !handshake.is_finished());
                    if order.len() >= MAX_HANDSHAKES && let Some(oldest) = order.pop_front() {
                        self.quiet.warn("too many handshakes are under way: the oldest is given up");
                        oldest.abort();
                    }
                    order.push_back(handshakes.spawn(self.clone().admit(stream, sender.clone())));
                }
                Some(_) = handshakes.join_next() => {}
                Ok(()) = mutual.changed() => self.judge(&mutual.borrow_and_update()),
                _ = clock.tick() => self.judge(&mutual.borrow()),
                () = sender.closed() => return,
            }
        }
    }

    async fn admit(self, stream: TcpStream, sender: mpsc::Sender<Connection>) {
        let peer = stream.peer_addr().map_or_else(|_| "somebody".to_owned(), |peer| peer.to_string());
        match self.shake_hands(stream).await {
            // Nobody takes it: the node ends.
            Ok(connection) => drop(sender.send(connection).await),
            Err(error) => self.quiet.warn(&format!("{peer} is not let in: {}", crate::describe(&error))),
        }
    }

    async fn shake_hands(&self, stream: TcpStream) -> Result<Connection, UnadmittedError> {
        let address = prepare(&stream).map_err(UnadmittedError::Handshake)?;
        let handshake = TlsAcceptor::from(self.files.server()).accept(stream).into_fallible();
        let stream = match tokio::time::timeout(HANDSHAKE_WITHIN, handshake).await? {
            Ok(stream) => stream,
            Err((error, stream)) => {
                part(stream).await;
                return Err(UnadmittedError::of_handshake(error));
            }
        };
        let chain: Vec<_> = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
        let name = common_name(chain.first().map_or(&[], |first| first))?;
        // Of those alone who have shown a certificate: whoever has none takes nobody's place.
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_full| UnadmittedError::Full)?;
        let shown = Shown { address, name: name.into() };
        let entry = self.held.enter(chain.clone());
        // The files may have changed while it was on its way: from here on each change finds it.
        if let Some(mutual) = self.files.mutual() {
            mutual.borrow().judge(&chain)?;
        }
        Ok(Connection::new(stream, shown, entry, place))
    }

    fn judge(&self, mutual: &Mutual) {
        let ended = self.held.judge(mutual);
        if ended > 0 {
            tracing::warn!("{ended} connection(s) of callers whose certificates count no more are cut off");
        }
    }
}

/// Who it is; and the system looks after the connection.
fn prepare(stream: &TcpStream) -> io::Result<SocketAddr> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    stream.peer_addr()
}

/// Lets somebody who is not let in hear why: what is still unread when a connection is closed would have the system take
/// back what was said.
async fn part(mut stream: TcpStream) {
    let heard = async {
        stream.shutdown().await?;
        while stream.read(&mut [0; 1024]).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // Whoever does not listen has heard enough.
    drop(tokio::time::timeout(PARTING, heard).await);
}

#[cfg(test)]
mod tests;
