//! A dev node of its own: a folder, a `hotd --dev`, and all the processes that come with it.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::daemon::{self, Daemon};
use crate::process::{self, Process};
use crate::{Binaries, Door, Event, Follow, Hotctl, Key, ModuleStatus, Output, Status};

/// Longest wait for anything that a healthy node does by itself. Far above what it takes, so that a busy machine fails
/// no test; where the product promises a time, the test measures that.
pub const WAIT: Duration = Duration::from_secs(30);

/// How to start a node that is not the usual one.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// The data folder. None: one below the node's own folder.
    pub data_dir: Option<PathBuf>,
    /// Where HTTP is served. None: a port of loopback that is free.
    pub http: Option<SocketAddr>,
    /// The user's run-time folder, where it leaves its record. None: one below the node's own folder.
    pub runtime_dir: Option<PathBuf>,
    /// Further arguments of `hotd`.
    pub arguments: Vec<String>,
}

/// Why a `hotd` did not come to serve.
#[derive(Debug)]
pub struct Refusal {
    /// Its exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// All that it printed to its standard error.
    pub stderr: String,
}

/// A node that runs, or one that was killed and can be started again on its data. Whatever is left of it ends when it
/// is dropped.
#[derive(Debug)]
pub struct Node {
    binaries: Binaries,
    folder: TempDir,
    data_dir: PathBuf,
    runtime_dir: PathBuf,
    arguments: Vec<String>,
    daemon: Option<Daemon>,
    http: SocketAddr,
    grpc: SocketAddr,
    socket: PathBuf,
}

/// What the ready line says.
struct Ready {
    http: SocketAddr,
    grpc: SocketAddr,
    socket: PathBuf,
}

impl Node {
    /// Starts a node in a folder of its own and waits until it serves.
    ///
    /// # Errors
    /// When it does not within [`WAIT`]; the text has the end of its log.
    pub fn start() -> Result<Self> {
        Self::start_with(NodeOptions::default())
    }

    /// Starts a node as told and waits until it serves.
    ///
    /// # Errors
    /// When it does not within [`WAIT`]; the text has the end of its log.
    pub fn start_with(options: NodeOptions) -> Result<Self> {
        let binaries = Binaries::locate()?;
        let folder = tempfile::Builder::new().prefix("hot-").tempdir().context("a folder for the node")?;
        let runtime_dir = options.runtime_dir.unwrap_or_else(|| folder.path().join("run"));
        fs::create_dir_all(&runtime_dir).context("a run-time folder for the node")?;
        let data_dir = options.data_dir.unwrap_or_else(|| folder.path().join("data"));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut node = Self {
            binaries,
            folder,
            data_dir,
            runtime_dir,
            arguments: options.arguments,
            daemon: None,
            http: options.http.unwrap_or(any),
            grpc: any,
            socket: PathBuf::new(),
        };
        node.boot()?;
        Ok(node)
    }

    /// Starts a `hotd` that is expected to refuse, and gives what it said.
    ///
    /// # Errors
    /// When it serves after all, or hangs.
    pub fn refused(options: NodeOptions) -> Result<Refusal> {
        let binaries = Binaries::locate()?;
        let folder = tempfile::Builder::new().prefix("hot-").tempdir().context("a folder for the node")?;
        let data_dir = options.data_dir.unwrap_or_else(|| folder.path().join("data"));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut command = hotd(&binaries, &data_dir, options.http.unwrap_or(any), any, folder.path());
        command.args(options.arguments);
        let mut follow = Follow::start(command)?;
        let end = follow.wait_end(WAIT);
        // A hot-spawn that it started before it refused would outlive it.
        for left in process::of_node(folder.path())? {
            left.signal(Signal::KILL)?;
            left.wait_gone(WAIT)?;
        }
        Ok(Refusal { code: end?, stderr: follow.seen().join("\n") })
    }

    /// Starts `hotd` on the node's data and addresses and waits for its ready line.
    fn boot(&mut self) -> Result<()> {
        let mut command = hotd(&self.binaries, &self.data_dir, self.http, self.grpc, self.folder.path());
        command.env("XDG_RUNTIME_DIR", &self.runtime_dir).args(&self.arguments);
        let (daemon, ready) = Daemon::start(command, &self.log_path())?;
        self.daemon = Some(daemon);
        let ready = parse_ready(&ready).with_context(|| format!("hotd said `ready {ready}`"))?;
        self.http = ready.http;
        self.grpc = ready.grpc;
        self.socket = ready.socket;
        Ok(())
    }

