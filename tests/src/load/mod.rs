//! Load as real clients make it, and an honest count of what they saw.
//!
//! Every connection is kept alive and has one request on it at a time. What a response says is read from its body: the
//! version in it is who answered, and a response that names none is a failure, whatever its status. Nothing is sent
//! again: a request that fails has failed.
//!
//! In an open loop each connection has its own schedule, and the time of a request counts from when it was due, so that
//! a server that stalls can't hide it by slowing the client down.

mod connection;
mod counts;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

pub use counts::{Counts, Failure};

use connection::client;

/// What load to make.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where to.
    pub address: SocketAddr,
    /// What is asked for, by `GET`.
    pub path: String,
    /// Connections, each with one request at a time.
    pub connections: u32,
    /// How fast.
    pub pace: Pace,
    /// Longest that a request may take; then it has failed.
    pub timeout: Duration,
}

impl LoadOptions {
    /// As fast as `connections` in a closed loop go.
    pub fn closed(address: SocketAddr, path: &str, connections: u32) -> Self {
        let timeout = Duration::from_secs(60);
        Self { address, path: path.to_owned(), connections, pace: Pace::Closed, timeout }
    }

    /// With `per_second` requests in all, due at even times.
    #[must_use]
    pub fn at(mut self, per_second: u32) -> Self {
        self.pace = Pace::Open { per_second };
        self
    }
}

/// How requests follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The next one when the last one has ended.
    Closed,
    /// At even times over all connections, whether or not the last one has ended; one that is late counts as late.
    Open {
        /// Requests per second over all connections.
        per_second: u32,
    },
}

/// Load that runs until it is stopped, on a thread of its own.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// A span of time in which requests are counted by themselves: exactly those that *started* in it.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Window {
    index: usize,
}

/// What the clients and the test share.
#[derive(Debug)]
struct Shared {
    spans: Mutex<Vec<Span>>,
    changed: Condvar,
    stopped: AtomicBool,
}

/// Requests that started between two calls of `begin_window` or `end_window`.
#[derive(Debug, Default)]
struct Span {
    counts: Counts,
    in_flight: u32,
}

impl Load {
    /// Starts the clients.
    ///
    /// # Errors
    /// When there is no connection to make, or the thread can't be started.
    pub fn start(options: LoadOptions) -> Result<Self> {
        ensure!(options.connections > 0, "found 0 connections, expected at least one");
        let shared = Arc::new(Shared {
            spans: Mutex::new(vec![Span::default()]),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
        });
        let clients = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || run(&options, &clients))
            .context("a thread for the load")?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Begins to count anew: requests that start from now on are the window's.
    pub fn begin_window(&self) -> Window {
        let mut spans = self.shared.lock();
        spans.push(Span::default());
        Window { index: spans.len() - 1 }
    }

    /// Waits until so many requests of the window have ended.
    ///
    /// # Errors
    /// When they have not within `deadline`.
    pub fn wait_requests(&self, window: Window, requests: u64, deadline: Duration) -> Result<()> {
        let counted = self.shared.wait(deadline, |spans| spans[window.index].counts.requests >= requests);
        ensure!(counted, "fewer than {requests} requests within {deadline:?}: {}", self.so_far(window));
        Ok(())
    }

    /// Ends the window and gives what those saw whose requests started in it, once all of these have ended.
    ///
    /// # Errors
    /// When one of them does not end within its own time-out.
    pub fn end_window(&self, window: Window) -> Result<Counts> {
        {
            let mut spans = self.shared.lock();
            if spans.len() == window.index + 1 {
                spans.push(Span::default());
            }
        }
        let ended = self.shared.wait(Duration::from_secs(120), |spans| spans[window.index].in_flight == 0);
        ensure!(ended, "requests did not end: {}", self.so_far(window));
        Ok(self.so_far(window))
    }

    /// What was seen so far in the window.
    pub fn so_far(&self, window: Window) -> Counts {
        self.shared.lock()[window.index].counts.clone()
    }

    /// What was seen so far in all.
    pub fn total(&self) -> Counts {
        Counts::sum(self.shared.lock().iter().map(|span| &span.counts))
    }

    /// Lets requests in flight end, closes all connections and gives what was seen in all.
    ///
    /// # Errors
    /// When the load itself failed.
    pub fn stop(mut self) -> Result<Counts> {
        self.join()?;
        Ok(self.total())
    }

    fn join(&mut self) -> Result<()> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        match self.thread.take() {
            Some(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            None => Ok(()),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Span>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// A request starts: the index of the span that it counts in.
    fn begin(&self) -> usize {
        let mut spans = self.lock();
        let index = spans.len() - 1;
        spans[index].in_flight += 1;
        index
    }

    /// A request that started in the span `index` ended.
    fn end(&self, index: usize, took: Duration, outcome: connection::Outcome) {
        let mut spans = self.lock();
        spans[index].in_flight -= 1;
        spans[index].counts.record(took, outcome);
        self.changed.notify_all();
    }

    /// The server closed a connection that had no request on it.
    fn closed(&self) {
        if let Some(span) = self.lock().last_mut() {
            span.counts.closed += 1;
        }
    }

    /// Waits until `wanted` holds; false when it does not within `deadline`.
    fn wait(&self, deadline: Duration, wanted: impl Fn(&[Span]) -> bool) -> bool {
        let spans = self.lock();
        let waited = self.changed.wait_timeout_while(spans, deadline, |spans| !wanted(spans));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// The thread of the load: all clients on one runtime.
fn run(options: &LoadOptions, shared: &Arc<Shared>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    let start = Instant::now();
    runtime.block_on(async {
        let clients: Vec<_> = (0..options.connections)
            .map(|number| tokio::spawn(client(options.clone(), number, start, Arc::clone(shared))))
            .collect();
        for client in clients {
            client.await.context("a client ended early")?;
        }
        Ok(())
    })
}
