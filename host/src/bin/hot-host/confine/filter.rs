//! Puts the filter of system calls in force, and hands its listener to hot-spawn.

use super::ConfineError;
use super::calls::{MACHINE, program};
use crate::output;
use hot_wire::isolation::Parts;
use libc::{c_long, c_ulong, sock_filter, sock_fprog};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

/// What is refused without a listener fails so.
const REFUSED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();

/// Puts the filter in force: seccomp, and counted if hot-spawn counts by `report`, which is closed here.
/// `ports`: there are rules for ports.
pub(super) fn take(leave_out: Parts, ports: bool, report: Option<OwnedFd>) -> Result<Parts, ConfineError> {
    let Some(machine) = MACHINE.filter(|_| !leave_out.has(Parts::SECCOMP) && is_known()) else {
        return Ok(Parts::NONE);
    };
    if let Some(report) = report.filter(|_| !leave_out.has(Parts::COUNTED))
        && let Some(listener) = listen(machine, ports)
    {
        match hand_over(&report, &listener) {
            Ok(()) => return Ok(Parts::SECCOMP.with(Parts::COUNTED)),
            // The filter below goes before the one that asks the listener.
            Err(error) => {
                output::say(&format!("refused calls are not counted, hot-spawn is not there: {error}"))
            }
        }
    }
    install(&program(machine, REFUSED, ports), 0).map_err(ConfineError::Filter)?;
    Ok(Parts::SECCOMP)
}

/// Whether the kernel has filters that answer with errors.
fn is_known() -> bool {
    let action = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the operation reads one `u32`, which lives here, and changes nothing.
    let answer =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    answer == 0
}

/// Puts the filter in force with a listener. `None`, and no filter, where the kernel has none, or one of its filters has
/// one already, as under some container runtimes: there is one in a process at most.
fn listen(machine: u32, ports: bool) -> Option<OwnedFd> {
    let program = program(machine, libc::SECCOMP_RET_USER_NOTIF, ports);
    // The second flag keeps signals from breaking off a call that hot-spawn has already read (Linux 5.19).
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let listener = install(&program, flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
        .or_else(|_| install(&program, flags))
        .ok()?;
    // SAFETY: with this flag the kernel answers with a new descriptor, which nothing else owns.
    i32::try_from(listener).ok().map(|listener| unsafe { OwnedFd::from_raw_fd(listener) })
}

fn install(program: &[sock_filter], flags: c_ulong) -> Result<c_long, Errno> {
    let len = u16::try_from(program.len()).unwrap_or_default();
    let program = sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions, which live until the call returns, and writes none. What the filter
    // refuses is not needed by this program, and fails with an error where it is asked for.
    let answer =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if answer < 0 {
        // The C library's `errno` always has a number here.
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL));
    }
    Ok(answer)
}

/// One packet of one byte, which is the version of this message, with the listener beside it.
fn hand_over(report: &OwnedFd, listener: &OwnedFd) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let descriptors = [listener.as_fd()];
    // There is room for it.
    beside.push(SendAncillaryMessage::ScmRights(&descriptors));
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    retry_on_intr(|| sendmsg(report, &[IoSlice::new(&[1])], &mut beside, flags)).map(drop)
}
