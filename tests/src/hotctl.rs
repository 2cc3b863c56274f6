//! Runs of `hotctl`, against one node, with a deadline.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};
use std::{io::Read, os::unix::process::ExitStatusExt};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::de::DeserializeOwned;

use crate::{Binaries, Follow, ModuleStatus, Status};

/// Longest that a run may take. The longest rollouts of the tests take a quarter of it.
const DEADLINE: Duration = Duration::from_secs(120);

/// Longest that a compiler may take, on a machine that does much else.
pub const BUILD: Duration = Duration::from_secs(400);

/// A path as an argument.
///
/// # Errors
/// When it is not UTF-8.
pub fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// How a run ended, and what it printed.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// From its start to its end.
    pub took: Duration,
    /// Program and arguments, for messages.
    command: String,
}

impl Output {
    /// Checks the exit code.
    ///
    /// # Errors
    /// When it is another one; the text has all that was printed.
    pub fn expect(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == code,
            "`{}` ended with {}, expected {code}\nstdout:\n{}\nstderr:\n{}",
            self.command,
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }

    /// The last line of its standard output, read as JSON.
    ///
    /// # Errors
    /// When there is none or it has another shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        let line =
            self.stdout.lines().last().with_context(|| format!("`{}` printed nothing", self.command))?;
        serde_json::from_str(line).with_context(|| format!("`{}` printed {line:?}", self.command))
    }

    /// Standard error as the one sentence that it must be.
    ///
    /// # Errors
    /// When it is empty or more than one line.
    pub fn sentence(&self) -> Result<&str> {
        let text = self.stderr.trim_end();
        ensure!(!text.is_empty(), "`{}` gave no error\nstdout:\n{}", self.command, self.stdout);
        ensure!(!text.contains('\n'), "`{}`: expected one sentence, found:\n{text}", self.command);
        Ok(text)
    }
}

/// `hotctl` as the user of one node would run it: it finds the node by the record that the node left.
#[derive(Clone, Debug)]
pub struct Hotctl {
    program: PathBuf,
    runtime_dir: PathBuf,
    /// What `HOTCTL_NODE` says.
    node: Option<String>,
}

impl Hotctl {
    pub(crate) fn new(program: PathBuf, runtime_dir: PathBuf) -> Self {
        Self { program, runtime_dir, node: None }
    }

    /// For the node at this socket, which has left no record.
    pub(crate) fn node(mut self, socket: &Path) -> Self {
        self.node = Some(format!("unix:{}", socket.display()));
        self
    }

    /// The command, not started, with nothing of the caller's environment that could lead it to another node.
    pub fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("NO_COLOR", "1");
        for name in ["XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"] {
            command.env(name, &self.runtime_dir);
        }
        for name in ["HOTCTL_NODE", "HOTCTL_CONTEXT", "HOTCTL_TOKEN", "HOTCTL_KEY", "SSH_AUTH_SOCK"] {
            command.env_remove(name);
        }
        command.envs(self.node.iter().map(|node| ("HOTCTL_NODE", node)));
        command
    }

    /// Waits until what `status --watch` says of a module is as wanted, and gives that.
    pub(crate) fn wait_module(
        &self,
        name: &str,
        deadline: Duration,
        wanted: impl Fn(&ModuleStatus) -> bool,
    ) -> Result<ModuleStatus> {
        let watch = self.follow(&["status", "--watch", "-o", "json"])?;
        wait_status(watch, name, deadline, wanted)
    }

    /// The same for a module that the node knows already, of which alone it is told.
    pub(crate) fn wait_known_module(
        &self,
        name: &str,
        deadline: Duration,
        wanted: impl Fn(&ModuleStatus) -> bool,
    ) -> Result<ModuleStatus> {
        let watch = self.follow(&["status", name, "--watch", "-o", "json"])?;
        wait_status(watch, name, deadline, wanted)
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it can't be started or takes more than two minutes.
    pub fn run(&self, arguments: &[impl AsRef<OsStr>]) -> Result<Output> {
        run(self.command(arguments))
    }

    /// Starts it and follows its lines.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn follow(&self, arguments: &[impl AsRef<OsStr>]) -> Result<Follow> {
        Follow::start(self.command(arguments))
    }
}

/// Waits until a line of `status --watch` says of a module what is wanted.
fn wait_status(
    mut watch: Follow,
    name: &str,
    deadline: Duration,
    wanted: impl Fn(&ModuleStatus) -> bool,
) -> Result<ModuleStatus> {
    watch.wait(deadline, |line| {
        let status: Status = serde_json::from_str(line).ok()?;
        status.module(name).filter(|module| wanted(module)).cloned()
    })
}

/// Runs `hotctl pki` in a folder.
///
/// # Errors
/// When it does not end with 0.
pub fn pki(folder: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(Binaries::locate()?.hotctl());
    command.arg("pki").args(arguments).current_dir(folder);
    run(command)?.expect(0).map(drop)
}

/// Runs a command to its end.
///
/// # Errors
/// When it can't be started or takes more than two minutes.
pub fn run(command: Command) -> Result<Output> {
    run_for(command, DEADLINE)
}

/// Runs a command to its end.
///
/// # Errors
/// When it can't be started or takes longer than that.
pub fn run_for(mut command: Command, deadline: Duration) -> Result<Output> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    let line = words.join(" ");
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start {command:?}"))?;
    let stdout = read_all(child.stdout.take().context("standard output is a pipe")?);
    let stderr = read_all(child.stderr.take().context("standard error is a pipe")?);
    let mut texts = Vec::new();
    for pipe in [stdout, stderr] {
        match pipe.recv_timeout((start + deadline).saturating_duration_since(Instant::now())) {
            Ok(text) => texts.push(text),
            Err(RecvTimeoutError::Timeout) => {
                child.kill().context("ending a program that hangs")?;
                child.wait().context("waiting for a child")?;
                let said = texts.pop().or_else(|| pipe.recv_timeout(Duration::from_secs(1)).ok());
                bail!("`{line}` still ran after {deadline:?}, and had said:\n{}", said.unwrap_or_default());
            }
            Err(RecvTimeoutError::Disconnected) => return Err(anyhow!("the reader of a pipe is gone")),
        }
    }
    let code = code(child.wait().context("waiting for a child")?);
    let stderr = texts.pop().unwrap_or_default();
    let stdout = texts.pop().unwrap_or_default();
    Ok(Output { code, stdout, stderr, took: start.elapsed(), command: line })
}

/// The exit code as a shell tells it.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// Reads a pipe to its end on a thread of its own, so that neither of two pipes can fill up and block the child.
fn read_all(mut pipe: impl Read + Send + 'static) -> std::sync::mpsc::Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still worth showing; nobody listens when the deadline has passed.
        drop(pipe.read_to_end(&mut bytes));
        drop(sender.send(String::from_utf8_lossy(&bytes).into_owned()));
    });
    receiver
}