    /// Where its gateway listens. The same over restarts.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where its gRPC listens. The same over restarts.
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Its control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its data folder.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The user's run-time folder, where it leaves its record.
    pub fn runtime_dir(&self) -> &Path {
        &self.runtime_dir
    }

    /// A folder of the test's own that goes with the node.
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// The programs that it was started from.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The key that it trusts.
    pub fn key(&self) -> Key {
        Key::at(self.data_dir.join("dev-key"))
    }

    /// The token that its gRPC asks for.
    ///
    /// # Errors
    /// When its file can't be read.
    pub fn token(&self) -> Result<String> {
        Ok(fs::read_to_string(self.data_dir.join("token")).context("the node's token")?.trim_end().to_owned())
    }

    /// Where its gRPC is.
    ///
    /// # Errors
    /// When its token can't be read.
    pub fn door(&self) -> Result<Door> {
        Ok(Door::new(format!("http://{}", self.grpc), Some(self.token()?)))
    }

    /// `hotctl` for this node.
    pub fn ctl(&self) -> Hotctl {
        Hotctl::new(self.binaries.hotctl(), self.runtime_dir.clone())
    }

    /// Runs `hotctl` for this node.
    ///
    /// # Errors
    /// When it can't be started or hangs.
    pub fn hotctl(&self, arguments: &[&str]) -> Result<Output> {
        self.ctl().run(arguments)
    }

    /// Pushes a file with further arguments and waits for the end of its rollout.
    ///
    /// # Errors
    /// When `hotctl` can't be started or hangs. How the rollout ended is in the output.
    pub fn push(&self, file: &Path, arguments: &[&str]) -> Result<Output> {
        let file = file.to_str().context("a path in UTF-8")?;
        self.hotctl(&[&["push", file], arguments].concat())
    }

    /// What `hotctl status -o json` says.
    ///
    /// # Errors
    /// When it fails or has another shape than documented.
    pub fn status(&self) -> Result<Status> {
        self.hotctl(&["status", "-o", "json"])?.expect(0)?.json()
    }

    /// What `hotctl status` says of one module.
    ///
    /// # Errors
    /// When it fails, or the node does not know the module.
    pub fn module(&self, name: &str) -> Result<ModuleStatus> {
        let status = self.status()?;
        status.module(name).cloned().with_context(|| format!("no module {name} in {status:?}"))
    }

    /// Waits until what `hotctl status --watch` says of a module is as wanted, and gives that.
    ///
    /// # Errors
    /// When it is not within `deadline`.
    pub fn wait_module(
        &self,
        name: &str,
        deadline: Duration,
        wanted: impl Fn(&ModuleStatus) -> bool,
    ) -> Result<ModuleStatus> {
        self.ctl().wait_module(name, deadline, wanted)
    }

    /// Follows the node's events: the latest first, then each new one.
    ///
    /// # Errors
    /// When `hotctl` can't be started.
    pub fn events(&self) -> Result<Events> {
        Events::of(&self.ctl())
    }

    /// The daemon's process.
    ///
    /// # Errors
    /// When it was killed and not started again.
    pub fn daemon(&self) -> Result<&Process> {
        self.daemon.as_ref().map(Daemon::process).context("this node's hotd does not run")
    }

