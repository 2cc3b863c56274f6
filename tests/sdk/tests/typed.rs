//! Requests and responses as types, errors as answers, and what a client sees of each.

#![expect(clippy::panic, reason = "what comes of a panic is under test")]

use hot_module::testing::{Host, Metric};
use hot_module::{
    Context, Counter, Error, Exchange, Gauge, Histogram, Level, Module, OrStatus, RawModule, Request,
    Response, StatusError,
};
use serde::{Deserialize, Serialize};
use std::io;

static REQUESTS: Counter = Counter::new("requests_total");
static DEPTH: Gauge = Gauge::new("depth");
static TOOK: Histogram = Histogram::new("took_seconds");
static TAKEN: Counter = Counter::new("took_seconds_count");
static LEFT: Counter = Counter::new("left_sum");
static WHOLE: Histogram = Histogram::new("left");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default)]
    limit: u8,
}

#[derive(Debug, Deserialize, Serialize, PartialEq)]
struct Note {
    id: u32,
    text: String,
}

struct Typed {
    limit: u8,
}

impl Module for Typed {
    fn start(context: &Context) -> Result<Self, Error> {
        hot_module::log_to_host(log::LevelFilter::Debug);
        let settings: Settings = context.config()?;
        log::info!("the limit is {}", settings.limit);
        Ok(Self { limit: settings.limit })
    }

    fn handle(&self, request: &mut Request) -> Result<Response, Error> {
        match (request.method(), request.path()) {
            ("GET", "/head") => Ok(Response::text(format!(
                "{:?} {:?} {:?} {:?} {}",
                request.param("q").unwrap_or_default(),
                request.header("Accept"),
                request.header("x-raw"),
                request.peer(),
                request.headers().len(),
            ))),
            ("POST", "/notes") => {
                let note: Note = request.json(64)?;
                Ok(Response::json(&Note { id: note.id + 1, ..note })?
                    .status(201)
                    .header("location", "/notes/8"))
            }
            ("POST", "/text") => Ok(Response::text(request.text(8)?)),
            ("POST", "/echo") => Ok(Response::stream(|reader, writer| {
                while let Some(piece) = reader.read()? {
                    writer.write(piece)?;
                }
                Ok(())
            })
            .trailer("x-sum", "7")),
            ("POST", "/trailers") => {
                request.bytes(10)?;
                let found: Vec<_> =
                    request.trailers()?.iter().map(|trailer| format!("{trailer:?}")).collect();
                Ok(Response::html(found.join(",")).trailer("x-end", "yes"))
            }
            (_, "/limit") => Ok(Response::text(self.limit.to_string())),
            (_, "/absent") => Err(StatusError::new(404, "no such note").into()),
            (_, "/caused") => {
                "x".parse::<u8>().or_status(400, "a number is wanted")?;
                Ok(Response::new(204))
            }
            (_, "/secret") => Err(io::Error::other("the password is hunter2").into()),
            (_, "/panic") => panic!("out of notes"),
            (_, "/breaks") => Ok(Response::stream(|_, writer| {
                writer.write(b"half")?;
                Err("the disk is gone".into())
            })),
            (_, "/stream-panic") => Ok(Response::stream(|_, writer| {
                writer.write(b"half")?;
                panic!("in the stream")
            })),
            (_, "/bad-header") => Ok(Response::new(200).header("a b", "c")),
            (_, "/rows") => Ok(Response::stream(|_, writer| {
                loop {
                    writer.write(&[b'x'; 64 * 1024])?;
                }
            })),
            (_, "/counts") => {
                let _timer = TOOK.timer();
                REQUESTS.inc();
                REQUESTS.with([("b", "2"), ("a", "1")]).add(3);
                REQUESTS.with([("a", "1"), ("b", "2")]).add(4);
                DEPTH.set(2.5);
                DEPTH.with([("le", "1")]).set(1.0);
                TOOK.observe(0.25);
                TAKEN.inc();
                LEFT.inc();
                WHOLE.observe(1.0);
                Ok(Response::new(204))
            }
            _ => Err(StatusError::new(405, "no").into()),
        }
    }

    fn health(&self) -> Result<(), Error> {
        if self.limit == 13 { Err("an unlucky limit".into()) } else { Ok(()) }
    }

