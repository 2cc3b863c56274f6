//! The contract from the module's side, behind a real node: the modules in C and in Rust that use all of it, rightly and
//! wrongly, are pushed, and driven over HTTP through every step of the one list (`tests/modules/steps.def`).
//!
//! `host/tests/conformance.rs` does that with the host alone, where it can say what a gateway says and when. What needs a
//! gateway that does not read its hosts is left to it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hot_tests::{Module, Node, WAIT, built, exchange, exchange_h2, get, raw};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

#[path = "../modules/steps.rs"]
mod steps;

/// A module of a node, and what it has reported.
struct Driven<'a> {
    node: &'a Node,
    path: &'static str,
    reported: BTreeSet<String>,
}

impl<'a> Driven<'a> {
    const fn new(node: &'a Node, path: &'static str) -> Self {
        Self { node, path, reported: BTreeSet::new() }
    }

    /// Waits until the module has reported a step, or one of several by that name; none may have gone wrong.
    fn wait(&mut self, step: &str) -> Result<()> {
        let deadline = Instant::now() + WAIT;
        while !self.reported.iter().any(|name| name.split('.').next() == Some(step)) {
            ensure!(Instant::now() < deadline, "{step} was not reported; these were: {:#?}", self.reported);
            let report = get(self.node.http(), &format!("{}/report", self.path))?;
            for line in std::str::from_utf8(report.body())?.lines() {
                let (name, answer) = line.split_once(": ").context("a line of a report")?;
                ensure!(answer == "ok", "{line}");
                self.reported.insert(name.to_owned());
            }
        }
        Ok(())
    }

    /// Waits until every step of the scenario was reported.
    fn done(&mut self, scenario: &str) -> Result<()> {
        let mut steps = steps::steps().filter(|step| step.scenario == scenario).peekable();
        ensure!(steps.peek().is_some(), "there is no scenario {scenario}");
        steps.try_for_each(|step| self.wait(step.name))
    }

    /// Opens an exchange of which the head is sent, and the response is read as it comes.
    fn open(&self, path: &str, headers: &str) -> Result<BufReader<TcpStream>> {
        let mut stream = TcpStream::connect(self.node.http()).context("connecting")?;
        stream.set_read_timeout(Some(WAIT)).context("a time-out")?;
        write!(stream, "GET {}/{path} HTTP/1.1\r\nhost: test\r\n{headers}\r\n", self.path)?;
        Ok(BufReader::new(stream))
    }

    /// The whole response to a request without a body, as it lies on the connection.
    fn raw(&self, path: &str) -> Result<String> {
        let head = format!("GET {}/{path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n", self.path);
        raw(self.node.http(), head.as_bytes())
    }
}

/// Reads a head: its status line.
fn head(stream: &mut impl BufRead) -> Result<String> {
    let (mut status, mut line) = (String::new(), String::new());
    stream.read_line(&mut status).context("a status line")?;
    while line != "\r\n" {
        line.clear();
        ensure!(stream.read_line(&mut line).context("a header")? > 0, "the head was cut behind {status}");
    }
    Ok(status.trim_end().to_owned())
}

/// Reads a chunked body to its end.
fn chunked(stream: &mut impl BufRead) -> Result<(Vec<u8>, Vec<String>)> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).context("a chunk's size")?;
        let size =
            usize::from_str_radix(line.trim_end(), 16).with_context(|| format!("a size, not {line:?}"))?;
        if size == 0 {
            return Ok((body, trailers(stream)?));
        }
        let mut piece = vec![0; size + 2];
        stream.read_exact(&mut piece).context("a chunk")?;
        body.extend_from_slice(&piece[..size]);
    }
}

/// The lines behind the last chunk.
fn trailers(stream: &mut impl BufRead) -> Result<Vec<String>> {
    let mut trailers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).context("a trailer, or the end")?;
        match line.trim_end() {
            "" => return Ok(trailers),
            trailer => trailers.push(trailer.to_owned()),
        }
    }
}

/// Sends a piece of a chunked body.
fn send(stream: &BufReader<TcpStream>, piece: &str) -> Result<()> {
    write!(stream.get_ref(), "{:x}\r\n{piece}\r\n", piece.len()).context("sending a chunk")
}

