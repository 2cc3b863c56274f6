//! `hot-spawn`: the parent of all hosts on a node.
//!
//! It starts hosts when `hotd` asks, tells how each ended, and keeps what must outlive a `hotd`: a duplicate of every
//! control socket, of the gateway's listeners, and of each host's output pipe, which it drains while no `hotd` does.
//! It reads nothing but the frames of `hot_wire::spawn`, has no threads and no network, and holds no state on disk.
//!
//! The way through it: `options` reads the command line, `door` takes the socket, `server` is the loop, `peer` is one
//! connection of a `hotd`, `hosts` what is known of each host, `orphans` ends what hosts leave behind, and `sys` has
//! every call that the compiler can't check.
//!
//! What an instance has to itself begins at `homes`: `users` is whose each number is, `claims` keeps other hot-spawns off
//! them, `folders` makes and removes folders (`removal`), `leavings` is what else a user leaves behind. What needs root
//! is in `privileged` and nowhere else.
//!
//! Limits: `bounds` keeps hosts within them, by a leaf of `cgroup` or by looking; `processes` reads what they use, and
//! `watch` judges it. `denied` counts the calls that a seccomp filter refused, which `seccomp` takes from its listener.

mod bounds;
mod cgroup;
mod claims;
mod denied;
mod door;
mod folders;
mod homes;
mod hosts;
mod leavings;
mod options;
mod orphans;
mod peer;
mod privileged;
mod processes;
mod removal;
mod seccomp;
mod server;
mod sys;
mod users;
mod watch;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use options::Asked;
use rustix::event::{PollFd, PollFlags, Timespec};

/// The arguments make no sense, as `hotd` and `hotctl` say it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let asked = match options::parse(std::env::args_os().skip(1)) {
        Ok(asked) => asked,
        Err(error) => {
            log(format_args!("{error:#}"));
            return ExitCode::from(USAGE);
        }
    };
    match run(asked) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(asked: Asked) -> anyhow::Result<()> {
    let options = match asked {
        Asked::Serve(options) => options,
        Asked::Help => return tell(options::HELP),
        Asked::Version => return tell(concat!("hot-spawn ", env!("CARGO_PKG_VERSION"), "\n")),
    };
    // Before anything else is opened: hosts get their descriptors under these numbers.
    let _low = sys::occupy_low_descriptors().context("cannot open /dev/null")?;
    let signals = sys::Signals::take().context("cannot take over signals")?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context("cannot become a subreaper")?;
    if options.alone_for.is_some() {
        // A dev node's hotd starts us: what ends its session or process group must not end the hosts. Who leads a group
        // already was started by hand and stays where it is.
        rustix::process::setsid().map(drop).unwrap_or_default();
    }
    if let Err(error) = sys::run_first() {
        // A dev node is somebody's own.
        if options.alone_for.is_none() {
            log(format_args!(
                "cannot take precedence over hosts, so one that forks without end may outrun it: {error}"
            ));
        }
    }
    let cgroup = options.cgroup.as_deref().map(cgroup::Cgroup::open).transpose()?;
    let door = door::Door::open(&options.socket, options.owner)?;
    let homes = homes::Homes::open(&options)?;
    // Whoever started us waits for this line; nobody may be there to read it.
    writeln!(std::io::stdout(), "ready socket={}", options.socket.display()).unwrap_or_default();
    server::Server::new(options, door, signals, homes, cgroup).run()
}

/// Answers what was asked of the program itself.
fn tell(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

/// One sentence for the operator on stderr, which may be closed or full: hosts are worth more than a log line. Where nobody
/// reads, sentences are dropped, and the next one that is read says how many.
fn log(sentence: std::fmt::Arguments<'_>) {
    static DROPPED: AtomicU64 = AtomicU64::new(0);
    let mut stderr = std::io::stderr().lock();
    let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let polled = rustix::event::poll(&mut ready, Some(&at_once)).is_ok();
    if !polled || !ready[0].revents().contains(PollFlags::OUT) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
        return;
    }
    // In one call, for which there is room.
    let before = DROPPED.swap(0, Ordering::Relaxed);
    let line = match before {
        0 => format!("hot-spawn: {sentence}\n"),
        dropped => format!(
            "hot-spawn: {sentence} ({dropped} lines before this one were dropped: nobody read them)\n"
        ),
    };
    if stderr.write_all(line.as_bytes()).is_err() {
        DROPPED.store(before + 1, Ordering::Relaxed);
    }
}
