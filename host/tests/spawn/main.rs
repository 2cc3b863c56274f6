//! hot-spawn as it runs: the real binary, and hosts that run a shell script. The script is the artifact, so each test says
//! in it what its host does.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod denied;
mod limits;
mod node;
mod users;

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::time::Duration;

use hot_wire::spawn::{Cause, Features, FromSpawn, HostState, Limits, ToSpawn};
use node::{Client, Node, Watched, artifact, unsealed};

/// Reads all lines that a host prints until it ends.
fn output(pipe: std::os::fd::OwnedFd) -> String {
    rustix::io::ioctl_fionbio(&pipe, false).unwrap();
    let mut text = String::new();
    std::fs::File::from(pipe).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_host_has_what_it_is_to_have_and_nothing_else() {
    let node = Node::start(&[]);
    let mut client = node.connect();
    let script =
        "ls /proc/self/fd | tr '\\n' ' '; echo; cat /proc/self/limits; grep NoNewPrivs /proc/self/status
        echo umask $(umask) cwd $(pwd); echo $$ session $(cut -d' ' -f6 /proc/$$/stat)
        tr '\\0' '\\n' </proc/$$/environ | sed 's/^/env /'; exit 0";
    let limits = Limits { open_files: 200, file_size: 1 << 20, ..Limits::default() };
    let host = client.spawn_with(1, script, limits);
    let text = output(host.output);
    let line =
        |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{text}"));
    // `ls` has 6 for the folder that it reads.
    assert_eq!(text.lines().next(), Some("0 1 2 3 4 5 6 "), "{text}");
    let limit =
        |name| line(name).split_whitespace().rev().skip(1).take(2).map(String::from).collect::<Vec<_>>();
    assert_eq!(limit("Max open files"), ["200", "200"]);
    assert_eq!(limit("Max core file size"), ["0", "0"]);
    assert_eq!(limit("Max file size"), ["1048576", "1048576"]);
    assert_eq!(line("NoNewPrivs"), "NoNewPrivs:\t1");
    let folder = node.folder().canonicalize().unwrap().join("instances/1-");
    let folder =
        line("umask").strip_prefix("umask 0077 cwd ").filter(|cwd| cwd.starts_with(folder.to_str().unwrap()));
    let folder = folder.unwrap_or_else(|| panic!("{text}"));
    assert_eq!(line(&host.pid.to_string()), format!("{} session {}", host.pid, host.pid));
    let environment: Vec<_> = text.lines().filter(|line| line.starts_with("env ")).collect();
    assert_eq!(environment, [format!("env TMPDIR={folder}"), format!("env HOME={folder}")]);
    assert_eq!(client.exited(1), Cause::Exited(0));
}

#[test]
fn an_end_is_told_and_takes_everything_along_that_the_host_started() {
    let node = Node::start(&[]);
    let mut client = node.connect();
    // One child in its group, one in a session of its own, and one more whose parent is gone already.
    let script = "sleep 1000 & echo $!; setsid sleep 1000 & echo $!; (setsid sleep 1000 & echo $!)
        read go <&3; kill -SEGV $$";
    let mut host = client.spawn(1, script);
    let left: Vec<_> = (0..3).map(|_| Watched::new(host.read_line().parse().unwrap())).collect();
    host.say("\n");
    assert_eq!(client.exited(1), Cause::Killed(11));
    for process in left {
        process.ends();
    }
    // What ran is known until it is forgotten.
    assert_eq!(client.list().len(), 1);
    client.send(&ToSpawn::Forget { id: 1 }, None);
    assert_eq!(client.list().len(), 0);
}

#[test]
fn hosts_outlive_a_hotd_and_the_next_one_finds_them() {
    let node = Node::start(&[]);
    let mut client = node.connect();
    // More than a pipe holds, so that it blocks unless somebody reads. Then it ends its helper, to be seen from here.
    let script = "sleep 1000 & echo $!; read go <&3; head -c 1000000 /dev/zero | tr '\\0' x; kill $!
        read go <&3; echo; echo done; exit 3";
    let mut first = client.spawn(1, script);
    let helper = Watched::new(first.read_line().parse().unwrap());
    let second = client.spawn(2, "read go <&3; echo last words; exit 4");
    let (control, watched) = (first.control.try_clone().unwrap(), Watched::new(second.pid));
    drop(client);
    first.say("\n");
    second.say("\n");
    helper.ends();
    watched.ends();
    drop((first, second));

    let ended = node.until_listed(|host| host.id == 2 && host.state != HostState::Running);
    assert_eq!((ended.label.as_slice(), ended.tail.as_slice()), (&b"label 2"[..], &b"last words\n"[..]));
    let HostState::Ended(ending) = ended.state else { panic!("{ended:?}") };
    assert_eq!(ending.cause, Cause::Exited(4));

    // The socket that hot-spawn kept is the same as the one that the first hotd had.
    let mut client = node.connect();
    let mut running = client.list().remove(0);
    assert_eq!((running.id, running.state), (1, HostState::Running));
    let inode = |fd: std::os::fd::BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_ino;
    assert_eq!(inode(running.descriptors[0].as_fd()), inode(control.as_fd()));
    rustix::io::write(&running.descriptors[0], b"\n").unwrap();
    assert_eq!(client.exited(1), Cause::Exited(3));
    assert!(output(running.descriptors.remove(1)).ends_with("\ndone\n"));
}

#[test]
fn output_is_drained_while_no_hotd_is_there_and_its_end_is_kept() {
    let node = Node::start(&[]);
    let mut client = node.connect();
    let host = client.spawn(1, "read go <&3; head -c 1000000 /dev/zero | tr '\\0' x; echo; echo done");
    let watched = Watched::new(host.pid);
    drop(client);
    host.say("\n");
    watched.ends();
    let ended = node.until_listed(|host| host.state != HostState::Running);
    assert_eq!(ended.tail.len(), hot_wire::spawn::MAX_TAIL);
    assert!(ended.tail.ends_with(b"x\ndone\n"));
}

#[test]
fn a_dev_node_ends_with_its_hosts_once_hotd_is_gone() {
    let node = Node::start(&["--dev", "--dev-grace-ms", "100"]);
    let mut client = node.connect();
    let host = client.spawn(1, "exec sleep 1000");
    let watched = Watched::new(host.pid);
    drop(client);
    watched.ends();
    node.ends_with(0);
}

#[test]
fn told_to_end_it_asks_its_hosts_and_then_kills_them() {
    let node = Node::start(&["--stop-grace-ms", "1000"]);
    let mut client = node.connect();
    let mut deaf = client.spawn(1, "trap '' TERM; echo up; while :; do sleep 1000; done");
    let mut polite = client.spawn(2, "trap 'exit 7' TERM; echo up; while :; do sleep 0.02; done");
    assert_eq!((deaf.read_line(), polite.read_line()), ("up".into(), "up".into()));
    node.terminate();
    let told = [2, 1].map(|id| client.ended(id));
    assert_eq!(told.map(|ending| ending.cause), [Cause::Exited(7), Cause::Killed(9)]);
    assert!(told.iter().all(|ending| ending.told), "{told:?}");
    node.ends_with(0);
}

#[test]
fn a_session_and_a_hotd_that_are_out_of_its_sight_are_no_matter() {
    // As in a container that was entered, whose processes have numbers of their own.
    let Some(node) = Node::in_a_namespace() else { return };
    let mut client = node.connect_as(1);
    let mut host = client.spawn(1, "(setsid sleep 1000 &); echo up; read go <&3");
    assert_eq!(host.read_line(), "up");
    host.say("\n");
    assert_eq!(client.exited(1), Cause::Exited(0));
    // What it left in a session of its own as well.
    host.closes();
}

#[test]
fn what_is_no_socket_is_not_replaced_by_one() {
    for name in ["spawn.sock", "spawn.sock.new"] {
        let (folder, said) = Node::refusal_beside(name);
        assert!(said.contains(name) && said.contains("expected a socket or a name that is free"), "{said}");
        assert_eq!(std::fs::read_to_string(folder.path().join(name)).unwrap(), "a key");
    }
}

#[test]
fn who_told_it_to_end_is_in_its_log() {
    let (node, log) = Node::with_log();
    node.terminate();
    node.ends_with(0);
    let mut text = String::new();
    std::fs::File::from(log).read_to_string(&mut text).unwrap();
    let sender = format!("told to end by process {} (", std::process::id());
    assert!(text.lines().any(|line| line.contains(&sender) && line.ends_with("with 0 hosts")), "{text}");
}

#[test]
fn bad_frames_cost_a_peer_its_connection_and_nobody_else_anything() {
    let node = Node::start(&[]);
    let mut client = node.connect();
    let host = client.spawn(1, "exec sleep 1000");
    let watched = Watched::new(host.pid);
    let hello = ToSpawn::Hello { protocol: hot_wire::PROTOCOL, features: Features::ALL }.encode().unwrap();
    let wrong_protocol = ToSpawn::Hello { protocol: 99, features: Features::ALL }.encode().unwrap();
    let giant = vec![3; 150 * 1024];
    for bad in [&b"\xff"[..], b"\x01", &wrong_protocol, &ToSpawn::List.encode().unwrap(), &giant] {
        let stranger = Client::connect(&node.socket());
        stranger.send_bytes(bad, None);
        assert!(stranger.is_closed(), "{bad:?}");
    }
    assert_eq!(client.list().len(), 1);
    // After a hello as well: one that comes twice, and a descriptor too many.
    client.send_bytes(&hello, None);
    assert!(client.is_closed());
    let client = node.connect();
    client.send_bytes(&ToSpawn::List.encode().unwrap(), Some(artifact("").as_fd()));
    assert!(client.is_closed());
    let mut client = node.connect();
    assert_eq!(client.list().len(), 1);
    assert!(watched.runs());
}

#[test]
fn a_log_that_nobody_reads_holds_up_nothing() {
    let (node, log) = Node::with_log();
    // Each costs a line, and a pipe holds some hundred of them.
    let complain = || {
        let stranger = Client::connect(&node.socket());
        stranger.send_bytes(b"\xff", None);
        assert!(stranger.is_closed());
    };
    (0..2000).for_each(|_| complain());
    assert_eq!(node.connect().list().len(), 0);
    let mut text = vec![0; 1 << 20];
    let full = rustix::io::read(&log, &mut text).unwrap();
    assert!(full < 100_000, "{full} bytes");
    complain();
    let len = rustix::io::read(&log, &mut text).unwrap();
    let line = String::from_utf8_lossy(&text[..len]);
    assert!(
        line.contains("closed a connection of hotd") && line.contains(" lines before this one were dropped"),
        "{line}"
    );
}

#[test]
fn a_second_hotd_is_refused_until_the_first_is_gone() {
    let node = Node::start(&[]);
    let mut first = node.connect();
    let host = first.spawn(1, "exec sleep 1000");
    let watched = Watched::new(host.pid);
    for _ in 0..2 {
        let second = Client::connect(&node.socket());
        second.send(&ToSpawn::Hello { protocol: hot_wire::PROTOCOL, features: Features::ALL }, None);
        assert_eq!(second.receive().unwrap().0, FromSpawn::Occupied { pid: std::process::id() });
        assert!(second.is_closed());
    }
    assert_eq!(first.list().len(), 1);
    // What the first one did not read is no reason to hold up the next, which comes at once.
    for _ in 0..100 {
        first.send(&ToSpawn::List, None);
        drop(first);
        first = node.connect();
    }
    let found = first.list();
    assert_eq!((found.len(), found[0].pid, found[0].descriptors.len()), (1, host.pid, 2));
    assert!(watched.runs());
}

#[test]
fn what_can_not_be_started_is_refused_with_a_reason() {
    let node = Node::start(&[]);
    let mut client = node.connect();
    client.spawn(1, "exec sleep 1000");
    let spawn = |id, label: usize| ToSpawn::Spawn {
        id,
        label: vec![b'x'; label],
        limits: Limits::default(),
        module: "tried".to_owned(),
    };
    for (message, artifact, reason) in [
        (spawn(1, 0), artifact("exit"), "there is a host 1 already"),
        (spawn(2, 0), unsealed("exit"), "the artifact is no sealed file in memory"),
        (spawn(2, 100 * 1024 + 1), artifact("exit"), "the label has 102401 bytes, expected at most 102400"),
    ] {
        client.send(&message, Some(artifact.as_fd()));
        let FromSpawn::SpawnFailed { text, .. } = client.receive().unwrap().0 else {
            panic!("not refused: {reason}")
        };
        assert_eq!(text, reason);
    }
    let node = Node::with_host("/nowhere/hot-host", &[]);
    let client = node.connect();
    client.send(&spawn(1, 0), Some(artifact("exit").as_fd()));
    let FromSpawn::SpawnFailed { text, .. } = client.receive().unwrap().0 else { panic!("not refused") };
    assert!(text.starts_with("cannot execute /nowhere/hot-host: No such file"), "{text}");
}

#[test]
fn listeners_are_kept_over_a_hotd() {
    let node = Node::start(&[]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = node.connect();
    client.send(&ToSpawn::Keep { name: "http".into() }, Some(listener.as_fd()));
    client.send(&ToSpawn::Keep { name: "gone".into() }, Some(listener.as_fd()));
    client.send(&ToSpawn::Drop { name: "gone".into() }, None);
    client.list();
    drop((client, listener));
    // Nobody accepts, but nobody is refused.
    let waiting = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
    let client = node.connect();
    client.send(&ToSpawn::Kept, None);
    let (kept, mut descriptors) = client.receive().unwrap();
    assert_eq!(kept, FromSpawn::Kept { name: "http".into() });
    assert_eq!(client.receive().unwrap().0, FromSpawn::KeptEnd);
    let listener = std::net::TcpListener::from(descriptors.remove(0));
    assert_eq!(listener.accept().unwrap().1, waiting.local_addr().unwrap());
}

#[test]
fn a_socket_is_served_once_and_a_stale_one_is_replaced() {
    let mut node = Node::start(&[]);
    let error = node.second();
    assert!(error.contains("another hot-spawn serves"), "{error}");
    // The one that is there still answers.
    assert_eq!(node.connect().list().len(), 0);
    node.kill();
    assert!(node.socket().exists());
    node.restart();
    assert_eq!(node.connect().list().len(), 0);
}
