//! Answers without a deadline: server-sent events, and connections after a 101. Each is asked to end, or cut off.

use hot_module::testing::Host;
use hot_module::{
    Async, AsyncModule, Body, Context, Error, Exchange, Header, Level, Module, OrStatus, RawModule, Request,
    Response, StatusError, http, log,
};
use std::future::pending;
use std::thread;
use std::time::Duration;

/// More than any of it takes.
const LONG: Duration = Duration::from_secs(10);

struct Typed;

impl Module for Typed {
    fn start(_: &Context) -> Result<Self, Error> {
        Ok(Self)
    }

    fn handle(&self, request: &mut Request) -> Result<Response, Error> {
        match request.path() {
            "/events" => Ok(Response::stream(|_, writer| {
                let has_deadline = writer.time_left() < Duration::MAX;
                writer.write(format!("data: {has_deadline}\n\n").as_bytes())?;
                while !writer.is_ending() {
                    thread::yield_now();
                }
                Ok(writer.write(b"event: bye\n\n")?)
            })
            .header("Content-Type", "text/event-stream")),
            "/rows" => Ok(Response::stream(|_, writer| {
                let has_deadline = writer.time_left() < Duration::MAX;
                Ok(writer.write(format!("{has_deadline} {}", writer.is_ending()).as_bytes())?)
            })),
            "/connection" => {
                let asked = request.header("upgrade").or_status(400, "speak echo/1")?.to_owned();
                let early = request.bytes(100)?.len();
                let echo = Response::stream(move |reader, writer| {
                    writer.write(format!("{asked} {early} ").as_bytes())?;
                    while let Some(piece) = reader.read()? {
                        writer.write(piece)?;
                    }
                    Ok(())
                });
                Ok(echo.status(101))
            }
            _ => Ok(Response::text("no stream").status(101)),
        }
    }
}

#[test]
fn events_go_on_until_an_end_is_asked_for() {
    let host = Host::start::<Typed>("").expect("it starts");
    let mut call = host.request("GET", "/events").time(LONG).open();
    assert_eq!(call.read().as_deref(), Some(&b"data: false\n\n"[..]));
    call.ask_to_end(LONG);
    let answer = call.finish();
    assert_eq!((answer.text().as_ref(), answer.failure()), ("event: bye\n\n", None));

    // What has a deadline ends by that.
    let mut call = host.request("GET", "/rows").time(LONG).open();
    call.ask_to_end(Duration::ZERO);
    assert_eq!(call.finish().text(), "true false");
}

#[test]
fn a_connection_is_read_and_written_behind_the_101() {
    let host = Host::start::<Typed>("").expect("it starts");
    assert_eq!(host.get("/connection").status(), 400);
    let mut call = host.request("GET", "/connection").header("Upgrade", "echo/1").open();
    // Sent early, it is no body of the request.
    assert!(call.write("early"));
    assert_eq!(call.status(), 101);
    assert_eq!(call.read().as_deref(), Some(&b"echo/1 0 "[..]));
    assert_eq!(call.read().as_deref(), Some(&b"early"[..]));
    assert!(call.write("late"));
    let answer = call.finish();
    assert_eq!((answer.text().as_ref(), answer.failure()), ("late", None));
    assert_eq!(answer.header("upgrade").as_deref(), Some("echo/1"));

    assert_eq!(host.request("GET", "/whole").header("upgrade", "echo/1").send().status(), 500);
    host.wait_log("the response could not be sent: a status or header").expect("it is logged");
}

/// Events of an exchange that is sent elsewhere.
struct Raw;

impl RawModule for Raw {
    fn start(_: &Context) -> Result<Self, Error> {
        Ok(Self)
    }

    fn handle(&self, mut exchange: Exchange) -> Result<(), Error> {
        let was_ending = exchange.is_ending();
        exchange.respond(200, &[Header::new("Content-Type", "text/event-stream; charset=utf-8")])?;
        thread::spawn(move || -> Result<(), Error> {
            while !exchange.is_ending() {
                thread::yield_now();
            }
            exchange.write(format!("{was_ending} {}", exchange.time_left() <= LONG).as_bytes())?;
            Ok(exchange.finish()?)
        });
        Ok(())
    }
}

#[test]
fn an_exchange_knows_that_it_is_ending() {
    let host = Host::start::<Raw>("").expect("it starts");
    let mut call = host.request("GET", "/").open();
    assert_eq!(call.status(), 200);
    call.ask_to_end(LONG);
    assert_eq!(call.finish().text(), "false true");
}

