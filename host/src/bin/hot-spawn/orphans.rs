//! What hosts leave behind. As a subreaper this process becomes the parent of every descendant whose own parent ended.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

/// The least time between two looks for orphans: a module can have some end thousands of times a second, and this process
/// runs before all others.
const PAUSE: Duration = Duration::from_millis(10);

/// When to look for orphans.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    last: Option<Instant>,
    wanted: bool,
}

impl Looks {
    /// A child has ended, or several have.
    pub(crate) fn want(&mut self) {
        self.wanted = true;
    }

    /// When to look next.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.wanted.then(|| self.last.map_or_else(Instant::now, |last| last + PAUSE))
    }

    /// Whether to look now; then that is done.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let due = self.wanted && self.last.is_none_or(|last| now >= last + PAUSE);
        if due {
            *self = Self { last: Some(now), wanted: false };
        }
        due
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_ends_are_one_look_and_none_is_missed() {
        let (mut looks, start) = (Looks::default(), Instant::now());
        assert_eq!(looks.due(), None);
        looks.want();
        assert!(looks.take(start), "the first end is looked at at once");
        assert!(!looks.take(start + PAUSE), "nothing has ended since");
        looks.want();
        looks.want();
        assert!(!looks.take(start + PAUSE / 2));
        assert_eq!(looks.due(), Some(start + PAUSE));
        assert!(looks.take(start + PAUSE));
        assert_eq!(looks.due(), None);
    }
}
