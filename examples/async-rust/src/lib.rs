//! An async module in Rust: `GET /wait/ROOM` waits until somebody posts a message to `/wait/ROOM`, then answers it.
//!
//! However many wait, none holds a thread: each is a future on the module's own tokio runtime. One whose client goes away
//! is dropped at once, which the gauge `waiting` shows.

use hot_module::{
    Async, AsyncModule, Body, Context, Counter, Deadline, Error, Gauge, OrStatus, StatusError, http,
};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

static WAITING: Gauge = Gauge::new("waiting");
static MESSAGES: Counter = Counter::new("messages_total");

/// The largest message.
const MAX_MESSAGE: usize = 64 * 1024;

/// How long before its deadline a client that waited in vain is told so.
const MARGIN: Duration = Duration::from_millis(500);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// How many may wait at once.
    #[serde(default = "max_waiting")]
    max_waiting: u32,
}

const fn max_waiting() -> u32 {
    10_000
}

struct Rooms {
    settings: Settings,
    waiting: Mutex<u32>,
    /// Rooms in which somebody waits.
    rooms: Mutex<HashMap<String, broadcast::Sender<Arc<str>>>>,
}

impl AsyncModule for Rooms {
    async fn start(context: Context) -> Result<Self, Error> {
        Ok(Self { settings: context.config()?, waiting: Mutex::default(), rooms: Mutex::default() })
    }

    async fn handle(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Error> {
        let room = request.uri().path().strip_prefix("/wait/").filter(|room| !room.is_empty());
        let room = room.or_status(404, "say /wait/ROOM")?.to_owned();
        match *request.method() {
            http::Method::GET => {
                let deadline = request.extensions().get().map(|Deadline(at)| *at);
                self.wait(&room, deadline).await
            }
            http::Method::POST => {
                let message = request.into_body().text(MAX_MESSAGE).await?;
                Ok(http::Response::new(format!("{} heard it\n", self.tell(&room, &message)).into()))
            }
            _ => Err(StatusError::new(405, "GET waits, POST tells").into()),
        }
    }
}

impl Rooms {
    async fn wait(&self, room: &str, deadline: Option<Instant>) -> Result<http::Response<Body>, Error> {
        let mut messages = {
            let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
            // Rooms that everybody has left go, so that the map holds no more rooms than waiters.
            rooms.retain(|_, room| room.receiver_count() > 0);
            rooms.entry(room.to_owned()).or_insert_with(|| broadcast::channel(1).0).subscribe()
        };
        let _waiter = Waiter::new(&self.waiting, self.settings.max_waiting)?;
        let until = deadline.and_then(|deadline| deadline.checked_sub(MARGIN)).unwrap_or_else(Instant::now);
        match tokio::time::timeout_at(until.into(), messages.recv()).await {
            Ok(message) => Ok(http::Response::new(message?.as_bytes().to_vec().into())),
            Err(_elapsed) => Ok(http::Response::builder().status(204).body(Body::empty())?),
        }
    }

    /// How many heard it.
    fn tell(&self, room: &str, message: &str) -> usize {
        MESSAGES.inc();
        let room = self.rooms.lock().unwrap_or_else(PoisonError::into_inner).remove(room);
        room.and_then(|room| room.send(message.into()).ok()).unwrap_or(0)
    }
}

/// One that waits; dropped with its future.
struct Waiter<'a>(&'a Mutex<u32>);

impl<'a> Waiter<'a> {
    fn new(waiting: &'a Mutex<u32>, max: u32) -> Result<Self, StatusError> {
        let mut count = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if *count >= max {
            return Err(StatusError::new(503, "too many wait"));
        }
        *count += 1;
        // Under the lock, so that the last to set it is right.
        WAITING.set((*count).into());
        Ok(Self(waiting))
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *count -= 1;
        WAITING.set((*count).into());
    }
}

hot_module::export!(Async<Rooms>, routes = ["/wait"]);

#[cfg(test)]
mod tests {
    use super::Rooms;
    use hot_module::Async;
    use hot_module::testing::{Call, Host, Metric};
    use std::time::{Duration, Instant};

    fn host(config: &str) -> Host {
        Host::start::<Async<Rooms>>(config).expect("it starts")
    }

    /// Opens calls that wait, and returns when they do.
    fn wait(host: &Host, room: &str, count: u32) -> Vec<Call> {
        let before = waiting(host);
        let calls = (0..count).map(|_| host.request("GET", room).open()).collect();
        until(|| waiting(host) >= before + f64::from(count));
        calls
    }

    fn waiting(host: &Host) -> f64 {
        match host.metric("waiting", &[]) {
            Some(Metric::Gauge(waiting)) => waiting,
            _ => 0.0,
        }
    }

    fn until(is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_so() {
            assert!(Instant::now() < deadline, "it did not come about");
            std::thread::yield_now();
        }
    }

    #[test]
    fn whoever_waits_hears_it() {
        let host = host("");
        let calls = wait(&host, "/wait/kitchen", 500);
        assert_eq!(host.post("/wait/kitchen", "soup").text(), "500 heard it\n");
        for call in calls {
            assert_eq!(call.finish().text(), "soup");
        }
        host.stop().expect("nothing is left");
    }

    #[test]
    fn who_goes_away_waits_no_longer() {
        let host = host("");
        let mut calls = wait(&host, "/wait/hall", 3);
        drop(calls.pop());
        until(|| waiting(&host) < 2.5);
        drop(calls);
        until(|| waiting(&host) < 0.5);
        assert_eq!(host.post("/wait/hall", "anybody?").text(), "0 heard it\n");
    }

    #[test]
    fn one_too_many_is_told() {
        let host = host("max_waiting = 1");
        let calls = wait(&host, "/wait/a", 1);
        assert_eq!(host.get("/wait/a").status(), 503);
        drop(calls);
    }

    #[test]
    fn who_waits_in_vain_is_told_before_the_deadline() {
        let answer = host("").request("GET", "/wait/b").time(Duration::from_millis(600)).send();
        assert_eq!(answer.status(), 204);
    }
}
