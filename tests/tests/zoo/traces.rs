//! What a module may leave behind when its process is gone.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use hot_tests::{Process, Service, run};
use rustix::process::Signal;

/// So begins the name of all that the modules of the zoo leave, as in tests/zoo/zoo.h.
const MARK: &str = "hot-zoo-left";
/// The key of their System V shared memory.
const KEY: u32 = 0x686f_7a6f;
/// Files that they leave.
const FILES: [&str; 3] = ["/tmp/hot-zoo-left", "/dev/shm/hot-zoo-left", "/hot-zoo-left"];
/// From the end of a host until all that it started is gone as well.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// The marked processes of the whole machine: whose children they are now does not say whose they were.
fn marked() -> Result<BTreeSet<Process>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let pid = entry.context("/proc")?.file_name().to_str().and_then(|name| name.parse().ok());
        found.extend(pid.and_then(Process::of).filter(|process| process.name() == MARK));
    }
    Ok(found)
}

/// How many of the mounts that `hot-spawn` sees are below the node's own folder, or below one that names its process.
pub(crate) fn mounts(service: &Service) -> Result<usize> {
    let pid = service.spawn().pid();
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).context("the mounts")?;
    let (ours, named) = (service.scratch().display().to_string(), format!("/{pid}/"));
    Ok(text.lines().filter(|mount| mount.contains(&ours) || mount.contains(&named)).count())
}

/// What is there of the node besides the processes `known`, and of what modules left. Processes that end by themselves are
/// waited for.
pub(crate) fn left(service: &Service, known: &BTreeSet<i32>, mounts_before: usize) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut others = marked()?;
    others.extend(service.others()?.into_iter().filter(|process| !known.contains(&process.pid())));
    for process in others {
        if process.wait_gone(GONE_WITHIN).is_err() {
            found.push(format!("the process {} ({})", process.name(), process.pid()));
        }
    }
    let files = FILES.into_iter().filter(|file| Path::new(file).symlink_metadata().is_ok());
    found.extend(files.map(|file| format!("the file {file}")));
    let shared = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    if shared.lines().any(|line| line.split_whitespace().next() == Some(&*KEY.to_string())) {
        found.push("a System V shared memory".to_owned());
    }
    let mounted = mounts(service)?;
    if mounted != mounts_before {
        found.push(format!("{mounted} mounts, where {mounts_before} were before"));
    }
    Ok(found)
}

/// Takes away what a case left, so that the next one does not answer for it.
pub(crate) fn clear() -> Result<()> {
    for process in marked()? {
        process.signal(Signal::KILL)?;
    }
    for file in FILES.into_iter().filter(|file| Path::new(file).symlink_metadata().is_ok()) {
        fs::remove_file(file).with_context(|| file.to_owned())?;
    }
    let shared = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    if shared.lines().any(|line| line.split_whitespace().next() == Some(&*KEY.to_string())) {
        let mut command = Command::new("ipcrm");
        command.arg("-M").arg(KEY.to_string());
        run(command)?.expect(0)?;
    }
    Ok(())
}
