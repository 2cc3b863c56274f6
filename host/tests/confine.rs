//! What a confined module can do and what it can't, as a module that tries (`modules/confine.c`), and what is said of one
//! that crashes. Each refusal is tried once more with its part left out, when it must be another.

#![expect(unsafe_code, reason = "hands descriptors to the child between fork and exec")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in a test, and in what supports it, a panic is the message"
)]
#![expect(clippy::print_stderr, reason = "tells what was skipped")]

#[expect(dead_code, reason = "shared with other tests, which use other parts of it")]
mod support;

use hot_wire::host::{FromHost, Stage, StartOptions, ToHost};
use hot_wire::isolation::{Confine, Parts};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::ExitStatusExt;
use support::{Host, Link, compile};

struct Tried {
    host: Host,
    link: Link,
    parts: Parts,
    number: u64,
}

impl Tried {
    fn new(confine: Confine) -> Self {
        Self::of(Host::execute(&compile("confine.c", &[])), confine)
    }

    fn without(leave_out: Parts) -> Self {
        Self::new(Confine { leave_out, ..Confine::default() })
    }

    fn of(host: Host, confine: Confine) -> Self {
        let (parts, said) = host.begin_confined(StartOptions::default(), confine);
        assert_eq!(said, FromHost::Ready { abi: 0 });
        let link = host.attach();
        Self { host, link, parts, number: 0 }
    }

    /// The errno of an attempt, 0 if it succeeded.
    fn errno(&mut self, attempt: &str) -> i32 {
        self.number += 1;
        self.link.ask(self.number, &format!("/{attempt}")).parse().unwrap()
    }

    /// Whether a part is in force. A kernel without it is said, and what it would refuse is not tried.
    fn has(&self, part: Parts) -> bool {
        let name = part.names().next().unwrap();
        let has = self.parts.has(part);
        if !has {
            assert!(!kernel_has(part), "the kernel has {name}, and it is not in force");
            eprintln!("skipped: what {name} refuses, for want of it in this kernel");
        }
        has
    }
}

/// Whether this kernel has the part, by another way than the host's.
fn kernel_has(part: Parts) -> bool {
    let known = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    // SAFETY: with this flag, the first, it answers with its version and reads nothing; without Landlock with -1.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, 1) };
    match part {
        Parts::FILES => abi >= 1,
        Parts::NETWORK => abi >= 4,
        Parts::SCOPES => abi >= 6,
        Parts::SECCOMP => known.contains("errno"),
        // Unless somebody listens to this process already, who can listen is listened to.
        Parts::COUNTED => {
            let own = std::fs::read_to_string("/proc/self/status").unwrap();
            known.contains("user_notif") && own.contains("Seccomp:\t0")
        }
        _ => false,
    }
}

const ALL: [Parts; 4] = [Parts::FILES, Parts::NETWORK, Parts::SCOPES, Parts::SECCOMP];

#[test]
fn what_servers_need_works() {
    let mut tried = Tried::new(Confine::default());
    for attempt in [
        "resolve",
        "threads",
        "fork",
        "read//etc/hosts",
        "read//proc/self/status",
        "read//proc/meminfo",
        "read//dev/urandom",
        "write/written-by-a-module",
        "bind/0",
        "socket/1.1.0",
        "socket/10.2.0",
        "socket/16.3.0",
    ] {
        assert_eq!(tried.errno(attempt), 0, "{attempt}");
    }
    tried.host.tell(&ToHost::Health { seq: 1 });
    let FromHost::Health(health) = tried.host.hear() else { panic!("no health") };
    assert_eq!(health.parts, tried.parts);
    assert!(tried.parts.has(Parts::NO_NEW_PRIVILEGES) && !tried.parts.has(Parts::NETWORK));
    assert!(!tried.parts.has(Parts::COUNTED), "nobody counts");
}

