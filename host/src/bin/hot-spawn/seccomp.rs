//! The listener of a seccomp filter: who made which refused call, and the answer to it.
#![expect(unsafe_code, reason = "the kernel speaks to a listener by ioctl, which has no safe interface")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};

/// What the kernel says of a descriptor that is such a listener, and of no other: whatever has a path begins with `/`.
const LINK: &str = "anon_inode:seccomp notify";
/// 64-bit words of `struct seccomp_notif` and of `struct seccomp_notif_resp`, as the numbers of the requests have it in
/// them: `_IOWR('!', 0, struct seccomp_notif)` and `_IOWR('!', 1, struct seccomp_notif_resp)`.
const NOTIFICATION: usize = size_of::<libc::seccomp_notif>() / 8;
const ANSWER: usize = size_of::<libc::seccomp_notif_resp>() / 8;

/// A filter's listener.
#[derive(Debug)]
pub(crate) struct Listener {
    fd: OwnedFd,
    /// Zeroed before each use, and at least as long as the kernel may write.
    notification: Vec<u64>,
    answer: Vec<u64>,
}

impl Listener {
    /// `None` if `fd` is something else, on which a request could do anything.
    pub(crate) fn new(fd: OwnedFd) -> Option<Self> {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
        if link.as_os_str() != LINK {
            return None;
        }
        let (notification, answer) = sizes().ok()?;
        Some(Self {
            fd,
            notification: vec![0; notification.div_ceil(8).max(NOTIFICATION)],
            answer: vec![0; answer.div_ceil(8).max(ANSWER)],
        })
    }

    /// Answers one call that waits with `EPERM` and returns its number; `None`: none waits.
    pub(crate) fn refuse_one(&mut self) -> io::Result<Option<u32>> {
        // Without one that waits the next request would block.
        let mut set = [PollFd::new(&self.fd, PollFlags::IN)];
        rustix::event::poll(&mut set, Some(&Timespec::default()))?;
        let [entry] = set;
        if !entry.revents().contains(PollFlags::IN) {
            let over = entry.revents().intersects(PollFlags::HUP | PollFlags::ERR);
            return if over { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(None) };
        }
        self.notification.fill(0);
        // SAFETY: the descriptor is a seccomp listener, which `new` made sure of. The request writes one notification of
        // the size that the kernel told, and `notification` is zeroed as the request asks, as long as that, and aligned
        // to 8 bytes as the struct is.
        let received = unsafe {
            libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, self.notification.as_mut_ptr())
        };
        if received != 0 {
            return gone(io::Error::last_os_error());
        }
        // struct seccomp_notif: u64 id; u32 pid, flags; then struct seccomp_data, which begins with the call's number.
        let [id, _, data, ..] = self.notification[..] else { return Ok(None) };
        let [a, b, c, d, ..] = data.to_ne_bytes();
        let call = u32::from_ne_bytes([a, b, c, d]);
        // struct seccomp_notif_resp: u64 id; s64 val; s32 error; u32 flags.
        self.answer.fill(0);
        let [e, f, g, h] = (-libc::EPERM).to_ne_bytes();
        self.answer[0] = id;
        self.answer[2] = u64::from_ne_bytes([e, f, g, h, 0, 0, 0, 0]);
        // SAFETY: as above; the request reads one answer, which `answer` has room for and which is initialised.
        let sent = unsafe {
            libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, self.answer.as_mut_ptr())
        };
        // Who was killed while it waited needs no answer.
        if sent == 0 { Ok(Some(call)) } else { gone(io::Error::last_os_error()) }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A caller that ended between two requests is no failure.
fn gone(error: io::Error) -> io::Result<Option<u32>> {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::EINTR | libc::EINPROGRESS) => Ok(None),
        _ => Err(error),
    }
}

/// The sizes of a notification and of an answer, in bytes, of the running kernel.
fn sizes() -> io::Result<(usize, usize)> {
    let mut sizes = libc::seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
    // SAFETY: this operation has no flags and writes the struct at the place that it is given, alive over the call.
    let failed =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0, &raw mut sizes) };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((usize::from(sizes.seccomp_notif), usize::from(sizes.seccomp_notif_resp)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_else_is_taken_for_a_listener() {
        let (pipe, _other) = rustix::pipe::pipe().unwrap();
        assert!(Listener::new(pipe).is_none());
        let named = rustix::fs::memfd_create(LINK, rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        assert!(Listener::new(named).is_none());
    }
}
