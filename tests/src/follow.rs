//! A program whose output is followed line by line while it runs.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Lines that wait to be read; a program that prints more blocks until somebody reads.
const LINES: usize = 4096;

/// A running program and the lines of its standard output, its standard error among them. It is ended when dropped.
#[derive(Debug)]
pub struct Follow {
    child: Child,
    lines: Receiver<String>,
    what: String,
    seen: Vec<String>,
}

impl Follow {
    /// Starts `command` and follows it.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(mut command: Command) -> Result<Self> {
        let what = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not start {what}"))?;
        let (sender, lines) = sync_channel(LINES);
        forward(child.stdout.take().context("standard output is a pipe")?, sender.clone());
        forward(child.stderr.take().context("standard error is a pipe")?, sender);
        Ok(Self { child, lines, what, seen: Vec::new() })
    }

    /// Waits for the next line of which `wanted` makes something, and gives that. Lines before it are passed over.
    ///
    /// # Errors
    /// When none comes within `deadline`, or the program ends before; the text has the lines that came.
    pub fn wait<T>(&mut self, deadline: Duration, mut wanted: impl FnMut(&str) -> Option<T>) -> Result<T> {
        let end = Instant::now() + deadline;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let found = wanted(&line);
                    self.seen.push(line);
                    if let Some(found) = found {
                        return Ok(found);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "{} printed nothing of the kind within {deadline:?}, only:\n{}",
                        self.what,
                        self.seen.join("\n")
                    )
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!(
                        "{} ended before it printed what was waited for, only:\n{}",
                        self.what,
                        self.seen.join("\n")
                    )
                }
            }
        }
    }

    /// Waits until the program has ended by itself and gives its exit code (128 + signal when one ended it).
    ///
    /// # Errors
    /// When it still runs after `deadline`.
    pub fn wait_end(&mut self, deadline: Duration) -> Result<i32> {
        // Both ends of its output close with it.
        let end = Instant::now() + deadline;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{} still runs after {deadline:?}:\n{}", self.what, self.seen.join("\n"))
                }
            }
        }
        Ok(crate::hotctl::code(self.child.wait().context("waiting for a child")?))
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All lines that came so far and were looked at.
    pub fn seen(&self) -> &[String] {
        &self.seen
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Sends each line of `from` until it ends or nobody listens.
fn forward(from: impl Read + Send + 'static, to: SyncSender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(line) = line else { return };
            if to.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
}
