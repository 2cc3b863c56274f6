//! Which processes belong to which host and what they use, as `/proc` tells it.
//!
//! No file is read here for which the kernel takes a lock that a module could hold (`smaps` is such a one).

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};

use crate::sys;
use crate::watch::Seen;

/// The longest time between two searches, even if the kernel seems to have started nothing.
const SEARCH: Duration = Duration::from_secs(5);

/// Threads of one process of which the memory is asked.
const MOST_THREADS: usize = 64;

/// Where the processes of a host begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Root {
    /// The host itself.
    pub(crate) pid: Pid,
    /// The user that is its own.
    pub(crate) user: Option<u32>,
    /// It has ended and was reaped.
    pub(crate) reaped: bool,
}

/// The hosts by their numbers, as far as these still mean them: that of a reaped one may be another process's by now. While
/// there is none, its session and its group have it.
fn by_number(roots: &BTreeMap<u64, Root>, is_there: impl Fn(i32) -> bool) -> BTreeMap<i32, u64> {
    let numbers = roots.iter().map(|(id, root)| (raw(root.pid), *id, root.reaped));
    numbers.filter(|(pid, _, reaped)| !(*reaped && is_there(*pid))).map(|(pid, id, _)| (pid, id)).collect()
}

/// Whose a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Host(u64),
    /// A descendant of ours outside every host: a host left it behind.
    Stray,
    Foreign,
    /// It ended, or one between it and a known one did.
    Gone,
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    state: u8,
    parent: i32,
    session: i32,
    threads: u64,
    /// When it started; with the number this names a process for ever.
    start: u64,
    resident_pages: u64,
    user: u32,
}

/// What is kept of a host's own process, so that a look costs two system calls.
#[derive(Debug)]
pub(crate) struct Main {
    pid: i32,
    statm: File,
    tasks: OwnedFd,
}

impl Main {
    /// `pid` must not have been reaped.
    pub(crate) fn open(pid: Pid) -> std::io::Result<Self> {
        let folder = format!("/proc/{}", pid.as_raw_nonzero());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let tasks = rustix::fs::open(format!("{folder}/task"), flags, Mode::empty())?;
        Ok(Self { pid: raw(pid), statm: File::open(format!("{folder}/statm"))?, tasks })
    }

    /// Nothing if it has ended.
    fn see(&self, page: u64) -> Seen {
        let pages = read_at_start(&self.statm).and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
        // The kernel counts one link for each thread beside the folder's own two.
        let links = rustix::fs::fstat(&self.tasks)
            .map_or(0, |stat| u64::from(u32::try_from(stat.st_nlink).unwrap_or(u32::MAX)));
        let pages = pages.filter(|pages| *pages > 0).unwrap_or_else(|| pages_of_threads(self.pid));
        Seen { memory: pages * page, tasks: links.saturating_sub(2) }
    }
}

/// All that is known of processes beside the hosts' own.
#[derive(Debug)]
pub(crate) struct Processes {
    me: i32,
    my_session: i32,
    page: u64,
    /// Its last field is the number that was given last.
    loadavg: Option<File>,
    last_number: u64,
    searched_at: Option<Instant>,
    /// By host: number and start of the others of its processes.
    members: BTreeMap<u64, BTreeMap<i32, u64>>,
    /// Those of no host, with the inode of their folder: a number comes again, but with another.
    foreign: BTreeMap<i32, u64>,
}

impl Processes {
    pub(crate) fn new() -> Self {
        Self {
            me: raw(rustix::process::getpid()),
            my_session: sys::session_of(None).map_or(0, raw),
            page: sys::page_size(),
            loadavg: File::open("/proc/loadavg").ok(),
            last_number: 0,
            searched_at: None,
            members: BTreeMap::new(),
            foreign: BTreeMap::new(),
        }
    }

