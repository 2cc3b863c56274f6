//! The access log: a line for each request, whatever became of it.

use std::io::Read;
use std::time::{Duration, Instant};

use hot_wire::data::FromGateway;
use hotd::gateway::{Drained, Gateway, GatewayConfig};
use serde_json::{Value, json};

use crate::host::Host;
use crate::rig::{A, PATIENCE, Rig, door, stable};

/// The lines of the file once there are so many.
fn lines(path: &std::path::Path, wanted: usize) -> Vec<Value> {
    let until = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(path).expect("the log is there");
        let lines: Vec<&str> = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
        if lines.len() >= wanted {
            return lines.iter().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
        }
        assert!(Instant::now() < until, "{} of {wanted} lines: {text}", lines.len());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn each_request_is_a_line_when_it_is_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let config = GatewayConfig { threads: 1, access_log: Some(path.clone()), ..GatewayConfig::default() };
    let rig = Rig::with(config);
    let (_host, links, inbox) = Host::watched(1);
    rig.attach(A, links);
    rig.serve(vec![stable(A, 10_000)]);

    let mut client = rig.client();
    client.write("GET /x?a=b HTTP/1.1\r\nhost: Example.com\r\nuser-agent: t/1\r\nreferer: http://r/\r\n\r\n");
    inbox.request().1.respond(201, &[], b"made", true);
    assert_eq!(client.response(false).status, 201);
    client.get("/-/live");
    client.write("GET /long HTTP/1.1\r\nhost: test\r\n\r\n");
    let (_, reply) = inbox.request();
    reply.respond(200, &[], b"first", false);
    assert_eq!(client.head().status, 200);
    assert_eq!(lines(&path, 2).len(), 2, "what goes on is not written yet");
    reply.body(b", second", true);
    assert_eq!(client.response_chunks(), b"first, second");

    let mut gone = rig.client();
    gone.write("GET /gone HTTP/1.1\r\nhost: test\r\n\r\n");
    let (_, reply) = inbox.request();
    reply.respond(200, &[("content-type", "text/event-stream")], b"data: 1\n\n", false);
    assert_eq!(gone.head().status, 200);
    drop(gone);

    lines(&path, 4);

    let mut upgraded = rig.client();
    upgraded.write("GET /ws HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: echo/1\r\n\r\n");
    let reply = loop {
        let came = inbox.next();
        if let FromGateway::Request(_) = came.message {
            break came.reply;
        }
    };
    reply.respond(101, &[], b"", false);
    assert_eq!(upgraded.head().status, 101);
    reply.body(b"bye", true);
    let mut rest = Vec::new();
    upgraded.socket.read_to_end(&mut rest).expect("an orderly end");
    assert_eq!(rest, b"bye");

    let seen: Vec<Value> = lines(&path, 5)
        .iter()
        .map(|line| json!([line["target"], line["status"], line["bytes"], line["complete"], line["module"]]))
        .collect();
    assert_eq!(
        seen,
        [
            json!(["/x?a=b", 201, 4, true, "greeter"]),
            json!(["/-/live", 200, 5, true, null]),
            json!(["/long", 200, 13, true, "greeter"]),
            json!(["/gone", 200, 9, false, "greeter"]),
            json!(["/ws", 101, 3, true, "greeter"]),
        ]
    );
    let first = &lines(&path, 5)[0];
    assert_eq!(
        json!([first["client"], first["method"], first["host"], first["protocol"], first["release"]]),
        json!(["127.0.0.1", "GET", "Example.com", "HTTP/1.1", 1])
    );
    assert_eq!(json!([first["referer"], first["user_agent"]]), json!(["http://r/", "t/1"]));
    assert!(first["ms"].as_f64().is_some_and(|ms| ms > 0.0));
}

/// Lines wait in the threads for the next look: a drain writes all of them.
#[tokio::test]
async fn a_drain_leaves_no_line_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let rig =
        Rig::with(GatewayConfig { threads: 2, access_log: Some(path.clone()), ..GatewayConfig::default() });
    for number in 0..50 {
        assert_eq!(rig.get(&format!("/-/{number}")).status, 404);
    }
    assert_eq!(rig.gateway.drain(Instant::now() + PATIENCE).await, Drained::default());
    let text = std::fs::read_to_string(&path).expect("the log is there");
    assert_eq!(text.lines().count(), 50);
}

#[test]
fn a_log_that_can_not_be_opened_is_said_at_the_start() {
    let config = GatewayConfig { access_log: Some("/nowhere/access.log".into()), ..GatewayConfig::default() };
    let error = Gateway::start(&[door()], config).expect_err("there is no such folder");
    assert_eq!(error.to_string(), "the access log /nowhere/access.log can't be opened");
}
