//! The loop: wait for whatever comes first, handle it, wait again.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hot_wire::PROTOCOL;
use hot_wire::isolation::Held;
use hot_wire::spawn::{Features, FromSpawn, HostState, Limits, MAX_LABEL, MAX_MODULE, MAX_NAME, ToSpawn};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::SealFlags;
use rustix::io::Errno;
use rustix::process::Signal;

use crate::bounds::Keeper;
use crate::cgroup::Cgroup;
use crate::denied::Denied;
use crate::door::Door;
use crate::homes::Homes;
use crate::hosts::{Host, Hosts, Tail};
use crate::options::Options;
use crate::peer::{Peer, PeerError};
use crate::sys::{self, Asked, Signals};
use crate::{log, orphans, processes};

/// Hosts that may run at once; each costs this process up to eight descriptors.
const MAX_HOSTS: usize = 1024;
/// Listeners that may be kept.
const MAX_KEPT: usize = 64;
/// Connections, of which one is the current `hotd` and the others have not said hello.
const MAX_PEERS: usize = 8;
/// Messages of one connection that are handled before others get their turn.
const MESSAGES_PER_TURN: usize = 64;
/// How long no connection is accepted after accepting failed, e.g. for want of descriptors: else this would spin.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// How long after KILL the last processes are waited for. One that can't end hangs in the kernel.
const KILL_WAIT: Duration = Duration::from_secs(2);

/// What an entry of the poll set is.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Door,
    Peer(u64),
    End(u64),
    Output(u64),
    Denied(u64),
}

/// The whole state of the process.
pub(crate) struct Server {
    options: Options,
    door: Door,
    signals: Signals,
    hosts: Hosts,
    keeper: Keeper,
    homes: Homes,
    looks: orphans::Looks,
    /// What was not over yet at the last look: orphans and homes.
    left: usize,
    kept: BTreeMap<String, OwnedFd>,
    /// Connections by a number of ours; the highest is the newest. In this order they are heard, so an older one that is
    /// closed is gone before a newer one is greeted.
    peers: BTreeMap<u64, Peer>,
    /// The connection that said hello.
    current: Option<u64>,
    /// What the current one understands.
    features: Features,
    next_peer: u64,
    /// Since when there is no current `hotd`.
    alone_since: Option<Instant>,
    accept_after: Option<Instant>,
    /// When what has not ended by itself is killed.
    kill_at: Option<Instant>,
}

impl Server {
    pub(crate) fn new(
        options: Options,
        door: Door,
        signals: Signals,
        homes: Homes,
        cgroup: Option<Cgroup>,
    ) -> Self {
        Self {
            options,
            door,
            signals,
            hosts: Hosts::default(),
            keeper: Keeper::new(cgroup),
            homes,
            looks: orphans::Looks::default(),
            left: 0,
            kept: BTreeMap::new(),
            peers: BTreeMap::new(),
            current: None,
            features: Features::default(),
            next_peer: 0,
            alone_since: Some(Instant::now()),
            accept_after: None,
            kill_at: None,
        }
    }

