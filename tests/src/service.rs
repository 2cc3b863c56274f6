//! A node as a service: a `hot-spawn` and a `hotd --config` that somebody else starts, with their config, sockets and
//! data in one folder.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::mount::UnmountFlags;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::daemon::{self, Daemon};
use crate::node::{Events, WAIT};
use crate::process::{self, Process};
use crate::{Binaries, Door, Host, Hotctl, ModuleStatus, Output, Status};

/// A service that runs. Whatever is left of it ends when it is dropped.
#[derive(Debug)]
pub struct Service {
    binaries: Binaries,
    folder: TempDir,
    spawn: Daemon,
    hotd: Option<Daemon>,
    http: SocketAddr,
    https: Option<SocketAddr>,
    grpc: Option<SocketAddr>,
    /// Further lines of `[http]` in its config.
    http_lines: String,
    /// Its name.
    name: String,
    /// Where its programs run.
    host: Host,
}

impl Service {
    /// Starts both programs and waits until the node serves. `signers` is the text of the allowed signers; `config` goes
    /// on in the config's `[trust]`, and may begin further tables, e.g. `[trust.modules]`. No key is revoked.
    ///
    /// # Errors
    /// When it does not serve within [`WAIT`]; the text has the end of its log.
    pub fn start(signers: &str, config: &str) -> Result<Self> {
        Self::start_with_http(signers, "", config)
    }

