//! What is known of each host: those that run, and the ends that nobody has heard of yet.

use std::collections::{BTreeMap, HashSet, VecDeque};

use hot_wire::isolation::Held;
use hot_wire::spawn::{Ending, MAX_TAIL};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use crate::bounds::Bounds;
use crate::denied::Denied;
use crate::homes::Home;
use crate::sys::Started;

/// Ends that are kept until `hotd` says that it knows them; the oldest go first.
const MAX_ENDED: usize = 1024;
/// What one turn of the loop reads of one pipe, in bytes: the size of a pipe, so that none starves the others.
const READ_SIZE: usize = 64 * 1024;

/// A host that runs.
#[derive(Debug)]
pub(crate) struct Host {
    /// What `hotd` calls it; opaque.
    pub(crate) label: Vec<u8>,
    pub(crate) process: Started,
    /// The last output that was read here.
    pub(crate) tail: Tail,
    /// Whether the pipe can still bring something.
    pub(crate) output_open: bool,
    /// What it has to itself.
    pub(crate) home: Home,
    /// How it is held.
    pub(crate) held: Held,
    /// What keeps it within its limits.
    pub(crate) bounds: Bounds,
    /// Its refused system calls.
    pub(crate) denied: Denied,
}

impl Host {
    /// Reads what the pipe has, at most [`READ_SIZE`]; says whether there may be more now.
    pub(crate) fn drain(&mut self) -> bool {
        let mut bytes = [0; READ_SIZE];
        match rustix::io::read(&self.process.output, &mut bytes) {
            Ok(0) => self.output_open = false,
            Ok(len) => {
                self.tail.push(&bytes[..len]);
                return true;
            }
            Err(Errno::INTR | Errno::WOULDBLOCK) => {}
            Err(_) => self.output_open = false,
        }
        false
    }

    /// Sends `signal` to the host and all in its group. Its number is its own: it is reaped only by `Hosts::finish`.
    pub(crate) fn signal(&self, signal: Signal) {
        match rustix::process::kill_process_group(self.process.pid, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => crate::log(format_args!("cannot send a signal to a host's group: {error}")),
        }
    }
}

/// A host that ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) id: u64,
    pub(crate) pid: Pid,
    pub(crate) label: Vec<u8>,
    pub(crate) ending: Ending,
    pub(crate) tail: Vec<u8>,
    /// How it was held.
    pub(crate) held: Held,
    /// Refused system calls that nobody was told of.
    pub(crate) denied: Vec<(u32, u64)>,
}

/// All hosts of this process.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    pub(crate) running: BTreeMap<u64, Host>,
    pub(crate) ended: VecDeque<Ended>,
}

impl Hosts {
    /// Whether `id` names a host, running or ended.
    pub(crate) fn contains(&self, id: u64) -> bool {
        self.running.contains_key(&id) || self.ended.iter().any(|ended| ended.id == id)
    }

    /// The processes of the running hosts.
    pub(crate) fn pids(&self) -> HashSet<Pid> {
        self.running.values().map(|host| host.process.pid).collect()
    }

    /// Ends what is left of a host whose pidfd says that it has ended, and moves it to the ended ones. `keep_output`:
    /// nobody else reads the pipe, so its rest is kept here. What it had to itself and what kept it within its limits
    /// are for the caller to take down.
    pub(crate) fn finish(
        &mut self,
        id: u64,
        keep_output: bool,
        told: bool,
    ) -> Option<(&mut Ended, Home, Bounds)> {
        let host = self.running.get(&id)?;
        // Before it is reaped, while its group's number can't be another's.
        host.signal(Signal::KILL);
        let breach = host.bounds.breach();
        let ending = match crate::sys::reap(host.process.pid) {
            Ok(Some(ending)) => Ending { breach, told, ..ending },
            Ok(None) => return None,
            Err(error) => {
                crate::log(format_args!("cannot learn how a host ended: {error}"));
                let cause = hot_wire::spawn::Cause::Killed(0);
                Ending { cause, usage: hot_wire::spawn::Usage::default(), breach, told }
            }
        };
        let mut host = self.running.remove(&id)?;
        // Twice the pipe is more than it can hold, so this ends even if something still writes.
        for _ in 0..32 {
            if !(keep_output && host.drain()) {
                break;
            }
        }
        if self.ended.len() == MAX_ENDED {
            self.ended.pop_front();
        }
        let tail = host.tail.take();
        self.ended.push_back(Ended {
            id,
            pid: host.process.pid,
            label: host.label,
            ending,
            tail,
            held: host.held,
            denied: host.denied.rest(),
        });
        Some((self.ended.back_mut()?, host.home, host.bounds))
    }
}

/// The last [`MAX_TAIL`] bytes of a stream.
#[derive(Debug, Default)]
pub(crate) struct Tail(VecDeque<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(MAX_TAIL)..];
        let excess = (self.0.len() + last.len()).saturating_sub(MAX_TAIL);
        self.0.drain(..excess.min(self.0.len()));
        self.0.extend(last);
    }

    /// The bytes; the tail is empty afterwards, since whoever gets them reads on from here.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_keeps_the_last_bytes_and_no_more() {
        let mut tail = Tail::default();
        tail.push(&vec![b'a'; 3 * MAX_TAIL]);
        tail.push(b"end");
        let bytes = tail.take();
        assert_eq!(bytes.len(), MAX_TAIL);
        assert!(bytes.ends_with(b"aend"));
        assert!(tail.take().is_empty());
    }
}
