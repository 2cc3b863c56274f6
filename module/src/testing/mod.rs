//! A host within the test process, to test a module without a daemon (feature `testing`).
//!
//! It calls the module through the table that `export!` exports and hands it the table of services that hot-host does:
//! what a test runs is what a node runs, up to the boundary. Network, gateway and process are what it lacks: routes are not
//! looked at, and `hotctl push` to a `hotd --dev` is the test of those.
//!
//! ```
//! use hot_module::testing::Host;
//! # use hot_module::{Context, Error, Module, Request, Response};
//! # struct Greeter(String);
//! # impl Module for Greeter {
//! #     fn start(context: &Context) -> Result<Self, Error> {
//! #         Ok(Self(context.config_text()?.to_owned()))
//! #     }
//! #     fn handle(&self, request: &mut Request) -> Result<Response, Error> {
//! #         Ok(Response::text(format!("hello {}\n", request.param("name").unwrap_or(self.0.as_str().into()))))
//! #     }
//! # }
//!
//! let host = Host::start::<Greeter>("everyone")?;
//! assert_eq!(host.get("/greet?name=Ada").text(), "hello Ada\n");
//! assert_eq!(host.get("/greet").text(), "hello everyone\n");
//! assert_eq!(host.health(), Ok(()));
//! host.stop()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A process has one module at a time, here as there: [`Host::start`] waits while another thread's test has one, so tests of
//! one binary run one after the other.

mod call;
mod clock;
mod exchange;
mod journal;
mod services;
#[cfg(test)]
mod tests;

pub use call::{Answer, Call, RequestBuilder};
pub use journal::{LogLine, Metric};

use crate::RawModule;
use crate::abi::{self, Slice, Table};
use core::ffi::c_void;
use core::fmt;
use exchange::Exchange;
use std::borrow::ToOwned;
use std::boxed::Box;
use std::format;
use std::string::String;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};
use std::vec::Vec;

/// How long an exchange has unless the request says otherwise.
const TIME: Duration = Duration::from_secs(30);

/// How long what a module must do by itself may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a start waits for the module of another test.
const TURN: Duration = Duration::from_secs(300);

/// A module that runs.
pub struct Host {
    running: Option<Running>,
}

/// A module that was started and not stopped.
struct Running {
    table: Table,
    this: This,
    /// Calls of `handle` that have not returned.
    handling: Arc<AtomicU64>,
    _turn: Turn,
}

/// What the module gave as itself.
#[derive(Clone, Copy)]
struct This(*mut c_void);

// SAFETY: the contract lets the host call a module's functions from any thread, many at once.
unsafe impl Send for This {}
// SAFETY: as above.
unsafe impl Sync for This {}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("is_running", &self.running.is_some()).finish()
    }
}

impl Host {
    /// Starts a module with that config, and waits until it has started.
    ///
    /// # Errors
    /// What the module's `start` answered, as a failed push shows it. Also if this thread has a module that runs, or
    /// another thread has one for five minutes.
    pub fn start<M: RawModule>(config: impl AsRef<[u8]>) -> Result<Self, HostError> {
        let turn = Turn::take()?;
        // It lives as long as the process, as the contract has it.
        let config: &'static [u8] = Box::leak(config.as_ref().into());
        journal::begin(config);
        let table = const { crate::table::<M>() };
        let (mut this, mut why) = (core::ptr::null_mut(), Slice::EMPTY);
        let Some(start) = table.start else { return Err(HostError("the table has no start".to_owned())) };
        // SAFETY: the host's table and the config live as long as the process, and the places are locals.
        match unsafe { start(&raw const services::HOST, Slice::of(config), &raw mut this, &raw mut why) } {
            abi::OK => {
                let running = Running { table, this: This(this), handling: Arc::default(), _turn: turn };
                Ok(Self { running: Some(running) })
            }
            // SAFETY: `why` is what `start` set, which lives as long as the process, or empty.
            _ => Err(HostError(unsafe { text(why) })),
        }
    }

    /// `GET` of a path with its query.
    #[must_use]
    pub fn get(&self, target: &str) -> Answer {
        self.request("GET", target).send()
    }

    /// `POST` of a body.
    #[must_use]
    pub fn post(&self, target: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.request("POST", target).body(body).send()
    }

