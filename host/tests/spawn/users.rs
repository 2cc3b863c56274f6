//! A user and a folder of its own for each instance, and what is done about them at its end. Only root can give users.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use hot_wire::host::{FromHost, Start, StartOptions, ToHost};
use hot_wire::isolation::Parts;
use hot_wire::spawn::{Cause, Features, Limits, ToSpawn};

use crate::node::{Host, Node, Watched, skipped};

/// Longer than anything takes on a machine that is busy with something else.
const DEADLINE: Duration = Duration::from_secs(20);

/// Whether users can be given; says so if a test can't be tried.
fn root(tested: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped(tested, "root");
    }
    root
}

/// A range of `size` that no other test of this machine uses: `which` of this process.
fn range(which: u32, size: u32) -> String {
    let first = 1_900_100_000 + (std::process::id() % 200_000) * 1000 + which * 100;
    format!("{first}-{}", first + size - 1)
}

/// Lines up to one that says `end`.
fn lines(host: &mut Host) -> Vec<String> {
    let lines: Vec<_> =
        std::iter::repeat_with(|| host.read_line()).take(1000).take_while(|line| line != "end").collect();
    assert!(lines.len() < 1000, "it ended too early: {:?}", &lines[..10]);
    lines
}

/// A process of a user that no host started, and that only this reaps.
struct Stranger(Child);

impl Stranger {
    fn start(user: u32) -> Self {
        Self(Command::new("sleep").arg("1000").uid(user).gid(user).spawn().unwrap())
    }

    /// Waits until somebody has killed it, and reaps it.
    fn is_killed(&mut self) {
        Watched::new(self.0.id()).ends();
        assert_eq!(self.0.wait().unwrap().signal(), Some(9));
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn the_socket_is_its_owners() {
    if !root("the owner of the socket") {
        return;
    }
    const CONNECT: &str = "import socket, sys\n\
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n\
        s.settimeout(20)\n\
        s.connect(sys.argv[1])\n\
        s.send(bytes.fromhex(sys.argv[2]))\n\
        sys.exit(s.recv(100)[0])";
    let range = range(0, 2);
    let (owner, other) = range.split_once('-').unwrap();
    let node = Node::start(&["--owner", owner]);
    assert_eq!(fs::metadata(node.socket()).unwrap().uid().to_string(), owner);
    let hello = ToSpawn::Hello { protocol: hot_wire::PROTOCOL, features: Features::ALL }.encode().unwrap();
    let hello: String = hello.iter().map(|byte| format!("{byte:02x}")).collect();
    let answer_to = |user: &str| {
        let mut python = Command::new("python3");
        python.args(["-c", CONNECT]).arg(node.socket()).arg(&hello);
        let user = user.parse().unwrap();
        python.uid(user).gid(user).current_dir("/").output().unwrap()
    };
    // The first byte of a hello.
    assert_eq!(answer_to(owner).status.code(), Some(65));
    let refused = answer_to(other);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("PermissionError"), "{refused:?}");
}

#[test]
fn each_instance_has_its_user_and_shares_its_modules_group() {
    if !root("users of instances") {
        return;
    }
    let node = Node::start(&[]);
    let mut client = node.connect();
    let script = "grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs):' /proc/self/status; echo end; read go <&3";
    let mut seen = Vec::new();
    let mut hosts = Vec::new();
    for (id, module) in [(1, "m"), (2, "m"), (3, "n"), (4, ""), (5, "")] {
        let mut host = client.try_spawn(id, module, script, Limits::default()).unwrap();
        let status = lines(&mut host);
        let field = |name: &str| {
            let line = status.iter().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        let user = host.held.user.unwrap().to_string();
        assert_eq!(field("Uid:"), vec![user.clone(); 4]);
        assert_eq!(field("Groups:"), [""; 0]);
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(set), ["0000000000000000"], "{set}");
        }
        assert_eq!(field("NoNewPrivs:"), ["1"]);
        assert!(host.held.parts.has(Parts::USER.with(Parts::NO_NEW_PRIVILEGES)), "{:?}", host.held);
        let group = field("Gid:");
        assert!(group.iter().all(|number| *number == group[0]) && group[0] != "0", "{group:?}");
        seen.push((user, group[0].clone()));
        hosts.push(host);
    }
    let users: std::collections::BTreeSet<_> = seen.iter().map(|(user, _)| user).collect();
    assert_eq!(users.len(), 5, "{seen:?}");
    let group = |at: usize| &seen[at].1;
    assert_eq!(group(0), group(1));
    let groups: std::collections::BTreeSet<_> = seen.iter().map(|(_, group)| group).collect();
    assert_eq!(groups.len(), 4, "{seen:?}");
    // A hotd that comes anew hears the same.
    drop(client);
    let mut client = node.connect();
    let told: Vec<_> = client.list().into_iter().map(|host| host.held).collect();
    assert_eq!(told, hosts.iter().map(|host| host.held).collect::<Vec<_>>());
}

