//! The load: many kept-alive connections on one thread, each with one request in flight, timed by the nanosecond.
//!
//! Closed: the next request follows the response, which finds the limit. Open: requests are due at even times whatever
//! the server does, and the time of each counts from when it was due, so that a server that stalls can't hide it by
//! slowing the client down. A runtime's timers are too coarse for that; this waits with `epoll_pwait2`.
//!
//! It judges no more of a response than its status, its length, and the word that its body begins with.

mod background;
mod connection;
mod crowd;
mod seen;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

pub(crate) use background::Background;
pub(crate) use crowd::Crowd;
pub(crate) use seen::Seen;

use connection::{Connection, Progress};

/// A wait without an event ends after this, so that an order is read in time.
const LONGEST_WAIT: Duration = Duration::from_millis(5);

/// Longest wait for the last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// What load to make.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Where to.
    pub(crate) address: SocketAddr,
    /// What is asked for, by `GET`.
    pub(crate) path: String,
    /// Connections, each with one request in flight at most.
    pub(crate) connections: usize,
    /// Requests per second over all of them, at even times. None: as fast as they go.
    pub(crate) per_second: Option<u32>,
}

/// What the load is told while it runs.
#[derive(Debug)]
enum Order {
    /// Hand over what was seen since the last time, and count anew.
    Cut(std::sync::mpsc::SyncSender<Seen>),
    /// Ask for nothing more, wait for what is outstanding, hand over what was seen, and end.
    Stop(std::sync::mpsc::SyncSender<Seen>),
}

/// Makes load until it is told to stop, or nobody is left who could.
fn run(plan: &Plan, orders: &Receiver<Order>) -> Result<()> {
    let mut load = Load::connect(plan)?;
    loop {
        match orders.try_recv() {
            Ok(Order::Cut(to)) => drop(to.send(load.cut())),
            Ok(Order::Stop(to)) => {
                drop(to.send(load.end()?));
                return Ok(());
            }
            Err(TryRecvError::Disconnected) => return Ok(()),
            Err(TryRecvError::Empty) => {}
        }
        load.turn()?;
    }
}

/// Makes load for some time, and gives what was seen.
pub(crate) fn run_for(plan: &Plan, time: Duration) -> Result<Seen> {
    let mut load = Load::connect(plan)?;
    let end = Instant::now() + time;
    while Instant::now() < end {
        load.turn()?;
    }
    // What was due and has no answer yet counts as well.
    load.end()
}

struct Load {
    request: Vec<u8>,
    address: SocketAddr,
    poller: OwnedFd,
    events: Vec<epoll::Event>,
    connections: Vec<Connection>,
    /// Requests that are due and wait for their connection.
    late: Vec<VecDeque<Instant>>,
    pace: Option<Schedule>,
    /// Nothing more is asked for.
    ends: bool,
    seen: Seen,
}

/// When requests are due.
struct Schedule {
    start: Instant,
    per_second: u32,
    sent: u64,
}

impl Schedule {
    fn next(&self) -> Instant {
        self.start
            + Duration::from_nanos(self.sent.saturating_mul(1_000_000_000) / u64::from(self.per_second))
    }
}

impl Load {
    fn connect(plan: &Plan) -> Result<Self> {
        ensure!(plan.connections > 0 && plan.per_second != Some(0), "there is no load in {plan:?}");
        let poller = epoll::create(CreateFlags::CLOEXEC).context("epoll")?;
        let mut connections = Vec::new();
        for number in 0..plan.connections {
            let connection = Connection::open(plan.address)?;
            watch(&poller, &connection, number)?;
            connections.push(connection);
        }
        let mut load = Self {
            request: format!(
                "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: hot-bench\r\nAccept: */*\r\n\r\n",
                plan.path, plan.address
            )
            .into_bytes(),
            address: plan.address,
            poller,
            events: Vec::with_capacity(plan.connections),
            late: vec![VecDeque::new(); plan.connections],
            connections,
            pace: plan.per_second.map(|per_second| Schedule { start: Instant::now(), per_second, sent: 0 }),
            ends: false,
            seen: Seen::new(Instant::now()),
        };
        if load.pace.is_none() {
            let now = Instant::now();
            for number in 0..load.connections.len() {
                load.send(number, now)?;
            }
        }
        Ok(load)
    }

