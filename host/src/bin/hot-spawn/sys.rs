//! Every call whose correctness the compiler can't check, and what each relies on.
#![expect(
    unsafe_code,
    reason = "fork, exec and wait have no safe interface that passes descriptors by number"
)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use hot_wire::spawn::{Cause, Ending, Limits, Usage};
use rustix::fs::{Mode, OFlags};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Uid};

use crate::homes::Home;
use crate::privileged;

/// A host finds its control socket here.
const CONTROL: RawFd = 3;
/// A host finds its artifact here.
const ARTIFACT: RawFd = 4;
/// A host finds the socket here on which it sends the listener of its seccomp filter.
const REPORT: RawFd = 5;
/// The first number that a host does not know.
const FIRST_UNKNOWN: RawFd = REPORT + 1;

/// Opens `/dev/null` under every free number below [`FIRST_UNKNOWN`].
///
/// With these held, nothing that this process opens later has a number that a host's descriptors are put on: neither
/// what is passed on, nor the pipe through which `Command` reports a failed exec.
pub(crate) fn occupy_low_descriptors() -> io::Result<Vec<OwnedFd>> {
    let mut held = Vec::new();
    loop {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        if null.as_raw_fd() >= FIRST_UNKNOWN {
            return Ok(held);
        }
        held.push(null);
    }
}

/// A host that was just started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: Pid,
    /// Readable once it has ended.
    pub(crate) pidfd: OwnedFd,
    /// Our end of its control socket, non-blocking.
    pub(crate) control: OwnedFd,
    /// The reading end of its output pipe, non-blocking.
    pub(crate) output: OwnedFd,
}

/// What a host does to itself for its limits before it is executed.
#[derive(Debug)]
pub(crate) struct Hold {
    /// `0` is written here, which puts it in its cgroup.
    pub(crate) leaf: Option<OwnedFd>,
    /// Its nice value, if it may have it.
    pub(crate) nice: Option<i32>,
    /// How many processes and threads its user may have.
    pub(crate) tasks: Option<u64>,
}

/// Executes `binary` as a host: a session of its own, no environment but the folder of its `home`, the user of that,
/// nothing open but what `artifact` and the sockets need, no way to gain privileges. Gives our end of its report socket
/// besides.
pub(crate) fn start_host(
    binary: &Path,
    artifact: BorrowedFd<'_>,
    limits: &Limits,
    hold: Hold,
    home: &Home,
) -> io::Result<(Started, OwnedFd)> {
    // What its user may not find by name it gets by descriptor: what it executes, its folder, its artifact.
    let program = rustix::fs::open(binary, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let folder = match &home.folder {
        Some(folder) => folder.place.try_clone()?,
        None => rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?,
    };
    make_readable(artifact)?;
    let environment = environment(home)?;
    let (control, host_control) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let (report, host_report) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let (output, host_output) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&control, true)?;
    rustix::io::ioctl_fionbio(&output, true)?;
    // Copies above every number that they are put on, whatever came over the socket as what.
    let host_control = fcntl_dupfd_cloexec(&host_control, FIRST_UNKNOWN)?;
    let artifact = fcntl_dupfd_cloexec(artifact, FIRST_UNKNOWN)?;
    let host_report = fcntl_dupfd_cloexec(&host_report, FIRST_UNKNOWN)?;
    let rlimits = rlimits(limits, hold.tasks);
    let identity = home.identity;
    if let Some(identity) = identity {
        // So that it can open `/dev/stderr` by name.
        privileged::give(&host_output, identity)?;
    }

    // It forks, places the first three descriptors and tells of errors; `prepare` does all else, including exec.
    let mut command = Command::new(binary);
    command.stdin(Stdio::null()).stdout(host_output.try_clone()?).stderr(host_output);
    let (raw_control, raw_artifact) = (host_control.as_raw_fd(), artifact.as_raw_fd());
    let raw_report = host_report.as_raw_fd();
    let prepare = move || {
        rustix::process::fchdir(&folder)?;
        rustix::process::setsid()?;
        hold.apply()?;
        rustix::process::umask(Mode::from_raw_mode(0o077));
        for (resource, limit) in rlimits {
            rustix::process::setrlimit(resource, limit)?;
        }
        place(raw_control, CONTROL)?;
        place(raw_artifact, ARTIFACT)?;
        place(raw_report, REPORT)?;
        close_rest_on_exec()?;
        unblock_signals()?;
        // From here on it has no rights to do any of the above.
        if let Some(identity) = identity {
            privileged::become_user(identity)?;
        }
        rustix::thread::set_no_new_privs(true)?;
        Err(execute(&program, &environment))
    };
    // SAFETY: between fork and exec only what is safe in a signal handler may run. This process has one thread, so no
    // lock is held by a thread that the child lacks; besides, `prepare` only makes system calls (rustix makes them
    // without libc), allocates nothing, and its errors are plain numbers.
    unsafe { command.pre_exec(prepare) };
    let child = command.spawn()?;
    let pid = Pid::from_child(&child);
    match rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK) {
        Ok(pidfd) => Ok((Started { pid, pidfd, control, output }, report)),
        Err(error) => {
            // Without a pidfd nobody would hear of its end.
            let mut child = child;
            child.kill()?;
            child.wait()?;
            Err(error.into())
        }
    }
}

