//! Single requests, each on a connection of its own: over HTTP/1.1 but for one way.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Body;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// Longest that one request may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// A request with its body.
pub type Request = http::Request<Full<Bytes>>;

/// A response with its whole body.
pub type Reply = http::Response<Bytes>;

/// Sends one request and reads the whole response.
///
/// # Errors
/// When the connection or the response fails, or takes more than a minute.
pub fn exchange(address: SocketAddr, request: Request) -> Result<Reply> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    runtime.block_on(async {
        tokio::time::timeout(DEADLINE, send(address, request)).await.context("no response in time")?
    })
}

/// `GET` of a path.
///
/// # Errors
/// As [`exchange`].
pub fn get(address: SocketAddr, path: &str) -> Result<Reply> {
    let request = http::Request::get(path).header("host", address.to_string());
    exchange(address, request.body(Full::default()).context("a path")?)
}

/// Sends one request over HTTP/2 with prior knowledge, and reads the whole response with its trailers.
///
/// # Errors
/// As [`exchange`].
pub fn exchange_h2<B>(
    address: SocketAddr,
    request: http::Request<B>,
) -> Result<http::Response<Collected<Bytes>>>
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    let send = async {
        let stream = tokio::net::TcpStream::connect(address).await.context("connecting")?;
        let builder = http2::Builder::new(TokioExecutor::new());
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.context("handshake")?;
        let driver = tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await.context("sending")?.into_parts();
        let body = body.collect().await.context("reading the body")?;
        driver.abort();
        anyhow::Ok(http::Response::from_parts(head, body))
    };
    runtime.block_on(async { tokio::time::timeout(DEADLINE, send).await.context("no response in time")? })
}

async fn send(address: SocketAddr, request: Request) -> Result<Reply> {
    let stream = tokio::net::TcpStream::connect(address).await.context("connecting")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("handshake")?;
    let driver = tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await.context("sending")?.into_parts();
    let body = body.collect().await.context("reading the body")?.to_bytes();
    driver.abort();
    Ok(http::Response::from_parts(head, body))
}

/// Sends bytes as they are and reads what comes back until the other side closes. It reads while it sends: a server may
/// answer before it has read all, and one that echoes would wait for its reader else.
///
/// # Errors
/// When nothing came back, or neither side did anything for a minute.
pub fn raw(address: SocketAddr, bytes: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(address).context("connecting")?;
    stream.set_read_timeout(Some(DEADLINE)).context("a time-out")?;
    stream.set_write_timeout(Some(DEADLINE)).context("a time-out")?;
    let mut sender = stream.try_clone().context("a second descriptor")?;
    std::thread::scope(|scope| {
        let sent = scope.spawn(move || sender.write_all(bytes));
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        // Whatever is not sent by now is not wanted.
        drop(stream.shutdown(Shutdown::Both));
        let sent = sent.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        if answer.is_empty() {
            sent.context("sending")?;
            read.context("reading")?;
            bail!("the connection was closed without an answer");
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    })
}