    /// The hosts that run now, by pid.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub fn hosts(&self) -> Result<Vec<Process>> {
        Ok(self.processes()?.into_iter().filter(|process| process.name() == "hot-host").collect())
    }

    /// The parent of the hosts.
    ///
    /// # Errors
    /// When it does not run, or `/proc` can't be read.
    pub fn spawn(&self) -> Result<Process> {
        let mut all = self.processes()?.into_iter();
        all.find(|process| process.name() == "hot-spawn").context("this node's hot-spawn does not run")
    }

    /// Ends `hotd` as systemd would (SIGTERM, then wait) and starts it again on the same data and addresses.
    ///
    /// # Errors
    /// When it does not end or does not serve again within [`WAIT`] each.
    pub fn restart(&mut self) -> Result<()> {
        self.terminate()?;
        self.boot()
    }

    /// `kill -9` of `hotd` alone; its hosts stay. Gives the moment of the signal.
    ///
    /// # Errors
    /// When it does not run or does not end.
    pub fn kill_daemon(&mut self) -> Result<Instant> {
        let at = self.daemon.as_mut().context("this node's hotd does not run")?.kill()?;
        self.daemon = None;
        Ok(at)
    }

    /// `kill -9` of every process of the node, as a reboot does.
    ///
    /// # Errors
    /// When one does not end within [`WAIT`].
    pub fn kill_all(&mut self) -> Result<()> {
        let all = self.processes()?;
        if self.daemon.is_some() {
            self.kill_daemon()?;
        }
        for process in &all {
            process.signal(Signal::KILL)?;
        }
        all.iter().try_for_each(|process| process.wait_gone(WAIT))
    }

    /// Starts `hotd` again after a kill, on the same data and addresses.
    ///
    /// # Errors
    /// When it does not serve within [`WAIT`].
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.daemon.is_none(), "hotd still runs");
        self.boot()
    }

    /// The end of the daemon's log, for messages.
    pub fn log_tail(&self) -> String {
        daemon::tail(&self.log_path())
    }

    /// Ends the node as its user would, and checks that nothing of it is left: `hotd` ends in time with 0.
    ///
    /// # Errors
    /// When it does not.
    pub fn stop(mut self) -> Result<()> {
        self.terminate()
    }

    fn terminate(&mut self) -> Result<()> {
        let daemon = self.daemon.as_mut().context("this node's hotd does not run")?;
        daemon.terminate().with_context(|| format!("the node's log ends:\n{}", self.log_tail()))?;
        self.daemon = None;
        Ok(())
    }

    fn processes(&self) -> Result<Vec<Process>> {
        let mut all = process::of_node(self.folder.path())?;
        if !self.data_dir.starts_with(self.folder.path()) {
            all.extend(process::of_node(&self.data_dir)?);
        }
        Ok(all.into_iter().collect())
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("hotd.log")
    }

    /// Ends whatever is left: first `hotd` in its own way, then all that still runs by force.
    fn end(&mut self) -> Result<()> {
        let all = self.processes()?;
        if let Some(daemon) = self.daemon.take() {
            daemon.process().signal(Signal::TERM)?;
            // Else it ends by force when it is dropped here.
            drop(daemon.process().wait_gone(WAIT));
        }
        for process in all.into_iter().chain(self.processes()?) {
            process.signal(Signal::KILL)?;
            process.wait_gone(WAIT)?;
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let ended = self.end();
        if thread::panicking() || ended.is_err() {
            // The test runner shows it with the failed test.
            drop(writeln!(std::io::stderr(), "the node's log ends:\n{}\n{ended:?}", self.log_tail()));
        }
    }
}

/// The events of a node as they happen.
#[derive(Debug)]
pub struct Events(Follow);

impl Events {
    pub(crate) fn of(ctl: &Hotctl) -> Result<Self> {
        Ok(Self(ctl.follow(&["events", "-f", "-o", "json"])?))
    }

    /// Waits for the next event that is as wanted, and gives it.
    ///
    /// # Errors
    /// When none comes within `deadline`.
    pub fn wait(&mut self, deadline: Duration, wanted: impl Fn(&Event) -> bool) -> Result<Event> {
        self.0.wait(deadline, |line| serde_json::from_str(line).ok().filter(|event| wanted(event)))
    }
}

/// The command that starts a dev node's `hotd`.
fn hotd(binaries: &Binaries, data_dir: &Path, http: SocketAddr, grpc: SocketAddr, folder: &Path) -> Command {
    let mut command = daemon::command(&binaries.hotd());
    command.arg("--dev").arg("--data-dir").arg(data_dir);
    command.arg("--http").arg(http.to_string()).arg("--grpc").arg(grpc.to_string());
    command.env("XDG_RUNTIME_DIR", folder.join("run")).current_dir(folder);
    command
}

/// Reads `http=ADDR grpc=ADDR socket=PATH`.
fn parse_ready(line: &str) -> Option<Ready> {
    let rest = line.strip_prefix("http=")?;
    let (http, rest) = rest.split_once(" grpc=")?;
    let (grpc, socket) = rest.split_once(" socket=")?;
    Some(Ready { http: http.parse().ok()?, grpc: grpc.parse().ok()?, socket: PathBuf::from(socket) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_read() {
        let ready = parse_ready("http=127.0.0.1:80 grpc=127.0.0.1:81 socket=/a b/hotd.sock").expect("parses");
        assert_eq!((ready.http.port(), ready.grpc.port()), (80, 81));
        assert_eq!(ready.socket, Path::new("/a b/hotd.sock"));
        assert!(parse_ready("http=127.0.0.1 grpc=x socket=y").is_none());
    }
}
