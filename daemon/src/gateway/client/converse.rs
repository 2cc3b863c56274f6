//! One connection, from its first bytes to its end.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use http::StatusCode;
use http::header::CONNECTION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use rustls::ServerConfig;
use tokio::net::TcpStream;

use super::conn::{Client, Stay};
use super::first::{Protocol, first_words, has_spoken};
use super::h2::{self, FramedIo, Watched};
use super::io::ClientIo;
use super::socket::Socket;
use super::tls::Session;
use crate::gateway::config::GatewayConfig;
use crate::gateway::request::{Answer, begin, closing};
use crate::gateway::thread::Thread;

/// What is read ahead of a connection, and from which on nothing more is taken for it to write. Twice the largest head:
/// one that is within its bound is whole before this is full.
pub(in crate::gateway) const CONNECTION_BUFFER: u32 = 128 * 1024;

/// How HTTP/1 is spoken with clients.
pub(in crate::gateway) fn http1(config: &GatewayConfig) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_header_size(config.max_header_bytes).max_buf_size(CONNECTION_BUFFER as usize);
    // The time-outs are ours: hyper's would set a timer per request.
    builder.header_read_timeout(None);
    builder
}

/// How a conversation ended.
enum Ended<T> {
    /// By itself, or after an answer that said so.
    Over(T),
    /// The client asked for nothing, and was asked to leave. In HTTP/1 nothing has told it.
    Left(T),
    /// In the middle.
    CutOff,
}

impl<E> Ended<Result<(), E>> {
    fn result(self) -> Result<(), E> {
        match self {
            Self::Over(result) | Self::Left(result) => result,
            Self::CutOff => Ok(()),
        }
    }
}

impl Thread {
    /// Serves one connection to its end.
    pub(in crate::gateway) async fn converse(
        self: &Rc<Self>,
        tcp: TcpStream,
        tls: Option<Arc<ServerConfig>>,
        client: Rc<Client>,
    ) {
        let (socket, spoken) = match tls {
            None => {
                let spoken = listen(&tcp, &client).await;
                (Socket::new(tcp, None), spoken)
            }
            // Apart, as below.
            Some(tls) => match Box::pin(self.shake_hands(tcp, &tls, &client)).await {
                Some((socket, protocol)) => (socket, Ok(protocol)),
                None => return,
            },
        };
        let over = match spoken {
            Ok(Protocol::Http1) => self.converse_in_1(socket, &client).await,
            // Apart: it is larger, and few connections are of this kind.
            Ok(Protocol::Http2) => Box::pin(self.converse_in_2(socket, &client)).await,
            Err(Stay::CutOff) => return,
            Err(_) => return self.part(ClientIo::new(socket, client)).await,
        };
        if let Err(error) = over {
            tracing::debug!(client = %client.ip(), %error, "a connection broke");
        }
    }

    /// Agrees with a client on how TLS is spoken, and on what goes by it. Without that there is no connection.
    async fn shake_hands(
        &self,
        tcp: TcpStream,
        tls: &Arc<ServerConfig>,
        client: &Rc<Client>,
    ) -> Option<(Socket, Protocol)> {
        let mut session = match Session::new(tls) {
            Ok(session) => Box::new(session),
            Err(error) => {
                tracing::debug!(client = %client.ip(), %error, "TLS can't be begun");
                return None;
            }
        };
        let shaken = poll_fn(|cx| {
            let stay = client.begin_turn(cx);
            match session.poll_handshake(&tcp, cx) {
                Poll::Pending if stay == Stay::CutOff => Poll::Ready(None),
                shaken => shaken.map(Some),
            }
        })
        .await?;
        if let Err(error) = shaken {
            tracing::debug!(client = %client.ip(), %error, "a TLS handshake failed");
            // So that what it was told of that reaches it.
            ClientIo::new(Socket::new(tcp, None), Rc::clone(client)).part(self.config().parting).await;
            return None;
        }
        client.shook_hands();
        let protocol = session.protocol();
        Some((Socket::new(tcp, Some(session)), protocol))
    }

