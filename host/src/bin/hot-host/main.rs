//! `hot-host`: the process that loads one version of one module and calls it.
//!
//! It is executed by hot-spawn with a clean environment and these descriptors: 0 is `/dev/null`, 1 and 2 are the output
//! pipe, 3 is the control socket (SEQPACKET), 4 is the artifact, and 5, from a hot-spawn that counts refused calls, is a
//! socket to it (SEQPACKET). It limits itself, says hello, is told what to start, confines itself and closes 5, loads, and
//! serves the links that it is given until it is told to stop or the control socket ends.
//!
//! | module | owns |
//! |---|---|
//! | [`limits`], [`confine`] | what the process takes from itself: at first, and when it is told what to start |
//! | [`crash`] | the last words of a module that crashes |
//! | [`control`], [`life`] | the talk with hotd; start, health and stop of the module |
//! | [`library`], [`services`] | the two halves of the ABI: calls into the module, calls from it |
//! | [`engine`], [`pool`], [`watch`] | which thread runs which handler |
//! | [`alarm`] | deadlines of exchanges that wait for a notice |
//! | [`link`], [`table`], [`exchange`], [`head`] | frames, handles, and the rules of one exchange |
//! | [`metrics`], [`output`] | what the module counts; lines for people |
//!
//! Whatever the module does, it does to this process alone: hotd trusts nothing that comes from here.

#![expect(unsafe_code, reason = "loads foreign code, and is the other side of a C ABI")]

mod alarm;
mod confine;
mod control;
mod crash;
mod engine;
mod exchange;
mod head;
mod library;
mod life;
mod limits;
mod link;
mod metrics;
mod output;
mod pool;
mod services;
mod table;
mod watch;

use control::{Control, ReceiveError};
use hot_wire::host::{Features, FromHost, MetricsPage, ToHost};
use hot_wire::{MAX_MESSAGE, MessageError, PROTOCOL};
use life::Life;
use link::Link;
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::ffi::OsStr;
use std::io::Write as _;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// The control socket's descriptor.
const CONTROL: i32 = 3;

/// The artifact's: a sealed file in memory.
const ARTIFACT: i32 = 4;

/// The socket on which hot-spawn is handed the listener of the filter of system calls. An older one gives none.
const REPORT: i32 = 5;

/// What this program is.
const HELP: &str = "\
The process that loads one version of one module and calls it.

It is not for people to start: hot-spawn does, when hotd asks, with a socket to hotd as descriptor 3 and the module's file
as descriptor 4. It ends when that socket does. To try a module out, run `hotd --dev` and `hotctl push FILE`; to see what a
file is, `hotctl inspect FILE`.

Usage: hot-host, without arguments

Options:
  -h, --help      Print help
  -V, --version   Print version
";

unsafe extern "C" {
    /// C's standard output.
    static mut stdout: *mut libc::FILE;
}

fn main() {
    // A bug in the host must not leave a thread less and a process that looks well.
    std::panic::set_hook(Box::new(|panic| {
        output::say(&panic.to_string());
        std::process::abort();
    }));
    // hot-spawn gives it none.
    if let Some(argument) = std::env::args_os().nth(1) {
        answer(&argument);
    }
    // Executed by descriptor, it would be called by that one's number (before Linux 6.14). It is for people.
    rustix::thread::set_name(c"hot-host").unwrap_or_default();
    if let Err(error) = limits::take() {
        output::die(&output::chain(&error));
    }
    print_by_line();
    // SAFETY: hot-spawn hands the socket over as this descriptor, and nothing else in this process owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(CONTROL) };
    if let Err(error) = keep_to_itself(&socket) {
        output::die(&format!("descriptor {CONTROL} or {ARTIFACT} is not open: {error}"));
    }
    let report = take_report();
    let control = Arc::new(Control::new(socket));
    control.send(&FromHost::Hello { protocol: PROTOCOL, pid: std::process::id(), features: Features::ALL });
    crash::look_out();
    let error = serve(&control, report);
    if !matches!(error, ReceiveError::Ended) {
        output::die(&output::chain(&error));
    }
    // Nobody is left to serve for. The module's threads may be at work, so none of its destructors run.
    output::leave(0);
}