/// Says when it is dropped, and with it the stream that holds it.
struct Guard(&'static str);

impl Drop for Guard {
    fn drop(&mut self) {
        log(Level::Info, &format!("dropped: {}", self.0));
    }
}

/// The same by futures.
struct Service;

impl AsyncModule for Service {
    async fn start(_: Context) -> Result<Self, Error> {
        Ok(Self)
    }

    async fn handle(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Error> {
        let path = request.uri().path().to_owned();
        let head = http::Response::builder();
        let head = if path.starts_with("/events") {
            head.header("content-type", "text/event-stream")
        } else {
            head.status(101)
        };
        Ok(match path.as_str() {
            "/events" => head.body(polite())?,
            "/events/elsewhere" => head.body(elsewhere())?,
            "/events/deaf" => head.body(deaf())?,
            // As a service says it that thinks the connection is its own.
            "/echo" => {
                head.header("connection", "upgrade").header("upgrade", "echo/1").body(request.into_body())?
            }
            "/talk" => head.body(talk(request.into_body()))?,
            "/whole" => head.body("no stream".into())?,
            _ => return Err(StatusError::new(404, "no such page").into()),
        })
    }
}

fn polite() -> Body {
    Body::stream(|mut writer| async move {
        let _guard = Guard("polite");
        writer.write("data: 1\n\n").await?;
        writer.ending().await;
        Ok(writer.write("event: bye\n\n").await?)
    })
}

fn elsewhere() -> Body {
    let events = Body::stream(|mut writer| async move {
        // It waits maybe before anybody has asked for a frame, and again and again.
        tokio::spawn(async move {
            for _ in 0..3 {
                writer.ending().await;
            }
            writer.write("bye").await
        });
        Ok(())
    });
    // Within another body, as middleware puts it.
    Body::new(events)
}

fn deaf() -> Body {
    Body::stream(|mut writer| async move {
        let _guard = Guard("deaf");
        writer.write("data: 1\n\n").await?;
        pending().await
    })
}

fn talk(mut body: Body) -> Body {
    Body::stream(|mut writer| async move {
        writer.write("who? ").await?;
        while let Some(name) = body.next().await {
            writer.write([b"hello ", &name?[..], b"! "].concat()).await?;
        }
        Ok(writer.write("bye").await?)
    })
}

#[test]
fn a_writer_waits_for_the_end_that_is_asked_for() {
    let host = Host::start::<Async<Service>>("").expect("it starts");
    let mut call = host.request("GET", "/events").open();
    assert_eq!(call.read().as_deref(), Some(&b"data: 1\n\n"[..]));
    call.ask_to_end(LONG);
    let answer = call.finish();
    assert_eq!((answer.text().as_ref(), answer.failure()), ("event: bye\n\n", None));

    let mut call = host.request("GET", "/events/elsewhere").open();
    assert_eq!(call.status(), 200);
    call.ask_to_end(LONG);
    let answer = call.finish();
    assert_eq!((answer.text().as_ref(), answer.failure()), ("bye", None));
    host.stop().expect("nothing is left");
}

#[test]
fn what_goes_on_is_cut_off() {
    let host = Host::start::<Async<Service>>("").expect("it starts");
    let mut call = host.request("GET", "/events/deaf").open();
    assert_eq!(call.read().as_deref(), Some(&b"data: 1\n\n"[..]));
    call.ask_to_end(Duration::from_millis(20));
    assert_eq!(call.read(), None);
    host.wait_log("dropped: deaf").expect("the future is dropped");
    assert_eq!(call.finish().failure(), Some("the deadline passed"));

    // And one whose client goes away waits for no end.
    let mut call = host.request("GET", "/events").open();
    assert_eq!(call.status(), 200);
    call.cancel();
    host.wait_log("dropped: polite").expect("the future is dropped");
    host.stop().expect("nothing is left");
}

#[test]
fn a_body_that_was_not_read_is_the_connections() {
    let host = Host::start::<Async<Service>>("").expect("it starts");
    let mut call = host.request("GET", "/talk").header("upgrade", "talk/1").open();
    assert!(call.write("Ada"));
    assert_eq!(call.status(), 101);
    assert_eq!(call.read().as_deref(), Some(&b"who? "[..]));
    assert_eq!(call.read().as_deref(), Some(&b"hello Ada! "[..]));
    assert!(call.write("Eve"));
    assert_eq!(call.read().as_deref(), Some(&b"hello Eve! "[..]));
    let answer = call.finish();
    assert_eq!((answer.text().as_ref(), answer.failure()), ("bye", None));
    assert_eq!(answer.header("upgrade").as_deref(), Some("talk/1"));

    let mut call = host.request("GET", "/echo").header("upgrade", "echo/1, echo/2").open();
    assert_eq!(call.status(), 101);
    assert!(call.write("one"));
    assert_eq!(call.read().as_deref(), Some(&b"one"[..]));
    let answer = call.finish();
    assert_eq!((answer.failure(), answer.header("connection")), (None, None));
    assert_eq!(answer.header("upgrade").as_deref(), Some("echo/1"));
    host.stop().expect("nothing is left");
}

#[test]
fn a_101_is_a_stream_that_was_asked_for() {
    let host = Host::start::<Async<Service>>("").expect("it starts");
    assert_eq!(host.get("/echo").status(), 500);
    host.wait_log("the response could not be sent: a status or header").expect("it is logged");
    assert_eq!(host.request("GET", "/whole").header("upgrade", "a").send().status(), 500);
}
