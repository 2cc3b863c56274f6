//! The HTTP front: accepts clients, picks an instance for each request by weight, and moves the bytes.
//!
//! What it owns: the clients' connections, the data streams to the hosts, the table of who serves what, and the
//! numbers of what each instance was asked and how that ended. What it does not do: start or stop hosts, choose
//! releases, or judge the numbers. The agent attaches links and publishes tables; `docs/gateway.md` says how requests
//! fare.
//!
//! A few threads, each with an executor of its own, accept from the same listeners. A connection stays on its thread,
//! and each thread has its own link to each host, so that the way of a request crosses no lock that two threads want
//! at once.

mod access;
mod client;
mod config;
mod counters;
mod drain;
#[doc(hidden)]
pub mod fuzzing;
mod hop;
mod request;
mod routing;
mod thread;

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hot_wire::host::Features;
use rustls::ServerConfig;
use thiserror::Error;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};

pub use config::{GatewayConfig, Network, NetworkError, Sources};
pub use counters::{Counters, Tally};
pub use drain::Drained;
pub use hop::LinkEnd;
pub use routing::{Backend, Conflict, ModuleTable, RESERVED_PREFIX, Role, Table, conflicts};

use crate::supervisor::InstanceId;
use access::AccessFile;
use counters::Recorders;
use drain::Asked;
use routing::Routes;
use thread::{Mail, Seat};

/// Events that a slow listener may have outstanding before it misses some.
const EVENTS_KEPT: usize = 1024;

/// The most that the last lines of the access log are waited for.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What the gateway has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A link to an instance's host ended by itself. What was in flight on it is being tried again or answered.
    LinkLost {
        /// Whose link.
        instance: InstanceId,
        /// Why.
        end: LinkEnd,
    },
}

/// Where clients come in.
#[derive(Debug)]
pub struct Door {
    /// Where they connect.
    pub listener: TcpListener,
    /// How TLS is spoken with them; none: it is not.
    pub tls: Option<Arc<ServerConfig>>,
}

/// Why the gateway can't start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A listener can't be shared by the threads.
    #[error("the listener can't be shared between threads")]
    Listener(#[source] io::Error),
    /// The access log can't be opened.
    #[error("the access log {} can't be opened", path.display())]
    AccessLog {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A thread or its executor can't be made.
    #[error("a gateway thread can't be started")]
    Thread(#[source] io::Error),
    /// The configuration asks for no thread.
    #[error("the gateway is configured with 0 threads; it needs at least 1")]
    NoThreads,
}

/// Why links can't be attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AttachError {
    /// Each thread needs one.
    #[error("{found} links were given and the gateway has {expected} threads; each needs one")]
    WrongNumber {
        /// The links.
        found: usize,
        /// The threads.
        expected: usize,
    },
    /// The gateway has ended.
    #[error("the gateway has been drained")]
    Ended,
}

/// A handle to the gateway. When the last one is dropped its threads end, and with them all connections.
#[derive(Debug, Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    threads: Vec<Handle>,
    /// The newest table, and what makes a publication one at a time.
    newest: Mutex<Option<Arc<Routes>>>,
    instances: Mutex<BTreeMap<InstanceId, Recorders>>,
    away: Arc<Mutex<Option<String>>>,
    events: broadcast::Sender<Event>,
    access: Mutex<Option<AccessFile>>,
    stream_grace: Duration,
}

#[derive(Debug)]
struct Handle {
    seat: Arc<Seat>,
    /// Unbounded, and used only at the pace at which instances come and go.
    mail: mpsc::UnboundedSender<Mail>,
}

impl Gateway {
    /// Starts the threads, which accept at once and let requests wait until the first table. The doors stay the caller's
    /// to hand on: the threads have duplicates.
    ///
    /// # Errors
    ///
    /// See [`StartError`]. Threads that were started have ended then.
    pub fn start(doors: &[Door], config: GatewayConfig) -> Result<Self, StartError> {
        if config.threads == 0 {
            return Err(StartError::NoThreads);
        }
        let open = |path: &PathBuf| {
            AccessFile::open(path).map_err(|source| StartError::AccessLog { path: path.clone(), source })
        };
        let access = config.access_log.as_ref().map(open).transpose()?;
        let config = Arc::new(config);
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        let away: Arc<Mutex<Option<String>>> = Arc::default();
        let mut threads = Vec::with_capacity(config.threads);
        for number in 0..config.threads {
            let (mail, inbox) = mpsc::unbounded_channel();
            let seat = Arc::new(Seat { table: Mutex::new(None), changed: Notify::new() });
            let start = thread::Start {
                config: Arc::clone(&config),
                doors: share(doors).map_err(StartError::Listener)?,
                seat: Arc::clone(&seat),
                away: Arc::clone(&away),
                mail: inbox,
                events: events.clone(),
                access: access.as_ref().map(AccessFile::lines),
            };
            spawn(number, start).map_err(StartError::Thread)?;
            threads.push(Handle { seat, mail });
        }
        let (newest, instances) = (Mutex::default(), Mutex::default());
        let (access, stream_grace) = (Mutex::new(access), config.stream_grace);
        let inner = Inner { threads, newest, instances, away, events, access, stream_grace };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How many threads there are, and so how many links an instance needs.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.inner.threads.len()
    }