    /// Any other request.
    pub fn request(&self, method: &str, target: &str) -> RequestBuilder<'_> {
        RequestBuilder::new(self, method, target)
    }

    /// Calls the module's `health`.
    ///
    /// # Errors
    /// What it says.
    pub fn health(&self) -> Result<(), String> {
        let Some((running, health)) = self.running.as_ref().and_then(|r| Some((r, r.table.health?))) else {
            return Ok(());
        };
        let mut why = Slice::EMPTY;
        let _one = HEALTH.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: `this` came from `start`, `stop` was not called, the place is a local, and `HEALTH` keeps two calls apart.
        match unsafe { health(running.this.0, &raw mut why) } {
            abi::OK => Ok(()),
            // SAFETY: `why` lives until the next call of `health`, which waits for `HEALTH`.
            _ => Err(unsafe { text(why) }),
        }
    }

    /// What the module has logged since its start.
    #[must_use]
    pub fn logs(&self) -> Vec<LogLine> {
        journal::lines()
    }

    /// Waits for a line of the log that contains `part`, for what happens on the module's own threads.
    ///
    /// # Errors
    /// If none comes within ten seconds; the text has the log.
    pub fn wait_log(&self, part: &str) -> Result<LogLine, HostError> {
        journal::wait_line(Instant::now() + PATIENCE, |line| line.text.contains(part)).ok_or_else(|| {
            HostError(format!("no line with {part:?} within {PATIENCE:?}, but {:?}", journal::lines()))
        })
    }

    /// One series of the module's metrics: that of this name and these labels, in whatever order.
    #[must_use]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<Metric> {
        journal::series(name, labels)
    }

    /// Ends the module as hot-host does: what is still open is cancelled, and once every exchange has ended and no handler
    /// is running, `stop` is called. Gives all that the module has logged.
    ///
    /// # Errors
    /// If an exchange does not end or a handler does not return within ten seconds of its cancellation: on a node the
    /// process would end without `stop`.
    pub fn stop(mut self) -> Result<Vec<LogLine>, HostError> {
        self.running.take().map_or_else(|| Ok(Vec::new()), Running::stop)
    }

    /// Hands an exchange to the module, on a thread of its own.
    fn handle(&self, exchange: &Arc<Exchange>) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let Some(running) = &self.running else { return };
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        services::add(id, exchange);
        let (this, handle) = (running.this, running.table.handle);
        // Bytes that are lent live until the exchange has ended and `handle` has returned: so long the thread keeps it.
        let (exchange, handling) = (Arc::clone(exchange), Arc::clone(&running.handling));
        handling.fetch_add(1, Ordering::SeqCst);
        thread::spawn(move || {
            let this = this;
            if let Some(handle) = handle {
                // SAFETY: `this` came from `start`, and `stop` waits for `handling`; the exchange was handed over once.
                unsafe { handle(this.0, id) };
            }
            drop(exchange);
            handling.fetch_sub(1, Ordering::SeqCst);
            services::tell();
        });
    }
}

impl Running {
    fn stop(self) -> Result<Vec<LogLine>, HostError> {
        let open: Vec<_> = services::open().values().cloned().collect();
        open.iter().for_each(|exchange| exchange.cancel("the host stops"));
        let handling = &self.handling;
        let is_quiet = services::wait_open(Some(Instant::now() + PATIENCE), |open| {
            open.is_empty() && handling.load(Ordering::SeqCst) == 0
        });
        if !is_quiet {
            let left = core::mem::take(&mut *services::open());
            return Err(HostError(format!(
                "{} exchanges were not ended and {} handlers did not return within {PATIENCE:?} of their cancellation: \
                 stop was not called",
                left.len(),
                handling.load(Ordering::SeqCst)
            )));
        }
        if let Some(stop) = self.table.stop {
            // SAFETY: `this` came from `start`; no exchange is open, no handler runs, and this is the last call: `self`
            // is consumed.
            unsafe { stop(self.this.0) };
        }
        // Before the turn goes to another test, which begins a log of its own.
        Ok(journal::lines())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.running.take().map(Running::stop) {
            journal::error(&error.0);
        }
    }
}

/// Why a host did not start or stop: what people read on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostError(String);

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HostError {}

static HEALTH: Mutex<()> = Mutex::new(());
static OWNER: Mutex<Option<ThreadId>> = Mutex::new(None);
static FREE: Condvar = Condvar::new();

/// The right to run the process's one module.
struct Turn(());

impl Turn {
    fn take() -> Result<Self, HostError> {
        let me = thread::current().id();
        let until = Instant::now() + TURN;
        let mut owner = owner();
        while let Some(other) = *owner {
            if other == me {
                return Err(HostError(
                    "this test has a module that runs: stop it before the next start".to_owned(),
                ));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Err(HostError(format!("another test had its module for {TURN:?}")));
            }
            owner = FREE.wait_timeout(owner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *owner = Some(me);
        Ok(Self(()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *owner() = None;
        FREE.notify_one();
    }
}

fn owner() -> MutexGuard<'static, Option<ThreadId>> {
    OWNER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// # Safety
/// `slice` is empty or good for its length during the call.
unsafe fn text(slice: Slice) -> String {
    if slice.len == 0 {
        return String::new();
    }
    // SAFETY: the caller's word.
    let bytes = unsafe { core::slice::from_raw_parts(slice.ptr, slice.len) };
    String::from_utf8_lossy(bytes).into_owned()
}
