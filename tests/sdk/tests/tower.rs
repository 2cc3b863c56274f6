//! A `tower` service as a module: readiness before the call, errors of the service, bodies of its own.

use axum::extract::Request;
use axum::response::Response;
use axum::routing::get;
use hot_module::testing::Host;
use hot_module::{Body, Context, Error, StatusError, Tower, TowerModule, http};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context as Task, Poll};
use std::time::Duration;

/// Is ready on its second asking, and counts calls that came before.
#[derive(Clone)]
struct Slow {
    asked: u32,
    too_early: Arc<AtomicU32>,
}

impl tower_service::Service<http::Request<Body>> for Slow {
    type Response = http::Response<Body>;
    type Error = StatusError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, StatusError>> + Send>>;

    fn poll_ready(&mut self, task: &mut Task<'_>) -> Poll<Result<(), StatusError>> {
        self.asked += 1;
        if self.asked < 2 {
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if self.asked < 2 {
            self.too_early.fetch_add(1, Ordering::SeqCst);
        }
        Box::pin(async move {
            match request.uri().path() {
                "/busy" => Err(StatusError::new(503, "busy")),
                _ => Ok(http::Response::new(Body::new(request.into_body()))),
            }
        })
    }
}

struct App(Slow);

impl TowerModule for App {
    type Service = Slow;

    async fn start(_: Context) -> Result<Self, Error> {
        Ok(Self(Slow { asked: 0, too_early: Arc::default() }))
    }

    fn service(&self) -> Slow {
        self.0.clone()
    }

    async fn health(&self) -> Result<(), Error> {
        match self.0.too_early.load(Ordering::SeqCst) {
            0 => Ok(()),
            calls => Err(format!("{calls} calls came before the service was ready").into()),
        }
    }
}

#[test]
fn a_service_is_asked_whether_it_is_ready_and_streams() {
    let host = Host::start::<Tower<App>>("").expect("it starts");
    for _ in 0..2 {
        let mut call = host.request("POST", "/echo").open();
        assert_eq!(call.status(), 200);
        assert!(call.write("there"));
        assert_eq!(call.read().as_deref(), Some(&b"there"[..]));
        call.end_with(&[("x-end", "1")]);
        let answer = call.finish();
        assert_eq!((answer.trailer("x-end").as_deref(), answer.failure()), (Some("1"), None));
    }
    assert_eq!(host.health(), Ok(()));
}

#[test]
fn an_error_of_a_service_is_an_answer() {
    let host = Host::start::<Tower<App>>("").expect("it starts");
    let answer = host.get("/busy");
    assert_eq!((answer.status(), answer.text().as_ref()), (503, "busy\n"));
}

/// An application of axum, whose bodies lie around ours.
struct Talks;

impl TowerModule for Talks {
    type Service = axum::Router;

    async fn start(_: Context) -> Result<Self, Error> {
        Ok(Self)
    }

    fn service(&self) -> axum::Router {
        axum::Router::new().route("/echo", get(echo)).route("/events", get(events))
    }
}

/// Writes of a connection as a server with one of its own would.
async fn echo(request: Request) -> Response {
    let response = http::Response::builder().status(101);
    let response = response.header("connection", "Upgrade").header("upgrade", "echo/1");
    response.body(request.into_body()).expect("a head")
}

async fn events() -> Response {
    let events = Body::stream(|mut writer| async move {
        writer.write("data: 1\n\n").await?;
        writer.ending().await;
        Ok(writer.write("event: bye\n\n").await?)
    });
    let response = http::Response::builder().header("content-type", "text/event-stream");
    response.body(axum::body::Body::new(events)).expect("a head")
}

#[test]
fn an_application_gets_the_connection_and_ends_its_events() {
    let host = Host::start::<Tower<Talks>>("").expect("it starts");
    let mut call = host.request("GET", "/echo").header("upgrade", "echo/1").open();
    assert_eq!(call.status(), 101);
    assert!(call.write("there"));
    assert_eq!(call.read().as_deref(), Some(&b"there"[..]));
    let answer = call.finish();
    assert_eq!((answer.header("upgrade").as_deref(), answer.failure()), (Some("echo/1"), None));

    let mut call = host.request("GET", "/events").open();
    assert_eq!(call.read().as_deref(), Some(&b"data: 1\n\n"[..]));
    call.ask_to_end(Duration::from_secs(10));
    let answer = call.finish();
    assert_eq!((answer.text().as_ref(), answer.failure()), ("event: bye\n\n", None));
}