#[test]
fn an_instance_reaches_nothing_of_another_nor_of_hot_spawn() {
    if !root("users of instances") {
        return;
    }
    let node = Node::start(&[]);
    // So that only the folders' own modes are in the way.
    fs::set_permissions(node.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut client = node.connect();
    let mut first = client.spawn(1, "pwd; echo secret >file; echo end; read go <&3; cat file");
    let folder = lines(&mut first).remove(0);
    let (first_pid, spawn_pid, instances) = (first.pid, node.pid(), node.folder().join("instances"));
    let script = format!(
        "try() {{ if sh -c \"$1\" >/dev/null 2>&1; then echo \"reached: $1\"; fi; }}
        try 'kill -0 {first_pid}'; try 'kill -0 {spawn_pid}'
        try 'ls {folder}'; try 'cat {folder}/file'; try 'echo x >{folder}/file'
        try 'ls {instances}'; try 'echo x >{instances}/x'
        try 'cat /proc/{first_pid}/environ'; try 'cat /proc/{first_pid}/fd/4'
        try 'echo x >/proc/self/fd/4'; try 'echo x >>/proc/self/fd/4'
        echo x >$TMPDIR/own && cat own; cat /proc/self/fd/4 >copy && echo same; echo to its output >/dev/stderr
        echo end; read go <&3",
        instances = instances.display()
    );
    let mut second = client.spawn(2, &script);
    assert_eq!(lines(&mut second), ["x", "same", "to its output"]);
    first.say("\n");
    assert_eq!(first.read_line(), "secret");
}

#[test]
fn with_a_host_all_of_its_user_ends_and_what_it_left_is_removed() {
    if !root("users of instances") {
        return;
    }
    let node = Node::start(&[]);
    let mut client = node.connect();
    let name = format!("hot-spawn-test-{}", std::process::id());
    let script = format!(
        "echo x >/tmp/{name}; mkdir -p /dev/shm/{name}/a/b; echo x >/dev/shm/{name}/a/b/file
        ipcmk -M 4096 >/dev/null 2>&1; ipcmk -Q >/dev/null 2>&1; ipcmk -S 2 >/dev/null 2>&1
        (setsid sh -c 'setsid sleep 1000 & echo $!') & wait; echo end; read go <&3"
    );
    let mut host = client.spawn(1, &script);
    let grandchild = Watched::new(lines(&mut host)[0].parse().unwrap());
    let user = host.held.user.unwrap();
    // It is no child of a host, so it ends only by its user.
    let mut stranger = Stranger::start(user);
    let other = client.spawn(2, "exec sleep 1000");
    let other = Watched::new(other.pid);
    assert!(Path::new("/tmp").join(&name).exists());
    host.say("\n");
    assert_eq!(client.exited(1), Cause::Exited(0));
    grandchild.ends();
    stranger.is_killed();
    let left = || {
        let lists = ["shm", "msg", "sem"].map(|list| fs::read_to_string(format!("/proc/sysvipc/{list}")));
        let objects = lists.into_iter().flatten().any(|list| list.contains(&user.to_string()));
        objects || ["/tmp", "/dev/shm"].iter().any(|folder| Path::new(folder).join(&name).exists())
    };
    // The user's last process was ours to reap, which hot-spawn looks for again and again.
    until("all is removed", || !left());
    assert!(other.runs());
}

#[test]
fn a_folder_is_bounded_and_goes_with_its_instance() {
    if !root("file systems of instances") {
        return;
    }
    let node = Node::start(&[]);
    let mut client = node.connect();
    let limits = Limits { folder: 1 << 20, ..Limits::default() };
    let script = "pwd; stat -c '%a %u' .; echo end; head -c 2000000 /dev/zero >big; echo; stat -c %s big
        i=0; while [ $i -lt 1000 ] && true >file-$i; do i=$((i + 1)); done; echo $i; echo end; read go <&3";
    let mut host = client.spawn_with(1, script, limits);
    if !host.held.parts.has(Parts::FOLDER) {
        skipped("file systems of instances", "the right to mount");
        return;
    }
    let head = lines(&mut host);
    let folder = Path::new(&head[0]);
    assert_eq!(head[1], format!("700 {}", host.held.user.unwrap()));
    let text = lines(&mut host).join("\n");
    assert!(text.contains("No space left on device"), "{text}");
    assert!(text.contains("\n1048576\n"), "{text}");
    // Empty files take memory too: one for each page.
    let files: u32 = text.lines().last().unwrap().parse().unwrap();
    assert!(files < 256, "{text}");
    let mounted = || fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&head[0]);
    assert!(mounted() && fs::metadata(folder).unwrap().uid() == host.held.user.unwrap());
    host.say("\n");
    assert_eq!(client.exited(1), Cause::Exited(0));
    until("its folder is gone", || !folder.exists());
    assert!(!mounted());
}

