//! One data stream to one host: the queue of what goes out, and the exchanges under way.
//!
//! A link lives on one thread. Whoever sends appends to its queue and wakes its task, which runs after all that is
//! ready in this turn of the executor and writes the queue with one system call. The same task reads, and wakes the
//! exchanges that something came for.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use hot_wire::data::{self, CancelReason, Frame, FrameError, FromHost, HeadError, RequestHead};
use http::HeaderMap;
use slab::Slab;
use thiserror::Error;

use super::entry::{Entry, Failure, Start, Violation, reason_to_cancel};
use super::exchange::{Exchange, Kept};
use super::load::Load;
use super::outbox::Outbox;
use super::spares::Spares;
use crate::gateway::counters::{Outcome, Recorder};
use crate::gateway::request::Progress;
use crate::gateway::routing::Gate;
use crate::supervisor::InstanceId;

/// Queued bytes from which bodies wait: some turns of the executor at full speed.
const BODIES_WAIT_ABOVE: usize = 1024 * 1024;

/// Queued bytes from which the host counts as not ready: it has stopped reading, and heads must not pile up.
const FULL_ABOVE: usize = 4 * 1024 * 1024;

/// Why a link ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkEnd {
    /// The host closed it: its process ended, or it replaced the link.
    #[error("the host closed the link")]
    Closed,
    /// The stream failed.
    #[error("the link failed: {0}")]
    Io(io::ErrorKind),
    /// The host sent what is no frame.
    #[error("the host broke the protocol: {0}")]
    Malformed(#[from] FrameError),
    /// The host sent frames that no exchange allows.
    #[error("the host broke the protocol: {0}")]
    Violation(&'static str),
    /// It was detached, or another link took its place.
    #[error("the instance was detached")]
    Detached,
}

impl LinkEnd {
    /// Whether the host is to blame rather than dead or dismissed.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        matches!(self, Self::Malformed(_) | Self::Violation(_))
    }
}

/// One look at the exchanges of a link.
#[derive(Debug, Clone, Copy)]
pub(in crate::gateway) struct Look {
    pub(in crate::gateway) now: Instant,
    /// Since the last look.
    pub(in crate::gateway) passed: Duration,
    /// How long a client may take over a piece.
    pub(in crate::gateway) stall: Duration,
    /// Nothing new goes to this instance, so its streams are asked to end by then.
    pub(in crate::gateway) streams_end_by: Option<Instant>,
}

/// A link, as those on its thread share it.
#[derive(Debug)]
pub(in crate::gateway) struct Link {
    instance: InstanceId,
    recorder: Arc<Recorder>,
    state: RefCell<State>,
    /// The exchanges of this thread, whichever link they are on.
    load: Rc<Load>,
    /// The host understands deadlines that move.
    tells_deadlines: bool,
}

#[derive(Debug, Default)]
struct State {
    exchanges: Slab<Entry>,
    /// Slots that were ever in use: a frame for another one is forged.
    slots: usize,
    generation: u32,
    out: Outbox,
    /// For the heads of responses.
    spares: Spares,
    task: Option<Waker>,
    /// The task was woken and has not run since.
    woken: bool,
    /// Exchanges whose senders wait for the queue to shrink, each once.
    wait_for_room: Vec<u64>,
    end: Option<LinkEnd>,
    gate: Option<Arc<Gate>>,
}

impl Link {
    pub(in crate::gateway) fn new(
        instance: InstanceId,
        recorder: Arc<Recorder>,
        load: Rc<Load>,
        tells_deadlines: bool,
    ) -> Rc<Self> {
        Rc::new(Self { instance, recorder, state: RefCell::default(), load, tells_deadlines })
    }

    pub(in crate::gateway) fn instance(&self) -> InstanceId {
        self.instance
    }

    pub(in crate::gateway) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Whether its host understands deadlines that move, streams without one, and windows that are asked for.
    pub(in crate::gateway) fn tells_deadlines(&self) -> bool {
        self.tells_deadlines
    }

    /// What the host is asked to have under way of one more response.
    pub(in crate::gateway) fn window(&self) -> u32 {
        if self.tells_deadlines { self.load.window() } else { data::INITIAL_WINDOW }
    }

    /// What each exchange of the thread may hold now.
    pub(in crate::gateway) fn share(&self) -> u32 {
        self.load.window()
    }