impl Hold {
    /// In the child, before it gives up any right.
    fn apply(&self) -> io::Result<()> {
        if let Some(leaf) = &self.leaf {
            rustix::io::write(leaf, b"0")?;
        }
        if let Some(nice) = self.nice {
            // Whether it is in force is looked at from outside; a host without it is worth more than none.
            rustix::process::setpriority_process(None, nice).unwrap_or_default();
        }
        Ok(())
    }
}

/// The whole environment of a host: where it may put temporary files.
fn environment(home: &Home) -> io::Result<[CString; 2]> {
    let path = home.folder.as_ref().map_or(&b"/"[..], |folder| folder.path.as_os_str().as_bytes());
    Ok([CString::new([b"TMPDIR=", path].concat())?, CString::new([b"HOME=", path].concat())?])
}

/// Lets every user read the artifact, which a host opens anew to load it. Usually all may: the mode of a file in memory is
/// 0777 unless somebody changed that. Nobody can write to it, as it is sealed.
fn make_readable(artifact: BorrowedFd<'_>) -> io::Result<()> {
    let mode = Mode::from_raw_mode(rustix::fs::fstat(artifact)?.st_mode);
    let readable = Mode::RUSR | Mode::RGRP | Mode::ROTH;
    if !mode.contains(readable) {
        rustix::fs::fchmod(artifact, mode | readable)?;
    }
    Ok(())
}

/// In the child: executes `program`, and returns only if that fails.
///
/// Exec makes the process readable to its own user again (`/proc/self`, through which it loads the artifact), which it was
/// not since the user changed, if that user may read the file of the program.
fn execute(program: &OwnedFd, environment: &[CString; 2]) -> io::Error {
    const NAME: &CStr = c"hot-host";
    let arguments = [NAME.as_ptr(), std::ptr::null()];
    let [first, second] = environment;
    let environment = [first.as_ptr(), second.as_ptr(), std::ptr::null()];
    // SAFETY: the kernel reads an empty path, which with this flag names `program` itself, and two arrays of pointers to
    // strings that end with zero. Each array ends with null, and all of it is alive here.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Locks one byte of a file for this opening of it, or unlocks it; `false`: another has it.
pub(crate) fn lock_byte(file: &File, offset: i64, lock: bool) -> io::Result<bool> {
    // SAFETY: it is made of integers, for which zeros are valid. Its `l_pid` has to be zero.
    let mut wanted: libc::flock = unsafe { std::mem::zeroed() };
    let kind = if lock { libc::F_WRLCK } else { libc::F_UNLCK };
    wanted.l_type = kind.try_into().map_err(io::Error::other)?;
    wanted.l_whence = 0; // from the start
    wanted.l_start = offset;
    wanted.l_len = 1;
    // SAFETY: `file` is open, and `wanted` is what this command reads, alive over the call.
    let failed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const wanted) };
    if failed == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}

/// The limits as the kernel takes them: never above what this process may give.
fn rlimits(limits: &Limits, tasks: Option<u64>) -> [(Resource, Rlimit); 5] {
    let limit = |resource: Resource, wanted: u64| {
        let own = rustix::process::getrlimit(resource).maximum;
        let value = match (wanted, own) {
            (Limits::UNLIMITED, own) => own,
            (wanted, Some(own)) => Some(wanted.min(own)),
            (wanted, None) => Some(wanted),
        };
        (resource, Rlimit { current: value, maximum: value })
    };
    [
        limit(Resource::Core, 0),
        limit(Resource::Nofile, limits.open_files),
        limit(Resource::Fsize, limits.file_size),
        limit(Resource::As, limits.address_space),
        limit(Resource::Nproc, tasks.unwrap_or(Limits::UNLIMITED)),
    ]
}

