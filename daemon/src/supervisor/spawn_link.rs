//! The connection to hot-spawn: one task that holds it, and the handle through which others ask.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use hot_wire::spawn::{Ending, FromSpawn, HostState, Limits, ToSpawn};
use hot_wire::{MessageError, PROTOCOL, TooLarge};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::address::{self, ReachError, SpawnAddress};
use super::backoff::Backoff;
use super::packet::PacketSocket;
use super::presence::Presences;

/// hot-spawn is on this machine and answers at once, or something is very wrong.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to end with its hosts, which get a TERM first.
const END_WITHIN: Duration = Duration::from_secs(10);
/// A connection that held for so long was a good one: after it, the next one is tried for soon. One that hot-spawn gives up
/// each time that something is started is not: its hosts are started anew at once, which must not go on without a pause.
const GOOD: Duration = Duration::from_secs(10);
/// How long a `hotd` that starts tries while hot-spawn serves another: the one before it may just be ending.
const FREE_WITHIN: Duration = Duration::from_secs(3);
/// Demands that wait while the connection is busy.
const QUEUE: usize = 256;

/// Why hot-spawn can't be used.
#[derive(Debug, Error)]
pub enum LinkError {
    /// It could not be reached or started.
    #[error("hot-spawn can't be reached")]
    Reach(#[from] ReachError),
    /// The socket failed.
    #[error("the connection to hot-spawn failed")]
    Socket(#[from] io::Error),
    /// It ended or closed the connection.
    #[error("hot-spawn closed the connection")]
    Closed,
    /// Another `hotd` uses it.
    #[error(
        "hot-spawn at {} serves another hotd (pid {pid}); stop that one, or give this one a hot-spawn (and a `[spawn] \
         socket`) of its own",
        socket.display()
    )]
    Occupied {
        /// The socket.
        socket: PathBuf,
        /// The process of the other one.
        pid: u32,
    },
    /// It did not answer in time.
    #[error("hot-spawn did not answer within {ANSWER_WITHIN:?}")]
    Silent,
    /// It speaks another protocol.
    #[error(
        "hot-spawn speaks protocol {found}, expected {PROTOCOL}; stop it and its hosts, then start the new one"
    )]
    Protocol {
        /// Its protocol.
        found: u16,
    },
    /// It sent what is no message.
    #[error("hot-spawn sent an unreadable message")]
    Message(#[from] MessageError),
    /// It sent a message out of turn.
    #[error("hot-spawn sent a message that was not asked for")]
    OutOfTurn,
    /// A demand is too large.
    #[error("a demand to hot-spawn is too large")]
    TooLarge(#[from] TooLarge),
}

/// How a host ended, or that nobody will hear of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HostEnd {
    Ended(Ending),
    Lost(String),
}

/// A host that runs, and the promise to tell of its end.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) control: OwnedFd,
    pub(super) output: OwnedFd,
    pub(super) end: oneshot::Receiver<HostEnd>,
}

/// A host that hot-spawn told of at connecting.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: u64,
    pub(super) label: Vec<u8>,
    pub(super) tail: Vec<u8>,
    pub(super) pid: u32,
    pub(super) process: Result<Process, Ending>,
}

/// Why a host was not started.
#[derive(Debug, Error)]
pub(super) enum SpawnError {
    #[error("hot-spawn is not there")]
    NoLink,
    #[error("hot-spawn did not answer within {ANSWER_WITHIN:?}")]
    Silent,
    #[error("{0}")]
    Failed(String),
}

#[derive(Debug)]
enum Demand {
    Spawn { id: u64, label: Vec<u8>, limits: Limits, artifact: OwnedFd, answer: SpawnAnswer },
    Signal { id: u64, signal: i32 },
    Keep { name: String, listener: OwnedFd, answer: oneshot::Sender<()> },
    Kept { answer: oneshot::Sender<Vec<(String, OwnedFd)>> },
    Drop { name: String, answer: oneshot::Sender<()> },
    End { answer: oneshot::Sender<()> },
}

