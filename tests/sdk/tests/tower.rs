//! A `tower` service as a module: readiness before the call, errors of the service, bodies of its own.

use hot_module::testing::Host;
use hot_module::{Body, Context, Error, StatusError, Tower, TowerModule, http};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context as Task, Poll};

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
