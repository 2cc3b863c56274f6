//! A connection that was handed to a module as bytes both ways, after its 101.
//!
//! Each side is as fast as the slower one takes it. Either may end its own side and go on listening; the module's end ends
//! it all, once the client has been sent what is left.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use super::conn::{Busy, Client, Stay};
use super::io::ClientIo;
use super::socket::Pipe;
use crate::gateway::access::Pending;
use crate::gateway::hop::{BodySender, Exchange, Piece};

/// The most that is read of the client at a time: chatter, as a rule, and there may be thousands.
const READ: usize = 16 * 1024;

/// What goes on with a connection once its last response is sent.
#[derive(Debug)]
pub(in crate::gateway) struct Tunnel {
    exchange: Exchange,
    sender: BodySender,
    /// From the client, waiting for credit.
    up: Bytes,
    /// Nothing more goes up: the client has ended its side, or nobody listens to it.
    up_ended: bool,
    /// The client has ended its side.
    client_ended: bool,
    /// From the module, waiting for the client.
    down: Bytes,
    /// The module has ended its side.
    down_ended: bool,
    /// Its line of the access log, if there is one.
    line: Option<Box<Pending>>,
    _busy: Busy,
}

impl Tunnel {
    pub(in crate::gateway) fn new(exchange: Exchange, line: Option<Box<Pending>>, busy: Busy) -> Self {
        let sender = exchange.sender();
        Self {
            exchange,
            sender,
            up: Bytes::new(),
            up_ended: false,
            client_ended: false,
            down: Bytes::new(),
            down_ended: false,
            line,
            _busy: busy,
        }
    }

    /// Moves bytes until it is over. `read`: what has been read of the client already; `parting`: how long it may be silent
    /// after that.
    pub(in crate::gateway) async fn run(
        mut self,
        client: &Client,
        mut io: ClientIo,
        read: Bytes,
        parting: Duration,
    ) -> io::Result<()> {
        self.up = read;
        let may_part = self.move_all(client, &mut io).await? && !self.client_ended;
        // For the module and its numbers it is over, however long the client goes on talking.
        drop(self);
        if may_part {
            io.part(parting).await;
        }
        Ok(())
    }

    /// Whether it came to its end, and the client was not cut off.
    async fn move_all(&mut self, client: &Client, io: &mut ClientIo) -> io::Result<bool> {
        let mut pipe = io.pipe();
        let mut broken = pin!(pipe.broken());
        poll_fn(|cx| {
            if client.begin_turn(cx) == Stay::CutOff {
                return Poll::Ready(Ok(false));
            }
            self.poll_up(&mut pipe, cx)?;
            // Beside the two ways: nobody may be reading, and nothing may be there to write. What came before it was read.
            if let Poll::Ready(error) = broken.as_mut().poll(cx) {
                return Poll::Ready(Err(error));
            }
            self.poll_down(&mut pipe, cx).map_ok(|()| true)
        })
        .await
    }

    /// From the client to the module, as far as it goes now.
    fn poll_up(&mut self, pipe: &mut Pipe<'_>, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.up_ended {
            if self.up.is_empty() {
                match poll_read(pipe, cx) {
                    Poll::Pending => return Ok(()),
                    // TLS that ends without a word. What is spoken here says by itself when it is whole, and the module is to
                    // have what came before.
                    Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                    Poll::Ready(read) => self.up = read?,
                }
                if self.up.is_empty() {
                    self.up_ended = true;
                    self.client_ended = true;
                    self.sender.finish(None);
                    return Ok(());
                }
            }
            match self.sender.poll_credit(cx) {
                Poll::Pending => return Ok(()),
                // Nobody listens any more; what is left goes the other way.
                Poll::Ready(Err(_over)) => self.up_ended = true,
                Poll::Ready(Ok(())) => {
                    self.sender.send(&mut self.up, false);
                }
            }
        }
        Ok(())
    }

    /// From the module to the client; ready when there is nothing more to do.
    fn poll_down(&mut self, pipe: &mut Pipe<'_>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.down.is_empty() {
                let written = ready!(pipe.poll_give(cx, &self.down))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                drop(self.down.split_to(written));
            }
            // Nothing else sees to it that it goes on its way.
            ready!(pipe.poll_flush(cx))?;
            if self.down_ended {
                return pipe.poll_end(cx);
            }
            match ready!(self.exchange.poll_piece(cx)) {
                Some(Ok(Piece::Data(data))) => {
                    if let Some(line) = &mut self.line {
                        line.sent(data.len());
                    }
                    self.down = data;
                }
                Some(Ok(Piece::Trailers(_))) => {}
                None => {
                    self.down_ended = true;
                    if let Some(line) = &mut self.line {
                        line.complete();
                    }
                }
                Some(Err(failure)) => {
                    return Poll::Ready(Err(io::Error::other(format!(
                        "the module's side ended: {failure:?}"
                    ))));
                }
            }
        }
    }
}

/// What the client has sent; nothing at its end.
fn poll_read(pipe: &mut Pipe<'_>, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    let mut space = [0; READ];
    let len = ready!(pipe.poll_take(cx, &mut space))?;
    Poll::Ready(Ok(Bytes::copy_from_slice(&space[..len])))
}