/// In the child: makes `from` known as `to` as well, to stay open over exec.
fn place(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: `dup2` asks for nothing but numbers. It closes `to`, which in the child is a `/dev/null` of
    // `occupy_low_descriptors` that no Rust value of the child uses before exec.
    let placed = unsafe { libc::dup2(from, to) };
    if placed == to { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// In the child: lets exec close every descriptor that a host does not know.
fn close_rest_on_exec() -> io::Result<()> {
    // SAFETY: `close_range` asks for nothing but numbers, and with this flag closes nothing now: the pipe through
    // which `Command` reports a failed exec works until exec.
    let done = unsafe {
        libc::syscall(libc::SYS_close_range, FIRST_UNKNOWN, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// In the child: takes back what [`Signals::take`] did, since exec keeps the mask.
fn unblock_signals() -> io::Result<()> {
    set_mask(libc::SIG_SETMASK, &signal_set(&[]))
}

/// Has this process run before all that hosts do, since it must end them when they take everything: a fork bomb of
/// thousands leaves one among them no turn for seconds. What it starts is as usual. Needs a privilege.
pub(crate) fn run_first() -> io::Result<()> {
    let lowest = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: 0 is this thread, the only one; `lowest` is initialised and alive over the call, which reads it.
    let failed = unsafe { libc::sched_setscheduler(0, policy, &raw const lowest) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The session of a process, or of this one; `None`: its leader is in a namespace of processes outside, as where a container
/// was entered, or the process is gone.
pub(crate) fn session_of(pid: Option<Pid>) -> Option<Pid> {
    // SAFETY: `getsid` asks for nothing but a number.
    let session = unsafe { libc::getsid(Pid::as_raw(pid)) };
    if session > 0 { Pid::from_raw(session) } else { None }
}

/// Who is connected: its process, unless that is out of sight as in [`session_of`], and its user.
pub(crate) fn peer(socket: impl AsFd) -> io::Result<(Option<Pid>, Uid)> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or_default();
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `peer` is a place of `len` bytes, which the call fills in, and both are alive over it.
    let failed = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut peer).cast(), &raw mut len)
    };
    if failed == 0 {
        Ok((Pid::from_raw(peer.pid), Uid::from_raw(peer.uid)))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The size of a page of memory, in bytes.
pub(crate) fn page_size() -> u64 {
    // SAFETY: `sysconf` asks for nothing but a number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

/// The end of a child, if it has ended; from then on its number may be another's.
pub(crate) fn reap(pid: Pid) -> io::Result<Option<Ending>> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `status` and `usage` are places of the types that `wait4` fills in, alive over the call, and the kernel
    // knows both for this architecture.
    let reaped = unsafe { libc::wait4(pid.as_raw_pid(), &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    if reaped < 0 {
        return Err(io::Error::last_os_error());
    }
    if reaped == 0 {
        return Ok(None);
    }
    // SAFETY: all of it is initialised: it was zeroed, zeros are a valid `rusage` of integers, and `wait4` only wrote.
    let usage = unsafe { usage.assume_init() };
    let cause = if libc::WIFSIGNALED(status) {
        Cause::Killed(libc::WTERMSIG(status))
    } else {
        Cause::Exited(libc::WEXITSTATUS(status))
    };
    let microseconds = |time: libc::timeval| {
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(time.tv_usec).unwrap_or_default())
    };
    let usage = Usage {
        user_us: microseconds(usage.ru_utime),
        system_us: microseconds(usage.ru_stime),
        max_resident_kib: u64::try_from(usage.ru_maxrss).unwrap_or_default(),
    };
    Ok(Some(Ending { cause, usage, breach: None, told: false }))
}

/// What a signal to this process asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Some child ended.
    Reap,
    /// End, with all hosts.
    Stop {
        /// The process that sent the signal; 0 is the kernel, or one that is out of our sight.
        by: u32,
    },
}

/// Signals as a descriptor to poll.
pub(crate) struct Signals(OwnedFd);

impl Signals {
    /// From here on CHLD, TERM, INT and HUP interrupt nothing and are read from this.
    pub(crate) fn take() -> io::Result<Self> {
        let set = signal_set(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP]);
        set_mask(libc::SIG_BLOCK, &set)?;
        // SAFETY: `set` is an initialised set, alive over the call; -1 asks for a new descriptor.
        let raw = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` was opened just now by the call above and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(raw) }))
    }

    /// What was asked since the last call.
    pub(crate) fn read(&self) -> Vec<Asked> {
        const RECORD: usize = size_of::<libc::signalfd_siginfo>();
        let mut asked = Vec::new();
        let mut record = [0u8; RECORD];
        while let Ok(RECORD) = rustix::io::read(&self.0, &mut record) {
            // Numbers are in the order of this machine: the first is the signal's, the fourth its sender's (signalfd(2)).
            let [s, i, g, n, _, _, _, _, _, _, _, _, p, q, r, t, ..] = record;
            let by = u32::from_ne_bytes([p, q, r, t]);
            match i32::try_from(u32::from_ne_bytes([s, i, g, n])) {
                Ok(libc::SIGCHLD) => asked.push(Asked::Reap),
                Ok(libc::SIGTERM | libc::SIGINT) => asked.push(Asked::Stop { by }),
                // A terminal that went away is no reason to end hosts.
                _hangup => {}
            }
        }
        asked
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn signal_set(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `set` is a place for a set, which the call initialises.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in signals {
        // SAFETY: `set` was initialised above; a number that is no signal would be refused and change nothing.
        unsafe { libc::sigaddset(set.as_mut_ptr(), *signal) };
    }
    // SAFETY: `sigemptyset` initialised it.
    unsafe { set.assume_init() }
}

fn set_mask(how: libc::c_int, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is an initialised set; a null place for the old mask means that it is not wanted.
    let failed = unsafe { libc::pthread_sigmask(how, set, std::ptr::null_mut()) };
    if failed == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(failed)) }
}
