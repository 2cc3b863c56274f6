//! Which core a process runs on, and how much of it processes have used.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_setaffinity};

/// The two sides of a measurement, each with a core of its own where there are two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Servers under measurement, with all their processes: the first core.
    Server,
    /// The load: the last core.
    Load,
}

/// Pins this thread, and whatever it starts from now on, to the core of a side.
pub(crate) fn pin(side: Side) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(match side {
        Side::Server => 0,
        Side::Load => last()?,
    });
    sched_setaffinity(None, &set).context("pinning to a core")
}

/// The last core that is online, whatever this thread is pinned to.
fn last() -> Result<usize> {
    // As `0-3` or `0,2-3`.
    let online = fs::read_to_string("/sys/devices/system/cpu/online").context("the cores that are online")?;
    let last = online.trim_end().rsplit([',', '-']).next().unwrap_or_default();
    last.parse().with_context(|| format!("found {online:?}, expected the cores that are online"))
}

/// CPU time of all threads of these processes and of their descendants. What ended before is not in it.
pub(crate) fn used(roots: &[i32]) -> Result<Duration> {
    let mut processes = roots.to_vec();
    let mut nanos = 0;
    while let Some(process) = processes.pop() {
        // One may have ended since its parent named it.
        let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { continue };
        for thread in threads {
            let thread = thread.context("/proc")?.path();
            let Ok(spent) = fs::read_to_string(thread.join("schedstat")) else { continue };
            nanos += spent.split_whitespace().next().context("schedstat is empty")?.parse::<u64>()?;
            let children = fs::read_to_string(thread.join("children")).unwrap_or_default();
            processes.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
    }
    Ok(Duration::from_nanos(nanos))
}

/// A figure of a process in KiB from `/proc/PID/status`, e.g. `VmHWM`.
pub(crate) fn memory_kib(pid: i32, figure: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the status of a process")?;
    let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
    let value = line.and_then(|line| line.trim().strip_suffix(" kB"));
    value
        .with_context(|| format!("no {figure} in the status of a process"))?
        .trim()
        .parse()
        .context(figure.to_owned())
}
