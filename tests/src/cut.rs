//! `kill -9` of a program between two of its system calls of some kinds. The program is as it is built; `strace` stands
//! beside it, which sees calls that no library makes: the messages by which `hotd`, `hot-spawn` and hosts speak.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;
use crate::trace::Trace;

/// A call by its name, and which one of its name, from 1.
pub type Point = (String, usize);

/// System calls of these kinds, and where they are written down.
#[derive(Clone, Debug)]
pub struct Cut {
    calls: &'static str,
    threads: bool,
    log: PathBuf,
}

impl Cut {
    /// Of these system calls, each thread by itself, of a program that starts no other one.
    pub fn of_threads(calls: &'static str, log: &Path) -> Self {
        Self { calls, threads: true, log: log.to_owned() }
    }

    /// Of these system calls of a program of one thread, and not of those that it starts.
    pub fn of_one(calls: &'static str, log: &Path) -> Self {
        Self { calls, threads: false, log: log.to_owned() }
    }

    /// Why no program can be cut here, if so.
    pub fn impossible() -> Option<String> {
        Trace::possible().err().map(|reason| format!("{reason:#}"))
    }

    /// `command`, whose process is killed before the call of this name and number, from 1, of any of its threads; `None`: calls
    /// are only counted.
    ///
    /// # Errors
    /// When a former log can't be removed.
    pub fn before(&self, command: &Command, point: Option<&Point>) -> Result<Command> {
        if self.log.exists() {
            fs::remove_file(&self.log).context("the former log of calls")?;
        }
        let mut traced = Command::new("strace");
        // It stays the child of whoever starts it (-D). Not with --seccomp-bpf: then only the first of a kind is hit.
        traced.args(["-D", "-y", "-s", "16", "-e", "signal=none", "-e"]).arg(format!("trace={}", self.calls));
        traced.args(self.threads.then_some("-f"));
        if let Some((call, number)) = point {
            traced.arg("-e").arg(format!("inject={call}:signal=KILL:when={number}"));
        }
        traced.arg("-o").arg(&self.log);
        Ok(process::within(traced, command))
    }

    /// Before which calls it may be killed: each name with its numbers, up to the most that one thread made of it.
    ///
    /// # Errors
    /// When nothing was traced.
    pub fn points(&self) -> Result<Vec<Point>> {
        let mut most: BTreeMap<String, usize> = BTreeMap::new();
        for calls in self.seen()?.values() {
            let mut of: BTreeMap<&str, usize> = BTreeMap::new();
            for name in calls.iter().filter_map(|call| Some(call.split_once('(')?.0)) {
                *of.entry(name).or_default() += 1;
            }
            for (name, count) in of {
                let known = most.entry(name.to_owned()).or_default();
                *known = count.max(*known);
            }
        }
        Ok(most.into_iter().flat_map(|(name, count)| (1..=count).map(move |at| (name.clone(), at))).collect())
    }

    /// The call before which it was killed, as it was traced; the last one of somebody where that is not known.
    ///
    /// # Errors
    /// When nothing was traced.
    pub fn last(&self) -> Result<String> {
        let seen = self.seen()?;
        let mut last = seen.values().filter_map(|calls| calls.last());
        let killed = last.clone().find(|call| call.ends_with("= ?"));
        Ok(killed.or_else(|| last.next()).context("no call was traced")?.clone())
    }

    /// The calls so far, by thread.
    fn seen(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let text = fs::read(&self.log).context("the log of calls")?;
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in String::from_utf8_lossy(&text).lines() {
            let (thread, call) =
                if self.threads { line.split_once(' ').unwrap_or_default() } else { ("", line) };
            let call = call.trim_start();
            // What another thread's call broke in two, and how the process ended, is no call.
            if !call.starts_with("<...") && !call.starts_with("+++") {
                seen.entry(thread.to_owned()).or_default().push(call.to_owned());
            }
        }
        Ok(seen)
    }
}
