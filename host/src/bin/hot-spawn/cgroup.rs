//! A leaf in a cgroup v2 tree for each host, in a folder that was delegated to us.
//!
//! What the folder's controllers don't give is left to others: each leaf says which limits it has in force.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hot_wire::isolation::Breach;
use hot_wire::spawn::Limits;

use crate::log;

/// How the name of a leaf begins; the host's number follows.
const PREFIX: &str = "host-";
/// The controllers that leaves have a use for.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];
/// How long after a leaf was found busy its removal is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// The delegated folder.
#[derive(Debug)]
pub(crate) struct Cgroup {
    folder: PathBuf,
    /// Of [`CONTROLLERS`], those that leaves have.
    controllers: Vec<&'static str>,
    /// Leaves of hosts that ended, which are still busy.
    retired: Vec<PathBuf>,
    retry_at: Instant,
}

/// The leaf of one host.
#[derive(Debug)]
pub(crate) struct Leaf {
    path: PathBuf,
    /// Who writes `0` here is in the leaf.
    procs: OwnedFd,
    /// The limit that is in force, in bytes.
    pub(crate) memory: Option<u64>,
    /// Whether the limit of processes and threads is in force.
    pub(crate) tasks: bool,
    /// Whether it has the weight that was asked for.
    pub(crate) cpu: bool,
}

impl Cgroup {
    /// Takes the folder: enables the controllers that it may, and removes what an earlier hot-spawn left.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let kind = rustix::fs::statfs(folder)
            .with_context(|| format!("cannot look at the cgroup folder {}", folder.display()))?
            .f_type;
        if kind != libc::CGROUP2_SUPER_MAGIC {
            bail!(
                "{} is no folder of a cgroup v2 tree, which --cgroup needs; give one or leave it out",
                folder.display()
            );
        }
        let available = words(&folder.join("cgroup.controllers"));
        let control = folder.join("cgroup.subtree_control");
        for wanted in CONTROLLERS.iter().filter(|name| available.iter().any(|found| found == *name)) {
            if let Err(error) = write(&control, &format!("+{wanted}")) {
                log(format_args!("cannot enable the controller {wanted} in {}: {error}", folder.display()));
            }
        }
        let enabled = words(&control);
        let controllers: Vec<_> =
            CONTROLLERS.into_iter().filter(|name| enabled.iter().any(|found| found == name)).collect();
        let lacking: Vec<_> = CONTROLLERS.into_iter().filter(|name| !controllers.contains(name)).collect();
        if !lacking.is_empty() {
            log(format_args!(
                "{} has no controller {} for hosts, so that is seen to without: by looking, and by nice values",
                folder.display(),
                lacking.join(", ")
            ));
        }
        let mut cgroup =
            Self { folder: folder.to_owned(), controllers, retired: Vec::new(), retry_at: Instant::now() };
        cgroup.remove_old();
        Ok(cgroup)
    }

    /// Makes the leaf of a host, with all limits in it that its controllers have.
    pub(crate) fn leaf(&mut self, id: u64, limits: &Limits) -> std::io::Result<Leaf> {
        let path = self.folder.join(format!("{PREFIX}{id}"));
        match std::fs::create_dir(&path) {
            // One of an earlier hot-spawn, which had hosts that nobody could remove.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                self.retired.retain(|retired| *retired != path);
                std::fs::remove_dir(&path)?;
                std::fs::create_dir(&path)?;
            }
            made => made?,
        }
        match self.fill(&path, limits) {
            Ok(leaf) => Ok(leaf),
            Err(error) => {
                self.remove(path);
                Err(error)
            }
        }
    }

    fn fill(&self, path: &Path, limits: &Limits) -> std::io::Result<Leaf> {
        let procs: OwnedFd = File::options().write(true).open(path.join("cgroup.procs"))?.into();
        let mut leaf = Leaf { path: path.to_owned(), procs, memory: None, tasks: false, cpu: false };
        let set = |controller: &str, file: &str, value: &str| {
            if !self.controllers.contains(&controller) {
                return false;
            }
            let done = write(&path.join(file), value);
            if let Err(error) = &done {
                log(format_args!("cannot set {file} of a host: {error}"));
            }
            done.is_ok()
        };
        if limits.memory != Limits::UNLIMITED && set("memory", "memory.max", &limits.memory.to_string()) {
            leaf.memory = Some(limits.memory);
            // Kernels without swap don't have the first, and those before 4.19 not the second.
            write(&path.join("memory.swap.max"), "0").unwrap_or_default();
            write(&path.join("memory.oom.group"), "1").unwrap_or_default();
        }
        leaf.tasks = limits.tasks != Limits::UNLIMITED && set("pids", "pids.max", &limits.tasks.to_string());
        leaf.cpu = limits.cpu_weight != 0
            && set("cpu", "cpu.weight", &limits.cpu_weight.clamp(1, 10_000).to_string());
        Ok(leaf)
    }

    /// Ends what is left in a leaf and removes it, now or as soon as it is empty.
    pub(crate) fn retire(&mut self, leaf: Leaf, now: Instant) {
        leaf.kill();
        self.retry_at = now + RETRY;
        self.remove(leaf.path);
    }

    /// When [`Cgroup::tidy`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        (!self.retired.is_empty()).then_some(self.retry_at)
    }

    /// Removes retired leaves that are empty by now.
    pub(crate) fn tidy(&mut self, now: Instant) {
        if self.due().is_some_and(|at| at <= now) {
            self.retry_at = now + RETRY;
            for path in std::mem::take(&mut self.retired) {
                self.remove(path);
            }
        }
    }

    fn remove(&mut self, path: PathBuf) {
        match std::fs::remove_dir(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => self.retired.push(path),
            Err(error) => log(format_args!("cannot remove {}: {error}", path.display())),
        }
    }

    /// Leaves with somebody in them stay: an earlier hot-spawn's hosts have a control socket that tells them to end, and
    /// they are not ours to kill.
    fn remove_old(&mut self) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            if number.is_some_and(|number| number.parse::<u64>().is_ok()) {
                self.remove(entry.path());
            }
        }
    }
}

