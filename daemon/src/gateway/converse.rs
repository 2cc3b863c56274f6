//! One connection, from its first bytes to its end.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use http::header::{CONNECTION, HeaderValue};
use http::{Response, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::net::TcpStream;

use super::config::GatewayConfig;
use super::conn::{Client, ClientIo, Stay};
use super::first::{Protocol, first_words};
use super::h2::{self, FramedIo, Watched};
use super::serve::begin;
use super::thread::Thread;

/// What is read ahead of a connection, and from which on nothing more is taken for it to write. Twice the largest head:
/// one that is within its bound is whole before this is full.
pub(super) const CONNECTION_BUFFER: u32 = 128 * 1024;

/// How HTTP/1 is spoken with clients.
pub(super) fn http1(config: &GatewayConfig) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_header_size(config.max_header_bytes).max_buf_size(CONNECTION_BUFFER as usize);
    // The time-outs are ours: hyper's would set a timer per request.
    builder.header_read_timeout(None);
    builder
}

impl Thread {
    /// Serves one connection to its end.
    pub(super) async fn converse(self: &Rc<Self>, socket: TcpStream, client: Rc<Client>) {
        let spoken = {
            let mut spoken = pin!(first_words(&socket, &client));
            poll_fn(|cx| {
                let stay = client.begin_turn(cx);
                match spoken.as_mut().poll(cx) {
                    Poll::Pending if stay != Stay::On => Poll::Ready(None),
                    spoken => spoken.map(Some),
                }
            })
            .await
        };
        let ended = match spoken {
            Some(Protocol::Http1) => self.converse_in_1(socket, &client).await,
            // Apart: it is larger, and few connections are of this kind.
            Some(Protocol::Http2) => Box::pin(self.converse_in_2(socket, &client)).await,
            None => return self.part(ClientIo::new(socket, client)).await,
        };
        if let Some(Err(error)) = ended {
            tracing::debug!(client = %client.ip(), %error, "a connection broke");
        }
    }

    async fn converse_in_1(
        self: &Rc<Self>,
        socket: TcpStream,
        client: &Rc<Client>,
    ) -> Option<hyper::Result<()>> {
        let service = service_fn(|request| {
            let mut begun = begin(self, client, request);
            let answer = move |answer| Ok::<_, Infallible>(self.last_if_draining(answer));
            poll_fn(move |cx| begun.poll_answer(cx).map(answer))
        });
        let io = ClientIo::new(socket, Rc::clone(client));
        let mut connection = http1(self.config()).serve_connection(io, service);
        let leave = |connection: Pin<&mut _>| http1::Connection::graceful_shutdown(connection);
        let ended = self.until_over(client, Pin::new(&mut connection), leave).await;
        let http1::Parts { io, read_buf, .. } = connection.into_parts();
        let Some(tunnel) = client.take_tunnel() else {
            self.part(io).await;
            return ended;
        };
        if let Err(error) = tunnel.run(client, io, read_buf).await {
            tracing::debug!(client = %client.ip(), %error, "an upgraded connection broke");
        }
        ended
    }

    async fn converse_in_2(
        self: &Rc<Self>,
        socket: TcpStream,
        client: &Rc<Client>,
    ) -> Option<hyper::Result<()>> {
        let streams = client.begin_streams();
        let service = service_fn(|request| {
            let watch = streams.begin();
            let mut begun = begin(self, client, request);
            async move {
                let answer = poll_fn(|cx| begun.poll_answer(cx)).await;
                Ok::<_, Infallible>(answer.map(|body| Watched::new(body, watch)))
            }
        });
        let io = Rc::new(RefCell::new(ClientIo::new(socket, Rc::clone(client))));
        let ended = {
            let framed = FramedIo::new(Rc::clone(&io), Rc::clone(streams), Rc::clone(&self.scratch));
            let mut connection = pin!(h2::http2(self.config(), streams).serve_connection(framed, service));
            self.until_over(client, connection.as_mut(), |connection| connection.graceful_shutdown()).await
        };
        // h2 has told it which requests were taken, so none can cross our leave.
        if let (Some(_), Some(io)) = (&ended, Rc::into_inner(io)) {
            io.into_inner().part().await;
        }
        ended
    }

    /// In a drain an answer tells its client that the connection ends with it.
    fn last_if_draining<B>(&self, mut answer: Response<B>) -> Response<B> {
        if self.drain.is_on() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    /// Takes leave of a client of HTTP/1. A request that crosses our leave has no answer, and is counted.
    async fn part(&self, mut io: ClientIo) {
        let stay = io.client().stay();
        if stay != Stay::CutOff && io.part().await && stay == Stay::Leaving {
            self.drain.crossed();
            tracing::debug!(client = %io.client().ip(), "a request came as its connection was closed");
        }
    }

    /// Runs a client's conversation until it is over, or until the client is cut off. `leave` asks it to leave, once.
    async fn until_over<C: Future>(
        &self,
        client: &Client,
        mut conversation: Pin<&mut C>,
        leave: impl Fn(Pin<&mut C>),
    ) -> Option<C::Output> {
        let mut left = false;
        poll_fn(|cx| {
            let stay = client.begin_turn(cx);
            if stay == Stay::CutOff {
                return Poll::Ready(None);
            }
            let over = conversation.as_mut().poll(cx);
            if over.is_ready() || left || stay == Stay::On || !client.can_leave() {
                return over.map(Some);
            }
            // Only now: what was there already has been read.
            left = true;
            client.leave();
            leave(conversation.as_mut());
            conversation.as_mut().poll(cx).map(Some)
        })
        .await
    }
}