    /// Finds what the hosts started since the last call; says whether there are strays. Costs one system call while the
    /// kernel gives no number to any process or thread of the machine.
    pub(crate) fn search(&mut self, roots: &BTreeMap<u64, Root>, now: Instant) -> bool {
        let number = self.loadavg.as_ref().and_then(read_at_start);
        let number = number.and_then(|text| text.rsplit(' ').next()?.trim().parse().ok());
        let searched = self.searched_at.is_some_and(|at| now.duration_since(at) < SEARCH);
        if searched && number == Some(self.last_number) {
            return false;
        }
        self.last_number = number.unwrap_or_default();
        self.searched_at = Some(now);
        !self.table(roots).strays.is_empty()
    }

    /// What host `id` uses. `limit` of memory, in bytes: only beyond it is it worth to see what processes share.
    pub(crate) fn see(&mut self, id: u64, root: Root, main: Option<&Main>, limit: Option<u64>) -> Seen {
        let mut seen = main.map_or_else(
            || Stat::read(raw(root.pid)).map_or_else(Seen::default, |stat| stat.seen(self.page)),
            |main| main.see(self.page),
        );
        let Some(members) = self.members.get_mut(&id) else { return seen };
        members.retain(|pid, start| {
            let stat = Stat::read(*pid).filter(|stat| stat.start == *start);
            if let Some(stat) = stat {
                let more = stat.seen(self.page);
                seen.memory += more.memory;
                seen.tasks += more.tasks;
            }
            stat.is_some()
        });
        if !members.is_empty() && limit.is_some_and(|limit| seen.memory > limit) {
            let pids = std::iter::once(raw(root.pid)).chain(members.keys().copied());
            seen.memory = Shared::of(pids).memory().min(seen.memory);
        }
        seen
    }

    /// Forgets an ended host.
    pub(crate) fn forget(&mut self, id: u64) {
        self.members.remove(&id);
    }

    /// Kills what belongs to one of `condemned` beside the host itself, and strays; returns how many lived. Only two calls in a row that return 0
    /// show that nothing is left: between two readings of `/proc` a process can fork and end.
    pub(crate) fn kill(&mut self, roots: &BTreeMap<u64, Root>, condemned: &HashSet<u64>) -> usize {
        let table = self.table(roots);
        let of_condemned = table.hosts.iter().filter(|(_, _, id)| condemned.contains(id));
        let doomed: Vec<_> =
            of_condemned.map(|(pid, stat, _)| (*pid, *stat)).chain(table.strays.iter().copied()).collect();
        let mut lived = 0;
        for (pid, stat) in doomed {
            // A number comes again only after all others, so from this look to the kill it is the same process.
            let same = Stat::read(pid).filter(|now| now.start == stat.start && now.lives());
            if let (Some(_), Some(pid)) = (same, Pid::from_raw(pid)) {
                lived += 1;
                rustix::process::kill_process(pid, Signal::KILL).unwrap_or_default();
            }
        }
        lived
    }

    /// Reads who is there and notes the hosts' members.
    fn table(&mut self, roots: &BTreeMap<u64, Root>) -> Table {
        let listed = numbers();
        self.foreign.retain(|pid, inode| listed.get(pid) == Some(inode));
        let hosts = by_number(roots, |pid| listed.contains_key(&pid));
        let mut read = BTreeMap::new();
        for pid in listed.keys().filter(|pid| !self.foreign.contains_key(pid) && !hosts.contains_key(pid)) {
            if let Some(stat) = Stat::read(*pid) {
                read.insert(*pid, stat);
            }
        }
        // That of a reaped one is cleared by `homes`, and then another's.
        let users: BTreeMap<u32, u64> =
            roots.iter().filter_map(|(id, root)| Some((root.user.filter(|_| !root.reaped)?, *id))).collect();
        let kin = Kin { me: self.me, my_session: self.my_session, hosts: &hosts, users: &users };
        // Who was a host's stays so when its parent is gone, as long as it is the same process.
        let known: BTreeMap<i32, u64> = self
            .members
            .iter()
            .flat_map(|(id, members)| members.iter().map(move |(pid, start)| (*pid, *start, *id)))
            .filter(|(pid, start, id)| {
                roots.contains_key(id) && read.get(pid).is_some_and(|stat| stat.start == *start)
            })
            .map(|(pid, _, id)| (pid, id))
            .collect();
        let mut table = Table::default();
        self.members.clear();
        for (pid, stat) in &read {
            let look = |pid| if let Some(stat) = read.get(&pid) { Some(*stat) } else { Stat::read(pid) };
            match kin.owner(*pid, &known, &self.foreign, look) {
                Owner::Host(id) => {
                    table.hosts.push((*pid, *stat, id));
                    self.members.entry(id).or_default().insert(*pid, stat.start);
                }
                Owner::Stray if stat.lives() => table.strays.push((*pid, *stat)),
                Owner::Foreign => {
                    self.foreign.extend(listed.get_key_value(pid).map(|(pid, inode)| (*pid, *inode)));
                }
                Owner::Stray | Owner::Gone => {}
            }
        }
        table
    }
}

