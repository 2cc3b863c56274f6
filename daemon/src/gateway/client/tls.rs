//! TLS on a client's socket: rustls, and the bytes on the wire.
//!
//! The socket is not in it: of a connection that is handed over both ways are used while somebody waits for its end. And what
//! is written counts as written when it is on the wire, not when it is encrypted, so that a client that takes nothing is
//! seen.

use std::io::{self, BufRead as _, IoSlice, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, recv};
use rustls::{ServerConfig, ServerConnection, Writer};
use tokio::net::TcpStream;

use super::conn::Client;
use super::first::Protocol;
use super::socket::{poll_readable, poll_writable};

/// The most that is encrypted ahead of the wire: two records, so that one is under way while the other is made. What a slow
/// client makes us hold grows by that.
const ENCRYPTED: usize = 32 * 1024;

/// One connection's.
#[derive(Debug)]
pub(in crate::gateway) struct Session {
    tls: ServerConnection,
}

impl Session {
    pub(in crate::gateway) fn new(config: &Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let mut tls = ServerConnection::new(Arc::clone(config))?;
        tls.set_buffer_limit(Some(ENCRYPTED));
        Ok(Self { tls })
    }

    /// Goes on with the handshake; ready when all of it has left. What goes wrong is told to the client.
    pub(in crate::gateway) fn poll_handshake(
        &mut self,
        tcp: &TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            // A client that takes nothing of it has its own time-out.
            ready!(self.poll_wire(tcp, cx, |_| {}))?;
            if !self.tls.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_more(tcp, cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// What was agreed on to be spoken: HTTP/2 only where the client has said so.
    pub(in crate::gateway) fn protocol(&self) -> Protocol {
        match self.tls.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        }
    }

    /// Gives what the client has said to `take`, which says how much of it it took. Nothing at its end.
    pub(in crate::gateway) fn poll_read(
        &mut self,
        tcp: &TcpStream,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut reader = self.tls.reader();
            match reader.fill_buf() {
                Ok(said) => {
                    let taken = take(said);
                    reader.consume(taken);
                    return Poll::Ready(Ok(taken));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(self.poll_more(tcp, cx))?;
        }
    }

    /// What the client has said and is in the socket, of which the executor may not have told yet; nothing if there is none,
    /// whatever the reason.
    pub(in crate::gateway) fn read_now(&mut self, tcp: &TcpStream, space: &mut [u8]) -> usize {
        loop {
            match self.tls.reader().read(space) {
                Ok(len) => return len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return 0,
            }
            match self.tls.read_tls(&mut Now(tcp)) {
                Ok(1..) if self.tls.process_new_packets().is_ok() => {}
                _ => return 0,
            }
        }
    }

    /// Encrypts what `say` says, once all that was said before is on the wire. Says how much that was.
    pub(in crate::gateway) fn poll_write(
        &mut self,
        tcp: &TcpStream,
        client: &Client,
        cx: &mut Context<'_>,
        say: impl FnOnce(&mut Writer<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(tcp, client, cx))?;
        let said = say(&mut self.tls.writer())?;
        // What does not leave now is in front of whatever is said next.
        match self.poll_flush(tcp, client, cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(said)),
        }
    }

    /// Writes what is encrypted; ready when all of it is on the wire.
    pub(in crate::gateway) fn poll_flush(
        &mut self,
        tcp: &TcpStream,
        client: &Client,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_wire(tcp, cx, |written| client.wrote(written))
    }

    /// Tells the client that nothing more comes; ready when that is on the wire.
    pub(in crate::gateway) fn poll_end(
        &mut self,
        tcp: &TcpStream,
        client: &Client,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        // Says it once, however often it is called.
        self.tls.send_close_notify();
        self.poll_flush(tcp, client, cx)
    }

    /// Reads from the wire and decrypts. How many bytes that were, none at its end.
    fn poll_more(&mut self, tcp: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let len = ready!(poll_readable(tcp, cx, || self.tls.read_tls(&mut Wire(tcp))))?;
        if let Err(error) = self.tls.process_new_packets() {
            // An alert, for whom it may help; the error is what counts.
            drop(self.tls.write_tls(&mut Wire(tcp)));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        Poll::Ready(Ok(len))
    }

    /// Writes what is encrypted, and tells `note` what came of each write.
    fn poll_wire(
        &mut self,
        tcp: &TcpStream,
        cx: &mut Context<'_>,
        note: impl Fn(&Poll<io::Result<usize>>),
    ) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            let written = poll_writable(tcp, cx, || self.tls.write_tls(&mut Wire(tcp)));
            note(&written);
            ready!(written)?;
        }
        Poll::Ready(Ok(()))
    }
}

/// The socket as the executor knows it.
struct Wire<'a>(&'a TcpStream);

impl Read for Wire<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(space)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The socket as it is, whatever the executor knows of it.
struct Now<'a>(&'a TcpStream);

impl Read for Now<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let (len, _) = recv(self.0, space, RecvFlags::empty())?;
        Ok(len)
    }
}
