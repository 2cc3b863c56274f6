//! One thread of the gateway: its executor, its connections, its links to the hosts.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hot_wire::host::Features;
use rustls::ServerConfig;
use slab::Slab;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::time::{sleep, timeout_at};

use super::access::{AccessLog, Lines};
use super::client::{Client, ClientIo, Scratch};
use super::config::GatewayConfig;
use super::counters::Recorder;
use super::drain::{Asked, Drain, Drained};
use super::hop::{HostStream, Link, LinkEnd, Load, Look, pump};
use super::routing::{Role, Routes};
use super::{Door, Event};
use crate::supervisor::InstanceId;

/// How often deadlines and time-outs are looked at; so late may one be.
const SWEEP_EVERY: Duration = Duration::from_millis(50);

/// The pause after a failed accept: without descriptors left it fails again at once, and would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often it is logged that accepting fails, while it does.
const ACCEPT_TOLD_EVERY: Duration = Duration::from_secs(10);

/// Room for what one read of a connection of HTTP/2 may give.
const SCRATCH: usize = 64 * 1024;

/// What other threads share with a gateway thread.
#[derive(Debug)]
pub(super) struct Seat {
    /// What this thread serves; `None` until the first table. Locked for each pick.
    pub(super) table: Mutex<Option<Arc<Routes>>>,
    /// The table or a link changed.
    pub(super) changed: Notify,
}

/// What a thread is told.
#[derive(Debug)]
pub(super) enum Mail {
    /// A data stream to an instance's host.
    Attach {
        instance: InstanceId,
        stream: std::os::unix::net::UnixStream,
        recorder: Arc<Recorder>,
        features: Features,
    },
    /// End the link to an instance.
    Detach(InstanceId),
    /// End when all connections have, which are told, or at the deadline.
    Drain(Asked),
}

/// What a thread starts with.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) config: Arc<GatewayConfig>,
    pub(super) doors: Vec<Door>,
    pub(super) seat: Arc<Seat>,
    /// Why load balancers are told to go away, while they are.
    pub(super) away: Arc<Mutex<Option<String>>>,
    pub(super) mail: mpsc::UnboundedReceiver<Mail>,
    pub(super) events: broadcast::Sender<Event>,
    /// To the access log, if there is one.
    pub(super) access: Option<Lines>,
}

/// A thread's state, shared by its tasks.
#[derive(Debug)]
pub(super) struct Thread {
    config: Arc<GatewayConfig>,
    seat: Arc<Seat>,
    away: Arc<Mutex<Option<String>>>,
    mail: RefCell<mpsc::UnboundedReceiver<Mail>>,
    events: broadcast::Sender<Event>,
    access: Option<AccessLog>,
    links: RefCell<BTreeMap<InstanceId, Rc<Link>>>,
    load: Rc<Load>,
    clients: RefCell<Slab<Rc<Client>>>,
    client_came: Notify,
    client_left: Notify,
    pub(super) drain: Drain,
    pub(super) scratch: Scratch,
}

impl Thread {
    pub(super) fn config(&self) -> &GatewayConfig {
        &self.config
    }

    pub(super) fn access_log(&self) -> Option<&AccessLog> {
        self.access.as_ref()
    }

    pub(super) fn table(&self) -> &Mutex<Option<Arc<Routes>>> {
        &self.seat.table
    }

    pub(super) fn changed(&self) -> &Notify {
        &self.seat.changed
    }

    /// The link to an instance. One that was attached but not installed yet is installed first, so that a table that
    /// is published behind an attachment finds it.
    pub(super) fn link(self: &Rc<Self>, instance: InstanceId) -> Option<Rc<Link>> {
        let installed = |thread: &Self| thread.links.borrow().get(&instance).cloned();
        installed(self).or_else(|| {
            self.read_mail();
            installed(self)
        })
    }

    /// Whether an instance is in the table, with a share or without. It is taken out before it is told to stop.
    pub(super) fn has(&self, instance: InstanceId) -> bool {
        let table = self.seat.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.as_ref().is_some_and(|routes| {
            let mut backends = routes.modules.iter().flat_map(|module| &module.table.backends);
            backends.any(|backend| backend.instance == instance)
        })
    }