    /// As [`Service::start`], with further lines of `[http]`.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub fn start_with_http(signers: &str, http: &str, config: &str) -> Result<Self> {
        Self::start_by(signers, http, config, Ok)
    }

    /// As [`Service::start`], with a `hot-spawn` by what `spawn` makes of its command.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub fn start_with_spawn(
        signers: &str,
        config: &str,
        spawn: impl FnOnce(Command) -> Result<Command>,
    ) -> Result<Self> {
        Self::start_by(signers, "", config, spawn)
    }

    /// As [`Service::start`], with a name of its own: `web-1` is that of all others.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub fn start_named(name: &str, signers: &str, config: &str) -> Result<Self> {
        Self::start_as(name, Host::here(), signers, "", config, Ok)
    }

    /// As [`Service::start_named`], on a host, whose address its gateway listens at.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub fn start_on(host: &Host, name: &str, signers: &str, config: &str) -> Result<Self> {
        Self::start_as(name, host.clone(), signers, "", config, Ok)
    }

    fn start_by(
        signers: &str,
        http: &str,
        config: &str,
        spawn: impl FnOnce(Command) -> Result<Command>,
    ) -> Result<Self> {
        Self::start_as("web-1", Host::here(), signers, http, config, spawn)
    }

    fn start_as(
        name: &str,
        host: Host,
        signers: &str,
        http: &str,
        config: &str,
        spawn: impl FnOnce(Command) -> Result<Command>,
    ) -> Result<Self> {
        let binaries = Binaries::locate()?;
        let folder = tempfile::Builder::new().prefix("hot-").tempdir().context("a folder for the service")?;
        let at = |name: &str| folder.path().join(name);
        for name in ["etc", "run"] {
            fs::create_dir(at(name)).with_context(|| format!("a folder {name} for the service"))?;
            // As an installed one is, whatever the caller's umask: hot-spawn trusts no folder in which others may write.
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o755)).context("its mode")?;
        }
        fs::write(at("etc/allowed_signers"), signers).context("the allowed signers")?;
        fs::write(at("etc/revoked_keys"), "").context("the revoked keys")?;
        let spawn = start_spawn(&binaries, &host, folder.path(), spawn)?;
        let any = SocketAddr::new(host.address(), 0);
        let (http_lines, name) = (http.to_owned(), name.to_owned());
        let mut service = Self {
            binaries,
            folder,
            spawn,
            hotd: None,
            http: any,
            https: None,
            grpc: None,
            http_lines,
            name,
            host,
        };
        service.configure(config)?;
        service.boot()?;
        Ok(service)
    }

    /// Writes the config as [`Service::start`] does, for the next boot.
    ///
    /// Where this process is not root's, the node requires no part of the sandbox unless `config` has that table.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn configure(&self, config: &str) -> Result<()> {
        let sandbox =
            if requires_default() || config.contains("[sandbox]") { "" } else { "[sandbox]\nrequire = []\n" };
        let at = |name: &str| self.folder.path().join(name);
        let text = format!(
            "node = {:?}\ndata_dir = {:?}\n[http]\nlisten = [\"{}\"]\n{}[grpc]\nsocket = {:?}\n\
             [spawn]\nsocket = {:?}\n[trust]\nallowed_signers = {:?}\nrevoked = {:?}\n{config}\n{sandbox}",
            self.name,
            self.data_dir(),
            SocketAddr::new(self.host.address(), self.host.port(HTTP)),
            self.http_lines,
            self.socket(),
            at(SPAWN_SOCKET),
            self.signers(),
            self.revoked(),
        );
        fs::write(self.config(), text).context("the config")
    }

    /// Starts `hotd` and waits until it serves.
    ///
    /// # Errors
    /// When it does not within [`WAIT`]; the text has the end of its log.
    pub fn boot(&mut self) -> Result<()> {
        self.boot_with(Ok)
    }

    /// Starts `hotd` by what `change` makes of its command, and waits until it serves.
    ///
    /// # Errors
    /// When it does not within [`WAIT`]; the text has the end of its log.
    pub fn boot_with(&mut self, change: impl FnOnce(Command) -> Result<Command>) -> Result<()> {
        let mut command = daemon::command(&self.binaries.hotd());
        command.arg("--config").arg(self.config()).current_dir(self.folder.path());
        let command = change(command)?;
        let started = self.host.run(|| Daemon::start(command, &self.log()));
        let (hotd, ready) = started.with_context(|| self.spawn_tail())?;
        self.hotd = Some(hotd);
        let http = ready.strip_prefix("http=").and_then(|rest| rest.split_once(" socket="));
        let (http, socket) = http.with_context(|| format!("hotd said `ready {ready}`"))?;
        anyhow::ensure!(Path::new(socket) == self.socket(), "hotd serves {socket}");
        let (http, grpc) = http.split_once(" grpc=").map_or((http, None), |(http, grpc)| (http, Some(grpc)));
        let (http, https) = http.split_once(" https=").map_or((http, None), |(http, tls)| (http, Some(tls)));
        self.http = http.parse().context("an address")?;
        self.https = https.map(str::parse).transpose().context("an address of TLS")?;
        self.grpc = grpc.map(str::parse).transpose().context("an address of gRPC")?;
        Ok(())
    }

    /// Ends `hotd` as systemd would: SIGTERM, and it ends with 0.
    ///
    /// # Errors
    /// When it does not run, or does not end so within [`WAIT`].
    pub fn terminate(&mut self) -> Result<()> {
        let mut hotd = self.hotd.take().context("hotd does not run")?;
        hotd.terminate().with_context(|| format!("its log ends:\n{}", self.log_tail()))
    }

    /// `kill -9` of `hotd`. Gives the moment of the signal.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<Instant> {
        self.hotd.take().context("hotd does not run")?.kill()
    }

    /// `kill -9` of every process of the node, as a reboot does.
    ///
    /// # Errors
    /// When one does not end within [`WAIT`].
    pub fn power_off(&mut self) -> Result<()> {
        let all = process::of_node(self.folder.path())?;
        if let Some(mut hotd) = self.hotd.take() {
            hotd.kill()?;
        }
        self.spawn.kill()?;
        for process in &all {
            process.signal(Signal::KILL)?;
        }
        all.iter().try_for_each(|process| process.wait_gone(WAIT))
    }

    /// Starts both programs again after [`Service::power_off`].
    ///
    /// # Errors
    /// When the node does not serve within [`WAIT`].
    pub fn power_on(&mut self) -> Result<()> {
        self.start_spawn()?;
        self.boot()
    }

    /// `kill -9` of `hot-spawn` alone.
    ///
    /// # Errors
    /// When it does not end within [`WAIT`].
    pub fn lose_spawn(&mut self) -> Result<()> {
        self.spawn.kill().map(drop)
    }

    /// Ends `hot-spawn` alone, as systemd would: SIGTERM, and it ends with 0 and with its hosts.
    ///
    /// # Errors
    /// When it does not within [`WAIT`].
    pub fn end_spawn(&mut self) -> Result<()> {
        self.spawn.terminate()
    }

    /// Starts `hot-spawn` again after [`Service::lose_spawn`] or [`Service::end_spawn`].
    ///
    /// # Errors
    /// When it is not there within [`WAIT`].
    pub fn start_spawn(&mut self) -> Result<()> {
        self.start_spawn_with(Ok)
    }

    /// Starts `hot-spawn` again by what `change` makes of its command.
    ///
    /// # Errors
    /// When it is not there within [`WAIT`].
    pub fn start_spawn_with(&mut self, change: impl FnOnce(Command) -> Result<Command>) -> Result<()> {
        self.spawn = start_spawn(&self.binaries, &self.host, self.folder.path(), change)?;
        Ok(())
    }

    /// The file of what `hotd` says, from its first start on.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("hotd.log")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its gateway listens. The same as long as `hot-spawn` runs.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where its gateway listens with TLS, if it does.
    pub fn https(&self) -> Option<SocketAddr> {
        self.https
    }

    /// Where it takes calls by TCP, if it does.
    pub fn grpc(&self) -> Option<SocketAddr> {
        self.grpc
    }

    /// Its config file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("etc/hotd.toml")
    }

    /// Its control socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("run/hotd.sock")
    }

    /// Its file of allowed signers.
    pub fn signers(&self) -> PathBuf {
        self.folder.path().join("etc/allowed_signers")
    }

    /// Its file of revoked keys.
    pub fn revoked(&self) -> PathBuf {
        self.folder.path().join("etc/revoked_keys")
    }

    /// Its data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where its gRPC is.
    pub fn door(&self) -> Door {
        Door::new(format!("unix:{}", self.socket().display()), None)
    }

    /// A folder of the test's own that goes with the service.
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// `hotctl` for this node, found by its socket.
    pub fn ctl(&self) -> Hotctl {
        Hotctl::new(self.binaries.hotctl(), self.folder.path().join("run")).node(&self.socket())
    }

    /// Runs `hotctl` for this node.
    ///
    /// # Errors
    /// When it can't be started or hangs.
    pub fn hotctl(&self, arguments: &[&str]) -> Result<Output> {
        self.ctl().run(arguments)
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

    /// Waits until what `hotctl status --watch` says of a module that the node knows is as wanted.
    ///
    /// # Errors
    /// When it is not within [`WAIT`].
    pub fn wait_module(&self, name: &str, wanted: impl Fn(&ModuleStatus) -> bool) -> Result<ModuleStatus> {
        self.ctl().wait_known_module(name, WAIT, wanted)
    }

    /// Follows the node's events: the latest first, then each new one.
    ///
    /// # Errors
    /// When `hotctl` can't be started.
    pub fn events(&self) -> Result<Events> {
        Events::of(&self.ctl())
    }

    /// The hosts that run now, by pid.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub fn hosts(&self) -> Result<Vec<Process>> {
        let all = process::of_node(self.folder.path())?;
        Ok(all.into_iter().filter(|process| process.name() == "hot-host").collect())
    }

    /// The processes of the node that are neither `hotd` nor `hot-spawn`: hosts, and what is on its way to become one.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub fn others(&self) -> Result<Vec<Process>> {
        let ours = [Some(self.spawn.process()), self.hotd.as_ref().map(Daemon::process)];
        let ours = ours.map(|process| process.map(Process::pid));
        let all = process::of_node(self.folder.path())?;
        Ok(all.into_iter().filter(|process| !ours.contains(&Some(process.pid()))).collect())
    }

    /// The programs that it was started from.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The process of `hotd`.
    ///
    /// # Errors
    /// When it does not run.
    pub fn daemon(&self) -> Result<Process> {
        self.hotd.as_ref().map(|hotd| hotd.process().clone()).context("hotd does not run")
    }

    /// The process of `hot-spawn`.
    pub fn spawn(&self) -> &Process {
        self.spawn.process()
    }

    /// Ends both programs, `hotd` first, and checks that its hosts are gone with `hot-spawn`.
    ///
    /// # Errors
    /// When one does not end as it should.
    pub fn stop(mut self) -> Result<()> {
        let hosts = self.hosts()?;
        self.terminate()?;
        self.spawn.terminate()?;
        hosts.iter().try_for_each(|host| host.wait_gone(WAIT))
    }

    fn log_tail(&self) -> String {
        daemon::tail(&self.log())
    }

    /// What became of `hot-spawn`, without which `hotd` serves nothing.
    fn spawn_tail(&self) -> String {
        let log = daemon::tail(&self.folder.path().join("spawn.log"));
        format!("hot-spawn {}; its log ends:\n{log}", self.spawn.state())
    }
}