/// Every scenario of what may be done.
fn conforms(module: &mut Driven<'_>) -> Result<()> {
    let node = module.node;
    module.done("start")?;
    let request = http::Request::get("/conforms/whole?a=b").header("host", "test").header("x-test", "yes");
    let reply = exchange(node.http(), request.body(Full::new(Bytes::from_static(b"some body")))?)?;
    assert_eq!((reply.status().as_u16(), reply.body().as_ref()), (201, &b"some body"[..]));
    assert_eq!(reply.headers()["content-type"], "text/plain");
    assert_eq!(reply.headers()["x-own"], "");
    module.done("whole")?;
    assert_eq!(get(node.http(), "/conforms/later")?.body().as_ref(), b"later");
    module.done("later")?;
    streams(module)?;
    ends(module)
}

/// Bodies that come and go piece by piece.
fn streams(module: &mut Driven<'_>) -> Result<()> {
    let said = "transfer-encoding: chunked\r\ntrailer: x-came\r\nte: trailers\r\n";
    let mut stream = module.open("stream", said)?;
    assert_eq!(head(&mut stream)?, "HTTP/1.1 200 OK", "the response begins before the request has ended");
    for piece in ["one", "two", "three"] {
        send(&stream, piece)?;
    }
    stream.get_ref().write_all(b"0\r\nx-came: 1\r\n\r\n").context("sending the trailers")?;
    let (body, trailers) = chunked(&mut stream)?;
    assert_eq!((String::from_utf8(body)?.as_str(), trailers), ("onetwothree!", vec!["x-sum: 6".to_owned()]));
    module.done("stream")?;
    over_http_2(module.node)?;

    let mut stream = module.open("async", "transfer-encoding: chunked\r\n")?;
    head(&mut stream)?;
    send(&stream, "1234")?;
    send(&stream, "5678")?;
    stream.get_ref().write_all(b"0\r\n\r\n").context("sending the end")?;
    // A client that does not read stops the module, and nobody else.
    module.wait("async_write_would_block")?;
    assert_eq!(chunked(&mut stream)?.0.len(), 8_000_000);
    module.done("async")
}

/// The same exchange with a client of HTTP/2, for which trailers need no header.
fn over_http_2(node: &Node) -> Result<()> {
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-came", http::HeaderValue::from_static("1"));
    let body = Full::new(Bytes::from_static(b"one")).with_trailers(std::future::ready(Some(Ok(trailers))));
    let uri = format!("http://{}/conforms/stream", node.http());
    let reply = exchange_h2(node.http(), http::Request::post(uri).body(body)?)?.into_body();
    assert_eq!(
        reply.trailers().and_then(|trailers| trailers.get("x-sum")).map(|sum| sum.as_bytes()),
        Some(&b"6"[..])
    );
    assert_eq!(reply.to_bytes(), "one!");
    Ok(())
}

/// Answers that the module, or the client, does not bring to an end.
fn ends(module: &mut Driven<'_>) -> Result<()> {
    let answer = module.raw("abort-waiting")?;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    module.done("abort_waiting")?;
    for path in ["abort-body", "abort-trailers"] {
        let answer = module.raw(path)?;
        // If the abort comes before the head has left, there is still time for a better answer.
        let is_cut = answer.starts_with("HTTP/1.1 200 ") && !answer.ends_with("0\r\n\r\n");
        let is_failed = answer.starts_with("HTTP/1.1 500 ");
        assert!(is_cut || is_failed, "{path}: a client must see that it is not whole: {answer}");
    }
    module.done("abort_body")?;
    module.done("abort_trailers")?;

    let stream = module.open("given-up", "content-length: 5\r\n")?;
    module.wait("given_up_target")?;
    drop(stream);
    module.done("given_up")
}

/// Every scenario of what may not be done.
fn misuses(module: &mut Driven<'_>) -> Result<()> {
    let node = module.node;
    module.done("before_the_start")?;
    let request = http::Request::get("/misuses/all").header("host", "test").header("x-test", "yes");
    let reply = exchange(node.http(), request.body(Full::new(Bytes::from_static(b"some body")))?)?;
    assert_eq!(
        (reply.status().as_u16(), reply.body().len()),
        (200, 0),
        "nothing of what was refused was sent"
    );
    module.done("all")?;
    for _ in 0..20 {
        assert_eq!(get(node.http(), "/misuses/race")?.body().as_ref(), b"one");
    }
    module.done("race")?;
    let mut stream = module.open("endless", "")?;
    head(&mut stream)?;
    drop(stream);
    module.done("endless")
}

/// The node and all of its hosts, to find that they are still the same.
fn processes(node: &Node) -> Result<Vec<i32>> {
    let hosts = node.hosts()?;
    let mut pids: Vec<i32> = hosts.iter().chain([node.daemon()?]).map(hot_tests::Process::pid).collect();
    pids.sort_unstable();
    Ok(pids)
}