    /// Runs something beside the requests.
    #[expect(
        clippy::unused_self,
        reason = "the task runs on this thread and no other, which the receiver says"
    )]
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }

    /// Why load balancers should send nothing here, in words.
    pub(super) fn not_ready(self: &Rc<Self>) -> Option<String> {
        if self.drain.is_on() {
            return Some("this node is draining".to_owned());
        }
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if away.is_some() {
            return away;
        }
        let table = self.seat.table.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(routes) = &*table else { return Some("this node has not begun to serve yet".to_owned()) };
        let unready = routes.modules.iter().find(|module| {
            let mut serving = module.table.backends.iter().filter(|b| b.role != Role::Standby).peekable();
            let has_stable = module.with_role(Role::Stable).next().is_some();
            has_stable
                && serving.peek().is_some()
                && !serving.any(|backend| {
                    (backend.weight > 0 || backend.role == Role::Stable)
                        && self.link(backend.instance).is_some_and(|link| link.is_ready())
                })
        })?;
        Some(format!("module {} has no instance that is ready", unready.table.module))
    }

    fn read_mail(self: &Rc<Self>) {
        loop {
            // Not held while the mail is read: that installs links, which may look for mail themselves.
            let Ok(mail) = self.mail.borrow_mut().try_recv() else { return };
            self.act(mail);
        }
    }

    fn act(self: &Rc<Self>, mail: Mail) {
        match mail {
            Mail::Attach { instance, stream, recorder, features } => {
                let tells_deadlines = features.has(Features::DEADLINES);
                let link = Link::new(instance, recorder, Rc::clone(&self.load), tells_deadlines);
                self.attach(link, stream);
            }
            Mail::Detach(instance) => {
                let link = self.links.borrow_mut().remove(&instance);
                if let Some(link) = link {
                    link.end(LinkEnd::Detached);
                }
            }
            Mail::Drain(asked) => {
                self.drain.begin(asked);
                // From here on it counts how long they ask for nothing.
                self.clients.borrow().iter().for_each(|(_, client)| client.step());
            }
        }
    }

    fn attach(self: &Rc<Self>, link: Rc<Link>, stream: std::os::unix::net::UnixStream) {
        let instance = link.instance();
        let stream = match HostStream::new(stream) {
            Ok(stream) => stream,
            Err(error) => return self.report(instance, LinkEnd::Io(error.kind())),
        };
        if let Some(old) = self.links.borrow_mut().insert(instance, Rc::clone(&link)) {
            old.end(LinkEnd::Detached);
        }
        let thread = Rc::clone(self);
        self.spawn(async move {
            let end = pump::run(Rc::clone(&link), stream).await;
            let mut links = thread.links.borrow_mut();
            if links.get(&instance).is_some_and(|current| Rc::ptr_eq(current, &link)) {
                links.remove(&instance);
            }
            drop(links);
            if end != LinkEnd::Detached {
                thread.report(instance, end);
            }
        });
        self.seat.changed.notify_waiters();
    }

    fn report(&self, instance: InstanceId, end: LinkEnd) {
        if end.is_malformed() {
            tracing::warn!(instance = instance.0, %end, "a host's link was dropped");
        }
        // Nobody may be listening, which is nobody's fault.
        drop(self.events.send(Event::LinkLost { instance, end }));
    }

    /// Looks at all that may have taken too long, as long as there are clients.
    async fn sweep(self: Rc<Self>) {
        loop {
            if self.clients.borrow().is_empty() {
                self.client_came.notified().await;
            }
            let before = Instant::now();
            sleep(SWEEP_EVERY).await;
            let now = Instant::now();
            let serving = self.serving();
            let grace_ends = now + self.config.stream_grace;
            // A drain may leave them less.
            let streams_end = self.drain.deadline().map_or(grace_ends, |drained| drained.min(grace_ends));
            for link in self.links.borrow().values() {
                let streams_end_by = (!serving.contains(&link.instance())).then_some(streams_end);
                let passed = now.saturating_duration_since(before);
                link.sweep(Look { now, passed, stall: self.config.stall_timeout, streams_end_by });
            }
            for (_, client) in &*self.clients.borrow() {
                client.sweep(now, &self.config, self.drain.is_on());
            }
            if let Some(log) = &self.access {
                log.flush();
            }
        }
    }

    /// The instances that get something: by their weight, or as stable. None during a drain.
    fn serving(&self) -> BTreeSet<InstanceId> {
        let table = self.seat.table.lock().unwrap_or_else(PoisonError::into_inner);
        let routes = table.as_ref().filter(|_| !self.drain.is_on());
        let backends =
            routes.iter().flat_map(|routes| &routes.modules).flat_map(|module| &module.table.backends);
        let serving = backends.filter(|backend| backend.weight > 0 || backend.role == Role::Stable);
        serving.map(|backend| backend.instance).collect()
    }

    /// Accepts from one listener until nobody is let in any more.
    async fn accept(self: Rc<Self>, listener: TcpListener, tls: Option<Arc<ServerConfig>>) {
        let most = self.config.max_connections.div_ceil(self.config.threads).max(1);
        let mut told: Option<Instant> = None;
        while !self.drain.doors().is_cancelled() {
            if self.clients.borrow().len() >= most {
                self.client_left.notified().await;
                continue;
            }
            let accepted = tokio::select! {
                () = self.drain.doors().cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => self.welcome(socket, peer, tls.clone()),
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    if told.is_none_or(|told| told.elapsed() >= ACCEPT_TOLD_EVERY) {
                        tracing::warn!(%error, "accepting connections failed; trying again");
                        told = Some(Instant::now());
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
            // One at a time, so that the threads share what comes in a burst.
            tokio::task::yield_now().await;
        }
    }

    fn welcome(self: &Rc<Self>, socket: TcpStream, peer: SocketAddr, tls: Option<Arc<ServerConfig>>) {
        if socket.set_nodelay(true).is_err() {
            // The client has gone already.
            return;
        }
        ClientIo::watch_over(&socket);
        let client = Client::new(peer, tls.is_some(), &self.config);
        let key = self.clients.borrow_mut().insert(Rc::clone(&client));
        self.client_came.notify_one();
        let place = Place { thread: Rc::clone(self), key };
        self.spawn(async move { place.thread.converse(socket, tls, client).await });
    }

    /// Acts on mail until a drain is over, or nobody is left to write.
    async fn live(self: Rc<Self>) {
        loop {
            let drained = self.drain.began();
            let mail = poll_fn(|cx| self.mail.borrow_mut().poll_recv(cx));
            tokio::select! {
                mail = mail => match mail {
                    Some(mail) => self.act(mail),
                    None => return,
                },
                () = drained => {}
            }
            if let Some(Asked { deadline, done }) = self.drain.take() {
                let drained = self.drained(deadline).await;
                if done.send(drained).is_err() {
                    tracing::debug!("the drain ended after whoever asked for it had gone");
                }
                return;
            }
        }
    }

    /// Waits for the last client, and lets others in for as long as one may ask for nothing.
    async fn drained(&self, deadline: Instant) -> Drained {
        let quiet = deadline.min(Instant::now() + self.config.drain_linger);
        if timeout_at(quiet.into(), self.emptied()).await.is_err() {
            self.drain.shut_doors();
            if timeout_at(deadline.into(), self.emptied()).await.is_err() {
                tracing::debug!("the drain is over before its last client has left");
            }
        }
        self.drain.cost(self.clients.borrow().iter().filter(|(_, client)| client.is_busy()).count())
    }

    async fn emptied(&self) {
        loop {
            let left = self.client_left.notified();
            if self.clients.borrow().is_empty() {
                return;
            }
            left.await;
        }
    }
}

/// A client's place among those of its thread, until its connection has ended, however it did.
struct Place {
    thread: Rc<Thread>,
    key: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.thread.clients.borrow_mut().remove(self.key);
        self.thread.client_left.notify_waiters();
    }
}

