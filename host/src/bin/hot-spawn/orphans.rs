//! What hosts leave behind. As a subreaper this process becomes the parent of every descendant whose own parent ended.

use std::collections::HashSet;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

/// Reaps children that ended and kills those that belong to no running host; returns how many are left to end.
///
/// `hosts` are the running hosts. An orphan in the session of one of them stays: its host may be using it. One that
/// has left its host's session is nobody's and is killed like those of a host that has ended. What a killed one leaves
/// behind becomes our child in turn, and its end calls here again.
pub(crate) fn sweep(hosts: &HashSet<Pid>) -> usize {
    let mut dying = 0;
    for pid in children() {
        if hosts.contains(&pid) {
            continue;
        }
        // A child's number stays its own until it is reaped, which only happens here and for hosts.
        match rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => continue,
        }
        let of_running_host =
            rustix::process::getsid(Some(pid)).is_ok_and(|session| hosts.contains(&session));
        if of_running_host {
            continue;
        }
        dying += 1;
        if let Err(error) = rustix::process::kill_process(pid, Signal::KILL) {
            crate::log(format_args!(
                "cannot kill process {pid}, which a host left behind: {error}",
                pid = pid.as_raw_nonzero()
            ));
        }
    }
    dying
}

/// All children of this process, which has one thread.
fn children() -> Vec<Pid> {
    let list = match std::fs::read_to_string("/proc/thread-self/children") {
        Ok(list) => list,
        Err(error) => {
            crate::log(format_args!("cannot read which processes hosts left behind: {error}"));
            return Vec::new();
        }
    };
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok().and_then(Pid::from_raw)).collect()
}