    /// Serves until told to end, or until the last `hotd` is gone for long enough.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        loop {
            for (source, events) in self.wait().context("cannot poll")? {
                self.handle(source, events);
            }
            let now = Instant::now();
            self.keeper.turn(&mut self.hosts.running, now);
            self.tell_denied(now);
            if self.accept_after.is_some_and(|at| at <= now) {
                self.accept_after = None;
            }
            if self.looks.are_due(now) || self.homes.due().is_some_and(|at| at <= now) {
                self.tidy();
            }
            if self.end_of_solitude().is_some_and(|at| at <= now) {
                log(format_args!("ending with all hosts: hotd has been away for too long"));
                self.stop();
            }
            if self.is_over(now) {
                return Ok(());
            }
        }
    }

    /// Waits until something is ready or due. Says what is ready.
    fn wait(&self) -> Result<Vec<(Source, PollFlags)>, Errno> {
        let now = Instant::now();
        let entry = |source, fd, events| (source, PollFd::from_borrowed_fd(fd, events));
        let mut entries = Vec::new();
        // Ends of orphans must not wake us up all the time either.
        if !self.looks.wanted() || self.looks.are_due(now) {
            entries.push(entry(Source::Signals, self.signals.as_fd(), PollFlags::IN));
        }
        if self.accept_after.is_none() && self.kill_at.is_none() {
            entries.push(entry(Source::Door, self.door.as_fd(), PollFlags::IN));
        }
        for (number, peer) in &self.peers {
            let write = if peer.wants_write() { PollFlags::OUT } else { PollFlags::empty() };
            entries.push(entry(Source::Peer(*number), peer.as_fd(), PollFlags::IN | write));
        }
        for (id, host) in &self.hosts.running {
            entries.push(entry(Source::End(*id), host.process.pidfd.as_fd(), PollFlags::IN));
            if self.current.is_none() && host.output_open {
                entries.push(entry(Source::Output(*id), host.process.output.as_fd(), PollFlags::IN));
            }
        }
        // Last, so that one that floods this is heard after all others.
        for (id, host) in &self.hosts.running {
            if let Some(source) = host.denied.source(now) {
                entries.push(entry(Source::Denied(*id), source, PollFlags::IN));
            }
        }
        let (sources, mut set): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let due = [
            self.end_of_solitude(),
            self.accept_after,
            self.kill_at.map(|at| next_check(at, now)),
            self.keeper.due(&self.hosts.running),
            self.denied_due(now),
            self.homes.due(),
            self.looks.due(),
        ];
        let timeout =
            due.into_iter().flatten().min().map(|at| timespec(at.saturating_duration_since(Instant::now())));
        match rustix::event::poll(&mut set, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let events = set.iter().map(PollFd::revents);
        Ok(sources.into_iter().zip(events).filter(|(_, events)| !events.is_empty()).collect())
    }

    fn handle(&mut self, source: Source, events: PollFlags) {
        match source {
            Source::Signals => self.signals(),
            Source::Door => self.accept(),
            Source::Peer(number) => {
                if let Err(error) = self.peer(number, events) {
                    self.drop_peer(number, &error);
                }
            }
            Source::End(id) => self.end(id),
            Source::Output(id) => {
                if let Some(host) = self.hosts.running.get_mut(&id) {
                    host.drain();
                }
            }
            Source::Denied(id) => {
                if let Some(host) = self.hosts.running.get_mut(&id) {
                    host.denied.ready(Instant::now());
                }
            }
        }
    }

    fn signals(&mut self) {
        for asked in self.signals.read() {
            match asked {
                Asked::Reap => self.looks.want(),
                Asked::Stop { by } => {
                    if self.stop() {
                        let (who, hosts) = (processes::described(by), self.hosts.running.len());
                        log(format_args!("told to end by {who}: ending with {hosts} hosts"));
                    }
                }
            }
        }
    }

    fn accept(&mut self) {
        match self.door.accept() {
            Ok(Some((socket, pid))) => {
                let number = self.next_peer;
                self.next_peer += 1;
                self.peers.insert(number, Peer::new(socket, pid.map_or(0, raw)));
                // Who connects without a word must not keep others out.
                let silent = self.peers.keys().copied().find(|number| Some(*number) != self.current);
                if let Some(silent) = silent.filter(|_| self.peers.len() > MAX_PEERS) {
                    self.drop_peer(silent, &PeerError::NoHello);
                }
            }
            Ok(None) => {}
            Err(error) => {
                log(format_args!("cannot accept a connection: {error}"));
                self.accept_after = Some(Instant::now() + ACCEPT_PAUSE);
            }
        }
    }

    fn drop_peer(&mut self, number: u64, reason: &PeerError) {
        self.peers.remove(&number);
        if self.current == Some(number) {
            self.current = None;
            self.alone_since = Some(Instant::now());
            for host in self.hosts.running.values_mut() {
                host.denied.hold_back();
            }
        }
        if !matches!(reason, PeerError::Closed) {
            let source =
                std::error::Error::source(reason).map(|source| format!(": {source}")).unwrap_or_default();
            log(format_args!("closed a connection of hotd: {reason}{source}"));
        }
    }

    fn peer(&mut self, number: u64, events: PollFlags) -> Result<(), PeerError> {
        if events.contains(PollFlags::OUT)
            && let Some(peer) = self.peers.get_mut(&number)
        {
            peer.flush()?;
        }
        for _ in 0..MESSAGES_PER_TURN {
            let Some(peer) = self.peers.get_mut(&number) else { return Ok(()) };
            let Some((message, descriptors)) = peer.receive()? else { return Ok(()) };
            if self.current == Some(number) {
                self.obey(number, message, descriptors)?;
            } else {
                self.greet(number, &message)?;
            }
        }
        Ok(())
    }

    /// The first message of a connection, which makes it the current one if there is none: a `hotd` that lives keeps its
    /// hosts, also one that stands still.
    fn greet(&mut self, number: u64, message: &ToSpawn) -> Result<(), PeerError> {
        let ToSpawn::Hello { protocol: PROTOCOL, features } = message else { return Err(PeerError::NoHello) };
        if let Some(current) = self.current.and_then(|number| self.peers.get(&number)) {
            let pid = current.pid();
            self.send(number, &FromSpawn::Occupied { pid }, &[])?;
            return Err(PeerError::Occupied { by: pid });
        }
        let pid = raw(rustix::process::getpid());
        self.send(number, &FromSpawn::Hello { protocol: PROTOCOL, pid }, &[])?;
        self.current = Some(number);
        self.features = *features;
        self.alone_since = None;
        Ok(())
    }

    fn obey(&mut self, number: u64, message: ToSpawn, descriptors: Vec<OwnedFd>) -> Result<(), PeerError> {
        let mut descriptors = descriptors.into_iter();
        match (message, descriptors.next()) {
            // The end of this connection is the answer: a failure would be held against the host.
            (ToSpawn::Spawn { .. }, Some(_)) if self.kill_at.is_some() => Ok(()),
            (ToSpawn::Spawn { id, label, limits, module }, Some(artifact)) => {
                let started = self.start(id, label, &limits, &module, &artifact);
                self.tell_started(number, id, started)
            }
            (ToSpawn::Keep { name }, Some(listener)) => self.keep(number, name, listener),
            (ToSpawn::List, _) => self.list(number),
            (ToSpawn::Kept, _) => self.tell_kept(number),
            (ToSpawn::Signal { id, signal }, _) => {
                let host = self.hosts.running.get(&id);
                if let (Some(host), Some(signal)) = (host, Signal::from_named_raw(signal)) {
                    host.signal(signal);
                }
                Ok(())
            }
            (ToSpawn::Drop { name }, _) => {
                self.kept.remove(&name);
                Ok(())
            }
            (ToSpawn::Forget { id }, _) => {
                self.hosts.ended.retain(|ended| ended.id != id);
                Ok(())
            }
            // `Peer` let no message through without its descriptor, so this is a second hello.
            (ToSpawn::Hello { .. } | ToSpawn::Spawn { .. } | ToSpawn::Keep { .. }, _) => {
                Err(PeerError::OutOfTurn)
            }
        }
    }

    fn tell_started(&mut self, number: u64, id: u64, started: Result<(), String>) -> Result<(), PeerError> {
        match started {
            Ok(()) => {
                let Some(host) = self.hosts.running.get(&id) else { return Ok(()) };
                let message = FromSpawn::Spawned { id, pid: raw(host.process.pid), held: host.held };
                let Some(peer) = self.peers.get_mut(&number) else { return Ok(()) };
                peer.send(&message, &[host.process.control.as_fd(), host.process.output.as_fd()])
            }
            Err(text) => self.send(number, &FromSpawn::SpawnFailed { id, text }, &[]),
        }
    }

    /// Starts a host, or says in one sentence why not.
    fn start(
        &mut self,
        id: u64,
        label: Vec<u8>,
        limits: &Limits,
        module: &str,
        artifact: &OwnedFd,
    ) -> Result<(), String> {
        if self.hosts.contains(id) {
            return Err(format!("there is a host {id} already"));
        }
        if self.hosts.running.len() >= MAX_HOSTS {
            return Err(format!("{MAX_HOSTS} hosts are running, which is the most"));
        }
        if label.len() > MAX_LABEL {
            return Err(format!("the label has {} bytes, expected at most {MAX_LABEL}", label.len()));
        }
        if module.len() > MAX_MODULE {
            return Err(format!(
                "the module's name has {} bytes, expected at most {MAX_MODULE}",
                module.len()
            ));
        }
        // What a host loads must be what was verified, for as long as it runs.
        let sealed = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        if !rustix::fs::fcntl_get_seals(artifact).is_ok_and(|seals| seals.contains(sealed)) {
            return Err("the artifact is no sealed file in memory".to_owned());
        }
        if self.looks.wanted() {
            // Its user may be the one of a host that has just ended.
            self.tidy();
        }
        let binary = &self.options.host_binary;
        let home = self.homes.make(id, module, limits)?;
        let held = home.held();
        let prepared = self.keeper.prepare(id, limits);
        let started = prepared
            .hold(held.user)
            .and_then(|hold| sys::start_host(binary, artifact.as_fd(), limits, hold, &home))
            .map_err(|error| format!("cannot execute {}: {error}", binary.display()));
        let now = Instant::now();
        let (process, report) = match started {
            Ok(started) => started,
            Err(text) => {
                self.keeper.discard(prepared, now);
                self.homes.leave(home);
                self.homes.settle();
                return Err(text);
            }
        };
        let (bounds, parts) = prepared.started(process.pid, now);
        let held = Held { parts: held.parts.with(parts), ..held };
        let denied = Denied::new(report, now);
        let tail = Tail::default();
        let host = Host { label, process, tail, output_open: true, home, held, bounds, denied };
        self.hosts.running.insert(id, host);
        Ok(())
    }

    fn keep(&mut self, number: u64, name: String, listener: OwnedFd) -> Result<(), PeerError> {
        let text = if name.len() > MAX_NAME {
            format!("cannot keep a listener: its name has {} bytes, expected at most {MAX_NAME}", name.len())
        } else if self.kept.len() >= MAX_KEPT && !self.kept.contains_key(&name) {
            format!("cannot keep the listener {name}: {MAX_KEPT} are kept, which is the most")
        } else {
            self.kept.insert(name, listener);
            return Ok(());
        };
        self.send(number, &FromSpawn::Refused { text }, &[])
    }

    fn tell_kept(&mut self, number: u64) -> Result<(), PeerError> {
        let Some(peer) = self.peers.get_mut(&number) else { return Ok(()) };
        for (name, listener) in &self.kept {
            peer.send(&FromSpawn::Kept { name: name.clone() }, &[listener.as_fd()])?;
        }
        peer.send(&FromSpawn::KeptEnd, &[])
    }

    fn list(&mut self, number: u64) -> Result<(), PeerError> {
        let Some(peer) = self.peers.get_mut(&number) else { return Ok(()) };
        for (id, host) in &mut self.hosts.running {
            let message = FromSpawn::Host {
                id: *id,
                pid: raw(host.process.pid),
                state: HostState::Running,
                label: host.label.clone(),
                tail: host.tail.take(),
                held: host.held,
            };
            host.denied.listed();
            peer.send(&message, &[host.process.control.as_fd(), host.process.output.as_fd()])?;
        }
        for ended in &self.hosts.ended {
            let message = FromSpawn::Host {
                id: ended.id,
                pid: raw(ended.pid),
                state: HostState::Ended(ended.ending),
                label: ended.label.clone(),
                tail: ended.tail.clone(),
                held: ended.held,
            };
            peer.send(&message, &[])?;
        }
        peer.send(&FromSpawn::ListEnd, &[])?;
        for ended in self.hosts.ended.iter_mut().filter(|ended| !ended.denied.is_empty()) {
            let calls = std::mem::take(&mut ended.denied);
            if self.features.has(Features::DENIED) {
                peer.send(&FromSpawn::Denied { id: ended.id, calls }, &[])?;
            }
        }
        Ok(())
    }

    fn send(
        &mut self,
        number: u64,
        message: &FromSpawn,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), PeerError> {
        self.peers.get_mut(&number).map_or(Ok(()), |peer| peer.send(message, descriptors))
    }

    /// A host's pidfd is readable.
    fn end(&mut self, id: u64) {
        // It may have got its TERM together with us.
        self.signals();
        let Some((ended, home, bounds)) =
            self.hosts.finish(id, self.current.is_none(), self.kill_at.is_some())
        else {
            return;
        };
        let mut messages = vec![FromSpawn::Exited { id, ending: ended.ending }];
        if self.current.is_some() && self.features.has(Features::DENIED) && !ended.denied.is_empty() {
            messages.insert(0, FromSpawn::Denied { id, calls: std::mem::take(&mut ended.denied) });
        }
        self.keeper.ended(id, bounds, Instant::now());
        self.homes.leave(home);
        self.looks.want();
        for message in messages {
            self.tell(&message);
        }
    }

    /// Reaps what has ended, and ends and removes what belongs to no running host.
    fn tidy(&mut self) {
        let began = Instant::now();
        self.left = orphans::sweep(&self.hosts.pids()) + self.homes.settle();
        self.looks.looked(began, Instant::now());
    }

    /// Says something to the `hotd` that is there, if one is.
    fn tell(&mut self, message: &FromSpawn) {
        if let Some(number) = self.current
            && let Err(error) = self.send(number, message, &[])
        {
            self.drop_peer(number, &error);
        }
    }

    /// Tells of refused calls where it is time to.
    fn tell_denied(&mut self, now: Instant) {
        if self.current.is_none() || !self.features.has(Features::DENIED) {
            return;
        }
        let due = |host: &Host| host.denied.due().is_some_and(|at| at <= now);
        let running = self.hosts.running.iter_mut().filter(|(_, host)| due(host));
        let messages: Vec<_> =
            running.map(|(id, host)| FromSpawn::Denied { id: *id, calls: host.denied.tell(now) }).collect();
        for message in messages {
            self.tell(&message);
        }
    }

    /// When a host's refused calls are to be told or heard again.
    fn denied_due(&self, now: Instant) -> Option<Instant> {
        let told = self.current.is_some() && self.features.has(Features::DENIED);
        let hosts = self.hosts.running.values().map(|host| &host.denied);
        hosts.flat_map(|denied| [denied.due().filter(|_| told), denied.resumes(now)]).flatten().min()
    }

    /// When this process ends because no `hotd` came back.
    fn end_of_solitude(&self) -> Option<Instant> {
        if self.kill_at.is_some() {
            return None;
        }
        Some(self.alone_since? + self.options.alone_for?)
    }

    /// Tells all hosts to end; `false`: they were told before.
    fn stop(&mut self) -> bool {
        if self.kill_at.is_some() {
            return false;
        }
        self.kill_at = Some(Instant::now() + self.options.stop_grace);
        for host in self.hosts.running.values() {
            host.signal(Signal::TERM);
        }
        self.looks.want();
        true
    }

    /// While ending: whether nothing is left to wait for. Kills what had its time.
    fn is_over(&mut self, now: Instant) -> bool {
        let Some(kill_at) = self.kill_at else { return false };
        if self.hosts.running.is_empty() && self.left == 0 && !self.looks.wanted() {
            return true;
        }
        if now >= kill_at {
            for host in self.hosts.running.values() {
                host.signal(Signal::KILL);
            }
        }
        let given_up = now >= kill_at + KILL_WAIT;
        if given_up {
            log(format_args!("{} hosts can't be killed and are left", self.hosts.running.len()));
        }
        given_up
    }
}

/// While ending, the time to look again: KILL is due at `kill_at`, giving up [`KILL_WAIT`] later.
fn next_check(kill_at: Instant, now: Instant) -> Instant {
    if now < kill_at { kill_at } else { kill_at + KILL_WAIT }
}

fn timespec(duration: Duration) -> Timespec {
    // A part of a millisecond more, so that what is due is due when this ends.
    let duration = duration + Duration::from_micros(100);
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

fn raw(pid: rustix::process::Pid) -> u32 {
    u32::try_from(pid.as_raw_nonzero().get()).unwrap_or_default()
}