#[test]
fn files_of_others_are_out_of_reach() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (file, new) = (folder.path().join("file"), folder.path().join("new"));
    std::fs::write(&file, "some").unwrap();
    let (read, write) = (format!("read/{}", file.display()), format!("write/{}", new.display()));
    let mut tried = Tried::new(Confine::default());
    if tried.has(Parts::FILES) {
        for attempt in
            [&read, &write, "read//etc/shadow", "read//proc/1/environ", "read//proc/1/status", "constructed"]
        {
            assert_eq!(tried.errno(attempt), libc::EACCES, "{attempt}");
        }
        let path = folder.path().to_str().unwrap().to_owned();
        let mut reads =
            Tried::new(Confine { read: vec![path.clone(), "/absent".to_owned()], ..Confine::default() });
        assert_eq!((reads.errno(&read), reads.errno(&write)), (0, libc::EACCES));
        let mut writes = Tried::new(Confine { write: vec![path], ..Confine::default() });
        assert_eq!((writes.errno(&read), writes.errno(&write)), (0, 0));
    }
    let mut left = Tried::without(Parts::FILES);
    assert!(!left.parts.has(Parts::FILES));
    assert_eq!((left.errno(&read), left.errno(&write)), (0, 0));
}

#[test]
fn ports_are_those_that_were_said() {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [may, may_not] = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
    let confine = Confine { connect: Some(vec![may]), bind: Some(vec![]), ..Confine::default() };
    let mut tried = Tried::new(confine.clone());
    if tried.has(Parts::NETWORK) {
        assert_eq!(tried.errno(&format!("connect/{may}")), 0);
        assert_eq!(tried.errno(&format!("connect/{may_not}")), libc::EACCES);
        assert_eq!(tried.errno("bind/0"), libc::EACCES);
    }
    let mut left = Tried::new(Confine { leave_out: Parts::NETWORK, ..confine });
    assert_eq!(left.errno(&format!("connect/{may_not}")), 0);
    assert_eq!(left.errno("bind/0"), 0);
}

#[test]
fn without_what_is_required_nothing_is_loaded() {
    let require = Parts::SECCOMP.with(Parts::NO_NEW_PRIVILEGES);
    let confine = Confine { leave_out: Parts::SECCOMP, require, ..Confine::default() };
    let host = Host::execute(&compile("confine.c", &[]));
    host.tell_start(b"some config", StartOptions::default(), Some(confine));
    assert!(matches!(host.hear(), FromHost::Confined { parts } if !parts.has(Parts::SECCOMP)));
    match host.hear() {
        FromHost::Failed { stage: Stage::Confine, text } => {
            assert!(text.ends_with("missing: seccomp"), "{text}")
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn other_processes_are_out_of_reach() {
    let name = format!("hot-confine-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let (kill, connect) = (format!("kill/{}", std::process::id()), format!("abstract/{name}"));
    let mut tried = Tried::new(Confine::default());
    if tried.has(Parts::SCOPES) {
        assert_eq!((tried.errno(&kill), tried.errno(&connect)), (libc::EPERM, libc::EPERM));
    }
    let mut left = Tried::without(Parts::SCOPES);
    assert_eq!((left.errno(&kill), left.errno(&connect)), (0, 0));
}

/// Calls that fail otherwise, or do nothing, with zeros for arguments.
fn calls() -> Vec<String> {
    let numbers = [
        libc::SYS_unshare,
        libc::SYS_io_uring_setup,
        libc::SYS_execve,
        libc::SYS_mount,
        libc::SYS_bpf,
        libc::SYS_process_vm_readv,
    ];
    numbers.iter().map(|number| format!("call/{number}")).collect()
}

#[test]
fn calls_that_servers_do_not_need_are_refused() {
    let mut tried = Tried::new(Confine::default());
    if !tried.has(Parts::SECCOMP) {
        return;
    }
    let more = ["socket/17.3.0", "socket/2.3.1", "socket/16.3.9"].map(str::to_owned);
    for attempt in calls().into_iter().chain([format!("call/{}", libc::SYS_ptrace)]).chain(more) {
        assert_eq!(tried.errno(&attempt), libc::EPERM, "{attempt}");
    }
    assert_eq!(tried.errno(&format!("call/{}", libc::SYS_clone3)), libc::ENOSYS);
    let mut left = Tried::without(Parts::SECCOMP);
    assert!(!left.parts.has(Parts::SECCOMP));
    let answers: Vec<_> = calls().iter().map(|attempt| left.errno(attempt)).collect();
    assert_eq!(answers[0], 0, "unshare of nothing");
    assert_eq!(answers[2], libc::EFAULT, "execve of no program");
}

#[test]
fn refused_calls_are_handed_to_who_counts() {
    let (host, report) = Host::execute_counted(&compile("confine.c", &[]));
    let mut tried = Tried::of(host, Confine::default());
    if !tried.has(Parts::COUNTED) {
        return;
    }
    let (mut byte, mut space) = ([0; 8], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))]);
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(&report, &mut [IoSliceMut::new(&mut byte)], &mut beside, flags).unwrap();
    assert_eq!((received.bytes, byte[0]), (1, 1));
    let handed: Vec<_> = beside
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(handed) => Some(handed),
            _ => None,
        })
        .flatten()
        .collect();
    let link =
        std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handed[0]))).unwrap();
    assert_eq!((handed.len(), link.to_str().unwrap()), (1, "anon_inode:seccomp notify"));
    // The host has neither of them any more.
    assert_eq!(rustix::net::recv(&report, &mut byte, RecvFlags::empty()).unwrap().1, 0);
    // Nobody is left to answer.
    drop(handed);
    assert_eq!(tried.errno(&format!("call/{}", libc::SYS_unshare)), libc::ENOSYS);
    assert_eq!(tried.errno("fork"), 0);
}

