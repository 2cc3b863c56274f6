//! What a line of the access log says.

use std::rc::Rc;
use std::time::Instant;

use http::header::{HOST, HeaderName, REFERER, USER_AGENT};
use http::request::Parts;
use http::{StatusCode, Version};
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::super::thread::Thread;
use crate::gateway::client::Client;

/// Bytes of a target or a header that are written; the rest of a longer one is left out.
const MOST: usize = 2048;

/// One request. Its keys are documented in `docs/gateway.md`: they may only be added to.
#[derive(Debug, Serialize)]
pub(in super::super) struct Line {
    #[serde(serialize_with = "to_the_millisecond")]
    time: Timestamp,
    client: String,
    method: String,
    host: Option<String>,
    target: String,
    protocol: &'static str,
    status: u16,
    bytes: u64,
    ms: f64,
    complete: bool,
    module: Option<String>,
    release: Option<u64>,
    referer: Option<String>,
    user_agent: Option<String>,
}

/// A line that is written when its request is over: when this is dropped.
#[derive(Debug)]
pub(in super::super) struct Pending {
    line: Line,
    began: Instant,
    thread: Rc<Thread>,
}

impl Pending {
    pub(in super::super) fn new(thread: &Rc<Thread>, client: &Client, parts: &Parts) -> Box<Self> {
        let header = |name: &HeaderName| {
            let value = parts.headers.get(name)?.as_bytes();
            Some(String::from_utf8_lossy(&value[..value.len().min(MOST)]).into_owned())
        };
        let host = parts.uri.authority().map(|authority| cut(authority.as_str()));
        let line = Line {
            time: Timestamp::now(),
            client: client.ip_text().to_owned(),
            method: parts.method.to_string(),
            host: host.or_else(|| header(&HOST)),
            target: cut(parts.uri.path_and_query().map_or("*", |target| target.as_str())),
            protocol: protocol(parts.version),
            status: 0,
            bytes: 0,
            ms: 0.0,
            complete: false,
            module: None,
            release: None,
            referer: header(&REFERER),
            user_agent: header(&USER_AGENT),
        };
        Box::new(Self { line, began: Instant::now(), thread: Rc::clone(thread) })
    }

    /// Who was given the request.
    pub(in super::super) fn placed(&mut self, module: &str, release: u64) {
        self.line.module = Some(module.to_owned());
        self.line.release = Some(release);
    }

    pub(in super::super) fn answered(&mut self, status: StatusCode) {
        self.line.status = status.as_u16();
    }

    /// So much of the body was given to be sent: none of it where a HEAD was asked, as it is left out on the way.
    pub(in super::super) fn sent(&mut self, bytes: usize) {
        if self.line.method != "HEAD" {
            self.line.bytes += bytes as u64;
        }
    }

    /// Nothing is left to send.
    pub(in super::super) fn complete(&mut self) {
        self.line.complete = true;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.line.ms = (self.began.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        if let Some(log) = self.thread.access_log() {
            log.put(&self.line);
        }
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MOST)].to_owned()
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

fn to_the_millisecond<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

#[cfg(test)]
impl Line {
    pub(super) fn example() -> Self {
        Self {
            time: Timestamp::from_millisecond(1_764_144_000_001).unwrap(),
            client: "192.0.2.7".to_owned(),
            method: "GET".to_owned(),
            host: Some("example.com".to_owned()),
            target: "/greet?name=\"Ada\"\n".to_owned(),
            protocol: "HTTP/1.1",
            status: 200,
            bytes: 12,
            ms: 1.234,
            complete: true,
            module: Some("greeter".to_owned()),
            release: Some(7),
            referer: None,
            user_agent: Some("curl/8".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever reads these lines relies on their keys.
    #[test]
    fn a_line_is_one_json_object() {
        assert_eq!(
            serde_json::to_string(&Line::example()).unwrap(),
            "{\"time\":\"2025-11-26T08:00:00.001Z\",\"client\":\"192.0.2.7\",\"method\":\"GET\",\"host\":\"example.com\",\
             \"target\":\"/greet?name=\\\"Ada\\\"\\n\",\"protocol\":\"HTTP/1.1\",\"status\":200,\"bytes\":12,\"ms\":1.234,\
             \"complete\":true,\"module\":\"greeter\",\"release\":7,\"referer\":null,\"user_agent\":\"curl/8\"}"
        );
    }

    #[test]
    fn what_is_long_is_cut_at_a_character() {
        let long = format!("{}\u{e4}{}", "a".repeat(MOST - 1), "b".repeat(10));
        assert_eq!(cut(&long), "a".repeat(MOST - 1));
    }
}