    /// Whether it can take requests.
    pub(in crate::gateway) fn is_ready(&self) -> bool {
        let state = self.state.borrow();
        state.end.is_none() && state.out.len() < FULL_ABOVE
    }

    /// Queues a request and opens its exchange. Gives the request as it was sent as well, to send it once more. On an
    /// error nothing was queued.
    pub(in crate::gateway) fn send<'f>(
        self: &Rc<Self>,
        start: Start,
        head: &RequestHead<'_>,
        fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
        gate: &Arc<Gate>,
    ) -> Result<(Exchange, Kept), HeadError> {
        let state = &mut *self.state.borrow_mut();
        let queued_at = state.out.next_place();
        state.generation = state.generation.wrapping_add(1);
        let slot = state.exchanges.vacant_entry();
        let key = slot.key();
        let id = u64::from(state.generation) << 32 | key as u64;
        let out = state.out.end();
        let begin = out.len();
        data::request(out, id, head, fields, &[], start.request_ended)?;
        let kept = Kept::new(&out[begin..]);
        let entry = slot.insert(Entry::new(start, state.generation, queued_at));
        if state.end.is_some() {
            entry.fail(Failure::Lost(Progress::Unsent));
        }
        state.slots = state.slots.max(key + 1);
        if state.gate.is_none() {
            state.gate = Some(Arc::clone(gate));
        }
        self.recorder.begun();
        self.load.began();
        state.wake_task();
        Ok((Exchange::new(Rc::clone(self), id), kept))
    }

    /// Takes the header map of a request that was sent, for the head of a response.
    pub(in crate::gateway) fn reuse(&self, headers: HeaderMap) {
        self.state.borrow_mut().spares.put(headers);
    }

    /// Does something with an exchange that is open as long as its owner lives.
    pub(in crate::gateway) fn with<T>(&self, id: u64, act: impl FnOnce(&mut Entry) -> T) -> T {
        self.find(id, act).unwrap_or_else(|| unreachable!("an exchange has an entry until its owner is gone"))
    }

    /// Does something with an exchange, if it is still open.
    pub(in crate::gateway) fn find<T>(&self, id: u64, act: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.state.borrow_mut().entry(id).map(act)
    }

    /// Whether the queue has room for bodies. Else the sender of this exchange is woken once it has.
    pub(in crate::gateway) fn has_room_for(&self, id: u64) -> bool {
        let state = &mut *self.state.borrow_mut();
        let has_room = state.out.len() <= BODIES_WAIT_ABOVE;
        if !has_room && let Some(entry) = entry(&mut state.exchanges, id) {
            // Once, however often it looks: a host that reads nothing can have it woken by what it sends.
            if !std::mem::replace(&mut entry.waits_for_room, true) {
                state.wait_for_room.push(id);
            }
        }
        has_room
    }

    /// Queues a part of a request's body, for which there is credit.
    pub(in crate::gateway) fn body(&self, id: u64, data: &[u8], end: bool) {
        self.queue(|out| data::body(out, id, data, end));
    }

    /// Queues the end of a request. Trailers that are too large to travel are left out.
    pub(in crate::gateway) fn trailers(&self, id: u64, trailers: &HeaderMap) {
        let fields = trailers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        self.queue(|out| {
            if data::trailers(out, id, fields).is_err() {
                data::body(out, id, &[], true);
            }
        });
    }

    /// Queues credit for a response's body.
    pub(in crate::gateway) fn grant(&self, id: u64, credit: u32) {
        self.queue(|out| data::window(out, id, credit));
    }

    fn queue(&self, append: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state.borrow_mut();
        if state.end.is_none() {
            append(state.out.end());
            state.wake_task();
        }
    }

    /// The end of an exchange's owner. A second call does nothing.
    pub(in crate::gateway) fn close(&self, id: u64, outcome: Outcome, reason: CancelReason) {
        let state = &mut *self.state.borrow_mut();
        let Some(entry) = state.entry(id) else { return };
        let account = entry.account();
        let cancel = reason_to_cancel(entry, reason);
        entry.abandon();
        if entry.is_load {
            self.load.ended();
        }
        if entry.term.is_stream() {
            self.recorder.stream_ended();
        }
        state.exchanges.remove(slot_of(id));
        if let Some(account) = account {
            self.recorder.ended(outcome, account);
        }
        if let Some(reason) = cancel.filter(|_| state.end.is_none()) {
            data::cancel(state.out.end(), id, reason);
            state.wake_task();
        }
    }

    /// Fails an exchange, if it is open.
    pub(in crate::gateway) fn fail(&self, id: u64, failure: Failure, outcome: Outcome) {
        let account = self.find(id, |entry| {
            entry.fail(failure);
            entry.account()
        });
        if let Some(account) = account.flatten() {
            self.recorder.ended(outcome, account);
        }
    }

    /// Fails the exchanges whose time is over, counts how old the others are, and tells the host of deadlines that moved.
    pub(in crate::gateway) fn sweep(&self, look: Look) {
        let state = &mut *self.state.borrow_mut();
        let out_before = state.out.len();
        for (key, entry) in &mut state.exchanges {
            if !entry.is_open() {
                continue;
            }
            if let Some(outcome) = entry.expire(look.now, look.passed, look.stall) {
                if let Some(account) = entry.account() {
                    self.recorder.ended(outcome, account);
                }
                continue;
            }
            if let Some((before, age)) = entry.grow_older(look.now) {
                self.recorder.aged(before, age);
            }
            if let Some(by) = look.streams_end_by {
                entry.ask_to_end(by);
            }
            if self.tells_deadlines
                && let Some(news) = entry.term.news(look.now)
            {
                let id = u64::from(entry.generation) << 32 | key as u64;
                data::deadline(state.out.end(), id, news.left_ms, news.ends);
            }
        }
        if state.out.len() > out_before {
            state.wake_task();
        }
    }

    /// Ends the link: all that is under way fails as if the host had died.
    pub(in crate::gateway) fn end(&self, end: LinkEnd) {
        let state = &mut *self.state.borrow_mut();
        if state.end.is_some() {
            return;
        }
        let mut in_flight = 0;
        for (_, entry) in &mut state.exchanges {
            if !entry.is_open() {
                continue;
            }
            let progress = entry.progress(state.out.written());
            // What has its answer begun is not sent again.
            in_flight += u32::from(progress != Progress::Answered);
            entry.fail(Failure::Lost(progress));
            match entry.account() {
                Some(account) => {
                    let outcome =
                        if progress == Progress::Unsent { Outcome::Cancelled } else { Outcome::Lost };
                    self.recorder.ended(outcome, account);
                }
                None if entry.is_failed_stream() => self.recorder.stream_failed(),
                None => {}
            }
        }
        if let Some(gate) = state.gate.as_ref().filter(|_| !end.is_malformed()) {
            gate.host_died(in_flight);
        }
        state.out.discard();
        state.end = Some(end);
        state.wake_task();
    }

    /// Takes one frame.
    pub(in crate::gateway) fn receive(&self, frame: Frame<FromHost>, now: Instant) -> Result<(), Violation> {
        let state = &mut *self.state.borrow_mut();
        let newest = state.generation;
        let Some(entry) = entry(&mut state.exchanges, frame.exchange) else {
            // Frames may cross the cancellation of their exchange; those for one that never was are forged.
            let known =
                slot_of(frame.exchange) < state.slots && was_given(generation_of(frame.exchange), newest);
            return if known { Ok(()) } else { Err(Violation("a frame for an exchange that never was")) };
        };
        if !entry.is_open() {
            return Ok(());
        }
        let outcome = entry.receive(frame.message, now, &mut state.spares)?;
        if entry.term.is_stream() && std::mem::take(&mut entry.is_load) {
            self.load.ended();
            self.recorder.stream_began();
        }
        if let Some(outcome) = outcome {
            match entry.account() {
                Some(account) => self.recorder.ended(outcome, account),
                None if entry.is_failed_stream() => self.recorder.stream_failed(),
                None => {}
            }
        }
        Ok(())
    }
}