    fn stop(self) {
        hot_module::log(Level::Info, "stopped");
    }
}

fn host() -> Host {
    Host::start::<Typed>("limit = 7").expect("it starts")
}

#[test]
fn a_head_is_read_in_place() {
    let host = host();
    let answer = host
        .request("GET", "/head?a=b&q=f%C3%BCr+uns")
        .header("accept", "*/*")
        .header("X-Raw", b"\xff")
        .peer("[2001:db8::1]:7")
        .send();
    assert_eq!(answer.text(), "\"für uns\" Some(\"*/*\") None Some([2001:db8::1]:7) 2");
    assert_eq!(answer.header("Content-Type").as_deref(), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.failure(), None);
}

#[test]
fn json_goes_both_ways_and_bad_json_is_told() {
    let host = host();
    let answer = host.post("/notes", r#"{"id": 7, "text": "milk"}"#);
    assert_eq!((answer.status(), answer.header("location").as_deref()), (201, Some("/notes/8")));
    assert_eq!(answer.json::<Note>().expect("a note"), Note { id: 8, text: "milk".into() });

    let answer = host.post("/notes", r#"{"id": "7"}"#);
    assert_eq!(answer.status(), 400);
    assert_eq!(
        answer.text(),
        "the body is not the JSON that was expected: invalid type: string \"7\", expected u32 at line 1 column 10\n"
    );
    let answer = host.post("/notes", [b' '; 65]);
    assert_eq!(
        (answer.status(), answer.text().as_ref()),
        (413, "the body is larger than the 64 bytes that are allowed\n")
    );
    assert_eq!(host.post("/text", b"\xff").status(), 400);
}

#[test]
fn an_error_is_an_answer_and_a_line_in_the_log() {
    let host = host();
    let answer = host.get("/absent");
    assert_eq!((answer.status(), answer.text().as_ref()), (404, "no such note\n"));
    let answer = host.get("/caused");
    assert_eq!((answer.status(), answer.text().as_ref()), (400, "a number is wanted\n"));
    let answer = host.get("/secret");
    assert_eq!((answer.status(), answer.text().as_ref()), (500, "internal server error\n"));
    let lines: Vec<String> = host.logs().iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "Info: typed: the limit is 7",
            "Debug: answered 404: no such note",
            "Debug: answered 400: a number is wanted: invalid digit found in string",
            "Error: answered 500: the password is hunter2",
        ]
    );
}

#[test]
fn a_panic_is_500_and_the_next_request_is_served() {
    let host = host();
    let answer = host.get("/panic");
    assert_eq!((answer.status(), answer.failure()), (500, Some("the handler panicked")));
    host.wait_log("panicked: out of notes").expect("it is logged");
    assert_eq!(host.get("/limit").text(), "7");
}

#[test]
fn a_body_that_breaks_off_is_not_complete() {
    let host = host();
    for (path, line) in
        [("/breaks", "broke off: the disk is gone"), ("/stream-panic", "panicked: in the stream")]
    {
        let answer = host.get(path);
        assert_eq!((answer.status(), answer.text().as_ref()), (200, "half"));
        assert!(answer.failure().is_some());
        host.wait_log(line).expect("it is logged");
    }
}

#[test]
fn a_header_that_http_does_not_allow_is_500_and_logged() {
    let host = host();
    let answer = host.get("/bad-header");
    assert_eq!(answer.status(), 500);
    host.wait_log("the response could not be sent: a status or header that HTTP does not allow")
        .expect("a line");
}

#[test]
fn a_stream_is_echoed_while_it_comes_and_trailers_go_both_ways() {
    let host = host();
    let mut call = host.request("POST", "/echo").open();
    assert_eq!(call.status(), 200);
    for piece in ["one", "two"] {
        assert!(call.write(piece));
        assert_eq!(call.read().as_deref(), Some(piece.as_bytes()));
    }
    let answer = call.finish();
    assert_eq!((answer.bytes(), answer.trailer("x-sum").as_deref()), (&b""[..], Some("7")));

    let mut call = host.request("POST", "/trailers").body("x").open();
    call.end_with(&[("X-Check", "1")]);
    let answer = call.finish();
    assert_eq!((answer.text().as_ref(), answer.trailer("x-end").as_deref()), ("x-check: 1", Some("yes")));
}