#[test]
fn without_room_to_write_it_has_no_folder() {
    let node = Node::start(&[]);
    let mut client = node.connect();
    let mut host = client.spawn_with(1, "pwd; echo $TMPDIR", Limits { folder: 0, ..Limits::default() });
    assert_eq!((host.read_line(), host.read_line()), ("/".into(), "/".into()));
    assert!(!host.held.parts.has(Parts::FOLDER));
    assert_eq!(fs::read_dir(node.folder().join("instances")).unwrap().count(), 0);
}

#[test]
fn without_users_it_has_ours_and_its_folder_goes_all_the_same() {
    let node = Node::start(&["--users", "none", "--dev"]);
    let mut client = node.connect();
    let mut host =
        client.spawn(1, "id -u; pwd; mkdir -p a/b; echo x >a/b/file; chmod 0 a; echo end; read go <&3");
    assert_eq!((host.held.user, host.held.parts), (None, Parts::NO_NEW_PRIVILEGES));
    let said = lines(&mut host);
    assert_eq!(said[0], rustix::process::getuid().as_raw().to_string());
    assert!(Path::new(&said[1]).exists());
    host.say("\n");
    assert_eq!(client.exited(1), Cause::Exited(0));
    until("its folder is gone", || !Path::new(&said[1]).exists());
}

#[test]
fn a_user_is_not_given_again_while_something_of_it_lives() {
    if !root("users of instances") {
        return;
    }
    let range = range(1, 2);
    let node = Node::start(&["--users", &range]);
    let mut client = node.connect();
    let host = client.spawn(1, "read go <&3");
    let user = host.held.user;
    // Once killed, it stays until it is reaped here.
    let mut stranger = Stranger::start(user.unwrap());
    host.say("\n");
    client.exited(1);
    let error = client.try_spawn(2, "m", "exit", Limits::default()).err().unwrap();
    assert!(error.starts_with(&format!("all numbers of {range} are taken")), "{error}");
    stranger.is_killed();
    let mut again = None;
    until("the user is free", || {
        again = client.try_spawn(2, "m", "exit", Limits::default()).ok();
        again.is_some()
    });
    assert_eq!(again.unwrap().held.user, user);
}