    async fn converse_in_1(self: &Rc<Self>, socket: Socket, client: &Rc<Client>) -> hyper::Result<()> {
        let service = service_fn(|request| {
            let mut begun = begin(self, client, request);
            let finish = move |answer| Ok::<_, Infallible>(self.last_if_draining(client, answer));
            poll_fn(move |cx| begun.poll_answer(cx).map(finish))
        });
        let leave = |connection: Pin<&mut _>| http1::Connection::graceful_shutdown(connection);
        let mut io = ClientIo::new(socket, Rc::clone(client));
        loop {
            let mut connection = http1(self.config()).serve_connection(io, &service);
            let ended = self.until_over(client, Pin::new(&mut connection), leave).await;
            let http1::Parts { io: of_it, read_buf, .. } = connection.into_parts();
            io = of_it;
            let unread = io.unread(read_buf);
            if let Some(tunnel) = client.take_tunnel() {
                if let Err(error) = tunnel.run(client, io, unread, self.config().parting).await {
                    tracing::debug!(client = %client.ip(), %error, "an upgraded connection broke");
                }
                return ended.result();
            }
            match ended {
                // hyper was between two requests, so what is there is the beginning of one. Behind an answer that was the
                // last it may be the body of a request that was refused.
                Ended::Left(Ok(())) if !client.is_told() && io.has_more(unread) => {}
                Ended::Left(result) if !client.is_told() => {
                    self.part(io).await;
                    return result;
                }
                // A response that was cut off.
                Ended::Left(Err(error)) | Ended::Over(Err(error))
                    if error.is_user() && client.trusts_the_end() =>
                {
                    io.reset();
                    return Err(error);
                }
                Ended::Left(result) | Ended::Over(result) => {
                    io.part(self.config().parting).await;
                    return result;
                }
                Ended::CutOff => return Ok(()),
            }
        }
    }

    async fn converse_in_2(self: &Rc<Self>, socket: Socket, client: &Rc<Client>) -> hyper::Result<()> {
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
        if let (Ended::Over(_) | Ended::Left(_), Some(io)) = (&ended, Rc::into_inner(io)) {
            io.into_inner().part(self.config().parting).await;
        }
        ended.result()
    }

    /// In a drain an answer tells its client that the connection ends with it. Else one that refuses may do so.
    fn last_if_draining(&self, client: &Client, mut answer: Answer) -> Answer {
        if self.drain.is_on() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            answer = closing(answer);
        }
        if self.drain.is_on() || answer.status().as_u16() >= 400 {
            // A module's answer has no such field.
            let is_last = answer.headers().get(CONNECTION).is_some_and(|said| said == "close");
            if is_last {
                client.tell();
            }
        }
        answer
    }

    /// Takes leave of a client of HTTP/1 that nothing has told of it. A request that crosses our leave has no answer, and is
    /// counted.
    async fn part(&self, mut io: ClientIo) {
        if io.part(self.config().parting).await {
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
    ) -> Ended<C::Output> {
        let mut left = false;
        poll_fn(|cx| {
            let stay = client.begin_turn(cx);
            if stay == Stay::CutOff {
                return Poll::Ready(Ended::CutOff);
            }
            let steps = client.steps();
            let over = conversation.as_mut().poll(cx);
            if over.is_ready() || left || stay == Stay::On || !client.can_leave() {
                return over.map(Ended::Over);
            }
            let is_idle = !client.is_busy();
            if is_idle && client.has_asked_since(steps) {
                client.stay_on();
                return Poll::Pending;
            }
            // Only now: what was there already has been read.
            left = true;
            client.leave();
            leave(conversation.as_mut());
            let over = conversation.as_mut().poll(cx);
            over.map(if is_idle { Ended::Left } else { Ended::Over })
        })
        .await
    }
}

/// Waits for the first words of a client without TLS, which tell what it speaks, or until it is to stay no longer.
async fn listen(tcp: &TcpStream, client: &Client) -> Result<Protocol, Stay> {
    let mut spoken = pin!(first_words(tcp, client));
    poll_fn(|cx| {
        let stay = client.begin_turn(cx);
        match spoken.as_mut().poll(cx) {
            Poll::Pending if stay == Stay::CutOff => Poll::Ready(Err(stay)),
            Poll::Pending if stay == Stay::Leaving && !has_spoken(tcp) => Poll::Ready(Err(stay)),
            spoken => spoken.map(Ok),
        }
    })
    .await
}