/// What one reading of `/proc` found.
#[derive(Debug, Default)]
struct Table {
    /// Beside the hosts themselves.
    hosts: Vec<(i32, Stat, u64)>,
    strays: Vec<(i32, Stat)>,
}

/// By what a process is known to be of a host.
struct Kin<'a> {
    me: i32,
    my_session: i32,
    hosts: &'a BTreeMap<i32, u64>,
    users: &'a BTreeMap<u32, u64>,
}

impl Kin<'_> {
    /// Goes from a process to its parents until one says whose it is.
    fn owner(
        &self,
        pid: i32,
        known: &BTreeMap<i32, u64>,
        foreign: &BTreeMap<i32, u64>,
        look: impl Fn(i32) -> Option<Stat>,
    ) -> Owner {
        let mut at = pid;
        // Deeper than any tree of processes; numbers that come again while this reads could make a circle.
        for _ in 0..100_000 {
            if let Some(id) = self.hosts.get(&at).or_else(|| known.get(&at)) {
                return Owner::Host(*id);
            }
            if at == self.me || at <= 1 || foreign.contains_key(&at) {
                return Owner::Foreign;
            }
            let Some(stat) = look(at) else { return Owner::Gone };
            let by_user = self.users.get(&stat.user);
            if let Some(id) = by_user.or_else(|| self.hosts.get(&stat.session)) {
                return Owner::Host(*id);
            }
            if stat.parent == self.me {
                // Every host begins with a session of its own, so who is in ours is a helper of ours.
                return if stat.session == self.my_session { Owner::Foreign } else { Owner::Stray };
            }
            at = stat.parent;
        }
        Owner::Gone
    }
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        let folder = format!("/proc/{pid}");
        let stat = Self::parse(&std::fs::read(format!("{folder}/stat")).ok()?)?;
        // The folder belongs to the effective user, whatever the process does to hide its other files.
        let user = std::fs::symlink_metadata(folder).ok()?.uid();
        let resident_pages = if stat.resident_pages == 0 && stat.lives() {
            pages_of_threads(pid)
        } else {
            stat.resident_pages
        };
        Some(Self { user, resident_pages, ..stat })
    }

    /// The name in it can have anything but a closing bracket behind its own. Format: proc_pid_stat(5).
    fn parse(text: &[u8]) -> Option<Self> {
        let name_end = text.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(text.get(name_end + 2..)?).ok()?;
        let fields: Vec<_> = rest.split_ascii_whitespace().collect();
        // Counted from 1 in the manual, where the state is the third.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            state: *field(3)?.as_bytes().first()?,
            parent: field(4)?.parse().ok()?,
            session: field(6)?.parse().ok()?,
            threads: field(20)?.parse().ok()?,
            start: field(22)?.parse().ok()?,
            resident_pages: field(24)?.parse().ok()?,
            user: 0,
        })
    }

    /// One that has ended and that nobody has heard of counts as well: the kernel counts it.
    fn seen(&self, page: u64) -> Seen {
        Seen { memory: self.resident_pages * page, tasks: self.threads.max(1) }
    }

    /// Whether it can still do something: one whose first thread has ended shows that one's state, while the others go on.
    fn lives(&self) -> bool {
        !matches!(self.state, b'Z' | b'X') || self.threads > 1
    }
}

