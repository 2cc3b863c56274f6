//! One data stream to a gateway thread: its frames in, its frames out, and the exchanges that it carries.
//!
//! It does not run handlers: the [engine](crate::engine) reads through [`Link::receive`] and decides who runs what.
//!
//! Who sends never waits for the socket. What it does not take is left to one of two who may: the thread that reads, or,
//! since that one may be asleep in a read, a job of the pool that [drains](Link::drain) the link.

use crate::exchange::Exchange;
use bytes::BufMut;
use foldhash::fast::RandomState;
use hot_wire::data::{Decoder, Frame, FrameError, FromGateway};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use thiserror::Error;

/// Bytes that wait for the socket at which a write of a body waits too. Enough for the socket never to run dry. What is
/// taken above it (heads, whole answers, ends) is bounded by the credit of each exchange that the gateway has open.
const HIGH_WATER: usize = 1024 * 1024;

/// Bytes that are sent even within a batch: more would not make the write cheaper, but the buffer larger.
const WORTH_A_WRITE: usize = 128 * 1024;

/// Why a link ended.
#[derive(Debug, Error)]
pub(crate) enum LinkError {
    /// The gateway closed it, as it does when it takes the host out.
    #[error("the gateway closed the link")]
    Closed,
    /// Reading failed.
    #[error("reading the link failed")]
    Read(#[source] Errno),
    /// What came is no frame, or not one that may come.
    #[error("the gateway sent what is no frame")]
    Frame(#[source] FrameError),
    /// A request with the number of an exchange that is open.
    #[error("the gateway used the number {0} for two exchanges at once")]
    Twice(u64),
}

impl Out {
    fn is_full(&self) -> bool {
        self.buffer.len() + self.sending >= HIGH_WATER
    }
}

/// A link.
#[derive(Debug)]
pub(crate) struct Link {
    number: u64,
    socket: OwnedFd,
    /// Only the thread that has the turn reads, so this lock is never waited for.
    decoder: Mutex<Decoder<FromGateway>>,
    out: Mutex<Out>,
    /// hotd chooses the numbers, and no stranger: they need no hash that withstands one.
    open: Mutex<HashMap<u64, Arc<Exchange>, RandomState>>,
    dead: AtomicBool,
}

#[derive(Debug, Default)]
struct Out {
    buffer: Vec<u8>,
    /// Bytes that a thread has taken from `buffer` and is sending.
    sending: usize,
    /// An emptied buffer, kept for its memory.
    spare: Vec<u8>,
    is_flushing: bool,
    /// Whether somebody was told to see to a [`Link::drain`] that has not begun.
    has_drain_ahead: bool,
    /// Exchanges of which a call or a notice waits for room.
    awaiting: HashSet<u64>,
}

impl Link {
    /// A link over a stream socket, which may be blocking or not.
    pub(crate) fn new(number: u64, socket: OwnedFd) -> Self {
        Self {
            number,
            socket,
            decoder: Mutex::default(),
            out: Mutex::default(),
            open: Mutex::default(),
            dead: AtomicBool::new(false),
        }
    }

    /// The number that hotd gave it.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// Waits for bytes, sending meanwhile what waits for the socket, and hands every whole frame to `each`, with the time
    /// at which those bytes were read: one for all, and none of the wait is counted as theirs.
    pub(crate) fn receive(
        &self,
        mut each: impl FnMut(Frame<FromGateway>, Instant) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        let mut decoder = lock(&self.decoder);
        let buffer = decoder.read_buf();
        let read = loop {
            // SAFETY: the uninitialised bytes are only handed to the kernel, to be written to.
            let spare = unsafe { buffer.chunk_mut().as_uninit_slice_mut() };
            match recv(&self.socket, spare, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err(LinkError::Closed),
                Ok((_, read)) => break read,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait_readable(),
                Err(error) => return Err(LinkError::Read(error)),
            }
        };
        let came = Instant::now();
        // SAFETY: `recv` wrote the first `read` bytes of the spare room, which are no more than it was given.
        unsafe { buffer.advance_mut(read) };
        while let Some(frame) = decoder.next_frame().map_err(LinkError::Frame)? {
            each(frame, came)?;
        }
        Ok(())
    }

    /// Waits until something can be read, sending meanwhile what waits for the socket. By `poll` and not in `recv`: whenever
    /// the gateway takes what we sent, the kernel says that there is room, and that wakes a `recv` in vain, which costs two
    /// switches for each answer. A `poll` that did not ask for room sleeps on.
    fn wait_readable(&self) {
        loop {
            let unsent = self.has_unsent();
            let flags = if unsent { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            let mut fds = [PollFd::new(&self.socket, flags)];
            if poll(&mut fds, None).is_err() {
                continue;
            }
            let ready = fds[0].revents();
            if ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
                return;
            }
            self.flush_some();
        }
    }

    /// Appends frames for the gateway; they are sent at the next flush. On a dead link nothing is kept.
    pub(crate) fn append<T>(&self, encode: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut out = lock(&self.out);
        let result = encode(&mut out.buffer);
        if self.is_dead() {
            out.buffer.clear();
        }
        result
    }

    /// Whether so much waits for the socket that a body should wait as well; the exchange is told then when it is no
    /// longer so. May be called under the exchange's lock.
    pub(crate) fn await_room(&self, exchange: u64) -> bool {
        let mut out = lock(&self.out);
        let is_full = out.is_full() && !self.is_dead();
        if is_full {
            out.awaiting.insert(exchange);
        }
        is_full
    }

    /// Whether enough waits for a write of its own.
    pub(crate) fn has_much_to_send(&self) -> bool {
        lock(&self.out).buffer.len() >= WORTH_A_WRITE
    }

    /// Sends what the socket takes now, or leaves it to the thread that is just sending. True if something stays that
    /// nobody sees to: then the caller has a thread [drain](Self::drain) the link.
    #[must_use]
    pub(crate) fn send_now(&self) -> bool {
        let sent_all = self.flush(|_| false);
        !sent_all && !std::mem::replace(&mut lock(&self.out).has_drain_ahead, true)
    }

    /// Sends what the socket takes now; for the thread that reads, which [goes on](Self::receive) with what stays.
    pub(crate) fn flush_some(&self) {
        self.flush(|_| false);
    }

    /// Sends all that waits, waiting for the socket, or leaves it to the thread that is just sending.
    pub(crate) fn drain(&self) {
        // From here on who can't go on needs another drain: this one may find that it has nothing to do.
        lock(&self.out).has_drain_ahead = false;
        self.flush(|link| {
            let mut fds = [PollFd::new(&link.socket, PollFlags::OUT)];
            // Whatever it says, room or an error: the next send tells.
            poll(&mut fds, None).ok();
            true
        });
    }

    /// One thread sends at a time, and goes on until nothing waits, so bytes that are appended meanwhile go along. False
    /// if the socket is full and `wait` did not want to wait for it.
    fn flush(&self, wait: impl Fn(&Self) -> bool) -> bool {
        let mut out = lock(&self.out);
        while !out.is_flushing && !out.buffer.is_empty() {
            let spare = std::mem::take(&mut out.spare);
            let mut taken = std::mem::replace(&mut out.buffer, spare);
            out.sending = taken.len();
            out.is_flushing = true;
            drop(out);

            let sent_all = self.send(&mut taken, &wait);

            out = lock(&self.out);
            out.is_flushing = false;
            out.sending = 0;
            if !sent_all {
                // In front of what was appended meanwhile.
                taken.extend_from_slice(&out.buffer);
                out.buffer = taken;
                drop(self.tell_room(out));
                return false;
            }
            taken.clear();
            if taken.capacity() <= HIGH_WATER {
                out.spare = taken;
            }
            out = self.tell_room(out);
        }
        true
    }

    /// Sends `bytes`, taking what was sent off their front; whether all of them are gone (or nobody will have them).
    fn send(&self, bytes: &mut Vec<u8>, wait: impl Fn(&Self) -> bool) -> bool {
        let mut sent = 0;
        while sent < bytes.len() {
            match send(&self.socket, &bytes[sent..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(more) => sent += more,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !wait(self) {
                        bytes.drain(..sent);
                        return false;
                    }
                }
                Err(_gone) => {
                    self.kill();
                    return true;
                }
            }
        }
        true
    }

    /// Tells who waits for room, without the lock: notices are fired by it.
    fn tell_room<'a>(&'a self, mut out: MutexGuard<'a, Out>) -> MutexGuard<'a, Out> {
        if out.awaiting.is_empty() || (out.is_full() && !self.is_dead()) {
            return out;
        }
        let awaiting = std::mem::take(&mut out.awaiting);
        drop(out);
        awaiting.into_iter().filter_map(|number| self.find(number)).for_each(|exchange| exchange.room_came());
        lock(&self.out)
    }

    /// Whether something waits for this thread to send it.
    fn has_unsent(&self) -> bool {
        let out = lock(&self.out);
        !out.buffer.is_empty() && !out.is_flushing
    }

    /// Whether the gateway's socket has all that was appended, or nobody will read it.
    pub(crate) fn has_sent_all(&self) -> bool {
        if self.is_dead() {
            return true;
        }
        let has_rest = lock(&self.open).values().any(|exchange| exchange.has_rest());
        let out = lock(&self.out);
        !has_rest && out.buffer.is_empty() && !out.is_flushing
    }

    /// Remembers an exchange for the frames that follow its request.
    pub(crate) fn open(&self, exchange: &Arc<Exchange>) -> Result<(), LinkError> {
        match lock(&self.open).insert(exchange.number(), Arc::clone(exchange)) {
            None => Ok(()),
            Some(_) => Err(LinkError::Twice(exchange.number())),
        }
    }

    /// The open exchange of that number. One that has ended is no mistake: frames cross on the way.
    pub(crate) fn find(&self, number: u64) -> Option<Arc<Exchange>> {
        lock(&self.open).get(&number).cloned()
    }

    /// Forgets an exchange that has ended or was given up.
    pub(crate) fn forget(&self, number: u64) {
        let forgotten = lock(&self.open).remove(&number);
        drop(forgotten);
    }

    /// Ends the link: whoever waits on it goes on, and its exchanges are cancelled.
    pub(crate) fn end(&self) {
        self.kill();
        let open = std::mem::take(&mut *lock(&self.open));
        for exchange in open.into_values() {
            exchange.cancel();
        }
    }

    fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
        // Wakes the thread that reads or polls. It fails only if the connection is gone already.
        shutdown(&self.socket, Shutdown::Both).ok();
        let mut out = lock(&self.out);
        out.buffer.clear();
        drop(self.tell_room(out));
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
