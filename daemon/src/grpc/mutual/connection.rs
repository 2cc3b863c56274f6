//! [`Connection`]: a caller who is connected, as tonic reads it; and [`Held`], all of them, so that each can be cut off.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::tls::Mutual;

/// Who is at the other end, with each of its calls.
#[derive(Clone, Debug)]
pub(in crate::grpc) struct Shown {
    /// Where it calls from.
    pub(in crate::grpc) address: SocketAddr,
    /// The common name of the certificate that it showed.
    pub(in crate::grpc) name: Arc<str>,
}

/// A caller who has shown a certificate.
#[derive(Debug)]
pub(in crate::grpc) struct Connection {
    stream: TlsStream<TcpStream>,
    shown: Shown,
    /// Ready when it is cut off.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _entry: Entry,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        shown: Shown,
        entry: Entry,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let cut = Box::pin(entry.cut.clone().cancelled_owned());
        Self { stream, shown, cut, _entry: entry, _place: place }
    }

    fn is_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the caller's certificate counts no more",
            )),
            Poll::Pending => Ok(()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Shown;

    fn connect_info(&self) -> Shown {
        self.shown.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.is_cut(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_cut(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_cut(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_cut(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Who is connected.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Callers>);

#[derive(Debug, Default)]
struct Callers {
    next: u64,
    all: BTreeMap<u64, Caller>,
}

#[derive(Debug)]
struct Caller {
    chain: Vec<CertificateDer<'static>>,
    cut: CancellationToken,
}

/// A caller's place among all, until it is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    held: Arc<Held>,
    number: u64,
    cut: CancellationToken,
}

impl Held {
    /// Notes a caller who has shown this chain.
    pub(super) fn enter(self: &Arc<Self>, chain: Vec<CertificateDer<'static>>) -> Entry {
        let cut = CancellationToken::new();
        let mut callers = self.callers();
        let number = callers.next;
        callers.next += 1;
        callers.all.insert(number, Caller { chain, cut: cut.clone() });
        Entry { held: Arc::clone(self), number, cut }
    }

    /// Cuts off whoever would not be let in now. How many these are.
    pub(super) fn judge(&self, mutual: &Mutual) -> usize {
        let callers = self.callers();
        let refused = callers.all.values().filter(|caller| !caller.cut.is_cancelled());
        let refused = refused.filter(|caller| mutual.judge(&caller.chain).is_err());
        refused.map(|caller| caller.cut.cancel()).count()
    }

    fn callers(&self) -> MutexGuard<'_, Callers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.held.callers().all.remove(&self.number);
    }
}
