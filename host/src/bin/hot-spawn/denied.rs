//! The system calls of a host that its seccomp filter refuses: answered, counted and told.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use hot_wire::spawn::MAX_DENIED;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags};

use crate::log;
use crate::seccomp::Listener;

/// The only packet that a host may send here, with its listener beside it.
const PACKET: [u8; 1] = [1];
/// Calls of one host that are answered in one turn of the loop: below a millisecond, so that others get theirs.
const PER_TURN: u32 = 64;
/// What may be answered of one host in one slot is 5,000 a second: some hundredths of a core. Who makes more waits for the
/// next slot in its call.
const SLOT: Duration = Duration::from_millis(10);
const PER_SLOT: u32 = 50;
/// Between two messages about one host.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// Where a host's refused calls come from.
#[derive(Debug)]
enum Origin {
    /// The socket on which it sends its listener, once.
    Report(OwnedFd),
    Listener(Listener),
    /// It has none, or had one and sent something else.
    Nothing,
}

/// The refused calls of one host.
#[derive(Debug)]
pub(crate) struct Denied {
    origin: Origin,
    /// By the call's number, since it was last told.
    calls: BTreeMap<u32, u64>,
    pace: Pace,
    tell_at: Instant,
    /// The `hotd` that is there has not asked for the list, so it does not know the host.
    unlisted: bool,
}

impl Denied {
    /// `report` is our end of the host's socket.
    pub(crate) fn new(report: OwnedFd, now: Instant) -> Self {
        Self {
            origin: Origin::Report(report),
            calls: BTreeMap::new(),
            pace: Pace { slot: now, answered: 0 },
            tell_at: now,
            unlisted: false,
        }
    }

    /// What to poll for reading now.
    pub(crate) fn source(&self, now: Instant) -> Option<BorrowedFd<'_>> {
        match &self.origin {
            Origin::Report(socket) => Some(socket.as_fd()),
            Origin::Listener(listener) => self.pace.resumes(now).is_none().then(|| listener.as_fd()),
            Origin::Nothing => None,
        }
    }

    /// When there is something to poll again, if there isn't now.
    pub(crate) fn resumes(&self, now: Instant) -> Option<Instant> {
        matches!(self.origin, Origin::Listener(_)).then(|| self.pace.resumes(now)).flatten()
    }

    /// Its source is readable.
    pub(crate) fn ready(&mut self, now: Instant) {
        match &mut self.origin {
            Origin::Report(socket) => match take_listener(socket.as_fd()) {
                Ok(None) => {}
                Ok(Some(listener)) => self.origin = Origin::Listener(listener),
                Err(Unusable::Closed) => self.origin = Origin::Nothing,
                Err(Unusable::Other) => {
                    log(format_args!(
                        "a host sent something else than its seccomp listener: its refused calls are not counted"
                    ));
                    self.origin = Origin::Nothing;
                }
            },
            Origin::Listener(listener) => {
                for _ in 0..PER_TURN {
                    if !self.pace.allows(now) {
                        break;
                    }
                    match listener.refuse_one() {
                        Ok(Some(call)) => count(&mut self.calls, call),
                        Ok(None) => break,
                        // All that had the filter have ended.
                        Err(_) => {
                            self.origin = Origin::Nothing;
                            break;
                        }
                    }
                }
            }
            Origin::Nothing => {}
        }
    }

    /// When the counts are to be told; `None`: there is nothing to tell.
    pub(crate) fn due(&self) -> Option<Instant> {
        (!self.calls.is_empty() && !self.unlisted).then_some(self.tell_at)
    }

    /// What is to be told now; it is taken for told.
    pub(crate) fn tell(&mut self, now: Instant) -> Vec<(u32, u64)> {
        self.tell_at = now + TELL_EVERY;
        self.rest()
    }

    /// All that was not told.
    pub(crate) fn rest(&mut self) -> Vec<(u32, u64)> {
        std::mem::take(&mut self.calls).into_iter().collect()
    }

    /// From now on it is kept until the next `hotd` has asked for the list.
    pub(crate) fn hold_back(&mut self) {
        self.unlisted = true;
    }

    /// The `hotd` that is there knows this host.
    pub(crate) fn listed(&mut self) {
        self.unlisted = false;
    }
}

fn count(calls: &mut BTreeMap<u32, u64>, call: u32) {
    // There are fewer calls than this on every machine; a filter that refuses numbers that are none must not fill memory.
    if calls.len() < MAX_DENIED || calls.contains_key(&call) {
        let times = calls.entry(call).or_default();
        *times = times.saturating_add(1);
    }
}

/// How many calls are answered in the slot that runs.
#[derive(Debug)]
struct Pace {
    slot: Instant,
    answered: u32,
}

impl Pace {
    /// Whether one more is answered now.
    fn allows(&mut self, now: Instant) -> bool {
        if now >= self.slot + SLOT {
            *self = Self { slot: now, answered: 0 };
        }
        let room = self.answered < PER_SLOT;
        self.answered += u32::from(room);
        room
    }

    /// When the next slot begins, if this one is full.
    fn resumes(&self, now: Instant) -> Option<Instant> {
        let end = self.slot + SLOT;
        (self.answered >= PER_SLOT && now < end).then_some(end)
    }
}

/// Why no listener comes any more.
#[derive(Debug)]
enum Unusable {
    Closed,
    Other,
}

/// Reads the packet; `None`: it is not there yet.
fn take_listener(socket: BorrowedFd<'_>) -> Result<Option<Listener>, Unusable> {
    // One more byte and more descriptors than there may be, so that too many are seen.
    let mut bytes = [0; PACKET.len() + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = match rustix::net::recvmsg(socket, &mut parts, &mut control, flags) {
        Ok(received) => received,
        Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
        Err(_) => return Err(Unusable::Closed),
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    if received.bytes == 0 && descriptors.is_empty() {
        return Err(Unusable::Closed);
    }
    let whole = !received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    if !whole || bytes[..received.bytes] != PACKET || descriptors.len() != 1 {
        return Err(Unusable::Other);
    }
    descriptors.pop().and_then(Listener::new).map(Some).ok_or(Unusable::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_makes_too_many_calls_waits_for_the_next_slot() {
        let start = Instant::now();
        let mut pace = Pace { slot: start, answered: 0 };
        assert!((0..PER_SLOT).all(|_| pace.allows(start)));
        let later = start + SLOT / 2;
        assert!(!pace.allows(later));
        assert_eq!(pace.resumes(later), Some(start + SLOT));
        assert_eq!(pace.resumes(start + SLOT), None);
        assert!(pace.allows(start + SLOT));
    }

    #[test]
    fn counts_are_bounded() {
        let mut calls = BTreeMap::new();
        for call in (0..2000).chain(0..10) {
            count(&mut calls, call);
        }
        assert_eq!(calls.len(), MAX_DENIED);
        assert_eq!((calls[&0], calls[&10]), (2, 1));
    }
}
