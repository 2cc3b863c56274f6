//! What is left of a user when its host has ended, besides its folder.
//!
//! Covered: processes, also those that left their session; System V shared memory, queues and semaphores; what lies in
//! the folders that everybody may write in ([`SHARED`]). Not covered: files elsewhere, which take a folder that the
//! operator made writable for it.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::privileged::{self, SystemV};
use crate::{log, removal};

/// Where every user may write on a usual system: POSIX shared memory, POSIX queues, temporary files.
const SHARED: [&str; 4] = ["/dev/shm", "/dev/mqueue", "/tmp", "/var/tmp"];
/// Entries of each that are looked at: this process has one thread, which others wait for.
const MOST: usize = 10_000;

/// Whether any process has this user, also one that has ended and is not reaped.
///
/// The kernel says so in one call that looks at all processes: asked for the priority of a user's processes, it knows of
/// none exactly if there is none.
pub(crate) fn lives(user: u32) -> bool {
    rustix::process::getpriority_user(Uid::from_raw(user)) != Err(Errno::SRCH)
}

/// The users that have processes.
pub(crate) fn living() -> BTreeSet<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeSet::new() };
    let processes = entries.flatten().filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    });
    processes.filter_map(|entry| Some(entry.metadata().ok()?.uid())).collect()
}

/// Removes what a user without processes left. What can't be removed is logged.
pub(crate) fn clear(user: u32) {
    for (kind, list) in [(SystemV::Memory, "shm"), (SystemV::Queue, "msg"), (SystemV::Semaphores, "sem")] {
        // A kernel without them has no list.
        let text = std::fs::read_to_string(format!("/proc/sysvipc/{list}")).unwrap_or_default();
        for id in owned(&text, user) {
            if let Err(error) = privileged::remove_system_v(kind, id) {
                log(format_args!("cannot remove {list} {id} of System V, which user {user} left: {error}"));
            }
        }
    }
    for path in SHARED {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(folder) = rustix::fs::open(path, flags, Mode::empty()) else { continue };
        for name in files(&folder, user) {
            if let Err(error) = removal::remove(&folder, &name) {
                let name = name.to_string_lossy();
                log(format_args!("cannot remove {path}/{name}, which user {user} left: {error}"));
            }
        }
    }
}

/// The objects that a user owns or made, in a list of `/proc/sysvipc`. Its first line names the columns, of which the
/// second is the number.
fn owned(list: &str, user: u32) -> Vec<i32> {
    let mut lines = list.lines().map(|line| line.split_ascii_whitespace());
    let Some(head) = lines.next() else { return Vec::new() };
    let owners: Vec<_> =
        head.enumerate().filter(|(_, name)| ["uid", "cuid"].contains(name)).map(|(at, _)| at).collect();
    let user = user.to_string();
    lines
        .map(Iterator::collect::<Vec<_>>)
        .filter(|fields| owners.iter().any(|at| fields.get(*at) == Some(&user.as_str())))
        .filter_map(|fields| fields.get(1)?.parse().ok())
        .collect()
}

/// The entries of a folder that belong to a user.
fn files(folder: &OwnedFd, user: u32) -> Vec<CString> {
    let Ok(entries) = Dir::read_from(folder) else { return Vec::new() };
    let names = entries.filter_map(Result::ok).take(MOST).map(|entry| entry.file_name().to_owned());
    names
        .filter(|name| ![c".", c".."].contains(&name.as_c_str()))
        .filter(|name| {
            rustix::fs::statat(folder, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|found| found.st_uid == user)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_found_by_the_names_of_the_columns() {
        let memory = "\
       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime
         0          3  1600                  4096   100   101      1  1900  1900  1900  1900          0
         0          4  1600                  4096   100   101      1     0  1900     0  1900          0
      1900          5  1600                  4096  1900   101      1     0     0  1900     0          0
";
        assert_eq!(owned(memory, 1900), [3, 5]);
        let queues = "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid\n\
                      0 7 600 0 0 0 0 1900 0 0 0\n";
        assert_eq!(owned(queues, 1900), [7]);
        assert!(owned("", 1900).is_empty());
    }

    #[test]
    fn a_user_lives_while_a_process_has_it() {
        assert!(lives(rustix::process::getuid().as_raw()));
        // In no range that anybody gives users from, and not in ours.
        assert!(!lives(2_000_000_123));
    }
}
