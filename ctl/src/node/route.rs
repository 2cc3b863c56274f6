//! [`Route`]: the way to a node, or to whichever of several answers.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::Uri;

use super::address::Address;
use super::credentials::{Credentials, CredentialsError};
use super::search::Found;
use crate::failure::innermost;

/// A node on the other side of the world answers a SYN, and a handshake, in well under this.
const ALONE: Duration = Duration::from_secs(5);

/// The same where there is another one to ask.
const OF_SEVERAL: Duration = Duration::from_secs(2);

/// How long a node may take to say that it does not take the user's certificate, after the handshake. It says something at
/// once in any case; what says nothing is found out by the first call. Less than any of the above, of which it is a part.
const VERDICT: Duration = Duration::from_secs(1);

/// Of what a node says first.
const FIRST: usize = 512;

/// A connection, whatever it goes over.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Where nodes are, and by which files they and the user trust each other.
#[derive(Debug)]
pub(super) struct Route {
    addresses: Vec<Address>,
    credentials: Option<Credentials>,
    /// Which of them was reached last.
    current: AtomicUsize,
}

/// Why none of them was reached: each that was tried, and why.
#[derive(Debug, Error)]
#[error("{}", self.tried())]
pub(super) struct Unreached(pub Vec<(Address, ReachError)>);

/// Why a node was not reached.
#[derive(Debug, Error)]
pub(super) enum ReachError {
    /// The system says why.
    #[error("{}", innermost(.0))]
    Io(#[from] io::Error),
    /// Nothing came of it in time.
    #[error("no answer within {}", crate::words::span(*.0))]
    Late(Duration),
    /// The user's own files.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// What answers speaks no TLS, or shows a certificate that does not count.
    #[error("{0}")]
    Untrusted(io::Error),
    /// It does not take the user's certificate.
    #[error("it does not take the certificate that it is shown ({0})")]
    Refused(io::Error),
}

impl Unreached {
    /// Each that was tried, and why it was not reached.
    pub(super) fn tried(&self) -> String {
        let one = |(address, error): &(Address, ReachError)| format!("{address}: {error}");
        self.0.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}

impl Route {
    pub(super) fn to(found: &Found) -> Self {
        let addresses = std::iter::once(&found.address).chain(&found.others).cloned().collect();
        Self { addresses, credentials: found.credentials.clone(), current: AtomicUsize::new(0) }
    }

    /// The one that was reached last.
    pub(super) fn current(&self) -> &Address {
        &self.addresses[self.current.load(Ordering::Relaxed) % self.addresses.len()]
    }

    /// Whether there is another one to ask.
    pub(super) fn is_of_several(&self) -> bool {
        self.addresses.len() > 1
    }

    /// Connects to one: the one of before if that can be, else the next that can.
    pub(super) async fn connect(&self) -> Result<Box<dyn Io>, Unreached> {
        let (count, start) = (self.addresses.len(), self.current.load(Ordering::Relaxed));
        let mut tried = Vec::new();
        for at in (start..start + count).map(|at| at % count) {
            let address = &self.addresses[at];
            match self.reach(address).await {
                Ok(stream) => {
                    self.current.store(at, Ordering::Relaxed);
                    return Ok(stream);
                }
                Err(error) => tried.push((address.clone(), error)),
            }
        }
        Err(Unreached(tried))
    }

    async fn reach(&self, address: &Address) -> Result<Box<dyn Io>, ReachError> {
        let within = if self.is_of_several() { OF_SEVERAL } else { ALONE };
        match tokio::time::timeout(within, self.open(address)).await {
            Ok(reached) => reached,
            Err(_elapsed) => Err(ReachError::Late(within)),
        }
    }

    async fn open(&self, address: &Address) -> Result<Box<dyn Io>, ReachError> {
        match address {
            Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Address::Http(uri) => Ok(Box::new(tcp(uri).await?)),
            Address::Https(uri) => {
                let Some(credentials) = &self.credentials else {
                    return Err(io::Error::other("no certificate to show is named").into());
                };
                let connector = TlsConnector::from(credentials.client()?);
                let name = ServerName::try_from(host(uri).to_owned());
                let name = name.map_err(|error| ReachError::Untrusted(io::Error::other(error)))?;
                let stream = tcp(uri).await?;
                let stream = connector.connect(name, stream).await.map_err(of_handshake)?;
                Ok(Box::new(Heard::of(stream).await?))
            }
        }
    }
}

/// The two kinds of errors: of the connection, and of who is at its other end.
fn of_handshake(error: io::Error) -> ReachError {
    let is_of_tls = error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>);
    if is_of_tls { ReachError::Untrusted(error) } else { ReachError::Io(error) }
}

async fn tcp(uri: &Uri) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host(uri), uri.port_u16().unwrap_or_default())).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Without the brackets of an IPv6 address.
fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

/// A connection of which the beginning was read ahead: TLS 1.3 judges who calls when the handshake is over for the caller.
struct Heard<S> {
    first: Vec<u8>,
    stream: S,
}

impl<S: AsyncRead + Unpin> Heard<S> {
    async fn of(mut stream: S) -> Result<Self, ReachError> {
        let mut first = vec![0; FIRST];
        let length = match tokio::time::timeout(VERDICT, stream.read(&mut first)).await {
            Ok(Ok(0)) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(Ok(length)) => length,
            Ok(Err(error)) => {
                let is_alert = error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>);
                return Err(if is_alert { ReachError::Refused(error) } else { ReachError::Io(error) });
            }
            Err(_elapsed) => 0,
        };
        first.truncate(length);
        Ok(Self { first, stream })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..length]);
        self.first.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test]
    async fn what_was_read_ahead_is_not_lost() {
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(b"settings").await.expect("writes");
        let mut heard = Heard::of(near).await.expect("is heard");
        far.write_all(b", and more").await.expect("writes");
        drop(far);
        let mut all = String::new();
        heard.read_to_string(&mut all).await.expect("reads");
        assert_eq!(all, "settings, and more");
    }

    #[tokio::test]
    async fn who_hangs_up_after_the_handshake_is_not_there() {
        let (near, far) = tokio::io::duplex(64);
        drop(far);
        assert!(matches!(Heard::of(near).await, Err(ReachError::Io(_))));
    }

    #[tokio::test]
    async fn the_next_one_is_asked_and_stays_the_one_that_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| Address::Unix(folder.path().join(name));
        let listener = tokio::net::UnixListener::bind(folder.path().join("two")).expect("binds");
        let found =
            Found { others: vec![at("two"), at("three")], ..Found::at(at("one"), "the test says so") };
        let route = Route::to(&found);
        assert_eq!(route.current(), &at("one"));
        drop(route.connect().await.expect("the second"));
        assert_eq!(route.current(), &at("two"));
        drop(listener);
        let Err(unreached) = route.connect().await else { panic!("nobody is left") };
        let tried: Vec<_> = unreached.0.iter().map(|(address, _)| address.clone()).collect();
        assert_eq!(tried, [at("two"), at("three"), at("one")]);
        assert_eq!(unreached.to_string().matches("No such file").count(), 2, "{unreached}");
    }
}
