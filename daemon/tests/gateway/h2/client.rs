//! A client by hyper, on a thread of its own.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::rig::PATIENCE;

pub(crate) type Body = BoxBody<Bytes, std::convert::Infallible>;

/// A connection.
pub(crate) struct H2 {
    runtime: Runtime,
    sender: SendRequest<Body>,
    connection: JoinHandle<hyper::Result<()>>,
}

/// A response that is to come.
pub(crate) struct Coming(JoinHandle<hyper::Result<Response<Incoming>>>);

/// A response with its body and what came behind it.
pub(crate) struct Whole {
    pub(crate) head: Response<()>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Whole {
    pub(crate) fn status(&self) -> u16 {
        self.head.status().as_u16()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers().get(name).map(|value| value.to_str().expect("text"))
    }
}

impl H2 {
    pub(crate) fn connect(to: SocketAddr) -> Self {
        Self::with(to, |_| {})
    }

    pub(crate) fn with(to: SocketAddr, set: impl FnOnce(&mut http2::Builder<TokioExecutor>)) -> Self {
        Self::over(to, std::future::ready, set)
    }

    /// By way of what `secure` makes of the socket.
    pub(crate) fn over<F: Future<Output: AsyncRead + AsyncWrite + Unpin + Send + 'static>>(
        to: SocketAddr,
        secure: impl FnOnce(TcpStream) -> F,
        set: impl FnOnce(&mut http2::Builder<TokioExecutor>),
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let mut builder = http2::Builder::new(TokioExecutor::new());
        set(&mut builder);
        let (sender, connection) = runtime.block_on(async {
            let socket = TcpStream::connect(to).await.expect("the gateway accepts");
            socket.set_nodelay(true).expect("it is TCP");
            let socket = secure(socket).await;
            builder.handshake(TokioIo::new(socket)).await.expect("the gateway speaks HTTP/2")
        });
        let connection = runtime.spawn(connection);
        Self { runtime, sender, connection }
    }

    pub(crate) fn send(&mut self, request: Request<Body>) -> Coming {
        let sent = self.sender.send_request(request);
        Coming(self.runtime.spawn(sent))
    }

    pub(crate) fn get(&mut self, path: &str) -> Coming {
        self.send(get(path))
    }

    /// With a body of so many bytes.
    pub(crate) fn post(&mut self, path: &str, len: usize) -> Coming {
        let uri = format!("http://test.example{path}");
        let body = Full::new(Bytes::from(vec![b'x'; len])).boxed();
        self.send(Request::post(uri).body(body).expect("a request"))
    }

    pub(crate) fn try_head(&self, coming: Coming) -> hyper::Result<Response<Incoming>> {
        let head = self.runtime.block_on(async { timeout(PATIENCE, coming.0).await });
        head.expect("a response in time").expect("its task ends")
    }

    pub(crate) fn head(&self, coming: Coming) -> Response<Incoming> {
        self.try_head(coming).expect("a response")
    }

    pub(crate) fn whole(&self, coming: Coming) -> Whole {
        self.rest(self.head(coming)).expect("a whole body")
    }

    pub(crate) fn rest(&self, response: Response<Incoming>) -> hyper::Result<Whole> {
        let (head, body) = response.into_parts();
        let body = self.runtime.block_on(async { timeout(PATIENCE, body.collect()).await });
        let body = body.expect("the body in time")?;
        let trailers = body.trailers().cloned();
        Ok(Whole { head: Response::from_parts(head, ()), body: body.to_bytes().to_vec(), trailers })
    }

    /// The next frame of a body.
    pub(crate) fn frame(&self, response: &mut Response<Incoming>) -> Option<http_body::Frame<Bytes>> {
        let frame = self.runtime.block_on(async { timeout(PATIENCE, response.body_mut().frame()).await });
        frame.expect("a frame in time").map(|frame| frame.expect("no error"))
    }

    /// Waits for the end of the connection.
    pub(crate) fn end(self) -> hyper::Result<()> {
        let end = self.runtime.block_on(async { timeout(PATIENCE, self.connection).await });
        end.expect("the connection ends in time").expect("its task ends")
    }
}

pub(crate) fn get(path: &str) -> Request<Body> {
    let uri = format!("http://test.example{path}");
    Request::get(uri).body(Empty::new().boxed()).expect("a request")
}
