//! What peers are built of: the plain server, which is also what stands behind proxies, and the naive proxy. Each is a
//! role of this program, so that all are compiled alike.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::task::LocalSet;

use super::{BODY, CONTENT_TYPE, Ended};

/// Starts this program in a role, and reads the address that it prints.
pub(super) fn start(role: &[&str]) -> Result<(Ended, SocketAddr)> {
    let (process, line) = said(role)?;
    Ok((process, line.parse().with_context(|| format!("{role:?} said {line:?}, expected an address"))?))
}

/// Starts the plain server on a Unix socket, for a proxy of this name, and gives the socket's path.
pub(super) fn behind(folder: &Path, name: &str) -> Result<(Ended, String)> {
    let socket = folder.join(format!("{name}.sock"));
    let socket = socket.to_str().context("a path in UTF-8")?;
    let (process, _) = said(&["plain", socket])?;
    Ok((process, socket.to_owned()))
}

fn said(role: &[&str]) -> Result<(Ended, String)> {
    let mut command = Command::new(std::env::current_exe().context("this program's path")?);
    command.arg("role").args(role).stdout(Stdio::piped());
    let mut process = Ended::start(command)?;
    let output = process.0.stdout.take().context("standard output is a pipe")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).context("the first line of a server")?;
    Ok((process, line.trim_end().to_owned()))
}

/// The role `plain`: a server as one writes it with hyper, on a port that is free or on a Unix socket.
pub(crate) fn plain(socket: Option<&str>) -> Result<()> {
    on_one_thread(async {
        match socket {
            Some(path) => {
                let listener = UnixListener::bind(path).context("a Unix socket")?;
                say(path)?;
                loop {
                    let (stream, _) = listener.accept().await.context("accept")?;
                    tokio::task::spawn_local(answer(stream));
                }
            }
            None => {
                let listener = TcpListener::bind("127.0.0.1:0").await.context("a port")?;
                say(&listener.local_addr().context("the port")?.to_string())?;
                loop {
                    let (stream, _) = listener.accept().await.context("accept")?;
                    stream.set_nodelay(true).context("TCP_NODELAY")?;
                    tokio::task::spawn_local(answer(stream));
                }
            }
        }
    })
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(|_request| async {
        Response::builder()
            .header(http::header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE))
            .body(Full::new(Bytes::from_static(&BODY)))
    });
    // The end of a client is no news here.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

/// The role `naive`: a proxy as one writes it with hyper, with a connection to the backend for each of its clients.
pub(crate) fn naive(socket: &str) -> Result<()> {
    on_one_thread(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a port")?;
        say(&listener.local_addr().context("the port")?.to_string())?;
        loop {
            let (stream, _) = listener.accept().await.context("accept")?;
            stream.set_nodelay(true).context("TCP_NODELAY")?;
            let backend = UnixStream::connect(socket).await.context("the backend")?;
            let (sender, connection) = handshake(TokioIo::new(backend)).await.context("the backend")?;
            tokio::task::spawn_local(async { drop(connection.await) });
            tokio::task::spawn_local(async {
                let sender = tokio::sync::Mutex::new(sender);
                let service = service_fn(|request| forward(request, &sender));
                drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
            });
        }
    })
}

async fn forward(
    request: Request<Incoming>,
    sender: &tokio::sync::Mutex<SendRequest<Incoming>>,
) -> hyper::Result<Response<Incoming>> {
    let mut sender = sender.lock().await;
    sender.ready().await?;
    sender.send_request(request).await
}

fn on_one_thread(serve: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    runtime.block_on(LocalSet::new().run_until(serve))
}

fn say(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("standard output")
}