type SpawnAnswer = oneshot::Sender<Result<Process, SpawnError>>;

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
        limits: Limits,
        artifact: OwnedFd,
    ) -> Result<Process, SpawnError> {
        let (answer, answered) = oneshot::channel();
        self.demands
            .send(Demand::Spawn { id, label, limits, artifact, answer })
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
async fn hold(address: SpawnAddress, mut link: Link, mut asked: mpsc::Receiver<Demand>, presence: Presences) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        let begun = Instant::now();
        let error = match link.serve(&mut asked).await {
            Ok(()) => return,
            Err(error) => error,
        };
        let text = crate::describe(&error);
        tracing::error!(hosts = link.ends.len(), "hot-spawn is lost, and its hosts with it: {text}");
        // Before anybody hears that a host is lost: whoever does knows why.
        presence.lost(link.ends.len(), &text);
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
async fn open_once_free(address: &SpawnAddress) -> Result<Link, LinkError> {
    let until = Instant::now() + FREE_WITHIN;
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        match Link::open(address).await {
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
) -> Option<Link> {
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
async fn reopen(address: &SpawnAddress) -> Result<Link, LinkError> {
    let mut link = Link::open(address).await?;
    let found = timeout(ANSWER_WITHIN, link.list()).await.map_err(|_elapsed| LinkError::Silent)??;
    for host in found {
        if host.process.is_ok() {
            let signal = rustix::process::Signal::KILL.as_raw();
            link.send(&ToSpawn::Signal { id: host.id, signal }, None).await?;
        }
    }
    Ok(link)
}

/// A connection after its hello.
struct Link {
    socket: PacketSocket,
    /// The process of hot-spawn, as it says.
    pid: u32,
    /// Who waits for the answer to a spawn.
    starting: BTreeMap<u64, SpawnAnswer>,
    /// Who is to hear of a host's end.
    ends: BTreeMap<u64, oneshot::Sender<HostEnd>>,
    /// Who waits for the kept listeners, in the order of asking, and what has come so far.
    kept_asked: VecDeque<oneshot::Sender<Vec<(String, OwnedFd)>>>,
    kept: Vec<(String, OwnedFd)>,
}

impl Link {
    async fn open(address: &SpawnAddress) -> Result<Self, LinkError> {
        let socket = address::reach(address).await?;
        let mut link = Self {
            socket,
            pid: 0,
            starting: BTreeMap::new(),
            ends: BTreeMap::new(),
            kept_asked: VecDeque::new(),
            kept: Vec::new(),
        };
        let hello = async {
            link.send(&ToSpawn::Hello { protocol: PROTOCOL }, None).await?;
            match link.receive().await? {
                (FromSpawn::Hello { protocol: PROTOCOL, pid }, _) => Ok(pid),
                (FromSpawn::Hello { protocol, .. }, _) => Err(LinkError::Protocol { found: protocol }),
                (FromSpawn::Occupied { pid }, _) => {
                    Err(LinkError::Occupied { socket: address.socket().to_owned(), pid })
                }
                _ => Err(LinkError::OutOfTurn),
            }
        };
        link.pid = timeout(ANSWER_WITHIN, hello).await.map_err(|_elapsed| LinkError::Silent)??;
        Ok(link)
    }

    /// Asks for all hosts. Ends that were kept are then forgotten there.
    async fn list(&mut self) -> Result<Vec<Found>, LinkError> {
        self.send(&ToSpawn::List, None).await?;
        let mut found = Vec::new();
        loop {
            match self.receive().await? {
                (FromSpawn::Host { id, pid, state: HostState::Running, label, tail }, descriptors) => {
                    let process = self.process(id, pid, descriptors)?;
                    found.push(Found { id, label, tail, pid, process: Ok(process) });
                }
                (FromSpawn::Host { id, pid, state: HostState::Ended(ending), label, tail }, _) => {
                    self.send(&ToSpawn::Forget { id }, None).await?;
                    found.push(Found { id, label, tail, pid, process: Err(ending) });
                }
                (FromSpawn::Exited { id, ending }, _) => self.exited(id, ending).await?,
                (FromSpawn::ListEnd, _) => return Ok(found),
                _ => return Err(LinkError::OutOfTurn),
            }
        }
    }

    /// Until nobody asks any more (`Ok`) or the connection is lost.
    async fn serve(&mut self, asked: &mut mpsc::Receiver<Demand>) -> Result<(), LinkError> {
        loop {
            tokio::select! {
                demand = asked.recv() => match demand {
                    Some(Demand::End { answer }) => {
                        self.end().await;
                        answer.send(()).unwrap_or_default();
                        return Ok(());
                    }
                    Some(demand) => timeout(ANSWER_WITHIN, self.demand(demand)).await.map_err(|_elapsed| LinkError::Silent)??,
                    None => return Ok(()),
                },
                received = self.receive() => {
                    let (message, descriptors) = received?;
                    self.heard(message, descriptors).await?;
                }
            }
        }
    }

    /// Tells hot-spawn to end and waits until it has hung up.
    async fn end(&mut self) {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw) else { return };
        if let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::TERM) {
            tracing::warn!(%error, "hot-spawn could not be told to end");
            return;
        }
        let gone = async { while self.receive().await.is_ok() {} };
        if timeout(END_WITHIN, gone).await.is_err() {
            tracing::warn!("hot-spawn has not ended within {END_WITHIN:?}");
        }
    }

    async fn demand(&mut self, demand: Demand) -> Result<(), LinkError> {
        match demand {
            // Served where the connection can be given up.
            Demand::End { answer } => {
                drop(answer);
                Ok(())
            }
            Demand::Spawn { id, label, limits, artifact, answer } => {
                self.send(&ToSpawn::Spawn { id, label, limits }, Some(&artifact)).await?;
                self.starting.insert(id, answer);
                Ok(())
            }
            Demand::Signal { id, signal } => self.send(&ToSpawn::Signal { id, signal }, None).await,
            Demand::Keep { name, listener, answer } => {
                self.send(&ToSpawn::Keep { name }, Some(&listener)).await?;
                // Who does not wait for it does not need to know.
                answer.send(()).unwrap_or_default();
                Ok(())
            }
            Demand::Kept { answer } => {
                self.kept_asked.push_back(answer);
                self.send(&ToSpawn::Kept, None).await
            }
            Demand::Drop { name, answer } => {
                self.send(&ToSpawn::Drop { name }, None).await?;
                answer.send(()).unwrap_or_default();
                Ok(())
            }
        }
    }

    async fn heard(&mut self, message: FromSpawn, descriptors: Vec<OwnedFd>) -> Result<(), LinkError> {
        match message {
            FromSpawn::Spawned { id, pid } => {
                let process = self.process(id, pid, descriptors)?;
                let answer = self.starting.remove(&id);
                let unwanted = match answer {
                    Some(answer) => answer.send(Ok(process)).is_err(),
                    None => true,
                };
                if unwanted {
                    let signal = rustix::process::Signal::KILL.as_raw();
                    self.send(&ToSpawn::Signal { id, signal }, None).await?;
                }
                Ok(())
            }
            FromSpawn::SpawnFailed { id, text } => {
                if let Some(answer) = self.starting.remove(&id) {
                    // Who gave up waiting does not need to know.
                    answer.send(Err(SpawnError::Failed(text))).unwrap_or_default();
                }
                Ok(())
            }
            FromSpawn::Exited { id, ending } => self.exited(id, ending).await,
            FromSpawn::Kept { name } => {
                self.kept.extend(descriptors.into_iter().map(|listener| (name.clone(), listener)));
                Ok(())
            }
            FromSpawn::KeptEnd => {
                let kept = std::mem::take(&mut self.kept);
                if let Some(answer) = self.kept_asked.pop_front() {
                    answer.send(kept).unwrap_or_default();
                }
                Ok(())
            }
            FromSpawn::Refused { text } => {
                tracing::error!("hot-spawn refused: {text}");
                Ok(())
            }
            FromSpawn::Hello { .. }
            | FromSpawn::Occupied { .. }
            | FromSpawn::Host { .. }
            | FromSpawn::ListEnd => Err(LinkError::OutOfTurn),
        }
    }

    async fn exited(&mut self, id: u64, ending: Ending) -> Result<(), LinkError> {
        if let Some(end) = self.ends.remove(&id) {
            end.send(HostEnd::Ended(ending)).unwrap_or_default();
        }
        self.send(&ToSpawn::Forget { id }, None).await
    }

    fn process(&mut self, id: u64, pid: u32, descriptors: Vec<OwnedFd>) -> Result<Process, LinkError> {
        let mut descriptors = descriptors.into_iter();
        let (Some(control), Some(output)) = (descriptors.next(), descriptors.next()) else {
            return Err(LinkError::OutOfTurn);
        };
        let (end, ended) = oneshot::channel();
        self.ends.insert(id, end);
        Ok(Process { pid, control, output, end: ended })
    }

    /// Tells everyone whose host ran that the connection is gone. Who waits for something hears it when this is dropped.
    fn lose(mut self, text: &str) {
        for (_, end) in std::mem::take(&mut self.ends) {
            end.send(HostEnd::Lost(text.to_owned())).unwrap_or_default();
        }
    }

    async fn send(&self, message: &ToSpawn, descriptor: Option<&OwnedFd>) -> Result<(), LinkError> {
        let bytes = message.encode()?;
        let descriptors: Vec<_> = descriptor.iter().map(|fd| fd.as_fd()).collect();
        match self.socket.send(&bytes, &descriptors).await {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(LinkError::Closed),
            other => other.map_err(LinkError::Socket),
        }
    }

    async fn receive(&self) -> Result<(FromSpawn, Vec<OwnedFd>), LinkError> {
        let packet = self.socket.receive().await?.ok_or(LinkError::Closed)?;
        let message = FromSpawn::decode(&packet.bytes)?;
        if message.descriptors() != packet.descriptors.len() {
            return Err(LinkError::OutOfTurn);
        }
        Ok((message, packet.descriptors))
    }
}
