//! A client's socket: TCP as it is, or TLS on it. Whoever speaks by it need not know which, and its client learns what is
//! written.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read as _, ReadBufCursor, Write as _};
use hyper_util::rt::TokioIo;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::conn::Client;
use super::tls::Session;

/// See the module.
#[derive(Debug)]
pub(in crate::gateway) struct Socket {
    tcp: TokioIo<TcpStream>,
    /// Apart: few connections have both none and much of it.
    tls: Option<Box<Session>>,
}

impl Socket {
    pub(in crate::gateway) fn new(tcp: TcpStream, tls: Option<Box<Session>>) -> Self {
        Self { tcp: TokioIo::new(tcp), tls }
    }

    pub(in crate::gateway) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.tls {
            None => Pin::new(&mut self.tcp).poll_read(cx, buffer),
            Some(tls) => tls
                .poll_read(self.tcp.inner(), cx, |said| {
                    let len = said.len().min(buffer.remaining());
                    buffer.put_slice(&said[..len]);
                    len
                })
                .map_ok(drop),
        }
    }

    /// What is there to be read, whether the executor has told of it yet or not; nothing if there is none, whatever the
    /// reason.
    pub(in crate::gateway) fn read_now(&mut self, space: &mut [u8]) -> usize {
        match &mut self.tls {
            None => recv(self.tcp.inner(), space, RecvFlags::empty()).unwrap_or_default().0,
            Some(tls) => tls.read_now(self.tcp.inner(), space),
        }
    }

    pub(in crate::gateway) fn poll_write(
        &mut self,
        client: &Client,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.tls {
            None => {
                let written = Pin::new(&mut self.tcp).poll_write(cx, bytes);
                client.wrote(&written);
                written
            }
            Some(tls) => {
                tls.poll_write(self.tcp.inner(), client, cx, |writer| io::Write::write(writer, bytes))
            }
        }
    }

    pub(in crate::gateway) fn poll_write_vectored(
        &mut self,
        client: &Client,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.tls {
            None => {
                let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, buffers);
                client.wrote(&written);
                written
            }
            Some(tls) => tls.poll_write(self.tcp.inner(), client, cx, |writer| {
                io::Write::write_vectored(writer, buffers)
            }),
        }
    }

    pub(in crate::gateway) fn poll_flush(
        &mut self,
        client: &Client,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.tls {
            None => Pin::new(&mut self.tcp).poll_flush(cx),
            Some(tls) => tls.poll_flush(self.tcp.inner(), client, cx),
        }
    }

    /// What goes over the wire.
    pub(in crate::gateway) fn tcp(&self) -> &TcpStream {
        self.tcp.inner()
    }

    /// For whoever moves bytes both ways.
    pub(in crate::gateway) fn pipe<'a>(&'a mut self, client: &'a Client) -> Pipe<'a> {
        let Self { tcp, tls } = self;
        Pipe { tcp: tcp.inner(), tls: tls.as_deref_mut(), client }
    }
}

/// Both ways of a connection, without a word about what goes over them.
#[derive(Debug)]
pub(in crate::gateway) struct Pipe<'a> {
    tcp: &'a TcpStream,
    tls: Option<&'a mut Session>,
    client: &'a Client,
}

impl<'a> Pipe<'a> {
    /// Takes what the client has sent. How much; nothing at its end.
    pub(in crate::gateway) fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(tls) = &mut self.tls {
            return tls.poll_read(self.tcp, cx, |said| {
                let len = said.len().min(space.len());
                space[..len].copy_from_slice(&said[..len]);
                len
            });
        }
        poll_readable(self.tcp, cx, || self.tcp.try_read(space))
    }

    /// Gives the client what it accepts of these bytes.
    pub(in crate::gateway) fn poll_give(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(tls) = &mut self.tls {
            return tls.poll_write(self.tcp, self.client, cx, |writer| io::Write::write(writer, bytes));
        }
        let written = poll_writable(self.tcp, cx, || self.tcp.try_write(bytes));
        self.client.wrote(&written);
        written
    }

    /// Ready when all that was given has left.
    pub(in crate::gateway) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.tls {
            None => Poll::Ready(Ok(())),
            Some(tls) => tls.poll_flush(self.tcp, self.client, cx),
        }
    }

    /// Tells the client that nothing more comes.
    pub(in crate::gateway) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            ready!(tls.poll_end(self.tcp, self.client, cx))?;
        }
        Poll::Ready(Ok(shutdown(self.tcp, Shutdown::Write)?))
    }

    /// Returns when the connection is broken, which who neither reads nor writes does not learn.
    pub(in crate::gateway) fn broken(&self) -> impl Future<Output = io::Error> + use<'a> {
        let tcp = self.tcp;
        async move {
            let error = match tcp.ready(Interest::ERROR).await {
                Ok(_) => tcp.take_error().unwrap_or_else(Some),
                Err(error) => Some(error),
            };
            error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
        }
    }
}

/// Has `read` read, as soon as there is something.
pub(super) fn poll_readable(
    tcp: &TcpStream,
    cx: &mut Context<'_>,
    mut read: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(tcp.poll_read_ready(cx))?;
        match read() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return Poll::Ready(read),
        }
    }
}

/// Has `write` write, as soon as there is room.
pub(super) fn poll_writable(
    tcp: &TcpStream,
    cx: &mut Context<'_>,
    mut write: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(tcp.poll_write_ready(cx))?;
        match write() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written),
        }
    }
}