/// Tells a person what this program is, and ends.
fn answer(argument: &OsStr) -> ! {
    let text = match argument.to_str() {
        Some("-h" | "--help") => HELP,
        Some("-V" | "--version") => concat!("hot-host ", env!("CARGO_PKG_VERSION"), "\n"),
        _ => output::die(&format!("unknown argument {}; see hot-host --help", argument.display())),
    };
    let written = std::io::stdout().write_all(text.as_bytes());
    output::leave(i32::from(written.is_err()))
}

/// Does what hotd says until it can't be heard any more.
fn serve(control: &Arc<Control>, report: Option<OwnedFd>) -> ReceiveError {
    let mut life = Life::new(Arc::clone(control), report);
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        match control.receive(&mut buffer) {
            Ok((ToHost::Start(start), _)) => life.start(start),
            Ok((ToHost::Attach { link }, Some(socket))) => match engine::Engine::get() {
                Some(engine) => engine.attach(Link::new(link, socket)),
                // It is closed, which tells hotd.
                None => output::say("hotd attached a link before the module was ready"),
            },
            Ok((ToHost::Attach { link }, None)) => {
                output::say(&format!("link {link} came without its socket"))
            }
            Ok((ToHost::Health { seq }, _)) => life.check(seq),
            Ok((ToHost::Stop { grace_ms }, _)) => life.stop(Duration::from_millis(u64::from(grace_ms))),
            Ok((ToHost::Metrics { seq, first }, _)) => control.send(&FromHost::Metrics(page(seq, first))),
            // Of a newer hotd, which can do without an answer or would not have asked.
            Err(ReceiveError::Message(MessageError::UnknownKind { found })) => {
                output::say(&format!("hotd sent a message of the unknown kind {found}; it was skipped"));
            }
            Err(error) => return error,
        }
    }
}

/// The module's metrics from the series `first` on, as far as they fit into a message.
fn page(seq: u64, first: u32) -> MetricsPage {
    let (total, series) = metrics::METRICS.page(usize::try_from(first).unwrap_or(usize::MAX));
    MetricsPage::fill(seq, first, u32::try_from(total).unwrap_or(u32::MAX), series.into_iter())
}

/// Keeps the two descriptors from programs that the module may execute.
fn keep_to_itself(control: &OwnedFd) -> rustix::io::Result<()> {
    fcntl_setfd(control, FdFlags::CLOEXEC)?;
    // SAFETY: borrowed for one call, which fails if the descriptor is not open.
    fcntl_setfd(unsafe { BorrowedFd::borrow_raw(ARTIFACT) }, FdFlags::CLOEXEC)
}

/// The report socket, if there is one. Whatever else was left open in its place is closed: the module has no use for it.
fn take_report() -> Option<OwnedFd> {
    // SAFETY: borrowed for one call, which fails if the descriptor is not open.
    fcntl_getfd(unsafe { BorrowedFd::borrow_raw(REPORT) }).ok()?;
    // SAFETY: it is open, and was before this program began, which has opened nothing yet: nobody else owns it.
    let found = unsafe { OwnedFd::from_raw_fd(REPORT) };
    fcntl_setfd(&found, FdFlags::CLOEXEC).ok()?;
    let is_report = sockopt::socket_domain(&found) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(&found) == Ok(SocketType::SEQPACKET);
    is_report.then_some(found)
}

/// Has C's `printf` write at every line break, as on a terminal: the process ends without flushing what is buffered.
fn print_by_line() {
    // SAFETY: `stdout` is set by the C library before `main`, and this is the only thread.
    let stream = unsafe { stdout };
    // SAFETY: the stream is open and unused; without a buffer of ours, its own is kept.
    unsafe { libc::setvbuf(stream, std::ptr::null_mut(), libc::_IOLBF, 0) };
}
