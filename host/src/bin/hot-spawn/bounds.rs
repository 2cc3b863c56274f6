//! Keeps hosts within their limits: by a cgroup where there is one, else by looking at what they use.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use hot_wire::isolation::{Breach, Parts};
use hot_wire::spawn::Limits;
use rustix::process::Pid;

use crate::cgroup::{Cgroup, Leaf};
use crate::hosts::Host;
use crate::log;
use crate::processes::{Main, Processes, Root};
use crate::sys::Hold;
use crate::watch::{Seen, Watch};

/// How much earlier than due a host is looked at together with others.
const SOON: Duration = Duration::from_millis(60);
/// How long one turn of the loop kills at most, so that others get theirs.
const KILLING: Duration = Duration::from_millis(20);
/// The pauses between such turns: doubled, since one that can't end hangs in the kernel.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// What keeps one host within its limits.
#[derive(Debug)]
pub(crate) struct Bounds {
    leaf: Option<Leaf>,
    watch: Option<Watch>,
    /// Kept files of one that is watched, as far as there are descriptors for them.
    main: Option<Main>,
    /// The limit for which it is being ended.
    breach: Option<Breach>,
}

/// What a host that is to be started gets.
#[derive(Debug)]
pub(crate) struct Prepared {
    leaf: Option<Leaf>,
    memory: Option<u64>,
    tasks: Option<u64>,
    nice: Option<i32>,
}

impl Prepared {
    /// What the child does to itself. `user`: it has one of its own.
    pub(crate) fn hold(&self, user: Option<u32>) -> std::io::Result<Hold> {
        Ok(Hold {
            leaf: self.leaf.as_ref().map(Leaf::door).transpose()?,
            nice: self.nice,
            // It counts all processes of a user and does not bind root, so it says nothing of a host without one.
            tasks: self.tasks.filter(|_| user.is_some()),
        })
    }

    /// Takes over what was started, and says which limits are in force.
    ///
    /// Memory and tasks are those that were asked for: looking at them always works. The CPU is in force if a weight
    /// was asked for and its leaf has it, or the process has the nice value that comes nearest: without a controller the
    /// kernel shares by thread, or by session where it groups them, and an unasked weight claims nothing.
    pub(crate) fn started(self, pid: Pid, now: Instant) -> (Bounds, Parts) {
        let mut parts = Parts::NONE;
        if self.memory.is_some() {
            parts = parts.with(Parts::MEMORY);
        }
        if self.tasks.is_some() {
            parts = parts.with(Parts::TASKS);
        }
        let weighed = self.leaf.as_ref().is_some_and(|leaf| leaf.cpu);
        if weighed || self.nice.is_some_and(|nice| has_nice(pid, nice)) {
            parts = parts.with(Parts::CPU);
        }
        let by_kernel = self.leaf.as_ref().and_then(|leaf| leaf.memory);
        let watch = Watch::new(self.memory.filter(|_| by_kernel.is_none()), self.tasks, now);
        let main = watch.as_ref().and_then(|_| Main::open(pid).ok());
        (Bounds { leaf: self.leaf, watch, main, breach: None }, parts)
    }
}

impl Bounds {
    /// The limit for which it was ended, by us or by the kernel.
    pub(crate) fn breach(&self) -> Option<Breach> {
        self.breach.or_else(|| self.leaf.as_ref().and_then(Leaf::breach))
    }

    fn due(&self) -> Option<Instant> {
        // One that is being ended was judged.
        self.watch.as_ref().filter(|_| self.breach.is_none()).map(Watch::due)
    }

    fn see(&self, id: u64, root: Root, processes: &mut Processes) -> Seen {
        let limit = self.watch.as_ref().and_then(Watch::memory);
        let seen = processes.see(id, root, self.main.as_ref(), limit);
        let tasks = self.leaf.as_ref().filter(|leaf| leaf.tasks).and_then(Leaf::count_tasks);
        Seen { tasks: tasks.unwrap_or(seen.tasks), ..seen }
    }
}

/// What keeps all hosts within their limits.
#[derive(Debug)]
pub(crate) struct Keeper {
    cgroup: Option<Cgroup>,
    processes: Processes,
    /// Hosts that are being ended for a breach, until nothing of them lives.
    condemned: BTreeMap<u64, Root>,
    /// When to kill again.
    kill_at: Option<Instant>,
    pause: Duration,
}