/// Whether the nodes of tests require the default parts of the sandbox, as one does that is installed: a hot-spawn that is
/// not root's has no users to give.
fn requires_default() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where the gateway of a node listens that has its host to itself.
const HTTP: u16 = 8080;

/// Where `hot-spawn` listens, below the service's folder.
const SPAWN_SOCKET: &str = "run/spawn.sock";

fn start_spawn(
    binaries: &Binaries,
    host: &Host,
    folder: &Path,
    change: impl FnOnce(Command) -> Result<Command>,
) -> Result<Daemon> {
    let mut command = daemon::command(&binaries.hot_spawn());
    command.arg("--socket").arg(folder.join(SPAWN_SOCKET)).current_dir(folder);
    let command = change(command)?;
    let (spawn, _ready) = host.run(|| Daemon::start(command, &folder.join("spawn.log")))?;
    Ok(spawn)
}

impl Drop for Service {
    fn drop(&mut self) {
        // As it is now, before this ends it.
        let ends = std::thread::panicking()
            .then(|| format!("the node's log ends:\n{}\n{}", self.log_tail(), self.spawn_tail()));
        // After a test that passed there is nothing left.
        for process in process::of_node(self.folder.path()).unwrap_or_default() {
            drop(process.signal(Signal::KILL));
            drop(process.wait_gone(WAIT));
        }
        // A hot-spawn that was killed leaves what it mounted.
        for place in mounts_below(self.folder.path()) {
            rustix::mount::unmount(place, UnmountFlags::DETACH).unwrap_or_default();
        }
        if let Some(ends) = ends {
            use std::io::Write as _;
            // The test runner shows it with the failed test.
            drop(writeln!(std::io::stderr(), "{ends}"));
        }
    }
}

/// Where file systems are mounted below `folder`.
fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // No folder of a test has a name in which the kernel would escape something.
    let places = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    places.filter(|place| place.starts_with(folder)).collect()
}