impl State {
    fn entry(&mut self, id: u64) -> Option<&mut Entry> {
        entry(&mut self.exchanges, id)
    }

    /// Wakes the senders that wait for room.
    fn tell_room(&mut self) {
        for id in self.wait_for_room.drain(..) {
            if let Some(entry) = entry(&mut self.exchanges, id) {
                entry.waits_for_room = false;
                entry.wake_sender();
            }
        }
    }

    fn wake_task(&mut self) {
        if !self.woken
            && let Some(task) = &self.task
        {
            self.woken = true;
            task.wake_by_ref();
        }
    }
}

fn entry(exchanges: &mut Slab<Entry>, id: u64) -> Option<&mut Entry> {
    exchanges.get_mut(slot_of(id)).filter(|entry| entry.generation == generation_of(id))
}

fn slot_of(id: u64) -> usize {
    usize::try_from(id & u64::from(u32::MAX)).unwrap_or(usize::MAX)
}

fn generation_of(id: u64) -> u32 {
    u32::try_from(id >> 32).unwrap_or(u32::MAX)
}

/// Whether a generation is at or before the newest. They wrap, so the half of all behind it counts as before.
fn was_given(generation: u32, newest: u32) -> bool {
    newest.wrapping_sub(generation) <= u32::MAX / 2
}

