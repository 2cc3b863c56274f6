//! HTTP/2 with clients that begin with it ("prior knowledge", RFC 9113, section 3.3): what one connection may hold, and
//! what becomes of streams and connections on which nothing goes on.
//!
//! hyper speaks the protocol. Here are the bounds that it is given, and watchers beside it: of the bytes on their way
//! in, and of each response on its way out. `Upgrade: h2c` in HTTP/1.1 is no way here: it is obsolete, and what follows
//! such a request has been read differently by different servers.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::Bytes;
use hot_wire::data::MAX_PIECE;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::{Executor, Read, ReadBuf, ReadBufCursor, Write};
use hyper::server::conn::http2;
use slab::Slab;

use super::converse::CONNECTION_BUFFER;
use super::frames::{Counted, Frames};
use super::io::ClientIo;
use crate::gateway::config::GatewayConfig;
use crate::gateway::request::{CutOff, ResponseBody};

/// Requests at once. RFC 9113 asks for no fewer than 100; what a connection can hold grows with it.
const MAX_STREAMS: u32 = 100;

/// What is read ahead of a request's body: as much as of a connection of HTTP/1.1, which carries one request.
const STREAM_WINDOW: u32 = CONNECTION_BUFFER;

/// What is read ahead of all bodies: as much as their streams together, so that uploads to a slow module never stop
/// those to another that share the connection.
const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;

/// Of a response a piece is given when less than this of it waits to be written. Nobody can take that back while the
/// client reads nothing, so it is small; two frames keep the socket busy until the next turn of the executor.
const SEND_BUFFER: usize = 2 * PIECE;

/// The most that is given at once: the payload of a frame, unless the client asks for longer ones.
const PIECE: usize = 16 * 1024;

/// Streams that a client may break off whatever else it does: people do go away.
const FREE_RESETS: u64 = 200;

/// SETTINGS that a client sends whatever else it does, each of which we acknowledge: one or two are usual.
const FREE_SETTINGS: u64 = 100;

/// Streams that are reset before they are looked at cost a table entry each; hyper's default, said here because the
/// bound on what a connection can hold rests on it.
const MAX_PENDING_RESETS: usize = 20;

/// Streams that we reset for the client's faults, before the connection ends. None of those is due to a slow network.
const MAX_FAULTS: usize = 100;

/// A connection's end after it was told to leave: it answers one PING, and takes what is still there for it.
pub(in crate::gateway) const GOODBYE: std::time::Duration = std::time::Duration::from_secs(5);

/// How HTTP/2 is spoken with a client.
pub(in crate::gateway) fn http2(config: &GatewayConfig, streams: &Rc<Streams>) -> http2::Builder<Spawn> {
    let mut builder = http2::Builder::new(Spawn(Rc::clone(streams)));
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(config.max_header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_FAULTS)
        // The time-outs are ours, as those of HTTP/1.
        .keep_alive_interval(None);
    builder
}

/// What goes on on a connection.
#[derive(Debug)]
pub(in crate::gateway) struct Streams {
    frames: RefCell<Frames>,
    /// The head that the sweep saw open, and when it saw it first.
    open_head: Cell<(Option<u64>, Instant)>,
    /// The request that was begun, until its stream runs.
    begun: RefCell<Option<Rc<Watch>>>,
    running: RefCell<Slab<Rc<Watch>>>,
}

/// What the sweep finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Finding {
    /// Nothing is wrong.
    Fine,
    /// A head does not end, the client breaks off what it asks for, or it asks for nothing but acknowledgements.
    Broken,
}

impl Streams {
    pub(in crate::gateway) fn new() -> Rc<Self> {
        Rc::new(Self {
            frames: RefCell::default(),
            open_head: Cell::new((None, Instant::now())),
            begun: RefCell::default(),
            running: RefCell::default(),
        })
    }

    /// A request has come. What this gives goes with its response; hyper runs the stream right after.
    pub(in crate::gateway) fn begin(&self) -> Rc<Watch> {
        let watch = Rc::new(Watch::new());
        *self.begun.borrow_mut() = Some(Rc::clone(&watch));
        watch
    }

    /// Whether a request is being answered, until its answer was taken.
    pub(in crate::gateway) fn are_running(&self) -> bool {
        !self.running.borrow().is_empty()
    }

    /// Looks at all that may have taken too long, and ends the streams whose client takes nothing of them.
    pub(in crate::gateway) fn sweep(&self, now: Instant, config: &GatewayConfig) -> Finding {
        for (_, watch) in &*self.running.borrow() {
            watch.sweep(now, config);
        }
        let frames = self.frames.borrow();
        let (seen, since) = self.open_head.get();
        if frames.open_head() != seen {
            self.open_head.set((frames.open_head(), now));
        } else if seen.is_some() && now.saturating_duration_since(since) >= config.header_timeout {
            return Finding::Broken;
        }
        // Half of what it asks for may be in vain, however long it goes on.
        let Counted { heads, resets, settings, credits } = frames.counted();
        let in_vain = resets > FREE_RESETS && resets > heads / 2;
        // A flood is never idle: what we answer to it is blocked and goes on in turns. Who takes long responses may say anew
        // now and then how much it takes at once.
        let is_flood = settings > FREE_SETTINGS && settings > heads.saturating_add(credits);
        if in_vain || is_flood { Finding::Broken } else { Finding::Fine }
    }
}