impl Keeper {
    pub(crate) fn new(cgroup: Option<Cgroup>) -> Self {
        Self {
            cgroup,
            processes: Processes::new(),
            condemned: BTreeMap::new(),
            kill_at: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Before a host is started. A leaf that can't be made is no reason not to start it: its limits are looked after.
    pub(crate) fn prepare(&mut self, id: u64, limits: &Limits) -> Prepared {
        let leaf = self.cgroup.as_mut().and_then(|cgroup| match cgroup.leaf(id, limits) {
            Ok(leaf) => Some(leaf),
            Err(error) => {
                log(format_args!("cannot make a cgroup for host {id}, so its limits are polled: {error}"));
                None
            }
        });
        let set = |limit: u64| (limit != Limits::UNLIMITED).then_some(limit);
        let weighed = leaf.as_ref().is_some_and(|leaf| leaf.cpu);
        let nice = (limits.cpu_weight != 0 && !weighed).then(|| nice(limits.cpu_weight));
        Prepared { leaf, memory: set(limits.memory), tasks: set(limits.tasks), nice }
    }

    /// A host could not be started after all.
    pub(crate) fn discard(&mut self, prepared: Prepared, now: Instant) {
        self.retire(prepared.leaf, now);
    }

    /// A host has ended.
    pub(crate) fn ended(&mut self, id: u64, bounds: Bounds, now: Instant) {
        self.processes.forget(id);
        if let Some(root) = self.condemned.get_mut(&id) {
            root.reaped = true;
        }
        self.retire(bounds.leaf, now);
    }

    fn retire(&mut self, leaf: Option<Leaf>, now: Instant) {
        if let (Some(cgroup), Some(leaf)) = (&mut self.cgroup, leaf) {
            cgroup.retire(leaf, now);
        }
    }

    /// When [`Keeper::turn`] has something to do.
    pub(crate) fn due(&self, hosts: &BTreeMap<u64, Host>) -> Option<Instant> {
        let looks = hosts.values().filter_map(|host| host.bounds.due());
        let tidying = self.cgroup.as_ref().and_then(Cgroup::due);
        looks.chain(self.kill_at).chain(tidying).min()
    }

    /// Looks at the hosts for which it is time, and ends those that are beyond a limit.
    pub(crate) fn turn(&mut self, hosts: &mut BTreeMap<u64, Host>, now: Instant) {
        if let Some(cgroup) = &mut self.cgroup {
            cgroup.tidy(now);
        }
        // Those that are due soon as well, so that many hosts don't wake us up one after the other: most of the cost of a
        // look is to search, once for all.
        let soon = now + SOON;
        if hosts.values().filter_map(|host| host.bounds.due()).any(|due| due <= now) {
            if self.processes.search(&self.roots(hosts), now) {
                self.kill_at.get_or_insert(now);
            }
            for (id, host) in
                hosts.iter_mut().filter(|(_, host)| host.bounds.due().is_some_and(|due| due <= soon))
            {
                self.look(*id, host, now);
            }
        }
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill(hosts, now);
        }
    }

    fn look(&mut self, id: u64, host: &mut Host, now: Instant) {
        let root = root(host);
        let seen = host.bounds.see(id, root, &mut self.processes);
        let Some(watch) = &mut host.bounds.watch else { return };
        let Some(breach) = watch.judge(seen, now) else { return };
        host.bounds.breach = Some(breach);
        if let Some(leaf) = &host.bounds.leaf {
            leaf.kill();
        }
        host.signal(rustix::process::Signal::KILL);
        self.condemned.insert(id, root);
        (self.kill_at, self.pause) = (Some(now), FIRST_PAUSE);
    }

    /// Kills what is condemned until nothing is left of it, or its time in this turn is over. Killing is faster than
    /// forking, so whatever multiplies is outrun.
    fn kill(&mut self, hosts: &BTreeMap<u64, Host>, now: Instant) {
        let roots = self.roots(hosts);
        let condemned: HashSet<u64> = self.condemned.keys().copied().collect();
        let mut in_a_row = 0;
        while in_a_row < 2 && now.elapsed() < KILLING {
            let lived = self.processes.kill(&roots, &condemned);
            in_a_row = if lived == 0 { in_a_row + 1 } else { 0 };
        }
        if in_a_row < 2 {
            self.kill_at = Some(Instant::now() + self.pause);
            self.pause = (self.pause * 2).min(LAST_PAUSE);
            return;
        }
        (self.kill_at, self.pause) = (None, FIRST_PAUSE);
        self.condemned.clear();
    }

    /// The running hosts and those that are condemned.
    fn roots(&self, hosts: &BTreeMap<u64, Host>) -> BTreeMap<u64, Root> {
        let mut roots = self.condemned.clone();
        roots.extend(hosts.iter().map(|(id, host)| (*id, root(host))));
        roots
    }
}

fn root(host: &Host) -> Root {
    Root { pid: host.process.pid, user: host.held.user, reaped: false }
}

/// The nice value whose share beside others comes nearest to that of a weight, where 100 is usual: the kernel gives each
/// step a quarter more or less (sched(7)).
fn nice(weight: u32) -> i32 {
    let weight = f64::from(weight.clamp(1, 10_000)) / 100.0;
    let steps = weight.ln() / 1.25_f64.ln();
    #[expect(clippy::cast_possible_truncation, reason = "within -20 and 19")]
    let nice = (-steps).round().clamp(-20.0, 19.0) as i32;
    nice
}

/// Whether a started host has it, also beside other sessions where the kernel groups processes by session (sched(7),
/// "The autogroup feature").
fn has_nice(pid: Pid, nice: i32) -> bool {
    if !rustix::process::getpriority_process(Some(pid)).is_ok_and(|found| found == nice) {
        return false;
    }
    let grouped =
        std::fs::read("/proc/sys/kernel/sched_autogroup_enabled").is_ok_and(|on| on.starts_with(b"1"));
    let group = format!("/proc/{}/autogroup", pid.as_raw_nonzero());
    !grouped || std::fs::write(group, nice.to_string()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_has_a_nice_value_that_comes_near() {
        for (weight, expected) in
            [(1, 19), (10, 10), (50, 3), (80, 1), (100, 0), (125, -1), (1000, -10), (10_000, -20)]
        {
            assert_eq!(nice(weight), expected, "{weight}");
        }
    }
}
