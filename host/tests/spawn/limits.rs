//! Hosts that go beyond a limit, and what is told of them.

use std::path::{Path, PathBuf};

use hot_wire::isolation::{Breach, Parts};
use hot_wire::spawn::{Cause, Limits};

use crate::node::{Greedy, Node, skipped};

const MIB: u64 = 1 << 20;

fn memory(limit: u64) -> Limits {
    Limits { memory: limit, ..Limits::default() }
}

fn tasks(limit: u64) -> Limits {
    Limits { tasks: limit, ..Limits::default() }
}

/// A folder of our own in a cgroup v2 tree that we may write; removed with this.
struct Tree(PathBuf);

impl Tree {
    /// With these controllers to give to leaves; else says why what is tried is skipped.
    fn with(controllers: &[&str], tried: &str) -> Option<Self> {
        let made = Self::parent().and_then(|parent| {
            let folder = tempfile::Builder::new().prefix("hot-").tempdir_in(parent).ok()?;
            Some(Self(folder.keep()))
        });
        let Some(tree) = made else {
            skipped(tried, "a cgroup v2 tree that may be written");
            return None;
        };
        let found = std::fs::read_to_string(tree.0.join("cgroup.controllers")).unwrap();
        let missing =
            controllers.iter().find(|name| !found.split_ascii_whitespace().any(|word| word == **name));
        if let Some(missing) = missing {
            skipped(tried, &format!("the controller {missing} in a cgroup v2 tree"));
            return None;
        }
        Some(tree)
    }