#[test]
fn two_hot_spawns_give_no_user_twice() {
    if !root("users of instances") {
        return;
    }
    let range = range(2, 4);
    let nodes = [(); 2].map(|()| Node::start(&["--users", &range]));
    let mut hosts = Vec::new();
    let script = "id -g; read go <&3";
    for node in &nodes {
        let mut client = node.connect();
        let mut host = client.spawn(1, script);
        let group = host.read_line();
        hosts.push((host.held.user.unwrap(), group, host, client));
    }
    assert_ne!(hosts[0].0, hosts[1].0);
    assert_ne!(hosts[0].1, hosts[1].1);
    let error = hosts[0].3.try_spawn(2, "m", script, Limits::default()).err().unwrap();
    assert!(error.starts_with("all numbers of"), "{error}");
}

#[test]
fn what_a_killed_hot_spawn_left_is_cleared_by_the_next() {
    if !root("users of instances") {
        return;
    }
    let mut node = Node::start(&["--users", &range(3, 4)]);
    let mut client = node.connect();
    let mut host = client.spawn(1, "pwd; exec sleep 1000");
    let (folder, user) = (host.read_line(), host.held.user);
    let left = Watched::new(host.pid);
    node.kill();
    assert!(left.runs() && Path::new(&folder).exists());
    node.restart();
    assert!(!Path::new(&folder).exists());
    // Its user comes first again, and is passed over unless nothing of it is left by then.
    let mut client = node.connect();
    let next = client.spawn(1, "read go <&3");
    assert!(next.held.user != user || !left.runs(), "two have the user {user:?}");
    left.ends();
}

#[test]
fn the_real_host_loads_its_module_as_its_user() {
    if !root("users of instances") {
        return;
    }
    let module = tempfile::NamedTempFile::new().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-DNAME=\"m\"", "-DVERSION=\"1.0.0\"", "-I"])
        .arg(root.join("module/include"));
    cc.arg(root.join("tests/modules/good.c"));
    assert!(cc.arg("-o").arg(module.path()).status().unwrap().success());
    let node = Node::with_host(env!("CARGO_BIN_EXE_hot-host"), &[]);
    let mut client = node.connect();
    let module = fs::read(module.path()).unwrap();
    let host = client.try_spawn(1, "m", module, Limits::default()).unwrap();
    rustix::io::ioctl_fionbio(&host.control, false).unwrap();
    let hear = || {
        let mut packet = vec![0; hot_wire::MAX_MESSAGE];
        let len = rustix::io::read(&host.control, &mut packet).unwrap();
        FromHost::decode(&packet[..len]).unwrap()
    };
    assert!(matches!(hear(), FromHost::Hello { .. }));
    let start = Start {
        instance: 1,
        module: "m".to_owned(),
        release: 1,
        version: "1.0.0".to_owned(),
        config: Vec::new(),
        options: StartOptions::default(),
        confine: None,
    };
    rustix::io::write(&host.control, &ToHost::Start(start).encode().unwrap()).unwrap();
    let said = hear();
    assert!(matches!(said, FromHost::Ready { .. }), "{said:?}");
    let status = fs::read_to_string(format!("/proc/{}/status", host.pid)).unwrap();
    assert!(status.contains(&format!("Uid:\t{}\t", host.held.user.unwrap())), "{status}");
}

#[test]
fn a_range_that_can_not_be_used_is_refused() {
    if rustix::process::geteuid().is_root() {
        let error = Node::refusal(&["--users", "0-9"]);
        assert!(error.contains("0-9 contains 0, which is reserved"), "{error}");
        skipped("a range without root", "another user");
    } else {
        let error = Node::refusal(&["--users", "1900000000-1900001023"]);
        assert!(error.contains("only root can give instances users (1900000000-1900001023)"), "{error}");
    }
}

/// Asks until it is so: where no event says it.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !so() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::yield_now();
    }
}
