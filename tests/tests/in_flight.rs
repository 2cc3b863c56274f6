//! What is in flight at a swap, at its bounds: as much as a module may have, and for longer than an instance that is told to
//! end is given.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hot_tests::{Event, Events, Key, Module, ModuleStatus, Output, Service, Swap, WAIT, exchange, text};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Connections, and requests on each, which is the most that one may have.
const CROWD: (u64, u64) = (100, 100);

/// Replies by status and body.
type Replies = BTreeMap<(u16, String), u64>;

struct Case {
    service: Service,
    key: Key,
}

impl Case {
    /// A node with these lines of `[http]` in its config, and tables behind its `[trust]`.
    fn new(http: &str, tables: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let key = Key::generate(folder.path().join("ada"))?;
        let service = Service::start_with_http(&key.signer("ada@example.com")?, http, tables)?;
        let at = service.scratch().join("ada");
        std::fs::rename(key.path(), &at)?;
        Ok(Self { service, key: Key::at(at) })
    }

    /// Pushes to its end, all traffic at once.
    fn push(&self, file: &Path) -> Result<Output> {
        let key = text(self.key.path())?;
        let push = ["push", text(file)?, "--key", key, "--steps", "100%", "--bake", "1s"];
        self.service.hotctl(&push)?.expect(0)
    }

    /// Waits until the instances have so many requests.
    fn wait_in_flight(&self, requests: u64) -> Result<ModuleStatus> {
        let in_flight = |module: &ModuleStatus| module.instances().map(|it| it.in_flight).sum::<u64>();
        self.service.wait_module("probe", |module| in_flight(module) == requests)
    }
}

/// `GET`s over HTTP/2, all of them at once.
fn crowd(address: SocketAddr) -> JoinHandle<Result<Replies>> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut sent = JoinSet::new();
            for _ in 0..CROWD.0 {
                let stream = TcpStream::connect(address).await.context("connecting")?;
                let builder = http2::Builder::new(TokioExecutor::new());
                let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                for _ in 0..CROWD.1 {
                    sent.spawn(one(sender.clone(), address));
                }
            }
            let mut replies = Replies::new();
            while let Some(reply) = sent.join_next().await {
                *replies.entry(reply??).or_default() += 1;
            }
            Ok(replies)
        })
    })
}

async fn one(mut sender: http2::SendRequest<Full<Bytes>>, address: SocketAddr) -> Result<(u16, String)> {
    let request = http::Request::get(format!("http://{address}/probe")).body(Full::default())?;
    let (head, body) = sender.send_request(request).await.context("sending")?.into_parts();
    let body = body.collect().await.context("reading the body")?.to_bytes();
    Ok((head.status.as_u16(), String::from_utf8_lossy(&body).trim_end().to_owned()))
}

/// One request on a connection of its own, for a release or for whoever serves.
fn ask(address: SocketAddr, method: &str, path: &str, release: Option<&str>) -> Result<(u16, String)> {
    let request = http::Request::builder().method(method).uri(path).header("host", address.to_string());
    let request = release.into_iter().fold(request, |request, pin| request.header("x-hot-version", pin));
    let reply = exchange(address, request.body(Full::default())?)?;
    Ok((reply.status().as_u16(), String::from_utf8_lossy(reply.body()).trim_end().to_owned()))
}

/// Replies of one kind.
fn all(count: u64, status: u16, body: &str) -> Replies {
    Replies::from([((status, body.to_owned()), count)])
}

/// The proof of the swap from release 1 to release 2.
fn swap(events: &mut Events) -> Result<Swap> {
    let of = |event: &Event| event.swap.as_ref().is_some_and(|swap| swap.releases() == (1, 2));
    let swap = events.wait(WAIT, of)?.swap.context("a swap has its numbers")?;
    ensure!(swap.is_balanced(), "{swap:?}");
    Ok(swap)
}

#[test]
fn ten_thousand_in_flight_over_a_swap_are_all_answered_where_they_are() -> Result<()> {
    let requests = CROWD.0 * CROWD.1;
    let http = format!(
        "max_in_flight = {}\nrequest_deadline = \"2m\"\npin_from = [\"127.0.0.0/8\"]\n",
        requests + 10
    );
    let case = Case::new(&http, "")?;
    let address = case.service.http();
    case.push(&Module::new("holds").build()?)?;
    let mut events = case.service.events()?;
    let crowd = crowd(address);
    case.wait_in_flight(requests)?;

    case.push(&Module::new("good").version("1.1.0").build()?)?;
    ensure!(!crowd.is_finished(), "the old release was to hold them");
    for _ in 0..10 {
        ensure!(ask(address, "GET", "/probe", None)? == (200, "probe 1.1.0".to_owned()));
    }
    case.wait_in_flight(requests)?;
    ensure!(ask(address, "GET", "/probe/go", Some("1.0.0"))? == (200, "probe 1.0.0".to_owned()));
    let replies = crowd.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    ensure!(replies == all(requests, 200, "probe 1.0.0"), "{replies:?}");

    let swap = swap(&mut events)?;
    ensure!(swap.cut_short.is_empty() && swap.drained_ms.is_some(), "{swap:?}");
    let numbers = (swap.in_flight, swap.finished, swap.given_after, swap.lost, swap.errors);
    ensure!(numbers == (requests, requests, 0, 0, 0), "{swap:?}");
    case.service.stop()
}

/// Requests that a module never answers end with its instance, which has its time to drain and no more. What may be sent
/// once more is; of the rest the clients are told, and the proof has all of them.
#[test]
fn what_outlasts_the_drain_is_cut_off_and_told() -> Result<()> {
    const EACH: u64 = 6;
    let case =
        Case::new("drain_deadline = \"1s\"\nrequest_deadline = \"2m\"\n", "[policy]\nstandby = \"1s\"\n")?;
    let address = case.service.http();
    case.push(&Module::new("holds").build()?)?;
    let old = case.service.hosts()?.pop().context("a host runs")?;
    let mut events = case.service.events()?;
    let send = |method: &'static str| {
        (0..EACH).map(move |_| thread::spawn(move || ask(address, method, "/probe", None)))
    };
    let (reads, writes): (Vec<_>, Vec<_>) = (send("GET").collect(), send("POST").collect());
    case.wait_in_flight(2 * EACH)?;
    case.push(&Module::new("good").version("1.1.0").build()?)?;

    let replies = |sent: Vec<JoinHandle<Result<(u16, String)>>>| -> Result<Replies> {
        let mut replies = Replies::new();
        for sent in sent {
            let reply = sent.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            *replies.entry(reply).or_default() += 1;
        }
        Ok(replies)
    };
    let (reads, writes) = (replies(reads)?, replies(writes)?);
    old.wait_gone(WAIT)?;
    ensure!(reads == all(EACH, 200, "probe 1.1.0"), "{reads:?}");
    ensure!(writes.keys().all(|(status, _)| *status == 502), "{writes:?}");

    let swap = swap(&mut events)?;
    let numbers = (swap.in_flight, swap.finished, swap.lost, swap.sent_again, swap.still_in_flight);
    ensure!(numbers == (2 * EACH, 0, 2 * EACH, EACH, 0), "{swap:?}");
    // Its second to drain, and five to stop: far from the half minute that it has by default.
    ensure!(swap.cut_short.is_empty() && swap.drained_ms < Some(25_000), "{swap:?}");
    ensure!(swap.drained_ms >= Some(1000), "{swap:?}");
    case.service.stop()
}
