//! A real etcd of a test's own: members on loopback or on hosts, killed, stopped, continued and started again.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::node::WAIT;
use crate::process::Process;
use crate::{Host, pki, raw};

/// Between two looks at whether a member answers.
const LOOK: Duration = Duration::from_millis(20);
/// Tries to find ports that stay free until etcd takes them.
const TRIES: usize = 5;
/// Ports on loopback: below those that the kernel gives to whoever asks for any, so that those of a member that is down
/// are there when it starts again.
const PORTS: Range<u16> = 10_000..32_000;
/// Asks a member whether etcd answers by way of it.
const HEALTH: &str = "GET /health HTTP/1.1\r\nhost: etcd\r\nconnection: close\r\n\r\n";
/// The ports of a member that has a host to itself: for clients, and for the other members.
const USUAL: (u16, u16) = (2379, 2380);

/// The members of one etcd. They end when this is dropped.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    /// Whether its clients call by TLS, and must show a certificate.
    secure: bool,
    /// The user and the password that it wants to hear, once [`Etcd::want_password`] was called.
    user: Option<(String, String)>,
    folder: tempfile::TempDir,
}

#[derive(Debug)]
struct Member {
    name: String,
    host: Host,
    client: SocketAddr,
    peer: SocketAddr,
    running: Option<(Child, Process)>,
}

impl Etcd {
    /// One member.
    ///
    /// # Errors
    /// When there is no etcd here, or it does not come up.
    pub fn start() -> Result<Self> {
        Self::start_many(1)
    }

    /// One member that is called by TLS, and by those alone who show a certificate of its authority: [`Etcd::pki`] has them.
    ///
    /// # Errors
    /// As [`Self::start`], and when a certificate can't be made.
    pub fn start_with_tls() -> Result<Self> {
        Self::try_many(1, true)
    }