/// The memory of a process whose first thread has ended, which then shows none: by one of its other threads, in pages.
fn pages_of_threads(pid: i32) -> u64 {
    let pages = |text: String| text.split(' ').nth(1)?.parse().ok();
    files_of_threads(pid, "statm").filter_map(pages).find(|pages| *pages > 0).unwrap_or_default()
}

/// What the kernel says of a process's memory, if it does: by its first thread, or another one that goes on.
fn status_with_memory(pid: i32) -> String {
    let own = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let says = |status: &String| bytes_of(status, "RssAnon:").is_some();
    if says(&own) { own } else { files_of_threads(pid, "status").find(says).unwrap_or(own) }
}

/// A file of each thread of a process. They have one memory, so one that shows some is enough; others may be ending.
fn files_of_threads(pid: i32, name: &str) -> impl Iterator<Item = String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads
        .take(MOST_THREADS)
        .filter_map(move |thread| std::fs::read_to_string(thread.path().join(name)).ok())
}

/// Memory of several processes, apart by what they can share. All in bytes.
#[derive(Debug, Default, Clone, Copy)]
struct Shared {
    anonymous: u64,
    file_largest: u64,
    memory_sum: u64,
    memory_largest: u64,
    memory_of_machine: u64,
}

impl Shared {
    fn of(pids: impl Iterator<Item = i32>) -> Self {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let machine = bytes_of(&text, "Shmem:").unwrap_or(u64::MAX);
        let mut shared = Self { memory_of_machine: machine, ..Self::default() };
        for pid in pids {
            let status = status_with_memory(pid);
            let part = |name| bytes_of(&status, name).unwrap_or_default();
            shared.add(part("RssAnon:"), part("RssFile:"), part("RssShmem:"));
        }
        shared
    }

    fn add(&mut self, anonymous: u64, file: u64, memory: u64) {
        self.anonymous += anonymous;
        self.file_largest = self.file_largest.max(file);
        self.memory_sum += memory;
        self.memory_largest = self.memory_largest.max(memory);
    }

    /// Pages of files count once, by the process that has the most: the kernel takes them back when it needs them. Shared
    /// memory counts for each process, but all of it can't be more than the machine has.
    fn memory(self) -> u64 {
        let shared = self.memory_sum.min(self.memory_of_machine).max(self.memory_largest);
        self.anonymous + self.file_largest + shared
    }
}

/// A line like `RssAnon:     128 kB`.
fn bytes_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The numbers of all processes, with the inodes of their folders.
fn numbers() -> BTreeMap<i32, u64> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.ino())))
        .collect()
}

/// The text of a short file of `/proc`, as it is now.
fn read_at_start(file: &File) -> Option<String> {
    let mut bytes = [0; 128];
    let len = rustix::io::pread(file, &mut bytes, 0).ok()?;
    String::from_utf8(bytes.get(..len)?.to_vec()).ok()
}

fn raw(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}