    /// How long a stream may go on once it is asked to end.
    #[must_use]
    pub fn stream_grace(&self) -> Duration {
        self.inner.stream_grace
    }

    /// Gives the gateway the data streams to an instance's host, one for each thread, and what that host understands. Links that the instance has
    /// already are replaced, and what is in flight on them ends as if the host had died. A table that is published
    /// after this finds them in place.
    ///
    /// # Errors
    ///
    /// See [`AttachError`].
    pub fn attach(
        &self,
        instance: InstanceId,
        links: Vec<UnixStream>,
        features: Features,
    ) -> Result<(), AttachError> {
        let (found, expected) = (links.len(), self.threads());
        if found != expected {
            return Err(AttachError::WrongNumber { found, expected });
        }
        let recorders = self.instances().entry(instance).or_insert_with(|| Recorders::new(expected)).clone();
        for (number, (thread, stream)) in self.inner.threads.iter().zip(links).enumerate() {
            let recorder = recorders.of_thread(number);
            let mail = Mail::Attach { instance, stream, recorder, features };
            thread.mail.send(mail).map_err(|_gone| AttachError::Ended)?;
        }
        Ok(())
    }

    /// Ends the links to an instance; what is in flight on them ends as if the host had died. Its numbers stay until
    /// [`Gateway::forget`].
    pub fn detach(&self, instance: InstanceId) {
        for thread in &self.inner.threads {
            // A thread that has ended has no links.
            drop(thread.mail.send(Mail::Detach(instance)));
        }
    }

    /// Drops the numbers of an instance that was detached.
    pub fn forget(&self, instance: InstanceId) {
        self.instances().remove(&instance);
    }

    /// Replaces the table. When this returns, no request is given to an instance by the old one any more: the last
    /// pick by it was before ([`Counters::last_pick`]). Requests in flight stay where they are.
    pub fn publish(&self, table: Table) {
        let mut newest = self.inner.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let routes = Arc::new(Routes::compile(table, newest.as_deref(), rand::random));
        for thread in &self.inner.threads {
            let old = {
                let mut seat = thread.seat.table.lock().unwrap_or_else(PoisonError::into_inner);
                seat.replace(Arc::clone(&routes))
            };
            // Freed without the lock.
            drop(old);
        }
        *newest = Some(routes);
        for thread in &self.inner.threads {
            thread.seat.changed.notify_waiters();
        }
    }

    /// What was counted for an instance since it was first attached; zeros for one that never was.
    #[must_use]
    pub fn counters(&self, instance: InstanceId) -> Counters {
        let recorders = self.instances().get(&instance).cloned();
        recorders.unwrap_or_else(|| Recorders::new(0)).read()
    }

    /// What was counted of it without the latencies, which costs far less. `None` for an instance that was never attached,
    /// or is forgotten.
    #[must_use]
    pub fn tally(&self, instance: InstanceId) -> Option<Tally> {
        self.instances().get(&instance).map(Recorders::tally)
    }

    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.events.subscribe()
    }

    /// Has load balancers told to go away, with why, or not any more. Requests that come all the same are served.
    pub fn send_away(&self, why: Option<String>) {
        *self.inner.away.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Why load balancers are told to go away, while they are.
    #[must_use]
    pub fn away(&self) -> Option<String> {
        self.inner.away.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells the clients to leave, with their answers or with a GOAWAY, and ends the threads once they have. Who asks for
    /// nothing is kept, and let in, for [`GatewayConfig::drain_linger`]; who has not left at the deadline is cut off.
    /// Without clients it is over at once.
    pub async fn drain(&self, deadline: Instant) -> Drained {
        let threads = self.inner.threads.iter().filter_map(|thread| {
            let (done, drained) = oneshot::channel();
            thread.mail.send(Mail::Drain(Asked { deadline, done })).is_ok().then_some(drained)
        });
        let threads: Vec<_> = threads.collect();
        let mut all = Drained::default();
        for drained in threads {
            let of_thread = drained.await.unwrap_or_default();
            all.cut_off += of_thread.cut_off;
            all.crossed += of_thread.crossed;
        }
        let access = self.inner.access.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(access) = access {
            access.finish(LAST_LINES).await;
        }
        all
    }

    fn instances(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Recorders>> {
        self.inner.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn share(doors: &[Door]) -> io::Result<Vec<Door>> {
    let shared = doors.iter().map(|Door { listener, tls }| {
        let listener = listener.try_clone()?;
        listener.set_nonblocking(true)?;
        Ok(Door { listener, tls: tls.clone() })
    });
    shared.collect()
}

fn spawn(number: usize, start: thread::Start) -> io::Result<()> {
    let (ready, began) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name(format!("gateway-{number}"))
        .spawn(move || thread::run(start, &ready))?;
    began.recv().unwrap_or_else(|_ended| Err(io::Error::other("the thread ended before it began")))
}
