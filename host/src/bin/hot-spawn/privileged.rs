//! Every call of this program that needs privileges, and what each relies on. Nothing else needs root.
#![expect(
    unsafe_code,
    reason = "fork, kill of all, getresuid and removing System V objects have no safe interface"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Uid};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{Pid, WaitOptions};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::users::Identity;

/// What users of their own take, by the kernel's names. `CAP_SYS_ADMIN` (to mount) is not among them: without it folders
/// have no bound.
const NEEDED: [(&str, CapabilitySet); 6] = [
    ("CAP_CHOWN", CapabilitySet::CHOWN),
    ("CAP_DAC_OVERRIDE", CapabilitySet::DAC_OVERRIDE),
    ("CAP_KILL", CapabilitySet::KILL),
    ("CAP_SETGID", CapabilitySet::SETGID),
    ("CAP_SETUID", CapabilitySet::SETUID),
    ("CAP_SETPCAP", CapabilitySet::SETPCAP),
];
const NO_CAPABILITIES: CapabilitySets = CapabilitySets {
    effective: CapabilitySet::empty(),
    permitted: CapabilitySet::empty(),
    inheritable: CapabilitySet::empty(),
};

/// The capabilities that this process lacks to give instances users of their own.
pub(crate) fn lacking() -> io::Result<Vec<&'static str>> {
    let own = rustix::thread::capabilities(None)?.effective;
    Ok(NEEDED.iter().filter(|(_, needed)| !own.contains(*needed)).map(|(name, _)| *name).collect())
}

/// In the child, last before exec: becomes `identity` for good, with no other group and no capability.
///
/// Needs `CAP_SETPCAP`, `CAP_SETGID` and `CAP_SETUID`, and therefore goes in this order: the user last, since with it all
/// of them are gone. These are the kernel's own calls, for one thread, which is all that a forked child has; they
/// allocate nothing.
pub(crate) fn become_user(identity: Identity) -> io::Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Past the last one that this kernel knows.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let (user, group) = (Uid::from_raw(identity.user), Gid::from_raw(identity.group));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)?;
    // The kernel has done so, unless somebody set secure bits for us.
    rustix::thread::set_capabilities(None, NO_CAPABILITIES)?;
    if user_ids()? == [identity.user; 3] && rustix::process::getegid() == group {
        Ok(())
    } else {
        Err(Errno::PERM.into())
    }
}

/// The real, effective and saved user of this process.
fn user_ids() -> io::Result<[u32; 3]> {
    let [mut real, mut effective, mut saved] = [0; 3];
    // SAFETY: three places of the type that the call fills in, alive over it.
    let failed = unsafe { libc::getresuid(&raw mut real, &raw mut effective, &raw mut saved) };
    if failed == 0 { Ok([real, effective, saved]) } else { Err(io::Error::last_os_error()) }
}

/// Sends KILL to every process of `user`, all at once: the kernel goes through its whole list while nobody can fork.
///
/// A child does it, as whom the kernel lets it reach these and nobody else. Its real and saved user is `spare`, which no
/// process has, so that nobody of `user` can stop or end the child in turn.
pub(crate) fn kill_all_of(user: u32, spare: u32) -> io::Result<()> {
    // SAFETY: this process has one thread, so the child lacks no thread that holds a lock; and it makes system calls
    // only, allocates nothing, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    if child == 0 {
        let failed = kill_as(user, spare).is_err();
        // SAFETY: asks for nothing, and runs nothing of the parent's that is set up for its exit.
        unsafe { libc::_exit(i32::from(failed)) }
    }
    // It is not stopped, does nothing that waits, and all signals that could interrupt this are blocked.
    let (_, status) = rustix::process::waitpid(Pid::from_raw(child), WaitOptions::empty())?
        .ok_or_else(|| io::Error::from(Errno::CHILD))?;
    match status.exit_status() {
        Some(0) => Ok(()),
        _failed => Err(Errno::PERM.into()),
    }
}

/// In the child of [`kill_all_of`], which does not inherit that its parent runs before all others.
fn kill_as(user: u32, spare: u32) -> io::Result<()> {
    // Without the right to it, it is as fast as the machine lets it.
    crate::sys::run_first().unwrap_or_default();
    let (effective, other) = (Uid::from_raw(user), Uid::from_raw(spare));
    rustix::thread::set_thread_res_uid(other, effective, other)?;
    rustix::thread::set_capabilities(None, NO_CAPABILITIES)?;
    // With the rights of root the next call would end the machine.
    let rights = rustix::thread::capabilities(None)?;
    if user == 0 || spare == 0 || user_ids()? != [spare, user, spare] || !rights.effective.is_empty() {
        return Err(Errno::PERM.into());
    }
    // SAFETY: asks for nothing but numbers. It reaches only whom `user` may signal, as was seen just now.
    let failed = unsafe { libc::kill(-1, libc::SIGKILL) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives a file, folder or pipe to `identity`. Needs `CAP_CHOWN`. By descriptor, so that no name can be changed under it.
pub(crate) fn give(file: impl AsFd, identity: Identity) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(identity.user), Gid::from_raw(identity.group));
    Ok(rustix::fs::fchown(file, Some(user), Some(group))?)
}

/// Gives a socket to a user. Needs `CAP_CHOWN`. It relies on a `path` in a folder where only we may write: a `hotd` that
/// could put a link there would get what it names.
pub(crate) fn give_socket(path: &Path, user: u32) -> io::Result<()> {
    let owner = Some(Uid::from_raw(user));
    Ok(rustix::fs::chownat(rustix::fs::CWD, path, owner, None, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Mounts a file system in memory of `bytes` on a folder, whose root folder is `identity`'s alone. Needs `CAP_SYS_ADMIN`.
/// By descriptor, so that it is this folder and no other, whatever becomes of the names above it.
pub(crate) fn mount_memory(place: impl AsFd, identity: Identity, bytes: u64, files: u64) -> io::Result<()> {
    let Identity { user, group } = identity;
    let options = format!("size={bytes},nr_inodes={files},mode=0700,uid={user},gid={group}");
    let options = CString::new(options)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(rustix::mount::mount("hot-instance", by_descriptor(place), "tmpfs", flags, options.as_c_str())?)
}

/// Unmounts what `root` is the root of, also while it is in use: what uses it keeps it and nobody else finds it. Needs
/// `CAP_SYS_ADMIN`. `false`: nothing is mounted there, or we may not.
pub(crate) fn unmount(root: impl AsFd) -> bool {
    rustix::mount::unmount(by_descriptor(root), UnmountFlags::DETACH).is_ok()
}

/// A name for what a descriptor has open: `/proc` is the kernel's, and nobody puts anything in the place of this.
fn by_descriptor(file: impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

/// The kinds of objects of System V, by the names of their lists in `/proc/sysvipc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SystemV {
    /// Shared memory.
    Memory,
    /// Message queues.
    Queue,
    /// Semaphores.
    Semaphores,
}

/// Removes one. Needs `CAP_SYS_ADMIN`, as it is not ours; `CAP_IPC_OWNER` is not enough.
pub(crate) fn remove_system_v(kind: SystemV, id: i32) -> io::Result<()> {
    let failed = match kind {
        // SAFETY: `IPC_RMID` reads no argument, for which null stands; the rest are numbers.
        SystemV::Memory => unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) },
        // SAFETY: the same.
        SystemV::Queue => unsafe { libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()) },
        // SAFETY: the same; it is the set that is removed, whatever the number of the semaphore.
        SystemV::Semaphores => unsafe { libc::semctl(id, 0, libc::IPC_RMID) },
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