/// A node that serves something else beside these modules, which they must not touch.
fn node_with(files: &[&Path]) -> Result<Node> {
    let node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    for file in files {
        node.push(file, &[])?.expect(0)?;
    }
    Ok(node)
}

/// Drives all scenarios; afterwards everything runs that ran before.
fn all(files: &[&Path]) -> Result<()> {
    let node = node_with(files)?;
    let before = processes(&node)?;
    // The module in Rust has both routes, and one report of all.
    let mut module = Driven::new(&node, "/conforms");
    conforms(&mut module)?;
    module.path = "/misuses";
    misuses(&mut module)?;
    assert_eq!(get(node.http(), "/probe")?.body().as_ref(), b"probe 1.0.0\n");
    assert_eq!(processes(&node)?, before, "a refused call ends no process");
    node.stop()
}

#[test]
fn every_step_in_c_goes_as_it_should_behind_a_node() -> Result<()> {
    all(&[&Module::new("conforms").build()?, &Module::new("misuses").flag("-lm").build()?])
}

#[test]
fn every_step_in_rust_goes_as_it_should_behind_a_node() -> Result<()> {
    all(&[&built("libcontract.so")?])
}

#[test]
fn a_wild_pointer_is_felt_by_its_own_module_alone() -> Result<()> {
    let node = node_with(&[&Module::new("misuses").flag("-lm").build()?])?;
    let mut events = node.events()?;
    let before = processes(&node)?;
    // A GET would be sent once more to the next instance, and end that too.
    let request = http::Request::post("/misuses/wild").header("host", "test");
    let reply = exchange(node.http(), request.body(Full::default())?)?;
    assert!(reply.status().is_server_error(), "{reply:?}");
    events.wait(WAIT, |event| event.kind == "instance.restarted")?;
    assert_eq!(get(node.http(), "/probe")?.body().as_ref(), b"probe 1.0.0\n");
    let after = processes(&node)?;
    let same = after.iter().filter(|pid| before.contains(pid)).count();
    assert_eq!((same, before.len()), (before.len() - 1, after.len()), "{before:?} {after:?}");
    Driven::new(&node, "/misuses").done("before_the_start")?;
    node.stop()
}

#[test]
fn what_a_module_counts_is_shown_as_text_and_as_json() -> Result<()> {
    let node = node_with(&[&Module::new("conforms").build()?])?;
    let request = http::Request::get("/conforms/whole?a=b").header("host", "test").header("x-test", "yes");
    exchange(node.http(), request.body(Full::new(Bytes::from_static(b"some body")))?)?;

    let shown: Value = node.hotctl(&["metrics", "conforms", "-o", "json"])?.expect(0)?.json()?;
    let instance = &shown["instances"][0];
    assert_eq!(shown["module"], "conforms");
    assert_eq!(instance["reason"], "");
    let buckets: Vec<Value> = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]
        .map(|le| json!({"le": le, "count": u32::from(le > 0.3)}))
        .to_vec();
    let number = |name: &str, kind: &str, labels: Value, value: f64| json!({"name": name, "kind": kind, "labels": labels, "value": value, "histogram": null});
    let expected = json!([
        number("conforms_level", "gauge", json!({"a": "1", "b": "2"}), -3.0),
        {"name": "conforms_seconds", "kind": "histogram", "labels": {}, "value": null,
         "histogram": {"buckets": buckets, "count": 1, "sum": 0.3}},
        number("conforms_starts_total", "counter", json!({}), 1.0),
        number("conforms_total", "counter", json!({"path": "whole"}), 2.5),
    ]);
    assert_eq!(instance["series"], expected, "{shown:#}");

    let text = node.hotctl(&["metrics", "conforms"])?.expect(0)?.stdout;
    let own =
        format!("module=\"conforms\",release=\"1\",version=\"1.0.0\",instance=\"{}\"", instance["instance"]);
    for line in [
        "# TYPE conforms_total counter".to_owned(),
        format!("conforms_total{{{own},path=\"whole\"}} 2.5"),
        "# TYPE conforms_level gauge".to_owned(),
        format!("conforms_level{{{own},a=\"1\",b=\"2\"}} -3"),
        "# TYPE conforms_seconds histogram".to_owned(),
        format!("conforms_seconds_bucket{{{own},le=\"0.25\"}} 0"),
        format!("conforms_seconds_bucket{{{own},le=\"0.5\"}} 1"),
        format!("conforms_seconds_bucket{{{own},le=\"+Inf\"}} 1"),
        format!("conforms_seconds_sum{{{own}}} 0.3"),
        format!("conforms_seconds_count{{{own}}} 1"),
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
    }
    node.stop()
}
