//! A program that serves until it is told to end: started, waited for until it says that it is ready, and ended.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::node::WAIT;
use crate::process::Process;

/// Lines of a log that an error shows.
const LOG_LINES: usize = 30;

/// A `hotd` or `hot-spawn`. It is ended by force when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    process: Process,
}

impl Daemon {
    /// Starts `command` with its standard error at the end of `log`, and waits for the line of its standard output that
    /// begins with `ready`, of which it gives the rest.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<(Self, String)> {
        let file = File::options().create(true).append(true).open(log).context("a log")?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
        let mut child = command.spawn().with_context(|| format!("could not start {command:?}"))?;
        let stdout = child.stdout.take().context("standard output is a pipe")?;
        let process = i32::try_from(child.id()).ok().and_then(Process::of);
        let Some(process) = process else {
            child.wait().context("waiting for a child")?;
            anyhow::bail!("{command:?} ended at once. Its log ends:\n{}", tail(log));
        };
        let daemon = Self { child, process };
        let (sender, lines) = sync_channel(1);
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            let ready = lines.find_map(|line| line.strip_prefix("ready ").map(str::to_owned));
            if let Some(ready) = ready {
                drop(sender.send(ready));
            } else {
                drop(sender);
            }
            // Whatever else it prints must not fill the pipe.
            lines.for_each(drop);
        });
        let ready = lines.recv_timeout(WAIT);
        let ready = ready.with_context(|| {
            format!("{command:?} did not say that it is ready. Its log ends:\n{}", tail(log))
        })?;
        Ok((daemon, ready))
    }

    /// Its process.
    pub(crate) const fn process(&self) -> &Process {
        &self.process
    }

    /// Whether it runs, or how it ended, for messages. It is not reaped by this.
    pub(crate) fn state(&self) -> String {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match rustix::process::waitid(WaitId::Pid(Pid::from_child(&self.child)), options) {
            Ok(None) => "runs".to_owned(),
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("ended with {code}"),
                (None, Some(signal)) => format!("was ended by signal {signal}"),
                (None, None) => format!("ended: {status:?}"),
            },
            Err(error) => format!("is unknown: {error}"),
        }
    }

    /// Ends it as systemd would: SIGTERM, then wait. It must end with 0.
    pub(crate) fn terminate(&mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        self.process.wait_gone(WAIT)?;
        let code = crate::hotctl::code(self.child.wait().context("waiting for a child")?);
        ensure!(code == 0, "{} ended with {code} after SIGTERM, expected 0", self.process.name());
        Ok(())
    }

    /// `kill -9`. Gives the moment of the signal.
    pub(crate) fn kill(&mut self) -> Result<Instant> {
        let at = Instant::now();
        self.process.signal(Signal::KILL)?;
        self.child.wait().context("waiting for a child")?;
        Ok(at)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The end of a log, for messages.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// The command of one of our programs, with nothing of the caller's environment that configures it.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("NO_COLOR", "1");
    for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "RUST_LOG", "HOT_LOG"] {
        command.env_remove(name);
    }
    command
}
