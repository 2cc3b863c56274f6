//! One connection to hot-spawn, from its hello until it is lost: what is asked over it, and who hears what comes.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use hot_wire::isolation::Held;
use hot_wire::spawn::{Ending, Features, FromSpawn, HostState, Limits, MAX_DENIED, ToSpawn};
use hot_wire::{MessageError, PROTOCOL, TooLarge};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::address::{self, ReachError, SpawnAddress};
use super::packet::PacketSocket;

/// hot-spawn is on this machine and answers at once, or something is very wrong.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to end with its hosts, which get a TERM first.
const END_WITHIN: Duration = Duration::from_secs(10);
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
    /// What came with a message found no place.
    #[error(
        "this hotd has as many files open as it may, and no place for what hot-spawn keeps for it; raise its limit \
         (LimitNOFILE= of the unit)"
    )]
    NoDescriptors,
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

/// Reports of refused calls that may wait for an instance's task, which takes them at once.
const DENIED_WAIT: usize = 64;

/// The system calls of one host that were refused: by number, how often each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Denials(BTreeMap<u32, u64>);

impl Denials {
    /// Different calls that are counted of one host; a kernel has fewer.
    const MOST: usize = MAX_DENIED;

    /// Adds to the counts.
    pub(super) fn add(&mut self, calls: &[(u32, u64)]) {
        for (call, times) in calls {
            if self.0.len() < Self::MOST || self.0.contains_key(call) {
                let sum = self.0.entry(*call).or_default();
                *sum = sum.saturating_add(*times);
            }
        }
    }

    /// The calls' numbers, with how often each was refused.
    pub fn calls(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.0.iter().map(|(call, times)| (*call, *times))
    }
}

impl FromIterator<(u32, u64)> for Denials {
    fn from_iter<I: IntoIterator<Item = (u32, u64)>>(calls: I) -> Self {
        let mut denials = Self::default();
        denials.add(&calls.into_iter().collect::<Vec<_>>());
        denials
    }
}

/// A host that runs, and the promise to tell of its end.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) held: Held,
    pub(super) control: OwnedFd,
    pub(super) output: OwnedFd,
    pub(super) end: oneshot::Receiver<HostEnd>,
    /// System calls of it that were refused, as they are told.
    pub(super) denied: mpsc::Receiver<Vec<(u32, u64)>>,
}

/// A host that hot-spawn told of at connecting.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: u64,
    pub(super) label: Vec<u8>,
    pub(super) tail: Vec<u8>,
    pub(super) pid: u32,
    pub(super) held: Held,
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

/// What the handle asks for.
#[derive(Debug)]
pub(super) enum Demand {
    Spawn { id: u64, label: Vec<u8>, module: String, limits: Limits, artifact: OwnedFd, answer: SpawnAnswer },
    Signal { id: u64, signal: i32 },
    Keep { name: String, listener: OwnedFd, answer: oneshot::Sender<()> },
    Kept { answer: oneshot::Sender<Vec<(String, OwnedFd)>> },
    Drop { name: String, answer: oneshot::Sender<()> },
    End { answer: oneshot::Sender<()> },
}

pub(super) type SpawnAnswer = oneshot::Sender<Result<Process, SpawnError>>;

/// A connection after its hello.
pub(super) struct Connection {
    socket: PacketSocket,
    /// The process of hot-spawn, as it says.
    pid: u32,
    /// Who waits for the answer to a spawn.
    starting: BTreeMap<u64, SpawnAnswer>,
    /// Who is to hear of a host's end.
    ends: BTreeMap<u64, oneshot::Sender<HostEnd>>,
    /// Who is to hear of the calls of a host that were refused.
    denied: BTreeMap<u64, mpsc::Sender<Vec<(u32, u64)>>>,
    /// Who waits for the kept listeners, in the order of asking, and what has come so far.
    kept_asked: VecDeque<oneshot::Sender<Vec<(String, OwnedFd)>>>,
    kept: Vec<(String, OwnedFd)>,
}