/// One response on its way to the client.
#[derive(Debug)]
pub(in crate::gateway) struct Watch {
    /// A piece was given to hyper, which has not come back for the next.
    given: Cell<bool>,
    pieces: Cell<u32>,
    /// The pieces that the sweep saw, and when it saw them first.
    seen: Cell<(u32, Instant)>,
    stalled: Cell<bool>,
    task: RefCell<Option<Waker>>,
}

impl Watch {
    fn new() -> Self {
        Self {
            given: Cell::new(false),
            pieces: Cell::new(0),
            seen: Cell::new((0, Instant::now())),
            stalled: Cell::new(false),
            task: RefCell::new(None),
        }
    }

    fn sweep(&self, now: Instant, config: &GatewayConfig) {
        let (seen, since) = self.seen.get();
        if !self.given.get() || seen != self.pieces.get() {
            self.seen.set((self.pieces.get(), now));
        } else if now.saturating_duration_since(since) >= config.stall_timeout {
            self.stalled.set(true);
            if let Some(task) = &*self.task.borrow() {
                task.wake_by_ref();
            }
        }
    }

    /// Remembers which task to wake, and says whether it is to end.
    fn begin_turn(&self, cx: &Context<'_>) -> bool {
        let mut task = self.task.borrow_mut();
        if task.as_ref().is_none_or(|task| !task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
        self.stalled.get()
    }
}

/// Runs a connection's streams on its thread.
#[derive(Debug, Clone)]
pub(in crate::gateway) struct Spawn(Rc<Streams>);

impl<F: Future<Output = ()> + 'static> Executor<F> for Spawn {
    fn execute(&self, stream: F) {
        let streams = Rc::clone(&self.0);
        let watch = streams.begun.take().unwrap_or_else(|| streams.begin());
        let key = streams.running.borrow_mut().insert(Rc::clone(&watch));
        tokio::task::spawn_local(async move {
            {
                let mut stream = pin!(stream);
                // Dropped unfinished, it resets the stream, and what was to be written of it is freed.
                let turn = |cx: &mut Context<'_>| {
                    if watch.begin_turn(cx) { Poll::Ready(()) } else { stream.as_mut().poll(cx) }
                };
                poll_fn(turn).await;
            }
            streams.running.borrow_mut().remove(key);
        });
    }
}

/// A response's body, in pieces, watched.
#[derive(Debug)]
pub(in crate::gateway) struct Watched {
    body: ResponseBody,
    /// What is left of what the body gave.
    rest: Bytes,
    watch: Rc<Watch>,
}

impl Watched {
    pub(in crate::gateway) fn new(body: ResponseBody, watch: Rc<Watch>) -> Self {
        // A client that takes nothing may have a hundred of them wait, each with all of the buffer that it was read into.
        let body = match body {
            ResponseBody::Whole(data) if data.len() < MAX_PIECE => {
                ResponseBody::Whole(Bytes::copy_from_slice(&data))
            }
            other => other,
        };
        Self { body, rest: Bytes::new(), watch }
    }

    fn poll_any(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        let frame = self.poll_any(cx);
        self.watch.pieces.set(self.watch.pieces.get().wrapping_add(1));
        self.watch.given.set(frame.is_ready());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

/// What the bytes of all connections of a thread go through, on their way to be looked at.
pub(in crate::gateway) type Scratch = Rc<RefCell<Vec<u8>>>;

/// A client's socket, whose frames are counted.
#[derive(Debug)]
pub(in crate::gateway) struct FramedIo {
    /// Shared with who takes leave of the client when hyper is done.
    io: Rc<RefCell<ClientIo>>,
    streams: Rc<Streams>,
    scratch: Scratch,
}

impl FramedIo {
    pub(in crate::gateway) fn new(io: Rc<RefCell<ClientIo>>, streams: Rc<Streams>, scratch: Scratch) -> Self {
        Self { io, streams, scratch }
    }
}

impl Read for FramedIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut scratch = this.scratch.borrow_mut();
        let len = scratch.len().min(buffer.remaining());
        let mut read = ReadBuf::new(&mut scratch[..len]);
        let mut io = this.io.borrow_mut();
        ready!(Pin::new(&mut *io).poll_read(cx, read.unfilled()))?;
        let mut frames = this.streams.frames.borrow_mut();
        let before = frames.counted();
        frames.came(read.filled());
        // Who has asked for nothing gets nowhere by granting credit.
        if frames.counted().credits != before.credits && io.client().is_busy() {
            io.client().step();
        }
        buffer.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for FramedIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io.borrow_mut()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io.borrow_mut()).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.borrow().is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io.borrow_mut()).poll_write_vectored(cx, buffers)
    }
}
