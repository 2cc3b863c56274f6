//! A node as a service: `hot-spawn`, `hotd --config`, and the hosts of the module `bench`, which is in C.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use hot_tests::{Key, Module, ModuleStatus, Output, Process, Rollback, Service};
use serde::Deserialize;
use tempfile::TempDir;

use super::history::{self, Full};
use crate::client::Plan;

/// What the module answers.
pub(super) const PATH: &str = "/bench";

/// What is read of an event.
#[derive(Debug, Deserialize)]
struct Event {
    swap: Option<Swap>,
}

/// What is read of a swap's proof.
#[derive(Debug, Deserialize)]
struct Swap {
    flipped: String,
}

/// A service with one module.
#[derive(Debug)]
pub(crate) struct Hot {
    service: Service,
    key: Key,
    _folder: TempDir,
}

impl Hot {
    /// Starts it without a module. `config`: further tables of its config.
    pub(crate) fn start(config: &str) -> Result<Self> {
        Self::begin(|signers| Service::start(signers, config))
    }

    fn begin(start: impl FnOnce(&str) -> Result<Service>) -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for keys")?;
        let key = Key::generate(folder.path().join("key"))?;
        let signers = format!("bench@example.com namespaces=\"hot-module\" {}\n", key.public()?);
        Ok(Self { service: start(&signers)?, key, _folder: folder })
    }

    /// Starts it with further keys of `[http]`.
    pub(crate) fn start_with_http(keys: &str) -> Result<Self> {
        Self::begin(|signers| Service::start_with_http(signers, keys, ""))
    }

    /// Starts it with nothing that keeps a module apart but its process.
    pub(crate) fn start_bare() -> Result<Self> {
        let config = "[sandbox]\nrequire = []\nleave_out = [\"seccomp\", \"counted\", \"files\", \"network\", \"scopes\"]\n\
                      [limits]\nmemory = \"unlimited\"\ntasks = \"unlimited\"\n";
        Self::begin(|signers| {
            Service::start_with_spawn(signers, config, |mut command| {
                command.args(["--users", "none"]);
                Ok(command)
            })
        })
    }

    /// The module that answers with 1 KiB, in this version.
    pub(crate) fn module(version: &str) -> Result<std::path::PathBuf> {
        Module::new("kib").name("bench").version(version).build()
    }

    /// Pushes that module and waits for the end of its rollout, which is good.
    pub(crate) fn push(&self, version: &str, arguments: &[&str]) -> Result<Output> {
        self.push_file(&Self::module(version)?, arguments)?.expect(0)
    }

    /// Pushes a file and waits for the end of its rollout.
    pub(crate) fn push_file(&self, file: &Path, arguments: &[&str]) -> Result<Output> {
        let [file, key] = [file, self.key.path()].map(|path| path.to_str().context("a path in UTF-8"));
        self.service.hotctl(&[&["push", file?, "--key", key?, "-o", "json"], arguments].concat())
    }

    /// Fills the history of the node with copies of its last rollout, which takes a restart of hotd.
    pub(crate) fn fill_history(&mut self) -> Result<Full> {
        self.service.terminate()?;
        let full = history::fill(&self.service.data_dir())?;
        self.service.boot()?;
        Ok(full)
    }

    /// `hotctl rollback` of the module.
    pub(crate) fn rollback(&self) -> Result<Rollback> {
        self.service.hotctl(&["rollback", "bench", "-o", "json"])?.expect(0)?.json()
    }

    /// When traffic began to leave an instance, to the millisecond, for each swap that it has told of; oldest first.
    pub(crate) fn flips(&self) -> Result<Vec<SystemTime>> {
        let output = self.service.hotctl(&["events", "-n", "1000", "-o", "json"])?.expect(0)?;
        let events =
            output.stdout.lines().map(|line| serde_json::from_str::<Event>(line).context("an event"));
        let swaps = events.filter_map(|event| event.map(|event| event.swap).transpose());
        swaps
            .map(|swap| {
                let flipped: jiff::Timestamp = swap?.flipped.parse().context("the time of a swap")?;
                Ok(flipped.into())
            })
            .collect()
    }

    /// `hotctl restart` of the module.
    pub(crate) fn restart(&self) -> Result<Output> {
        self.service.hotctl(&["restart", "bench"])?.expect(0)
    }

    /// What the node says of the module.
    pub(crate) fn status(&self) -> Result<ModuleStatus> {
        self.service.module("bench")
    }

    /// Waits until a module has nothing in flight.
    pub(crate) fn at_rest(&self, module: &str, patience: Duration) -> Result<()> {
        self.in_flight(module, 0, patience)
    }

    /// Waits until a module has so many requests in flight.
    pub(crate) fn in_flight(&self, module: &str, wanted: u64, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            let found: u64 =
                self.service.module(module)?.instances().map(|instance| instance.in_flight).sum();
            if found == wanted {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{module} has {found} requests in flight, expected {wanted}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Where its gateway listens.
    pub(crate) fn http(&self) -> SocketAddr {
        self.service.http()
    }

    /// Load on the module, as fast as it goes or at so many requests per second.
    pub(crate) fn load(&self, connections: usize, per_second: Option<u32>) -> Plan {
        Plan { address: self.http(), path: PATH.to_owned(), connections, per_second }
    }

    /// hotd and hot-spawn, which is the parent of the hosts.
    pub(crate) fn processes(&self) -> Result<Vec<i32>> {
        Ok(vec![self.daemon()?.pid(), self.service.spawn().pid()])
    }

    /// hotd.
    pub(crate) fn daemon(&self) -> Result<Process> {
        self.service.daemon()
    }

    /// The pid of hot-spawn.
    pub(crate) fn spawn(&self) -> i32 {
        self.service.spawn().pid()
    }

    /// Its hosts.
    pub(crate) fn hosts(&self) -> Result<Vec<Process>> {
        self.service.hosts()
    }
}