impl Connection {
    pub(super) async fn open(address: &SpawnAddress) -> Result<Self, LinkError> {
        let socket = address::reach(address).await?;
        let mut link = Self {
            socket,
            pid: 0,
            starting: BTreeMap::new(),
            ends: BTreeMap::new(),
            denied: BTreeMap::new(),
            kept_asked: VecDeque::new(),
            kept: Vec::new(),
        };
        let hello = async {
            link.send(&ToSpawn::Hello { protocol: PROTOCOL, features: Features::DENIED }, None).await?;
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
    pub(super) async fn list(&mut self) -> Result<Vec<Found>, LinkError> {
        self.send(&ToSpawn::List, None).await?;
        let mut found = Vec::new();
        loop {
            match self.receive().await? {
                (FromSpawn::Host { id, pid, state: HostState::Running, label, tail, held }, descriptors) => {
                    let process = self.process(id, pid, held, descriptors)?;
                    found.push(Found { id, label, tail, pid, held, process: Ok(process) });
                }
                (FromSpawn::Host { id, pid, state: HostState::Ended(ending), label, tail, held }, _) => {
                    self.send(&ToSpawn::Forget { id }, None).await?;
                    found.push(Found { id, label, tail, pid, held, process: Err(ending) });
                }
                (FromSpawn::Exited { id, ending }, _) => self.exited(id, ending).await?,
                (FromSpawn::Denied { id, calls }, _) => self.denied(id, calls),
                (FromSpawn::ListEnd, _) => return Ok(found),
                _ => return Err(LinkError::OutOfTurn),
            }
        }
    }

    /// Until nobody asks any more (`Ok`) or the connection is lost.
    pub(super) async fn serve(&mut self, asked: &mut mpsc::Receiver<Demand>) -> Result<(), LinkError> {
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
            Demand::Spawn { id, label, module, limits, artifact, answer } => {
                self.send(&ToSpawn::Spawn { id, label, limits, module }, Some(&artifact)).await?;
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
            // One that nobody can talk to. The others are not lost for that.
            FromSpawn::Spawned { id, .. } if descriptors.is_empty() => {
                if let Some(answer) = self.starting.remove(&id) {
                    let text = "this hotd has as many files open as it may, and no place for the sockets of another host; \
                                raise its limit (LimitNOFILE= of the unit)";
                    answer.send(Err(SpawnError::Failed(text.to_owned()))).unwrap_or_default();
                }
                self.send(&ToSpawn::Signal { id, signal: rustix::process::Signal::KILL.as_raw() }, None).await
            }
            FromSpawn::Spawned { id, pid, held } => {
                let process = self.process(id, pid, held, descriptors)?;
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
            FromSpawn::Kept { .. } if descriptors.is_empty() => Err(LinkError::NoDescriptors),
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
            FromSpawn::Denied { id, calls } => {
                self.denied(id, calls);
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

    fn denied(&self, id: u64, calls: Vec<(u32, u64)>) {
        if let Some(told) = self.denied.get(&id)
            && told.try_send(calls).is_err()
        {
            tracing::debug!(id, "refused system calls of a host are not counted");
        }
    }

    async fn exited(&mut self, id: u64, ending: Ending) -> Result<(), LinkError> {
        self.denied.remove(&id);
        if let Some(end) = self.ends.remove(&id) {
            end.send(HostEnd::Ended(ending)).unwrap_or_default();
        }
        self.send(&ToSpawn::Forget { id }, None).await
    }

    fn process(
        &mut self,
        id: u64,
        pid: u32,
        held: Held,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Process, LinkError> {
        let mut descriptors = descriptors.into_iter();
        let (Some(control), Some(output)) = (descriptors.next(), descriptors.next()) else {
            return Err(LinkError::NoDescriptors);
        };
        let (end, ended) = oneshot::channel();
        self.ends.insert(id, end);
        let (tell, denied) = mpsc::channel(DENIED_WAIT);
        self.denied.insert(id, tell);
        Ok(Process { pid, held, control, output, end: ended, denied })
    }

    /// How many hosts run.
    pub(super) fn hosts(&self) -> usize {
        self.ends.len()
    }

    /// Tells everyone whose host ran that the connection is gone. Who waits for something hears it when this is dropped.
    pub(super) fn lose(mut self, text: &str) {
        for (_, end) in std::mem::take(&mut self.ends) {
            end.send(HostEnd::Lost(text.to_owned())).unwrap_or_default();
        }
    }

    pub(super) async fn send(
        &self,
        message: &ToSpawn,
        descriptor: Option<&OwnedFd>,
    ) -> Result<(), LinkError> {
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
        match packet.descriptors.len() {
            found if found == message.descriptors() => Ok((message, packet.descriptors)),
            // None is worth anything without the other.
            _ if packet.cut => Ok((message, Vec::new())),
            _ => Err(LinkError::OutOfTurn),
        }
    }
}