impl Link {
    /// Begins a turn of the task that moves its bytes; why the link has ended, if it has.
    pub(in crate::gateway) fn begin_turn(&self, cx: &Context<'_>) -> Option<LinkEnd> {
        let mut state = self.state.borrow_mut();
        state.woken = false;
        if state.task.as_ref().is_none_or(|task| !task.will_wake(cx.waker())) {
            state.task = Some(cx.waker().clone());
        }
        state.end.clone()
    }

    /// Whether the queue should wait until the executor has looked at its sockets once more, so that requests which
    /// have come meanwhile leave with it: that saves system calls and switches to the host. Alone in flight, a
    /// request does not wait.
    pub(in crate::gateway) fn gathers(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let gathers = !state.out.is_empty() && state.exchanges.len() > 1;
        // Nobody needs to wake the task meanwhile.
        state.woken |= gathers;
        gathers
    }

    /// Has `write` take what is queued, until nothing is left.
    pub(in crate::gateway) fn poll_sent(
        &self,
        mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        let state = &mut *self.state.borrow_mut();
        while !state.out.is_empty() {
            let written = ready!(write(state.out.unsent()))?;
            state.out.left(written);
            if state.out.len() <= BODIES_WAIT_ABOVE {
                state.tell_room();
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::counters::Recorders;

    fn send(link: &Rc<Link>) -> Exchange {
        let now = Instant::now();
        let start = Start {
            started: now,
            deadline: now + Duration::from_secs(60),
            counted: true,
            request_ended: true,
            bodiless: false,
            upgrade: false,
            may_last: true,
            window: data::INITIAL_WINDOW,
        };
        let head = RequestHead {
            method: b"GET",
            target: b"/",
            peer: b"",
            deadline_ms: 0,
            window: data::INITIAL_WINDOW,
        };
        let (exchange, _) = link.send(start, &head, [], &Arc::default()).expect("the head is small");
        exchange
    }

    /// A host that reads nothing and gives credit all the time has each sender look again and again.
    #[test]
    fn who_waits_for_room_is_kept_once_and_told() {
        let link = Link::new(InstanceId(1), Recorders::new(1).of_thread(0), Rc::default(), true);
        let exchange = send(&link);
        let sender = exchange.sender();
        link.body(0, &vec![0; BODIES_WAIT_ABOVE + 1], false);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        for _ in 0..1000 {
            assert!(sender.poll_credit(&mut cx).is_pending());
        }
        assert_eq!(link.state.borrow().wait_for_room.len(), 1);
        let sent = link.poll_sent(|bytes| Poll::Ready(Ok(bytes.len())));
        assert!(matches!(sent, Poll::Ready(Ok(()))));
        assert!(woken.0.load(std::sync::atomic::Ordering::Relaxed));
        assert!(link.state.borrow().wait_for_room.is_empty());
    }

    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicBool);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[test]
    fn late_frames_are_told_from_forged_ones_where_the_generations_wrap() {
        let link = Link::new(InstanceId(1), Recorders::new(1).of_thread(0), Rc::default(), true);
        link.state.borrow_mut().generation = u32::MAX - 1;
        drop(send(&link));
        let late = u64::from(u32::MAX) << 32;
        drop(send(&link));
        assert_eq!(link.state.borrow().generation, 0);
        let receive = |exchange| {
            let message = FromHost::Body { data: bytes::Bytes::new(), end: true };
            link.receive(Frame { exchange, message }, Instant::now()).is_ok()
        };
        assert!(receive(late), "it crossed its cancellation");
        assert!(receive(0));
        assert!(!receive(1 << 32), "none of this generation was sent yet");
        assert!(!receive(late | 7), "none was sent in this slot");
    }
}
