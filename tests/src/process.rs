//! Processes of a node, read from `/proc` and ended by pid. Never by name: other tests run the same programs.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// One process, told from a later one with the same pid by when it started.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pid: i32,
    /// Clock ticks from boot to its start (`proc_pid_stat(5)`, field 22).
    started: u64,
    /// Name of its program, at most 15 bytes (`comm`).
    name: String,
}

/// What a process takes of its machine.
#[derive(Clone, Copy, Debug)]
pub struct Holds {
    /// Descriptors that it has open.
    pub descriptors: usize,
    /// KiB of memory.
    pub resident: u64,
    /// The most KiB of memory that it ever had.
    pub peak: u64,
    /// Time of CPU that it has used.
    pub cpu: Duration,
}

/// The command that has `outer` run `command`, with its folder and environment.
pub fn within(mut outer: Command, command: &Command) -> Command {
    outer.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    command.get_current_dir().map(|folder| outer.current_dir(folder));
    outer
}

/// What `/proc/PID/stat` says of a process that is not a zombie.
struct Stat {
    process: Process,
    parent: i32,
    /// Clock ticks of CPU (fields 14 and 15).
    ticks: u64,
}

/// Clock ticks per second: `USER_HZ`, which is so on every architecture that we serve (`time(7)`).
const TICKS: u64 = 100;

impl Process {
    /// The process that has this pid now, if there is one that still runs.
    pub fn of(pid: i32) -> Option<Self> {
        stat(pid).map(|stat| stat.process)
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Name of its program.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it takes of the machine now.
    ///
    /// # Errors
    /// When it is gone.
    pub fn holds(&self) -> Result<Holds> {
        let folder = Path::new("/proc").join(self.pid.to_string());
        let status = fs::read_to_string(folder.join("status")).context("what a process holds")?;
        let kib = |key: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            Ok(line.with_context(|| format!("no {key}"))?.trim().trim_end_matches(" kB").parse()?)
        };
        let descriptors = fs::read_dir(folder.join("fd")).context("its descriptors")?.count();
        let ticks = stat(self.pid).context("a process that runs")?.ticks;
        let cpu = Duration::from_millis(ticks * 1000 / TICKS);
        Ok(Holds { descriptors, resident: kib("VmRSS:")?, peak: kib("VmHWM:")?, cpu })
    }

    /// It still runs. A zombie does not.
    pub fn alive(&self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.process.started == self.started)
    }

    /// Sends a signal, if it still runs.
    ///
    /// # Errors
    /// When the kernel refuses for any other reason than that the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let Some(descriptor) = self.open()? else { return Ok(()) };
        match pidfd_send_signal(&descriptor, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("signal to {} (pid {})", self.name, self.pid)),
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it still runs after `deadline`.
    pub fn wait_gone(&self, deadline: Duration) -> Result<()> {
        let end = Instant::now() + deadline;
        let Some(descriptor) = self.open()? else { return Ok(()) };
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).context("a deadline that the kernel can hold")?;
            match poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => bail!("{} (pid {}) still runs after {deadline:?}", self.name, self.pid),
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for a process to end"),
            }
        }
    }

    /// A descriptor of this very process; `None` when it is gone. Opened first and compared after, so that it can't be
    /// a later process with the same pid.
    fn open(&self) -> Result<Option<OwnedFd>> {
        let pid = Pid::from_raw(self.pid).context("a pid is above 0")?;
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => Ok(self.alive().then_some(descriptor)),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("pidfd of {} (pid {})", self.name, self.pid)),
        }
    }
}

/// Every process that belongs to the node whose files are below `folder`: those that name a path below it as an
/// argument (`hotd`, `hot-spawn`) or are started from there, and all their descendants (hosts, and what hosts started).
pub(crate) fn of_node(folder: &Path) -> Result<BTreeSet<Process>> {
    let mut stats = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let name = entry.context("/proc")?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        stats.extend(pid.and_then(stat));
    }
    let mut found: BTreeSet<i32> =
        stats.iter().map(|stat| stat.process.pid).filter(|pid| names_path(*pid, folder)).collect();
    loop {
        let before = found.len();
        found.extend(
            stats
                .iter()
                .filter(|stat| found.contains(&stat.parent))
                .map(|stat| stat.process.pid)
                .collect::<Vec<_>>(),
        );
        if found.len() == before {
            break;
        }
    }
    Ok(stats.into_iter().map(|stat| stat.process).filter(|process| found.contains(&process.pid)).collect())
}

/// An argument of the process is `folder` or a path below it, alone or after `=`, or its program is. Only of our own
/// programs: an editor or a shell that names the folder is nobody's to end.
fn names_path(pid: i32, folder: &Path) -> bool {
    if fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program.starts_with(folder)) {
        return true;
    }
    let Ok(arguments) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let mut arguments = arguments.split(|byte| *byte == 0);
    let ours = arguments.next().is_some_and(|program| {
        let program = Path::new(OsStr::from_bytes(program)).file_name();
        program.is_some_and(|name| name == "hotd" || name == "hot-spawn" || name == "hot-host")
    });
    ours && arguments.any(|argument| {
        let value = argument.iter().position(|byte| *byte == b'=').map_or(argument, |at| &argument[at + 1..]);
        [argument, value].iter().any(|text| Path::new(OsStr::from_bytes(text)).starts_with(folder))
    })
}

/// Reads `/proc/PID/stat`; `None` when the process is gone or a zombie.
fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    // The name is in brackets and may hold any byte, brackets and spaces as well: the last bracket ends it.
    let (head, rest) = text.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    let parent = fields.get(1)?.parse().ok()?;
    let started = fields.get(19)?.parse().ok()?;
    let time = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<u64>().ok());
    let ticks = time(11)?.saturating_add(time(12)?);
    Some(Stat { process: Process { pid, started, name }, parent, ticks })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_seen_ended_and_waited_for() -> Result<()> {
        let mut child = Command::new("sleep").arg("60").spawn()?;
        let process = Process::of(i32::try_from(child.id())?).context("runs")?;
        assert!(process.alive());
        assert!(process.wait_gone(Duration::from_millis(1)).is_err(), "it still runs");
        process.signal(Signal::KILL)?;
        process.wait_gone(Duration::from_secs(10))?;
        child.wait()?;
        assert!(!process.alive());
        process.signal(Signal::KILL)?;
        Ok(())
    }

    #[test]
    fn only_our_programs_below_the_folder_are_a_nodes() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let mut other = Command::new("sleep").arg("60").current_dir(folder.path()).spawn()?;
        assert!(of_node(folder.path())?.is_empty());
        other.kill()?;
        other.wait()?;
        Ok(())
    }
}