/// A connection that was reset before it was accepted says nothing about the next one.
fn is_of_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// Runs a thread of the gateway to its end. `ready` learns whether it began.
pub(super) fn run(start: Start, ready: &std::sync::mpsc::SyncSender<io::Result<()>>) {
    let runtime =
        match tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()) {
            Ok(runtime) => runtime,
            Err(error) => {
                drop(ready.send(Err(error)));
                return;
            }
        };
    runtime.block_on(async {
        let open = |Door { listener, tls }| Ok((TcpListener::from_std(listener)?, tls));
        let doors: io::Result<Vec<_>> = start.doors.into_iter().map(open).collect();
        let doors = match doors {
            Ok(doors) => doors,
            Err(error) => {
                drop(ready.send(Err(error)));
                return;
            }
        };
        let thread = Rc::new(Thread {
            config: start.config,
            seat: start.seat,
            away: start.away,
            mail: RefCell::new(start.mail),
            events: start.events,
            access: start.access.map(AccessLog::new),
            links: RefCell::default(),
            load: Rc::default(),
            clients: RefCell::default(),
            client_came: Notify::new(),
            client_left: Notify::new(),
            drain: Drain::default(),
            scratch: Rc::new(RefCell::new(vec![0; SCRATCH])),
        });
        for (listener, tls) in doors {
            tokio::task::spawn_local(Rc::clone(&thread).accept(listener, tls));
        }
        tokio::task::spawn_local(Rc::clone(&thread).sweep());
        drop(ready.send(Ok(())));
        thread.live().await;
    });
}
