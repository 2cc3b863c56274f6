//! One client: a kept-alive connection that it makes anew when it is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time;

use super::counts::Failure;
use super::{LoadOptions, Pace, Shared};

/// Between two attempts to connect: a server that is away for a while must not make the client spin.
const RECONNECT: Duration = Duration::from_millis(5);

/// How one request ended.
pub(super) struct Outcome {
    /// Status of the response, if there was one.
    pub status: Option<u16>,
    /// The server closed the connection with it.
    pub closed: bool,
    /// The version that the body names, or why there is none.
    pub result: Result<String, (Failure, String)>,
}

impl Outcome {
    fn failed(failure: Failure, error: &anyhow::Error) -> Self {
        Self {
            status: None,
            closed: failure == Failure::Broken,
            result: Err((failure, format!("{error:#}"))),
        }
    }
}

/// Sends requests until the load is stopped.
pub(super) async fn client(options: LoadOptions, number: u32, start: Instant, shared: Arc<Shared>) {
    let mut sender: Option<SendRequest<Empty<Bytes>>> = None;
    let mut sent = 0;
    while !shared.stopped() {
        let due = match options.pace {
            Pace::Closed => Instant::now(),
            Pace::Open { per_second } => {
                let due = start + when(per_second, options.connections, number, sent);
                time::sleep_until(due.into()).await;
                due
            }
        };
        sent += 1;
        // One that the server has said that it closes is not used again, as no client does.
        if let Some(open) = &mut sender
            && !matches!(time::timeout(options.timeout, open.ready()).await, Ok(Ok(())))
        {
            sender = None;
            shared.closed();
        }
        let span = shared.begin();
        let outcome = match time::timeout(options.timeout, request(&options, &mut sender)).await {
            Ok(outcome) => outcome,
            Err(late) => Outcome::failed(Failure::Timeout, &late.into()),
        };
        if outcome.closed || matches!(outcome.result, Err((Failure::Timeout, _))) {
            sender = None;
        }
        let away = matches!(outcome.result, Err((Failure::Connect, _)));
        shared.end(span, due.elapsed(), outcome);
        if away {
            time::sleep(RECONNECT).await;
        }
    }
}

/// When the request `sent` of connection `number` is due, from the start of the load.
fn when(per_second: u32, connections: u32, number: u32, sent: u32) -> Duration {
    let position = u64::from(sent) * u64::from(connections) + u64::from(number);
    Duration::from_nanos(position.saturating_mul(1_000_000_000) / u64::from(per_second.max(1)))
}

/// One request on the connection, which is made when there is none.
async fn request(options: &LoadOptions, sender: &mut Option<SendRequest<Empty<Bytes>>>) -> Outcome {
    if sender.is_none() {
        match connect(options).await {
            Ok(fresh) => *sender = Some(fresh),
            Err(error) => return Outcome::failed(Failure::Connect, &error),
        }
    }
    let Some(connection) = sender.as_mut() else {
        return Outcome::failed(Failure::Connect, &anyhow::anyhow!("no connection"));
    };
    match send(options, connection).await {
        Ok((status, body)) => judge(status, &body),
        Err(error) => Outcome::failed(Failure::Broken, &error),
    }
}

async fn connect(options: &LoadOptions) -> Result<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(options.address).await.context("connecting")?;
    stream.set_nodelay(true).context("TCP_NODELAY")?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("handshake")?;
    // Its error is the request's error too, which counts.
    tokio::spawn(async { drop(connection.await) });
    Ok(sender)
}

async fn send(options: &LoadOptions, sender: &mut SendRequest<Empty<Bytes>>) -> Result<(u16, Bytes)> {
    let request = http::Request::get(options.path.as_str())
        .header(http::header::HOST, "localhost")
        .body(Empty::new())
        .context("a path")?;
    sender.ready().await.context("the connection")?;
    let response = sender.send_request(request).await.context("the response's head")?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.context("the response's body")?.to_bytes();
    Ok((status, body))
}

/// What a whole response is worth.
fn judge(status: u16, body: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(body);
    let result = match (status, version(&text)) {
        (200, Some(version)) => Ok(version.to_owned()),
        (200, None) => Err((Failure::Body, format!("200 with {:?}", beginning(&text)))),
        _ => Err((Failure::Status, format!("{status} with {:?}", beginning(&text)))),
    };
    Outcome { status: Some(status), closed: false, result }
}

/// As much of a body as a message can bear.
fn beginning(body: &str) -> String {
    body.trim_end().chars().take(80).collect()
}

/// The first word of the body that looks like a version: three numbers between dots.
fn version(body: &str) -> Option<&str> {
    body.split_ascii_whitespace().find(|word| {
        let numbers: Vec<&str> = word.split('.').collect();
        numbers.len() == 3
            && numbers
                .iter()
                .all(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_a_body() {
        assert_eq!(version("hello world from greeter 1.0.0\n"), Some("1.0.0"));
        assert_eq!(version("probe 10.20.3"), Some("10.20.3"));
        assert_eq!(version("1.0 and 1.0.x and ..."), None);
    }

    #[test]
    fn a_good_status_alone_is_not_good() {
        assert!(matches!(judge(200, b"oops").result, Err((Failure::Body, _))));
        assert!(matches!(judge(503, b"probe 1.0.0").result, Err((Failure::Status, _))));
        assert_eq!(judge(200, b"probe 1.0.0").result.ok().as_deref(), Some("1.0.0"));
    }

    #[test]
    fn requests_of_an_open_loop_are_evenly_due() {
        let mut due: Vec<Duration> =
            (0..4).flat_map(|number| (0..25).map(move |sent| when(100, 4, number, sent))).collect();
        due.sort();
        assert!(due.windows(2).all(|pair| pair[1] - pair[0] == Duration::from_millis(10)));
    }
}
