//! A client's socket, watched: its client learns of what is read. What ends a connection in order is here, too.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use rustix::net::sockopt::{set_socket_keepalive, set_socket_linger, set_tcp_keepidle};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::conn::Client;
use super::socket::{Pipe, Socket};

/// Up to so many bytes the head and the body of a response leave as one buffer: for the kernel a list of buffers is
/// more work than it is for us to copy so few bytes. The bodies of large responses are never copied.
const JOINED_UP_TO: usize = 4096;

thread_local! {
    /// Where they are joined.
    static JOINED: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(JOINED_UP_TO));
}

/// A client that is silent for so long is asked by the kernel whether it is there.
const SILENT_FOR: Duration = Duration::from_secs(60);

/// Bytes that a client's socket takes beyond those that are on their way. Without a bound the kernel takes some MiB and says that
/// there is room again once a third of them has gone, which with a slow client takes minutes: in which nobody could tell it
/// from one that takes nothing.
const UNSENT: u32 = 128 * 1024;

/// One that goes on talking although nothing more is said to it is read for as many times as long as one that is silent. By
/// then it has what was on its way to it, or it is too slow.
const PARTED: u32 = 10;

/// What is read and dropped of a client at most, of a body that was refused as well as in the end; and how much at a time.
pub(in crate::gateway) const UNWANTED_AT_MOST: usize = 64 * 1024 * 1024;
const UNWANTED: usize = 4096;

/// The client's socket, watched.
#[derive(Debug)]
pub(in crate::gateway) struct ClientIo {
    socket: Socket,
    client: Rc<Client>,
    /// Bytes that were read and given back. They are read again before what is in the socket.
    given_back: Bytes,
}

impl ClientIo {
    pub(in crate::gateway) fn new(socket: Socket, client: Rc<Client>) -> Self {
        Self { socket, client, given_back: Bytes::new() }
    }

    /// Whose it is.
    pub(in crate::gateway) fn client(&self) -> &Client {
        &self.client
    }

    /// Has the kernel find out whether a client is still there, as one of a stream may be silent for hours, and say soon when it
    /// has taken something.
    pub(in crate::gateway) fn watch_over(socket: &TcpStream) {
        let alive = set_socket_keepalive(socket, true).and_then(|()| set_tcp_keepidle(socket, SILENT_FOR));
        if let Err(error) = alive {
            tracing::debug!(%error, "a client's socket can't be kept alive");
        }
        if let Err(error) = SockRef::from(socket).set_tcp_notsent_lowat(UNSENT) {
            tracing::debug!(%error, "what a client's socket takes has no bound");
        }
    }

    /// What was read and nobody has understood yet: `rest` of it was with who read last.
    pub(in crate::gateway) fn unread(&mut self, rest: Bytes) -> Bytes {
        let given_back = std::mem::take(&mut self.given_back);
        if given_back.is_empty() { rest } else { Bytes::from([rest, given_back].concat()) }
    }

    /// Whether there is the beginning of a request: in what is `unread`, or in the socket, of which the executor may not have
    /// told yet. Then it is read next.
    pub(in crate::gateway) fn has_more(&mut self, unread: Bytes) -> bool {
        let mut late = [0; 1024];
        let len = self.socket.read_now(&mut late);
        let more = if len > 0 { Bytes::from([&unread, &late[..len]].concat()) } else { unread };
        // Line ends in front of a request are nothing (RFC 9112, section 2.2).
        let begin = more.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        self.given_back = begin.map_or_else(Bytes::new, |begin| more.slice(begin..));
        !self.given_back.is_empty()
    }

    /// Says nothing more, and reads what the client still sends, until it is silent for so long: closing a socket with unread
    /// bytes resets the connection, and with it what is on its way to the client. Whether anything came.
    pub(in crate::gateway) async fn part(&mut self, silent: Duration) -> bool {
        let mut came = 0;
        let mut pipe = self.pipe();
        let rest = async {
            // To a client that is gone nothing can be said, and there is nothing more to do for it either way. Nor is one
            // that takes nothing waited for.
            drop(timeout(silent, poll_fn(|cx| pipe.poll_end(cx))).await);
            while came < UNWANTED_AT_MOST
                && let Ok(read @ 1..) = timeout(silent, poll_fn(|cx| poll_drop(&mut pipe, cx))).await
            {
                came += read;
            }
        };
        drop(timeout(silent * PARTED, rest).await);
        came > 0
    }

    /// Ends the connection so that its client can't take what it has for all that there was to come.
    pub(in crate::gateway) fn reset(self) {
        if let Err(error) = set_socket_linger(self.socket.tcp(), Some(Duration::ZERO)) {
            tracing::debug!(%error, "a client's connection can't be reset, and ends as others do");
        }
    }

    fn read_again(&mut self, mut buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let len = self.given_back.len().min(buffer.remaining());
        buffer.put_slice(&self.given_back.split_to(len));
        Poll::Ready(Ok(()))
    }

    /// Both ways of it.
    pub(in crate::gateway) fn pipe(&mut self) -> Pipe<'_> {
        self.socket.pipe(&self.client)
    }
}

/// Reads some bytes that nobody wants. How many; none at the end.
fn poll_drop(pipe: &mut Pipe<'_>, cx: &mut Context<'_>) -> Poll<usize> {
    let read = ready!(pipe.poll_take(cx, &mut [0; UNWANTED]));
    Poll::Ready(read.unwrap_or_default())
}

impl Read for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let result = if self.given_back.is_empty() {
            self.socket.poll_read(cx, buffer)
        } else {
            self.read_again(buffer)
        };
        let client = &self.client;
        if result.is_ready() {
            client.read();
        }
        result
    }
}

impl Write for ClientIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { socket, client, .. } = self.get_mut();
        socket.poll_write(client, cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, client, .. } = self.get_mut();
        let flushed = socket.poll_flush(client, cx);
        // It is flushed only when all has left that was to leave: what hyper cut off a body is not waited for.
        if flushed.is_ready() {
            client.flushed();
        }
        flushed
    }

    /// That nothing more comes is said by [`ClientIo::part`], once it is known that nothing is left to be answered. What was
    /// given to be sent must have left by then.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, client, .. } = self.get_mut();
        socket.poll_flush(client, cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        if len <= JOINED_UP_TO {
            return JOINED.with_borrow_mut(|joined| {
                joined.clear();
                buffers.iter().for_each(|buffer| joined.extend_from_slice(buffer));
                self.poll_write(cx, joined)
            });
        }
        let Self { socket, client, .. } = self.get_mut();
        socket.poll_write_vectored(client, cx, buffers)
    }
}
