//! What hosts leave behind. As a subreaper this process becomes the parent of every descendant whose own parent ended.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::sys;

/// The least time between two looks for orphans: a module can have some end thousands of times a second, and this process
/// runs before all others.
const PAUSE: Duration = Duration::from_millis(10);
/// How many times longer the pause is than the look before it, where there are many to look at.
const PAUSES: u32 = 10;
/// The longest pause; signals wait for it.
const LONGEST: Duration = Duration::from_millis(200);

/// When to look for orphans.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    wanted: bool,
    not_before: Option<Instant>,
}

impl Looks {
    /// Something has ended, or is to end.
    pub(crate) fn want(&mut self) {
        self.wanted = true;
    }

    /// Something has ended since the last look.
    pub(crate) fn wanted(&self) -> bool {
        self.wanted
    }

    /// When to look next.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.wanted.then(|| self.not_before.unwrap_or_else(Instant::now))
    }

    /// Whether to look now.
    pub(crate) fn are_due(&self, now: Instant) -> bool {
        self.wanted && self.not_before.is_none_or(|at| at <= now)
    }

    /// A look that began at `began` is over.
    pub(crate) fn looked(&mut self, began: Instant, now: Instant) {
        let pause = (now.saturating_duration_since(began) * PAUSES).clamp(PAUSE, LONGEST);
        *self = Self { wanted: false, not_before: Some(now + pause) };
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
        let of_running_host = sys::session_of(Some(pid)).is_some_and(|session| hosts.contains(&session));
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
        assert!(looks.are_due(start), "the first end is looked at at once");
        looks.looked(start, start);
        assert!(!looks.are_due(start + PAUSE), "nothing has ended since");
        looks.want();
        looks.want();
        assert!(!looks.are_due(start + PAUSE / 2));
        assert_eq!(looks.due(), Some(start + PAUSE));
        assert!(looks.are_due(start + PAUSE));
    }

    #[test]
    fn the_more_a_look_costs_the_rarer_it_is() {
        let ms = Duration::from_millis;
        let start = Instant::now();
        for (took, pause) in [(0, 10), (1, 10), (5, 50), (20, 200), (1000, 200)] {
            let mut looks = Looks::default();
            looks.looked(start, start + ms(took));
            looks.want();
            assert_eq!(looks.due(), Some(start + ms(took + pause)), "{took} ms");
        }
    }
}
