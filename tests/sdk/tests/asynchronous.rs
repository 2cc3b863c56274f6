//! Modules on a runtime of their own: streams both ways, back-pressure, and an end for every exchange.

#![expect(clippy::panic, reason = "what comes of a panic is under test")]

use hot_module::testing::Host;
use hot_module::{
    Async, AsyncModule, Body, Context, Deadline, Error, Level, OrStatus, Peer, StatusError, http, log,
};
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The bytes of one piece of `/rows`.
const ROW: usize = 16 * 1024;

/// Says when it is dropped, and with it the handler that holds it.
struct Guard(&'static str);

impl Drop for Guard {
    fn drop(&mut self) {
        log(Level::Info, &format!("dropped: {}", self.0));
    }
}

struct Service {
    /// Pieces of `/rows` that were taken.
    rows: Arc<AtomicU64>,
    /// A body that a handler left to its module.
    left: Mutex<Option<Body>>,
}

impl AsyncModule for Service {
    async fn start(context: Context) -> Result<Self, Error> {
        if context.config_text()? == "refuse" {
            return Err(StatusError::new(500, "refused to start").into());
        }
        tokio::spawn(async {
            let _guard = Guard("background");
            pending::<()>().await;
        });
        Ok(Self { rows: Arc::default(), left: Mutex::default() })
    }

    async fn handle(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Error> {
        let path = request.uri().path().to_owned();
        let extensions = request.extensions().clone();
        let query = request.uri().query().map(ToOwned::to_owned);
        let accept = request.headers().get("accept").cloned();
        let method = request.method().clone();
        let body = request.into_body();
        let whole = |body: &str| Ok(http::Response::new(Body::from(body.to_owned())));
        match path.as_str() {
            "/head" => {
                let peer = extensions.get::<Peer>().map(|peer| peer.0);
                let left = extensions.get::<Deadline>().map(|deadline| deadline.0 > Instant::now());
                whole(&format!("{method} {query:?} {accept:?} {peer:?} {left:?}"))
            }
            "/echo" => Ok(http::Response::builder().status(202).header("x-kind", "echo").body(body)?),
            "/text" => whole(&body.text(8).await?),
            "/json" => Ok(http::Response::new(Body::json(&body.to_json::<Vec<u32>>(64).await?)?)),
            "/rows" => {
                let rows = Arc::clone(&self.rows);
                Ok(http::Response::new(Body::stream(|mut writer| async move {
                    let _guard = Guard("rows");
                    loop {
                        writer.write(vec![b'x'; ROW]).await?;
                        rows.fetch_add(1, Ordering::SeqCst);
                    }
                })))
            }
            "/hangs" => {
                let _guard = Guard("hangs");
                pending().await
            }
            "/panic" => panic!("out of rows"),
            "/breaks" => Ok(http::Response::new(Body::stream(|mut writer| async move {
                writer.write("half").await?;
                Err("the disk is gone".into())
            }))),
            "/trailers" => Ok(http::Response::new(Body::stream(|mut writer| async move {
                writer.write("body").await?;
                let mut trailers = http::HeaderMap::new();
                trailers.insert("x-sum", http::HeaderValue::from_static("4"));
                Ok(writer.trailers(trailers).await?)
            }))),
            "/elsewhere" => Ok(http::Response::new(Body::stream(|mut writer| async move {
                tokio::spawn(async move {
                    for piece in ["on ", "another ", "task"] {
                        tokio::task::yield_now().await;
                        writer.write(piece).await?;
                    }
                    Ok::<_, Error>(())
                });
                Ok(())
            }))),
            "/leaves" => {
                *self.left.lock().map_err(|_poisoned| "poisoned")? = Some(body);
                whole("left")
            }
            "/left" => {
                let left = self.left.lock().map_err(|_poisoned| "poisoned")?.take();
                let read = left.or_status(404, "nothing was left")?.next().await;
                whole(&format!("{:?}", read.map(|piece| piece.map_err(|error| error.to_string()))))
            }
            "/connection" => Ok(http::Response::builder()
                .header("connection", "close")
                .header("transfer-encoding", "chunked")
                .body("as if on a connection".into())?),
            "/empty" => Ok(http::Response::builder().status(204).body(Body::empty())?),
            _ => Err(StatusError::new(404, "no such page").into()),
        }
    }

    async fn health(&self) -> Result<(), Error> {
        tokio::task::yield_now().await;
        match self.rows.load(Ordering::SeqCst) {
            0 => Ok(()),
            rows => Err(rows.to_string().into()),
        }
    }

    async fn stop(&self) {
        tokio::task::yield_now().await;
        log(Level::Info, "stopped");
    }
}

fn host() -> Host {
    Host::start::<Async<Service>>("").expect("it starts")
}

#[test]
fn a_head_is_that_of_http() {
    let answer = host().request("PUT", "/head?a=1").header("Accept", "*/*").peer("192.0.2.7:9").send();
    assert_eq!(answer.text(), "PUT Some(\"a=1\") Some(\"*/*\") Some(192.0.2.7:9) Some(true)");
}

#[test]
fn a_body_is_echoed_while_it_comes() {
    let host = host();
    let mut call = host.request("POST", "/echo").open();
    assert_eq!(call.status(), 202);
    for piece in ["one", "two", "three"] {
        assert!(call.write(piece));
        assert_eq!(call.read().as_deref(), Some(piece.as_bytes()));
    }
    call.end_with(&[("x-sum", "11")]);
    let answer = call.finish();
    assert_eq!(
        (answer.header("x-kind").as_deref(), answer.trailer("x-sum").as_deref(), answer.failure()),
        (Some("echo"), Some("11"), None)
    );
}

#[test]
fn whole_bodies_have_limits_and_types() {
    let host = host();
    assert_eq!(host.post("/text", "12345678").text(), "12345678");
    let answer = host.post("/text", "123456789");
    assert_eq!(
        (answer.status(), answer.text().as_ref()),
        (413, "the body is larger than the 8 bytes that are allowed\n")
    );
    assert_eq!(host.post("/text", b"\xff").status(), 400);
    assert_eq!(host.post("/json", "[1, 2]").text(), "[1,2]");
    assert!(host.post("/json", "[-1]").text().contains("invalid value: integer `-1`, expected u32"));
}

#[test]
fn an_endless_answer_waits_for_its_client_and_ends_with_it() {
    let host = host();
    let mut call = host.request("GET", "/rows").open();
    let mut read = 0;
    while read < 1024 * 1024 {
        read += call.read().expect("more").len();
    }
    // No more was written than what was read, what the host holds, and what is under way in the body.
    let rows: usize = host.health().expect_err("its rows").parse().expect("a number");
    let (written, bound) = (rows * ROW, read + 256 * 1024 + 2 * ROW);
    assert!(written <= bound, "{written} of at most {bound}");
    call.cancel();
    assert!(call.wait_end());
    host.wait_log("dropped: rows").expect("the future is dropped");
    assert!(host.logs().iter().all(|line| line.level != Level::Error), "{:?}", host.logs());
    host.stop().expect("nothing is left");
}

#[test]
fn a_client_that_goes_away_drops_the_handler() {
    let host = host();
    let mut call = host.request("GET", "/hangs").open();
    call.cancel();
    host.wait_log("dropped: hangs").expect("it is dropped");
    assert!(call.wait_end());
    host.stop().expect("nothing is left");
}

#[test]
fn the_deadline_drops_the_handler() {
    let host = host();
    let answer = host.request("GET", "/hangs").time(Duration::from_millis(50)).send();
    assert_eq!(answer.status(), 504);
    host.wait_log("dropped: hangs").expect("it is dropped");
}

#[test]
fn a_stop_cancels_what_hangs_and_drops_tasks() {
    let host = host();
    let call = host.request("GET", "/hangs").open();
    let lines: Vec<String> = host.stop().expect("it stops").into_iter().map(|line| line.text).collect();
    drop(call);
    assert_eq!(lines, ["dropped: hangs", "stopped", "dropped: background"]);
}

#[test]
fn a_panic_is_500_and_the_next_request_is_served() {
    let host = host();
    let answer = host.get("/panic");
    assert_eq!((answer.status(), answer.failure()), (500, Some("the handler panicked")));
    host.wait_log("panicked: out of rows").expect("it is logged");
    assert_eq!(host.get("/empty").status(), 204);
}

#[test]
fn an_error_is_an_answer() {
    let host = host();
    let answer = host.get("/nowhere");
    assert_eq!((answer.status(), answer.text().as_ref()), (404, "no such page\n"));
    let answer = host.get("/breaks");
    assert_eq!((answer.status(), answer.text().as_ref()), (200, "half"));
    assert_eq!(answer.failure(), Some("the body broke off"));
    host.wait_log("broke off: the disk is gone").expect("it is logged");
}

#[test]
fn trailers_and_other_tasks_end_a_stream() {
    let host = host();
    let answer = host.get("/trailers");
    assert_eq!((answer.text().as_ref(), answer.trailer("x-sum").as_deref()), ("body", Some("4")));
    assert_eq!(host.get("/elsewhere").text(), "on another task");
}

#[test]
fn headers_about_the_connection_stay_behind() {
    let answer = host().get("/connection");
    assert_eq!((answer.status(), answer.header("connection")), (200, None));
    assert_eq!(answer.text(), "as if on a connection");
}

#[test]
fn a_body_that_outlives_its_exchange_has_ended() {
    let host = host();
    assert_eq!(host.post("/leaves", "a body").text(), "left");
    assert_eq!(host.get("/left").text(), "Some(Err(\"the exchange has ended\"))");
}

#[test]
fn a_start_that_fails_says_why_and_one_without_threads_is_refused() {
    let refused = Host::start::<Async<Service>>("refuse").expect_err("it refuses");
    assert_eq!(refused.to_string(), "refused to start");
    let refused = Host::start::<Async<Threadless>>("").expect_err("it refuses");
    assert!(refused.to_string().contains("new_multi_thread"), "{refused}");
}

struct Threadless;

impl AsyncModule for Threadless {
    async fn start(_: Context) -> Result<Self, Error> {
        Ok(Self)
    }

    async fn handle(&self, _: http::Request<Body>) -> Result<http::Response<Body>, Error> {
        Ok(http::Response::default())
    }

    fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
        tokio::runtime::Builder::new_current_thread().build()
    }
}

/// Many at once, some of which go away in the middle: every exchange ends, and what is echoed is what was sent.
#[test]
fn many_streams_at_once_come_back_whole() {
    const PIECES: usize = 64;
    let host = host();
    thread::scope(|scope| {
        for client in 0..16_u8 {
            let host = &host;
            scope.spawn(move || {
                let mut call = host.request("POST", "/echo").open();
                assert_eq!(call.status(), 202);
                let mut back = 0;
                for number in 0..PIECES {
                    assert!(call.write(vec![client; 12 * 1024]), "piece {number} of {client}");
                    if client % 4 == 3 && number == PIECES / 2 {
                        call.cancel();
                        assert!(call.wait_end());
                        return;
                    }
                    if number % 2 == 1 {
                        back += check(client, &call.read().expect("a piece"));
                    }
                }
                let answer = call.finish();
                assert_eq!(answer.failure(), None);
                assert_eq!(back + check(client, answer.bytes()), PIECES * 12 * 1024);
            });
        }
    });
    host.stop().expect("nothing is left");
}

fn check(client: u8, piece: &[u8]) -> usize {
    assert!(piece.iter().all(|byte| *byte == client));
    piece.len()
}