    /// The folder that was delegated to the tests, as `HOT_TEST_CGROUP` has it; else our own group, which gives no
    /// controllers away while we are in it unless it is the root.
    fn parent() -> Option<PathBuf> {
        if let Some(named) = std::env::var_os("HOT_TEST_CGROUP") {
            return Some(named.into());
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let of_two = |line: &&str| line.split(' ').nth(2) == Some("cgroup2");
        let mount = mounts.lines().find(of_two).and_then(|line| line.split(' ').nth(1))?;
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        Some(Path::new(mount).join(own))
    }

    fn node(&self, greedy: &Greedy) -> Node {
        Node::with_host(greedy.path(), &["--cgroup", self.0.to_str().unwrap()])
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        std::fs::remove_dir(&self.0).unwrap_or_default();
    }
}

#[test]
fn limits_that_are_asked_for_are_always_in_force() {
    let node = Node::start(&[]);
    let mut client = node.connect();
    let bounds = Parts::MEMORY.with(Parts::TASKS).with(Parts::CPU);
    let mut held = |id, limits| {
        let parts = client.spawn_with(id, "exec sleep 1000", limits).held.parts;
        Parts::NAMED
            .iter()
            .map(|(_, part)| *part)
            .filter(|part| parts.has(*part) && bounds.has(*part))
            .collect()
    };
    let unlimited: Parts = held(1, Limits::default());
    assert_eq!(unlimited, Parts::NONE);
    assert_eq!(held(2, Limits { cpu_weight: 50, tasks: 100, ..memory(64 * MIB) }), bounds);
    let listed = client.list();
    assert!(listed[1].held.parts.has(bounds) && !listed[0].held.parts.has(Parts::MEMORY));
    let nice = rustix::process::Pid::from_raw(listed[1].pid.try_into().unwrap());
    assert_eq!(rustix::process::getpriority_process(nice).unwrap(), 3);
    // hot-spawn's own precedence is not its hosts': the policy is the 41st field, and the name before the third.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", listed[0].pid)).unwrap();
    assert_eq!(stat.rsplit_once(") ").unwrap().1.split(' ').nth(41 - 3), Some("0"), "{stat}");
}

#[test]
fn a_host_that_grows_is_ended_for_its_memory() {
    let greedy = Greedy::compile();
    let node = Node::with_host(greedy.path(), &[]);
    let mut client = node.connect();
    let _other = client.spawn_with(1, "crowd 1", memory(64 * MIB));
    client.spawn_with(2, "grow", memory(64 * MIB));
    let ending = client.ended(2);
    assert_eq!(ending.cause, Cause::Killed(9));
    let Some(Breach::Memory { used, limit }) = ending.breach else { panic!("{ending:?}") };
    assert!(limit == 64 * MIB && used > limit, "{used} {limit}");
    // The breach is kept with the end, and the other one runs.
    assert_eq!(client.list().iter().map(|host| host.breach()).collect::<Vec<_>>(), [None, ending.breach]);
}

#[test]
fn the_processes_of_a_host_are_summed() {
    let greedy = Greedy::compile();
    let node = Node::with_host(greedy.path(), &[]);
    let mut client = node.connect();
    let host = client.spawn_with(1, "family 30", memory(70 * MIB));
    let ending = client.ended(1);
    assert!(matches!(ending.breach, Some(Breach::Memory { limit, .. }) if limit == 70 * MIB), "{ending:?}");
    // Who still lived would hold the pipe.
    host.closes();
}

#[test]
fn memory_counts_when_the_first_thread_has_ended() {
    let greedy = Greedy::compile();
    let node = Node::with_host(greedy.path(), &[]);
    let mut client = node.connect();
    let host = client.spawn_with(1, "hidden", memory(64 * MIB));
    let ending = client.ended(1);
    assert!(matches!(ending.breach, Some(Breach::Memory { limit, .. }) if limit == 64 * MIB), "{ending:?}");
    host.closes();
}

#[test]
fn fork_bombs_are_ended_and_nothing_of_them_is_left() {
    let greedy = Greedy::compile();
    let node = Node::with_host(greedy.path(), &[]);
    let mut client = node.connect();
    for (id, bomb) in [(1, "bomb"), (2, "setsid-bomb")] {
        let host = client.spawn_with(id, bomb, tasks(32));
        let ending = client.ended(id);
        assert!(matches!(ending.breach, Some(Breach::Tasks { limit: 32, used }) if used >= 32), "{ending:?}");
        host.closes();
    }
}

#[test]
fn to_stay_at_the_limit_of_tasks_is_to_be_past_it() {
    let greedy = Greedy::compile();
    let node = Node::with_host(greedy.path(), &[]);
    let mut client = node.connect();
    let _below = client.spawn_with(1, "crowd 11", tasks(12));
    client.spawn_with(2, "crowd 12", tasks(12));
    let ending = client.ended(2);
    assert_eq!(ending.breach, Some(Breach::Tasks { used: 12, limit: 12 }), "{ending:?}");
    assert_eq!(client.list()[0].breach(), None);
}

#[test]
fn a_host_is_in_a_leaf_of_its_own_which_goes_with_it() {
    let Some(tree) = Tree::with(&[], "leaves for hosts") else { return };
    let greedy = Greedy::compile();
    // One that an earlier hot-spawn left.
    let old = tree.0.join("host-77");
    std::fs::create_dir(&old).unwrap();
    let node = tree.node(&greedy);
    assert!(!old.exists());
    let mut client = node.connect();
    let host = client.spawn_with(1, "setsid-bomb", tasks(32));
    let leaf = tree.0.join("host-1");
    let group = std::fs::read_to_string(format!("/proc/{}/cgroup", host.pid)).unwrap_or_default();
    assert!(group.is_empty() || group.contains("/host-1\n"), "{group}");
    assert!(matches!(client.ended(1).breach, Some(Breach::Tasks { limit: 32, .. })));
    host.closes();
    client.until(|_| !leaf.exists());
}

#[test]
fn the_kernel_keeps_to_the_memory_of_a_leaf() {
    let Some(tree) = Tree::with(&["memory"], "memory by cgroup") else { return };
    let greedy = Greedy::compile();
    let node = tree.node(&greedy);
    let mut client = node.connect();
    client.spawn_with(1, "grow", memory(64 * MIB));
    assert_eq!(client.ended(1).breach, Some(Breach::Memory { used: 64 * MIB, limit: 64 * MIB }));
}

#[test]
fn the_kernel_keeps_to_the_tasks_of_a_leaf() {
    let Some(tree) = Tree::with(&["pids"], "tasks by cgroup") else { return };
    let greedy = Greedy::compile();
    let node = tree.node(&greedy);
    let mut client = node.connect();
    let host = client.spawn_with(1, "bomb", tasks(32));
    assert_eq!(client.ended(1).breach, Some(Breach::Tasks { used: 32, limit: 32 }));
    host.closes();
}