/// A process for whoever reads the log: by its number and, while it runs, its name.
pub(crate) fn described(pid: u32) -> String {
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        _ if pid == 0 => "the kernel, or a process out of sight".to_owned(),
        Ok(name) => format!("process {pid} ({})", name.trim_end().escape_debug()),
        Err(_gone) => format!("process {pid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: i32 = 10;

    fn stat(parent: i32, session: i32, user: u32) -> Stat {
        Stat { state: b'S', parent, session, threads: 1, start: 0, resident_pages: 0, user }
    }

    #[test]
    fn a_process_is_of_the_host_that_its_user_its_session_or_a_parent_says() {
        let all: BTreeMap<i32, Stat> = [
            (2, stat(0, 0, 0)),
            (30, stat(2, 0, 0)),
            (20, stat(ME, 20, 0)),
            (21, stat(20, 20, 0)),
            (22, stat(21, 22, 0)),
            (23, stat(ME, 20, 0)),
            (24, stat(23, 24, 0)),
            (25, stat(ME, 25, 0)),
            (26, stat(25, 26, 0)),
            (27, stat(ME, 27, 7)),
            (28, stat(99, 28, 0)),
            (29, stat(ME, 5, 0)),
            (31, stat(ME, 31, 0)),
        ]
        .into();
        let (hosts, users) = ([(20, 1), (40, 2)].into(), [(7, 2)].into());
        let kin = Kin { me: ME, my_session: 5, hosts: &hosts, users: &users };
        let known = [(31, 2)].into();
        for (pid, owner, why) in [
            (30, Owner::Foreign, "a thread of the kernel"),
            (21, Owner::Host(1), "its child"),
            (22, Owner::Host(1), "a descendant in a session of its own"),
            (23, Owner::Host(1), "an orphan in its session"),
            (24, Owner::Host(1), "what that one started"),
            (25, Owner::Stray, "an orphan in a session of its own"),
            (26, Owner::Stray, "what that one started"),
            (27, Owner::Host(2), "one with the user"),
            (28, Owner::Gone, "one whose parent ended meanwhile"),
            (29, Owner::Foreign, "a helper of ours"),
            (31, Owner::Host(2), "an orphan that was seen before"),
            (ME, Owner::Foreign, "ourselves"),
        ] {
            assert_eq!(
                kin.owner(pid, &known, &BTreeMap::new(), |pid| all.get(&pid).copied()),
                owner,
                "{why}"
            );
        }
    }

    #[test]
    fn the_number_of_a_reaped_host_is_its_own_until_another_has_it() {
        let root = |pid, reaped| Root { pid: Pid::from_raw(pid).unwrap(), user: None, reaped };
        let roots = [(1, root(20, false)), (2, root(30, true)), (3, root(40, true))].into();
        let listed = [20, 30];
        assert_eq!(by_number(&roots, |pid| listed.contains(&pid)), [(20, 1), (40, 3)].into());
    }

    #[test]
    fn a_stat_is_read_whatever_the_name_is() {
        let line = b"42 (a) R 1 (\xff)) Z 7 8 9 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 5 0 777 1000 66 18446744073709551615\n";
        let expected =
            Stat { state: b'Z', parent: 7, session: 9, threads: 5, start: 777, resident_pages: 66, user: 0 };
        assert_eq!(Stat::parse(line), Some(expected));
        // Its first thread has ended, and four go on.
        assert!(expected.lives());
        assert!(!Stat { threads: 1, ..expected }.lives());
        assert_eq!(Stat::parse(b"42 (short) R 1"), None);
        let own = Stat::read(raw(rustix::process::getpid())).unwrap();
        assert!(own.lives() && own.resident_pages > 0 && own.user == rustix::process::geteuid().as_raw());
    }

    #[test]
    fn what_processes_share_counts_once_as_far_as_it_is_known() {
        let of = |machine, processes: &[(u64, u64, u64)]| {
            let mut shared = Shared { memory_of_machine: machine, ..Shared::default() };
            for (anonymous, file, memory) in processes {
                shared.add(*anonymous, *file, *memory);
            }
            shared.memory()
        };
        assert_eq!(of(1000, &[(10, 5, 100), (20, 7, 100)]), 30 + 7 + 200, "it may be two segments");
        assert_eq!(of(120, &[(10, 5, 100), (20, 7, 100)]), 30 + 7 + 120, "the machine has no two");
        assert_eq!(of(0, &[(0, 0, 100)]), 100, "read later than the process");
        assert_eq!(bytes_of("Name:\tx\nRssAnon:\t     128 kB\n", "RssAnon:"), Some(128 * 1024));
    }

    #[test]
    fn a_host_is_seen_by_its_kept_files() {
        let main = Main::open(rustix::process::getpid()).unwrap();
        let seen = main.see(4096);
        assert!(seen.tasks >= 1 && seen.memory > 100 * 1024, "{seen:?}");
    }
}