#[test]
fn without_who_counts_calls_are_refused_all_the_same() {
    let (host, report) = Host::execute_counted(&compile("confine.c", &[]));
    drop(report);
    let mut tried = Tried::of(host, Confine::default());
    assert!(!tried.parts.has(Parts::COUNTED));
    if tried.has(Parts::SECCOMP) {
        assert_eq!(tried.errno(&format!("call/{}", libc::SYS_unshare)), libc::EPERM);
    }
}

#[test]
fn nothing_is_loaded_by_a_host_that_can_not_confine_itself() {
    if !Tried::new(Confine::default()).has(Parts::FILES) {
        return;
    }
    let host = Host::execute(b"nothing that could be loaded");
    // A pipe has no place among the files, so no rule can be about it.
    let pipe = Confine { read: vec!["/proc/self/fd/1".to_owned()], ..Confine::default() };
    host.tell_start(b"", StartOptions::default(), Some(pipe));
    let said = host.hear();
    let FromHost::Failed { stage: Stage::Confine, text } = said else { panic!("{said:?}") };
    assert!(text.contains("/proc/self/fd/1"), "{text}");
    assert_eq!(host.end().0.code(), Some(1));
}

#[test]
fn a_report_that_is_not_wanted_is_closed() {
    let (host, report) = Host::execute_counted(&compile("confine.c", &[]));
    let mut tried = Tried::of(host, Confine { leave_out: Parts::COUNTED, ..Confine::default() });
    assert!(!tried.parts.has(Parts::COUNTED));
    assert_eq!(rustix::net::recv(&report, &mut [0; 8], RecvFlags::empty()).unwrap().1, 0);
    if tried.has(Parts::SECCOMP) {
        assert_eq!(tried.errno(&format!("call/{}", libc::SYS_unshare)), libc::EPERM);
    }
}

#[test]
fn a_crash_is_named_and_its_signal_kept() {
    for (how, signal, words) in [
        ("write", libc::SIGSEGV, "hot-host: SIGSEGV at 0x0 in confine_writes_nowhere+0x"),
        ("copy", libc::SIGSEGV, "hot-host: SIGSEGV at 0x0 in confine_copies_nowhere+0x"),
        ("abort", libc::SIGABRT, "hot-host: SIGABRT in confine_aborts+0x"),
        ("recurse", libc::SIGSEGV, "in confine_recurses+0x"),
    ] {
        let mut tried = Tried::new(Confine { leave_out: ALL.into_iter().collect(), ..Confine::default() });
        tried.link.get(1, &format!("/crash/{how}"));
        assert!(tried.link.is_closed());
        let (status, _, err) = tried.host.end();
        assert_eq!(status.signal(), Some(signal), "{how}: {err}");
        let last = err.lines().last().unwrap_or_default();
        assert!(last.contains(words), "{how}: {err}");
        assert!(last.ends_with(" of the module"), "{how}: {err}");
    }
}
