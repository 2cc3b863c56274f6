//! The two mappings of heads, from bytes to bytes, for the fuzz targets: a client's request to a host's frame, and a
//! host's frame to a client's response. Both by way of hyper and of the code that serves, without sockets and without
//! an executor.
//!
//! It is no part of what this crate offers, and nothing but `fuzz/` calls it.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, ready};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hot_wire::data::{Decoder, FromHost, INITIAL_WINDOW, RequestHead};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;

use super::body::ResponseBody;
use super::config::{GatewayConfig, Sources};
use super::conn::Client;
use super::converse::http1;
use super::entry::{Entry, Start};
use super::exchange::Kept;
use super::forward::{self, RequestFields};
use super::head;
use super::marks::Marks;
use super::spares::Spares;

/// The address of the client, as text.
pub const CLIENT: &str = "192.0.2.7";

/// The exchange that a response has to be for: any would do.
pub const EXCHANGE: u64 = 0;

/// The frame that a host would get of what a client sent, if that is a request that can be sent on. `trusted`: what it
/// says of where it comes from is believed.
#[must_use]
pub fn request(bytes: &[u8], trusted: bool) -> Option<Vec<u8>> {
    let forwarded_from = if trusted { Sources::All } else { Sources::None };
    let config = GatewayConfig { threads: 1, forwarded_from, ..GatewayConfig::default() };
    let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 40_123);
    let client = Client::new(peer, false, &config);
    let sent = RefCell::new(None);
    converse(bytes, &config, |request| {
        let (parts, body) = request.into_parts();
        let marks = Marks::of(&parts.headers);
        if head::check(&parts, &marks, &body).is_err() {
            sent.borrow_mut().get_or_insert(None);
            return Response::new(ResponseBody::Whole(Bytes::new()));
        }
        let fields = RequestFields::new(&parts, marks, &client, forward::upgrade(&parts, &marks, false));
        let head = RequestHead {
            method: parts.method.as_str().as_bytes(),
            target: forward::target(&parts),
            peer: client.peer().as_bytes(),
            deadline_ms: 0,
            window: INITIAL_WINDOW,
        };
        let frame = Kept::encode(&head, fields.iter()).ok().map(Kept::into_frame);
        // A client may send a second request behind the first.
        sent.borrow_mut().get_or_insert(frame);
        Response::new(ResponseBody::Whole(Bytes::new()))
    });
    sent.into_inner().flatten()
}

/// The bytes that a client would get of what a host sent, if that is a whole response and valid. `to_head`: it had
/// sent a HEAD.
#[must_use]
pub fn response(stream: &[u8], to_head: bool) -> Option<Vec<u8>> {
    let mut decoder = Decoder::<FromHost>::new();
    decoder.read_buf().extend_from_slice(stream);
    let frame = decoder.next_frame().ok()??;
    let now = Instant::now();
    let start = Start {
        started: now,
        deadline: now + Duration::from_secs(1),
        counted: false,
        request_ended: true,
        bodiless: to_head,
        upgrade: false,
        may_last: true,
        window: INITIAL_WINDOW,
    };
    let mut entry = Entry::new(start, 0, 0);
    entry.receive(frame.message, now, &mut Spares::default()).ok()?;
    let head = RefCell::new(Some(entry.take_head()?).filter(|head| head.end));
    let method = if to_head { "HEAD" } else { "GET" };
    let request = format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n");
    head.borrow().as_ref()?;
    let answer =
        converse(request.as_bytes(), &GatewayConfig { threads: 1, ..GatewayConfig::default() }, |_request| {
            let head = head.borrow_mut().take();
            let head = head.unwrap_or_else(|| unreachable!("one request was sent"));
            if head.is_bodiless(to_head) { head.without_body(to_head) } else { head.whole() }
        });
    Some(answer)
}

/// Serves a connection on which a client sends these bytes and then waits. Answers with what it gets.
fn converse(
    bytes: &[u8],
    config: &GatewayConfig,
    serve: impl Fn(Request<Incoming>) -> Response<ResponseBody>,
) -> Vec<u8> {
    let got = RefCell::new(Vec::new());
    let service = service_fn(|request| ready(Ok::<_, Infallible>(serve(request))));
    let connection = http1(config).serve_connection(Wire { left: bytes, got: &got }, service);
    // Nothing wakes it: when it waits, there is nothing more to come. What it makes of broken HTTP is its own affair.
    drop(pin!(connection).poll(&mut Context::from_waker(Waker::noop())));
    got.take()
}

/// A client whose bytes are all there, and who takes all that comes.
struct Wire<'w> {
    left: &'w [u8],
    got: &'w RefCell<Vec<u8>>,
}

impl Read for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left.is_empty() {
            return Poll::Pending;
        }
        let (now, later) = self.left.split_at(self.left.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.left = later;
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire<'_> {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.got.borrow_mut().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