    /// So many members, each on an address of its own on loopback.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_many(count: usize) -> Result<Self> {
        Self::try_many(count, false)
    }

    fn try_many(count: usize, secure: bool) -> Result<Self> {
        let mut last = None;
        for _ in 0..TRIES {
            match Self::try_start(count, secure) {
                Ok(etcd) => return Ok(etcd),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("at least one try")?)
    }

    /// A member on each of these hosts.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_on(hosts: &[Host]) -> Result<Self> {
        let at = |host: &Host, port| SocketAddr::new(host.address(), port);
        Self::start_at(hosts.iter().map(|host| (host.clone(), at(host, USUAL.0), at(host, USUAL.1))), false)
    }

    fn try_start(count: usize, secure: bool) -> Result<Self> {
        let mut listeners = Vec::with_capacity(2 * count);
        // All bound at once, so that no two are the same.
        while listeners.len() < 2 * count {
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", rand::random_range(PORTS))) {
                listeners.push(listener);
            }
        }
        let places: Vec<SocketAddr> =
            listeners.iter().map(TcpListener::local_addr).collect::<std::io::Result<_>>()?;
        drop(listeners);
        Self::start_at(places.chunks(2).map(|places| (Host::here(), places[0], places[1])), secure)
    }

    fn start_at(places: impl Iterator<Item = (Host, SocketAddr, SocketAddr)>, secure: bool) -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for etcd")?;
        if secure {
            pki(folder.path(), &["init", "pki"])?;
            pki(folder.path(), &["issue", "etcd", "--dir", "pki", "--address", "127.0.0.1"])?;
        }
        let member = |(index, (host, client, peer))| Member {
            name: format!("m{index}"),
            host,
            client,
            peer,
            running: None,
        };
        let mut etcd = Self { members: places.enumerate().map(member).collect(), secure, user: None, folder };
        for member in 0..etcd.members.len() {
            etcd.spawn(member)?;
        }
        for member in 0..etcd.members.len() {
            etcd.wait_serves(member)?;
        }
        Ok(etcd)
    }

    /// Where its members answer.
    pub fn endpoints(&self) -> Vec<String> {
        let scheme = if self.secure { "https" } else { "http" };
        self.members.iter().map(|member| format!("{scheme}://{}", member.client)).collect()
    }

    /// The folder of its authority: `ca.pem`, and `etcd.pem` with `etcd.key`, which etcd shows and takes.
    pub fn pki(&self) -> PathBuf {
        self.folder.path().join("pki")
    }

    /// The lines of a node's `[cluster]` by which it gets in.
    pub fn door(&self) -> String {
        let mut lines = format!("etcd = {:?}\n", self.endpoints());
        if self.secure {
            let at = |name: &str| self.pki().join(name);
            lines += &format!(
                "authority = {:?}\ncertificate = {:?}\nkey = {:?}\n",
                at("ca.pem"),
                at("etcd.pem"),
                at("etcd.key")
            );
        }
        if let Some((user, _)) = &self.user {
            lines += &format!("user = {user:?}\npassword_file = {:?}\n", self.password_file());
        }
        lines
    }

    /// Where the password of a node's user is.
    pub fn password_file(&self) -> PathBuf {
        self.folder.path().join("password")
    }

    /// Has etcd want a password from now on: of `root`, and of `hot`, who may read and write below `prefix` alone.
    ///
    /// # Errors
    /// When etcd refuses.
    pub fn want_password(&mut self, prefix: &str) -> Result<()> {
        for command in [
            &["user", "add", "root:root-word"][..],
            &["user", "grant-role", "root", "root"],
            &["role", "add", "hot"],
            &["role", "grant-permission", "--prefix=true", "hot", "readwrite", prefix],
            &["user", "add", "hot:hot-word"],
            &["user", "grant-role", "hot", "hot"],
            &["auth", "enable"],
        ] {
            self.ctl(command)?;
        }
        self.user = Some(("hot".to_owned(), "hot-word".to_owned()));
        std::fs::write(self.password_file(), "hot-word\n").context("the password")?;
        Ok(())
    }

    /// Writes a value, as anybody can who gets at etcd.
    ///
    /// # Errors
    /// When etcd does not take it.
    pub fn put(&self, key: &str, value: &str) -> Result<()> {
        self.ctl(&["put", "--", key, value]).map(drop)
    }

    /// Removes a key, as anybody can who gets at etcd.
    ///
    /// # Errors
    /// When etcd does not do it.
    pub fn delete(&self, key: &str) -> Result<()> {
        self.ctl(&["del", "--", key]).map(drop)
    }

    /// The values of the keys that begin with `prefix`.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub fn values(&self, prefix: &str) -> Result<Vec<String>> {
        let text = self.ctl(&["get", "--prefix", "--print-value-only", prefix])?;
        Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// The revision at which a key came to be, if it is there.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub fn created(&self, key: &str) -> Result<Option<i64>> {
        let text = self.ctl(&["get", "-w", "fields", key])?;
        let line = text.lines().find_map(|line| line.strip_prefix("\"CreateRevision\" : "));
        line.map(|number| number.trim().parse().context("a revision")).transpose()
    }

    /// `etcdctl` for its members.
    pub(crate) fn etcdctl(&self) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.endpoints().join(",")]);
        if self.secure {
            let at = |name: &str| self.pki().join(name);
            command.arg("--cacert").arg(at("ca.pem")).arg("--cert").arg(at("etcd.pem"));
            command.arg("--key").arg(at("etcd.key"));
        }
        if self.user.is_some() {
            command.args(["--user", "root:root-word"]);
        }
        command
    }

    pub(crate) fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.etcdctl();
        command.args(arguments);
        let output = command.output().context("etcdctl was not found; scripts/test brings it")?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).context("its output")
    }

    /// Starts a member again that was killed. Its data is there still.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&mut self, member: usize) -> Result<()> {
        self.spawn(member)?;
        self.wait_serves(member)
    }

    /// Starts all members again that were killed: alone, most of them could not serve.
    ///
    /// # Errors
    /// When they do not come up.
    pub fn restart_all(&mut self) -> Result<()> {
        for member in 0..self.members.len() {
            if self.members[member].running.is_none() {
                self.spawn(member)?;
            }
        }
        (0..self.members.len()).try_for_each(|member| self.wait_serves(member))
    }

    /// `kill -9` of all members.
    ///
    /// # Errors
    /// When one of them does not run.
    pub fn kill_all(&mut self) -> Result<()> {
        (0..self.members.len()).try_for_each(|member| self.kill(member))
    }

    /// `kill -9` of a member.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self, member: usize) -> Result<()> {
        let (mut child, _) = self.members[member].running.take().context("the member runs")?;
        child.kill().context("killing etcd")?;
        child.wait().context("waiting for etcd")?;
        Ok(())
    }

    /// `kill -9` of all members, and their data is gone; [`Etcd::restart_all`] sets them up anew.
    ///
    /// # Errors
    /// When one of them does not run.
    pub fn lose(&mut self) -> Result<()> {
        self.kill_all()?;
        let gone = |member: &Member| std::fs::remove_dir_all(self.folder.path().join(&member.name));
        self.members.iter().try_for_each(gone).context("its data")
    }

    /// Stops a member, which keeps its connections and answers nothing.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&self, member: usize) -> Result<()> {
        self.process(member)?.signal(Signal::STOP)
    }

    /// Lets a member that was stopped go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&self, member: usize) -> Result<()> {
        self.process(member)?.signal(Signal::CONT)
    }

    fn process(&self, member: usize) -> Result<&Process> {
        Ok(&self.members[member].running.as_ref().context("the member runs")?.1)
    }

    fn spawn(&mut self, member: usize) -> Result<()> {
        let peers: Vec<String> =
            self.members.iter().map(|member| format!("{}=http://{}", member.name, member.peer)).collect();
        let log = self.log(member);
        let Member { name, host, client, peer, .. } = &self.members[member];
        let scheme = if self.secure { "https" } else { "http" };
        let (client, peer) = (format!("{scheme}://{client}"), format!("http://{peer}"));
        let mut command = Command::new("etcd");
        command
            .args(["--name", name, "--initial-cluster", &peers.join(",")])
            .arg("--data-dir")
            .arg(self.folder.path().join(name))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            // What is lost with a machine is not what is tried here.
            .args(["--unsafe-no-fsync", "--logger", "zap"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(&log).context("a log")?);
        if self.secure {
            let at = |name: &str| self.pki().join(name);
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(at("ca.pem"));
            command.arg("--cert-file").arg(at("etcd.pem")).arg("--key-file").arg(at("etcd.key"));
        }
        // A token that is soon over: a node has to ask for another one.
        command.args(["--auth-token-ttl", "2"]);
        let spawn = || {
            command.spawn().context("etcd was not found; run this by way of scripts/test, which brings it")
        };
        let child = host.run(spawn)?;
        let process = i32::try_from(child.id()).ok().and_then(Process::of);
        let Some(process) = process else { bail!("etcd ended at once:\n{}", tail(&log)) };
        self.members[member].running = Some((child, process));
        Ok(())
    }

    /// Returns when the member takes part in an etcd that answers.
    fn wait_serves(&self, member: usize) -> Result<()> {
        let (end, process) = (Instant::now() + WAIT, self.process(member)?);
        // It listens long before that.
        let serves = || {
            if self.secure {
                return self.ctl(&["endpoint", "health"]).is_ok();
            }
            let reply = raw(self.members[member].client, HEALTH.as_bytes());
            reply.is_ok_and(|reply| reply.starts_with("HTTP/1.1 200 "))
        };
        while !serves() {
            ensure!(process.alive(), "etcd ended:\n{}", tail(&self.log(member)));
            ensure!(Instant::now() < end, "etcd does not serve:\n{}", tail(&self.log(member)));
            thread::sleep(LOOK);
        }
        Ok(())
    }

    fn log(&self, member: usize) -> PathBuf {
        self.folder.path().join(format!("{}.log", self.members[member].name))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for (child, _) in self.members.iter_mut().filter_map(|member| member.running.as_mut()) {
            // SIGKILL ends one that is stopped as well; nothing can be done about one that is gone.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
