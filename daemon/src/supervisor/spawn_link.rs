//! The way to hot-spawn: the handle through which others ask, and the task that holds its connection and makes it anew.

use std::os::fd::OwnedFd;
use std::time::Duration;

use hot_wire::spawn::{Limits, ToSpawn};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::address::SpawnAddress;
use super::backoff::Backoff;
use super::connection::{ANSWER_WITHIN, Connection, Demand, Found, LinkError, Process, SpawnError};
use super::presence::Presences;

/// A connection that held for so long was a good one: after it, the next one is tried for soon. One that hot-spawn gives up
/// each time that something is started is not: its hosts are started anew at once, which must not go on without a pause.
const GOOD: Duration = Duration::from_secs(10);
/// How long a `hotd` that starts tries while hot-spawn serves another: the one before it may just be ending.
const FREE_WITHIN: Duration = Duration::from_secs(3);
/// Demands that wait while the connection is busy.
const QUEUE: usize = 256;

/// The handle. The connection is held until the last one is dropped; hot-spawn then keeps the hosts.
#[derive(Debug, Clone)]
pub(super) struct SpawnLink {
    demands: mpsc::Sender<Demand>,
    presence: Presences,
}

impl SpawnLink {
    /// Connects, starting hot-spawn if that is the address's way, and hears what runs.
    pub(super) async fn connect(address: SpawnAddress) -> Result<(Self, Vec<Found>), LinkError> {
        let mut link = open_once_free(&address).await?;
        let found = timeout(ANSWER_WITHIN, link.list()).await.map_err(|_elapsed| LinkError::Silent)??;
        let (demands, asked) = mpsc::channel(QUEUE);
        let presence = Presences::new();
        tokio::spawn(hold(address, link, asked, presence.clone()));
        Ok((Self { demands, presence }, found))
    }

    /// Whether hot-spawn is there.
    pub(super) fn presence(&self) -> &Presences {
        &self.presence
    }

    /// Starts a host. Dropped before it is done, a host that was started all the same is killed.
    pub(super) async fn spawn(
        &self,
        id: u64,
        label: Vec<u8>,
        module: String,
        limits: Limits,
        artifact: OwnedFd,
    ) -> Result<Process, SpawnError> {
        let (answer, answered) = oneshot::channel();
        self.demands
            .send(Demand::Spawn { id, label, module, limits, artifact, answer })
            .await
            .map_err(|_ended| SpawnError::NoLink)?;
        match timeout(ANSWER_WITHIN, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_dropped)) => Err(SpawnError::NoLink),
            Err(_elapsed) => Err(SpawnError::Silent),
        }
    }

    /// Sends a signal to a host's process group, if it still runs.
    pub(super) async fn signal(&self, id: u64, signal: rustix::process::Signal) {
        // Without a connection the host's end is told as lost anyway.
        self.demands.send(Demand::Signal { id, signal: signal.as_raw() }).await.unwrap_or_default();
    }

    /// Keeps a duplicate of a listener; false: hot-spawn is not there.
    pub(super) async fn keep(&self, name: String, listener: OwnedFd) -> bool {
        let (answer, answered) = oneshot::channel();
        self.demands.send(Demand::Keep { name, listener, answer }).await.is_ok() && answered.await.is_ok()
    }

    /// The listeners that are kept; `None`: hot-spawn is not there.
    pub(super) async fn kept(&self) -> Option<Vec<(String, OwnedFd)>> {
        let (answer, answered) = oneshot::channel();
        self.demands.send(Demand::Kept { answer }).await.ok()?;
        timeout(ANSWER_WITHIN, answered).await.ok()?.ok()
    }

    /// Ends hot-spawn with all its hosts, and waits until it is gone.
    pub(super) async fn end(&self) {
        let (answer, answered) = oneshot::channel();
        if self.demands.send(Demand::End { answer }).await.is_ok() {
            // Dropped or answered: either way it is over.
            answered.await.unwrap_or_default();
        }
    }

    /// Closes a kept listener. Without hot-spawn none is kept.
    pub(super) async fn forget_listener(&self, name: String) {
        let (answer, answered) = oneshot::channel();
        if self.demands.send(Demand::Drop { name, answer }).await.is_ok() {
            answered.await.unwrap_or_default();
        }
    }
}

/// Serves demands over `link`, and over its successors once it is lost.
async fn hold(
    address: SpawnAddress,
    mut link: Connection,
    mut asked: mpsc::Receiver<Demand>,
    presence: Presences,
) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        let begun = Instant::now();
        let error = match link.serve(&mut asked).await {
            Ok(()) => return,
            Err(error) => error,
        };
        let text = crate::describe(&error);
        tracing::error!(hosts = link.hosts(), "hot-spawn is lost, and its hosts with it: {text}");
        // Before anybody hears that a host is lost: whoever does knows why.
        presence.lost(link.hosts(), &text);
        link.lose(&text);
        if begun.elapsed() > GOOD {
            backoff.reset();
        }
        match reconnect(&address, &mut asked, &mut backoff, &presence).await {
            Some(again) => {
                presence.back();
                link = again;
            }
            None => return,
        }
    }
}

/// Connects, and tries again for a while where another `hotd` is connected.
async fn open_once_free(address: &SpawnAddress) -> Result<Connection, LinkError> {
    let until = Instant::now() + FREE_WITHIN;
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        match Connection::open(address).await {
            Err(LinkError::Occupied { .. }) if Instant::now() < until => {
                sleep(backoff.next(rand::random())).await;
            }
            opened => return opened,
        }
    }
}

/// Tries until it connects; `None`: nobody needs it any more.
async fn reconnect(
    address: &SpawnAddress,
    asked: &mut mpsc::Receiver<Demand>,
    backoff: &mut Backoff,
    presence: &Presences,
) -> Option<Connection> {
    loop {
        let pause = sleep(backoff.next(rand::random()));
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                // Dropped: whoever asked hears that hot-spawn is not there.
                demand = asked.recv() => { demand?; }
            }
        }
        match reopen(address).await {
            Ok(link) => {
                tracing::info!("hot-spawn is there again");
                return Some(link);
            }
            Err(error) => {
                let text = crate::describe(&error);
                tracing::warn!("{text}");
                if matches!(error, LinkError::Occupied { .. }) {
                    presence.still_lost(&text);
                }
            }
        }
    }
}

/// Hosts that run nevertheless are killed: their instances have ended for everyone else, and who waited for one that was
/// being started has been told that hot-spawn is not there.
async fn reopen(address: &SpawnAddress) -> Result<Connection, LinkError> {
    let mut link = Connection::open(address).await?;
    let found = timeout(ANSWER_WITHIN, link.list()).await.map_err(|_elapsed| LinkError::Silent)??;
    for host in found {
        if host.process.is_ok() {
            let signal = rustix::process::Signal::KILL.as_raw();
            link.send(&ToSpawn::Signal { id: host.id, signal }, None).await?;
        }
    }
    Ok(link)
}
