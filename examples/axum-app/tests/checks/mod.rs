//! What the application must do wherever it runs, over HTTP/1.1 and a client of its own that hides nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest wait for anything.
const DEADLINE: Duration = Duration::from_secs(30);

/// Runs every check; `guarded`: the application was started with the token `secret`.
pub(crate) fn all(address: SocketAddr, guarded: bool) {
    a_note_is_added_and_read(address);
    a_bad_note_is_told(address);
    if guarded {
        a_writer_needs_the_token(address);
    }
    a_note_has_a_limit(address);
    an_upload_is_read_as_it_comes(address);
    notes_are_followed_until_the_client_goes(address);
    every_answer_names_the_server(address);
}

fn a_note_is_added_and_read(address: SocketAddr) {
    let made = post(address, r#"{"text": "milk"}"#);
    assert_eq!(made.status, 201, "{made:?}");
    let location = made.header("location").expect("a location").to_owned();
    let read = get(address, &location);
    assert_eq!((read.status, read.header("content-type")), (200, Some("application/json")));
    assert!(read.text().contains(r#""text":"milk""#), "{read:?}");
    assert_eq!(get(address, "/notes?limit=1").text(), format!("[{}]", read.text()));
    assert_eq!(get(address, "/notes/123456").status, 404);
    assert_eq!(get(address, "/notes/milk").status, 400);
    assert_eq!(get(address, "/notes?limit=many").status, 400);
}

fn a_bad_note_is_told(address: SocketAddr) {
    let refused = post(address, r#"{"txt": "milk"}"#);
    assert_eq!(refused.status, 422);
    assert!(refused.text().contains("missing field `text`"), "{refused:?}");
    assert_eq!(post(address, "{").status, 400);
    assert_eq!(request(address, &format!("POST /notes HTTP/1.1\r\n{AUTHORIZATION}"), b"{}").status, 415);
}

fn a_writer_needs_the_token(address: SocketAddr) {
    let refused = request(address, "POST /notes HTTP/1.1\r\ncontent-type: application/json\r\n", b"{}");
    assert_eq!(refused.status, 401);
}

fn a_note_has_a_limit(address: SocketAddr) {
    let text = "x".repeat(64 * 1024);
    assert_eq!(post(address, &format!(r#"{{"text": "{text}"}}"#)).status, 413);
}

/// 8 MiB without a length, of which half waits until the other was sent.
fn an_upload_is_read_as_it_comes(address: SocketAddr) {
    const PIECE: usize = 64 * 1024;
    let mut stream = connect(address);
    let head = format!(
        "PUT /files/big HTTP/1.1\r\nhost: app\r\nconnection: close\r\n{AUTHORIZATION}transfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sends");
    let piece = vec![7; PIECE];
    for _ in 0..128 {
        stream.write_all(format!("{PIECE:x}\r\n").as_bytes()).expect("sends");
        stream.write_all(&piece).expect("sends");
        stream.write_all(b"\r\n").expect("sends");
    }
    stream.write_all(b"0\r\n\r\n").expect("sends");
    let answer = Answer::read(stream);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.text().contains(r#""name":"big","bytes":8388608"#), "{answer:?}");
}

fn notes_are_followed_until_the_client_goes(address: SocketAddr) {
    let mut stream = connect(address);
    stream.write_all(b"GET /events HTTP/1.1\r\nhost: app\r\n\r\n").expect("sends");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("a line"));
    assert_eq!(lines.next().as_deref(), Some("HTTP/1.1 200 OK"));
    let is_events = |line: &String| line.eq_ignore_ascii_case("content-type: text/event-stream");
    assert!(lines.by_ref().take_while(|line| !line.is_empty()).any(|line| is_events(&line)));
    assert_eq!(get(address, "/status").text(), r#"{"followers":1}"#);
    for text in ["bread", "butter"] {
        assert_eq!(post(address, &format!(r#"{{"text": "{text}"}}"#)).status, 201);
        // It comes while the answer goes on.
        let data = lines.find(|line| line.starts_with("data: "));
        assert_eq!(data, Some(format!("data: {text}")));
    }
    drop(lines);
    // The application sees that its client is gone: its stream is dropped.
    let until = Instant::now() + DEADLINE;
    while get(address, "/status").text() != r#"{"followers":0}"# {
        assert!(Instant::now() < until, "the client is gone, and its stream is not dropped");
    }
}

fn every_answer_names_the_server(address: SocketAddr) {
    for (path, status) in [("/notes", 200), ("/notes/123456", 404), ("/status", 200)] {
        let answer = get(address, path);
        assert_eq!((answer.status, answer.header("x-served-by")), (status, Some("axum-app")));
    }
    let head = request(address, "HEAD /notes HTTP/1.1\r\n", b"");
    assert_eq!((head.status, head.text().as_str()), (200, ""));
}

const AUTHORIZATION: &str = "authorization: Bearer secret\r\n";

fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, &format!("GET {path} HTTP/1.1\r\n"), b"")
}

fn post(address: SocketAddr, note: &str) -> Answer {
    let head = format!("POST /notes HTTP/1.1\r\ncontent-type: application/json\r\n{AUTHORIZATION}");
    request(address, &head, note.as_bytes())
}

/// Sends a request on a connection of its own, and reads the whole answer.
fn request(address: SocketAddr, head: &str, body: &[u8]) -> Answer {
    let mut stream = connect(address);
    let head = format!("{head}host: app\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).expect("sends the head");
    // A server that refuses by the head may have closed its side already.
    drop(stream.write_all(body));
    Answer::read(stream)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    stream.set_write_timeout(Some(DEADLINE)).expect("a time-out");
    stream
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn read(stream: TcpStream) -> Self {
        let mut stream = BufReader::new(stream);
        let mut line = || {
            let mut line = String::new();
            stream.read_line(&mut line).expect("a line of the head");
            line.trim_end().to_owned()
        };
        let status = line().split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut headers = Vec::new();
        loop {
            let line = line();
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut answer = Self { status, headers, body: Vec::new() };
        if answer.header("transfer-encoding").is_some() {
            answer.body = unchunk(stream);
        } else {
            stream.read_to_end(&mut answer.body).expect("the body");
        }
        answer
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn unchunk(mut stream: BufReader<TcpStream>) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        stream.read_line(&mut size).expect("a chunk's size");
        let size = usize::from_str_radix(size.trim_end(), 16).expect("a number");
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(&mut body[start..]).expect("a chunk");
        stream.read_line(&mut String::new()).expect("the end of a chunk");
        if size == 0 {
            return body;
        }
    }
}