#[test]
fn an_endless_answer_waits_for_its_client_and_ends_with_it() {
    let host = host();
    let mut call = host.request("GET", "/rows").open();
    assert_eq!(call.status(), 200);
    assert!(call.read().is_some_and(|piece| !piece.is_empty()));
    call.cancel();
    assert!(call.wait_end());
    // It was nobody's fault, so nobody is told.
    assert!(host.logs().iter().all(|line| line.level != Level::Error), "{:?}", host.logs());
    host.stop().expect("nothing is left");
}

#[test]
fn the_deadline_is_504() {
    let host = host();
    let answer = host.request("POST", "/text").time(std::time::Duration::from_millis(50)).open().status();
    assert_eq!(answer, 504);
}

#[test]
fn metrics_are_kept_by_the_host() {
    let host = host();
    for _ in 0..2 {
        assert_eq!(host.get("/counts").status(), 204);
    }
    assert_eq!(host.metric("requests_total", &[]), Some(Metric::Counter(2.0)));
    assert_eq!(host.metric("requests_total", &[("a", "1"), ("b", "2")]), Some(Metric::Counter(14.0)));
    assert_eq!(host.metric("depth", &[]), Some(Metric::Gauge(2.5)));
    let Some(Metric::Histogram(took)) = host.metric("took_seconds", &[]) else { panic!("no histogram") };
    assert_eq!((took.len(), took[0]), (4, 0.25));
    // A label that is taken: lost, and said once.
    assert_eq!(host.metric("depth", &[("le", "1")]), None);
    assert_eq!(host.logs().iter().filter(|line| line.text.contains("\"depth\" is lost")).count(), 1);
    // A histogram is shown with three names, which are taken.
    assert_eq!(host.metric("took_seconds_count", &[]), None);
    assert_eq!(host.metric("left_sum", &[]), Some(Metric::Counter(2.0)));
    assert_eq!(host.metric("left", &[]), None);
}

#[test]
fn a_bad_config_fails_the_start_with_key_found_and_expected() {
    let refused = Host::start::<Typed>("limit = 300").expect_err("it refuses");
    assert_eq!(
        refused.to_string(),
        "the config's key `limit`: invalid value: integer `300`, expected u8 (line 1)"
    );
    let refused = Host::start::<Typed>("{\"limt\": 3}").expect_err("it refuses");
    assert!(refused.to_string().contains("unknown field `limt`, expected `limit`"), "{refused}");
}

#[test]
fn health_says_why() {
    assert_eq!(host().health(), Ok(()));
    let host = Host::start::<Typed>("limit = 13").expect("it starts");
    assert_eq!(host.health(), Err("an unlucky limit".to_owned()));
}

#[test]
fn a_second_module_at_once_is_refused() {
    let first = host();
    assert!(Host::start::<Typed>("").expect_err("one at a time").to_string().contains("stop it before"));
    first.stop().expect("it stops");
    host().stop().expect("it stops");
}

/// Ends exchanges on a thread of its own, or never.
struct Raw;

impl RawModule for Raw {
    fn start(_: &Context) -> Result<Self, Error> {
        Ok(Self)
    }

    fn handle(&self, exchange: Exchange) -> Result<(), Error> {
        match exchange.path() {
            "/answer" => {
                std::thread::spawn(move || {
                    exchange.answer(|request| Ok(Response::text(request.path().to_owned())));
                });
                Ok(())
            }
            "/own" => Ok(exchange.reply(202, &[], "own")?),
            _ => Err("what?".into()),
        }
    }

    fn stop(self) {
        hot_module::log(Level::Info, "raw stopped");
    }
}

#[test]
fn a_raw_module_ends_exchanges_itself() {
    let host = Host::start::<Raw>("").expect("it starts");
    assert_eq!(host.get("/answer").text(), "/answer");
    assert_eq!(host.get("/own").status(), 202);
    let answer = host.get("/else");
    assert_eq!((answer.status(), answer.failure()), (500, Some("the exchange was dropped without an end")));
    host.wait_log("what?").expect("it is logged");
}