impl Drop for Cgroup {
    /// The kernel needs a moment to take ended processes out of a leaf; what is still busy is for the next to remove.
    fn drop(&mut self) {
        for path in std::mem::take(&mut self.retired) {
            self.remove(path);
        }
    }
}

impl Leaf {
    /// A descriptor of its own for a process that is to put itself in.
    pub(crate) fn door(&self) -> std::io::Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(self.procs.as_fd(), 0)?)
    }

    /// Kills all in it at once, in a way that no fork outruns; kernels before 5.14 can't.
    pub(crate) fn kill(&self) {
        write(&self.path.join("cgroup.kill"), "1").unwrap_or_default();
    }

    /// Its processes and threads, where the kernel counts them.
    pub(crate) fn count_tasks(&self) -> Option<u64> {
        std::fs::read_to_string(self.path.join("pids.current")).ok()?.trim().parse().ok()
    }

    /// Whether the kernel ended it for its memory.
    pub(crate) fn breach(&self) -> Option<Breach> {
        let limit = self.memory?;
        let events = std::fs::read_to_string(self.path.join("memory.events")).ok()?;
        // Without the first it was the whole machine that had no memory left.
        (event(&events, "oom") > 0 && event(&events, "oom_kill") > 0)
            .then_some(Breach::Memory { used: limit, limit })
    }
}

/// How often it happened, from a file with a name and a number in each line.
fn event(events: &str, name: &str) -> u64 {
    let numbers = events.lines().filter_map(|line| line.split_once(' '));
    let found = numbers.into_iter().find(|(found, _)| *found == name);
    found.and_then(|(_, number)| number.trim().parse().ok()).unwrap_or_default()
}

fn words(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// Such files exist or don't: nothing is ever created.
fn write(path: &Path, value: &str) -> std::io::Result<()> {
    File::options().write(true).open(path)?.write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder like the kernel's, with every file that a leaf may have.
    fn imitation(controllers: &[&'static str]) -> (tempfile::TempDir, Cgroup) {
        let folder = tempfile::tempdir().unwrap();
        let cgroup = Cgroup {
            folder: folder.path().to_owned(),
            controllers: controllers.to_vec(),
            retired: Vec::new(),
            retry_at: Instant::now(),
        };
        let leaf = folder.path().join("leaf");
        std::fs::create_dir(&leaf).unwrap();
        for file in
            ["cgroup.procs", "memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.weight"]
        {
            std::fs::write(leaf.join(file), "").unwrap();
        }
        (folder, cgroup)
    }

    #[test]
    fn a_leaf_has_the_limits_that_were_set_and_that_its_controllers_know() {
        let limits = Limits { memory: 1 << 20, tasks: 64, cpu_weight: 50, ..Limits::default() };
        let (folder, cgroup) = imitation(&CONTROLLERS);
        let path = folder.path().join("leaf");
        let leaf = cgroup.fill(&path, &limits).unwrap();
        assert_eq!((leaf.memory, leaf.tasks, leaf.cpu), (Some(1 << 20), true, true));
        for (file, value) in [
            ("memory.max", "1048576"),
            ("memory.swap.max", "0"),
            ("memory.oom.group", "1"),
            ("pids.max", "64"),
            ("cpu.weight", "50"),
        ] {
            assert_eq!(std::fs::read_to_string(path.join(file)).unwrap(), value, "{file}");
        }
        let leaf = cgroup.fill(&path, &Limits::default()).unwrap();
        assert_eq!((leaf.memory, leaf.tasks, leaf.cpu), (None, false, false));
        let (folder, cgroup) = imitation(&["pids"]);
        let leaf = cgroup.fill(&folder.path().join("leaf"), &limits).unwrap();
        assert_eq!((leaf.memory, leaf.tasks, leaf.cpu), (None, true, false));
    }

    #[test]
    fn the_kernels_events_say_who_ended_it() {
        let (folder, cgroup) = imitation(&CONTROLLERS);
        let path = folder.path().join("leaf");
        let limits = Limits { memory: 1 << 20, ..Limits::default() };
        let leaf = cgroup.fill(&path, &limits).unwrap();
        assert_eq!(leaf.breach(), None);
        let over = Some(Breach::Memory { used: 1 << 20, limit: 1 << 20 });
        for (own, kills, breach) in [(3, 0, None), (0, 1, None), (3, 2, over)] {
            let events = format!("low 0\nhigh 0\nmax 812\noom {own}\noom_kill {kills}\noom_group_kill 1\n");
            std::fs::write(path.join("memory.events"), events).unwrap();
            assert_eq!(leaf.breach(), breach);
        }
    }

    #[test]
    fn a_folder_that_is_no_cgroup_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = Cgroup::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is no folder of a cgroup v2 tree"), "{error}");
    }
}
