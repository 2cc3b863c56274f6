//! The servers that are compared. All answer `GET` with status 200 and the same 1 KiB.

mod backend;
mod haproxy;
mod history;
mod hot;
mod nginx;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub(crate) use backend::{naive, plain};
pub(crate) use history::Full;
pub(crate) use hot::Hot;

use crate::client::{self, Plan};

/// Longest wait for a server that starts.
const START: Duration = Duration::from_secs(30);

/// The body of every response: one KiB.
pub(crate) const BODY: [u8; 1024] = {
    let mut body = [b'x'; 1024];
    let word = *b"1.0.0\n";
    let mut at = 0;
    while at < word.len() {
        body[at] = word[at];
        at += 1;
    }
    body
};

/// What the servers say that it is.
pub(crate) const CONTENT_TYPE: &str = "application/octet-stream";

/// Who is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A hyper server that answers by itself.
    Plain,
    /// hotd, hot-spawn and a hot-host with a module in C.
    Hot,
    /// nginx, which sends a file.
    NginxFile,
    /// nginx as a proxy in front of the plain server, over a Unix socket.
    NginxProxy,
    /// haproxy in front of the plain server, over a Unix socket.
    Haproxy,
    /// A proxy of some lines of hyper in front of the plain server, over a Unix socket.
    Naive,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Plain, Self::Hot, Self::NginxFile, Self::NginxProxy, Self::Haproxy, Self::Naive];

    /// As tables name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain hyper",
            Self::Hot => "Hot",
            Self::NginxFile => "nginx, a file",
            Self::NginxProxy => "nginx proxy_pass",
            Self::Haproxy => "haproxy",
            Self::Naive => "a naive hyper proxy",
        }
    }
}

/// A server that runs, and ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    /// Who it is.
    pub(crate) kind: Kind,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What to ask for.
    pub(crate) path: &'static str,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Processes(Vec<Ended>),
    Hot(Box<Hot>),
}

impl Server {
    /// Starts one with its files in `folder`, and waits until it answers.
    pub(crate) fn start(kind: Kind, folder: &Path) -> Result<Self> {
        let (address, path, running) = match kind {
            Kind::Plain => {
                let (process, address) = backend::start(&["plain"])?;
                (address, "/", Running::Processes(vec![process]))
            }
            Kind::Hot => {
                let hot = Hot::start("")?;
                hot.push("1.0.0", &[])?;
                return Self::hot(hot);
            }
            Kind::NginxFile | Kind::NginxProxy => {
                let (processes, address) = nginx::start(kind, folder)?;
                let path = if kind == Kind::NginxFile { "/file" } else { "/proxy" };
                (address, path, Running::Processes(processes))
            }
            Kind::Haproxy => {
                let (processes, address) = haproxy::start(folder)?;
                (address, "/", Running::Processes(processes))
            }
            Kind::Naive => {
                let (behind, socket) = backend::behind(folder, "naive")?;
                let (process, address) = backend::start(&["naive", &socket])?;
                (address, "/", Running::Processes(vec![process, behind]))
            }
        };
        let server = Self { kind, address, path, running };
        server.answers()?;
        Ok(server)
    }

    /// A node of ours with its module, once it answers.
    pub(crate) fn hot(hot: Hot) -> Result<Self> {
        let (address, path) = (hot.http(), hot::PATH);
        let server = Self { kind: Kind::Hot, address, path, running: Running::Hot(Box::new(hot)) };
        server.answers()?;
        Ok(server)
    }

    /// Its processes; descendants of one need not be among them.
    pub(crate) fn processes(&self) -> Result<Vec<i32>> {
        match &self.running {
            Running::Processes(processes) => processes.iter().map(Ended::pid).collect(),
            Running::Hot(hot) => hot.processes(),
        }
    }

    /// Waits until it answers with status 200.
    fn answers(&self) -> Result<()> {
        let plan =
            Plan { address: self.address, path: self.path.to_owned(), connections: 1, per_second: None };
        let end = Instant::now() + START;
        loop {
            match client::run_for(&plan, Duration::from_millis(20)) {
                Ok(seen) if seen.good() > 0 && seen.failed == 0 => return Ok(()),
                Ok(seen) if Instant::now() > end => {
                    bail!("{} does not answer well: {seen:?}", self.kind.name())
                }
                Err(error) if Instant::now() > end => {
                    return Err(error).with_context(|| format!("{} does not answer", self.kind.name()));
                }
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

/// A process that ends by force when it is dropped.
#[derive(Debug)]
pub(crate) struct Ended(pub(crate) Child);

impl Ended {
    fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null());
        Ok(Self(command.spawn().with_context(|| format!("could not start {command:?}"))?))
    }

    fn pid(&self) -> Result<i32> {
        i32::try_from(self.0.id()).context("a pid")
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        // One that has ended already needs no end.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A port of loopback that is free now, for programs that can't be asked which they took.
fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("a free port")?;
    Ok(listener.local_addr().context("a free port")?.port())
}