    /// Waits for what comes next, and does it.
    fn turn(&mut self) -> Result<()> {
        let wait = match &self.pace {
            Some(pace) => pace.next().saturating_duration_since(Instant::now()).min(LONGEST_WAIT),
            None => LONGEST_WAIT,
        };
        let wait = Timespec::try_from(wait).context("a wait that the kernel can hold")?;
        self.events.clear();
        match epoll::wait(&self.poller, spare_capacity(&mut self.events), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for responses"),
        }
        for event in std::mem::take(&mut self.events).drain(..) {
            let number = usize::try_from(event.data.u64()).context("a number of a connection")?;
            self.read(number)?;
        }
        self.events.reserve(self.connections.len());
        self.send_due()
    }
    /// Sends what is due by now.
    fn send_due(&mut self) -> Result<()> {
        while let Some(pace) = &mut self.pace {
            let due = pace.next();
            if due > Instant::now() {
                break;
            }
            let number =
                usize::try_from(pace.sent % self.connections.len() as u64).context("a connection")?;
            pace.sent += 1;
            if self.connections[number].is_busy() {
                self.late[number].push_back(due);
            } else {
                self.send(number, due)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, number: usize, due: Instant) -> Result<()> {
        if self.connections[number].send(&self.request, due).is_err() {
            self.again(number, true)?;
        }
        Ok(())
    }

    fn read(&mut self, number: usize) -> Result<()> {
        match self.connections[number].read() {
            Ok(Progress::Waits) => return Ok(()),
            Ok(Progress::Response { status, due, word, closes }) => {
                let now = Instant::now();
                self.seen.response(status, now.saturating_duration_since(due), &word, now);
                if closes {
                    self.again(number, false)?;
                }
            }
            Ok(Progress::Closed { in_flight }) => self.again(number, in_flight)?,
            Err(_broken) => self.again(number, true)?,
        }
        let next = match &self.pace {
            _ if self.ends => self.late[number].pop_front(),
            None => Some(Instant::now()),
            Some(_) => self.late[number].pop_front(),
        };
        match next {
            Some(due) if !self.connections[number].is_busy() => self.send(number, due),
            _ => Ok(()),
        }
    }

    /// Makes a connection anew that the server has closed. `failed`: with a request in flight.
    fn again(&mut self, number: usize, failed: bool) -> Result<()> {
        self.seen.closed += 1;
        self.seen.failed += u64::from(failed);
        self.connections[number] = Connection::open(self.address)?;
        watch(&self.poller, &self.connections[number], number)
    }

    /// Waits for the answers that are outstanding. Those that do not come in time have failed, as have requests that were due
    /// and could not even be sent.
    fn end(&mut self) -> Result<Seen> {
        let paced = self.pace.take().is_some();
        self.ends = true;
        let until = Instant::now() + LAST_ANSWERS;
        let is_open = |load: &Self| load.connections.iter().any(Connection::is_busy);
        while paced && is_open(self) && Instant::now() < until {
            self.turn()?;
        }
        let busy = self.connections.iter().filter(|connection| connection.is_busy()).count();
        let late: usize = self.late.iter().map(VecDeque::len).sum();
        if paced {
            self.seen.failed += u64::try_from(busy + late).context("a number of requests")?;
        }
        Ok(self.cut())
    }

    fn cut(&mut self) -> Seen {
        std::mem::replace(&mut self.seen, Seen::new(Instant::now())).ended(Instant::now())
    }
}

fn watch(poller: &OwnedFd, connection: &Connection, number: usize) -> Result<()> {
    let data = EventData::new_u64(number as u64);
    epoll::add(poller, connection.socket(), data, EventFlags::IN).context("watching a connection")
}
