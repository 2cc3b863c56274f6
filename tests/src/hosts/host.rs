//! One host.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{fed, ip};

/// Drops what comes from those who are cut off, and what goes to them.
const CUTS: &str = "table inet cuts {
    set away { type ipv4_addr; }
    chain comes { type filter hook input priority 0; ip saddr @away drop; }
    chain goes { type filter hook output priority 0; ip daddr @away drop; }
}
";

/// A place where programs run: a network namespace with an address of its own, or simply this machine.
#[derive(Clone, Debug)]
pub struct Host {
    address: IpAddr,
    namespace: Option<Arc<Namespace>>,
}

#[derive(Debug)]
struct Namespace {
    file: File,
    /// The end of its cable at the bridge.
    cable: String,
}

impl Host {
    /// This machine, with the address of loopback.
    pub fn here() -> Self {
        Self { address: Ipv4Addr::LOCALHOST.into(), namespace: None }
    }

    pub(super) fn start(number: u8, address: IpAddr) -> Result<Self> {
        let cable = format!("cable{number}");
        // A namespace is there as long as somebody is in it, or has it open.
        let mut first = Command::new("unshare");
        first.args(["--net", "--", "sh", "-c", "echo && exec sleep infinity"]).stdout(Stdio::piped());
        let mut first = first.spawn().context("a process in a network namespace")?;
        let mut line = String::new();
        BufReader::new(first.stdout.take().context("a pipe")?).read_line(&mut line).context("its word")?;
        let file = File::open(format!("/proc/{}/ns/net", first.id())).context("a network namespace");
        let plugged = ip(&format!(
            "link add {cable} type veth peer name eth0 netns {}\nlink set {cable} master hosts up\n",
            first.id()
        ));
        first.kill().context("ending a process")?;
        first.wait().context("waiting for a process")?;
        plugged?;
        let host = Self { address, namespace: Some(Arc::new(Namespace { file: file?, cable })) };
        host.run(|| {
            ip(&format!("link set lo up\naddr add {address}/24 dev eth0\nlink set eth0 up\n"))?;
            fed(Command::new("nft").args(["-f", "-"]), CUTS)
        })?;
        Ok(host)
    }

    /// Its address.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// The port of a program that usually listens there: that one where it has the host to itself, else any (0).
    pub(crate) fn port(&self, usual: u16) -> u16 {
        if self.namespace.is_some() { usual } else { 0 }
    }

    /// Does something on this host: sockets that it opens, and threads and processes that it starts, are this host's.
    ///
    /// # Errors
    /// Those of `what`, and when the kernel does not let this thread be there.
    pub fn run<T: Send>(&self, what: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let Some(namespace) = &self.namespace else { return what() };
        // A thread of its own, as the caller is to stay where it is.
        let there = || {
            move_into_link_name_space(namespace.file.as_fd(), Some(LinkNameSpaceType::Network))
                .context("entering a network namespace")?;
            what()
        };
        thread::scope(|scope| {
            scope.spawn(there).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Pulls its cable: nobody reaches it, clients neither.
    ///
    /// # Errors
    /// When it has none, or the kernel refuses.
    pub fn unplug(&self) -> Result<()> {
        self.set_cable("down")
    }

    /// Plugs its cable in again.
    ///
    /// # Errors
    /// As [`Self::unplug`].
    pub fn plug(&self) -> Result<()> {
        self.set_cable("up")
    }

    fn set_cable(&self, to: &str) -> Result<()> {
        let namespace = self.namespace.as_ref().context("this machine has no cable")?;
        ip(&format!("link set {} {to}\n", namespace.cable))
    }

    pub(super) fn cut_from(&self, others: &[IpAddr]) -> Result<()> {
        let others: Vec<String> = others.iter().map(IpAddr::to_string).collect();
        self.nft(&format!("add element inet cuts away {{ {} }}\n", others.join(", ")))
    }

    pub(super) fn mend(&self) -> Result<()> {
        self.nft("flush set inet cuts away\n")
    }

    fn nft(&self, commands: &str) -> Result<()> {
        self.run(|| fed(Command::new("nft").args(["-f", "-"]), commands))
    }
}
