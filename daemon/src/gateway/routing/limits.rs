//! The bound on a module's requests in flight, and the bounded queue in front of it.
//!
//! All threads share one gate per module. Passing it is one atomic operation as long as there is room. Who waits for an
//! instance is in a queue of its own: it keeps nobody from an instance that is ready.

use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::gateway::request::Budget;

/// Requests in flight and waiting, and the retries, of one module on this node.
///
/// The counters are sequentially consistent: a request that leaves first gives its place back and then looks for a
/// waiter, one that comes first says that it waits and then looks for a place, so at least one sees the other.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Gate {
    max_in_flight: AtomicU32,
    max_waiting: AtomicU32,
    max_streams: AtomicU32,
    streams: AtomicU32,
    in_flight: AtomicU32,
    waiting: AtomicU32,
    /// Requests that wait for an instance.
    unready: AtomicU32,
    left: Notify,
    /// Requests that ever passed.
    passed: AtomicU64,
    retries: Mutex<Retries>,
}

/// Locked only when a request failed: the requests that passed meanwhile are made up for then.
#[derive(Debug, Default)]
struct Retries {
    budget: Budget,
    passed_before: u64,
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) struct Full;

impl Gate {
    /// Sets the bounds. Requests beyond a lower one stay; those that a higher one lets in are woken.
    pub(in crate::gateway) fn set_limits(&self, max_in_flight: u32, max_waiting: u32, max_streams: u32) {
        self.max_waiting.store(max_waiting, Ordering::SeqCst);
        self.max_streams.store(max_streams, Ordering::SeqCst);
        let before = self.max_in_flight.swap(max_in_flight, Ordering::SeqCst);
        for _ in before..max_in_flight.min(before.saturating_add(self.waiting.load(Ordering::SeqCst))) {
            self.left.notify_one();
        }
    }

    /// Passes if there is room and nobody waits for it.
    pub(in crate::gateway) fn try_enter(self: &Arc<Self>) -> Option<Permit> {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            return None;
        }
        self.take_place()
    }

    /// A place in the queue for room; it is given up when dropped.
    pub(in crate::gateway) fn queue(self: &Arc<Self>) -> Result<Queued, Full> {
        self.join(&self.waiting)?;
        Ok(Queued { gate: Arc::clone(self) })
    }

    /// A place in the queue for an instance, which is as long; it is given up when dropped.
    pub(in crate::gateway) fn queue_unready(self: &Arc<Self>) -> Result<Unready, Full> {
        self.join(&self.unready)?;
        Ok(Unready { gate: Arc::clone(self) })
    }

    fn join(&self, queue: &AtomicU32) -> Result<(), Full> {
        let max = self.max_waiting.load(Ordering::SeqCst);
        let more = |waiting| (waiting < max).then_some(waiting + 1);
        queue.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).map(drop).map_err(|_at_bound| Full)
    }

    /// Takes one retry from the module's budget, or answers that none is left.
    pub(in crate::gateway) fn take_retry(&self) -> bool {
        self.retries(Budget::take)
    }

    /// A host of this module died with so many requests in flight.
    pub(in crate::gateway) fn host_died(&self, in_flight: u32) {
        self.retries(|budget| budget.host_died(in_flight));
    }

    fn retries<T>(&self, act: impl FnOnce(&mut Budget) -> T) -> T {
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = self.passed.load(Ordering::Relaxed);
        let new = passed - std::mem::replace(&mut retries.passed_before, passed);
        retries.budget.requests(new);
        act(&mut retries.budget)
    }

    fn take_place(self: &Arc<Self>) -> Option<Permit> {
        let max = self.max_in_flight.load(Ordering::SeqCst);
        let more = |in_flight| (in_flight < max).then_some(in_flight + 1);
        self.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        self.passed.fetch_add(1, Ordering::Relaxed);
        Some(Permit { gate: Arc::clone(self), is_stream: false })
    }
}

/// A place in the queue for an instance.
#[derive(Debug)]
pub(in crate::gateway) struct Unready {
    gate: Arc<Gate>,
}

impl Unready {
    /// It looks for its instance anew, with room: among those that wait for it, also beyond their bound, as it was let in
    /// before them.
    pub(in crate::gateway) fn into_queued(self) -> Queued {
        self.gate.waiting.fetch_add(1, Ordering::SeqCst);
        Queued { gate: Arc::clone(&self.gate) }
    }
}

impl Drop for Unready {
    fn drop(&mut self) {
        self.gate.unready.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A place in the queue in front of a gate.
#[derive(Debug)]
pub(in crate::gateway) struct Queued {
    gate: Arc<Gate>,
}

impl Queued {
    /// Waits until there is room, in the order of arrival. Bound it by a deadline.
    pub(in crate::gateway) async fn enter(self) -> Permit {
        loop {
            let mut left = pin!(self.gate.left.notified());
            // Enlisted before the look: who leaves after it wakes this one, or the next if this one is dropped.
            left.as_mut().enable();
            if let Some(permit) = self.gate.take_place() {
                return permit;
            }
            left.await;
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.gate.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One request in flight, or one stream; it ends when dropped.
#[derive(Debug)]
pub(in crate::gateway) struct Permit {
    gate: Arc<Gate>,
    is_stream: bool,
}

impl Permit {
    /// The gate that was passed.
    pub(in crate::gateway) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Gives its place among the requests to another, for one among the streams.
    pub(in crate::gateway) fn into_stream(self) -> Result<Self, Full> {
        let gate = &self.gate;
        let max = gate.max_streams.load(Ordering::SeqCst);
        let more = |streams| (streams < max).then_some(streams + 1);
        gate.streams.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).map_err(|_at_bound| Full)?;
        // What is dropped here leaves the requests.
        Ok(Self { gate: Arc::clone(gate), is_stream: true })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_stream {
            self.gate.streams.fetch_sub(1, Ordering::SeqCst);
            return;
        }
        self.gate.in_flight.fetch_sub(1, Ordering::SeqCst);
        if self.gate.waiting.load(Ordering::SeqCst) > 0 {
            self.gate.left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(max_in_flight: u32, max_waiting: u32) -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        gate.set_limits(max_in_flight, max_waiting, 1);
        gate
    }

    #[tokio::test]
    async fn beyond_the_bound_they_wait_in_order_and_beyond_the_queue_they_are_refused() {
        let gate = gate(1, 2);
        let first = gate.try_enter().expect("room for one");
        assert!(gate.try_enter().is_none());
        let (queued_a, queued_b) = (gate.queue().expect("two may wait"), gate.queue().expect("two may wait"));
        assert_eq!(gate.queue().map(|_| ()), Err(Full));
        let (mut a, mut b) = (pin!(queued_a.enter()), pin!(queued_b.enter()));
        assert!(futures_util::poll!(a.as_mut()).is_pending());
        assert!(futures_util::poll!(b.as_mut()).is_pending());
        drop(first);
        assert!(gate.try_enter().is_none(), "who waits goes first");
        assert!(futures_util::poll!(b.as_mut()).is_pending(), "in the order of arrival");
        drop(a.await);
        drop(b.await);
        assert!(gate.try_enter().is_some());
    }

    #[tokio::test]
    async fn one_that_gives_up_hands_its_turn_on() {
        let gate = gate(1, 2);
        let first = gate.try_enter().expect("room for one");
        let mut gives_up = Box::pin(gate.queue().expect("may wait").enter());
        let mut stays = pin!(gate.queue().expect("may wait").enter());
        assert!(futures_util::poll!(gives_up.as_mut()).is_pending());
        assert!(futures_util::poll!(stays.as_mut()).is_pending());
        drop(first);
        drop(gives_up);
        drop(stays.await);
        assert_eq!(gate.waiting.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn who_waits_for_an_instance_keeps_nobody_from_another() {
        let gate = gate(1, 1);
        let unready = gate.queue_unready().expect("one may wait");
        assert_eq!(gate.queue_unready().map(|_| ()), Err(Full));
        let first = gate.try_enter().expect("nobody waits for room");
        let behind = gate.queue().expect("that queue is another");
        // Back among those that wait for room, it has no less of a place for having waited elsewhere.
        let mut again = pin!(unready.into_queued().enter());
        assert_eq!(gate.queue_unready().map(drop), Ok(()));
        assert!(futures_util::poll!(again.as_mut()).is_pending());
        drop((first, behind));
        drop(again.await);
        assert_eq!((gate.waiting.load(Ordering::SeqCst), gate.unready.load(Ordering::SeqCst)), (0, 0));
    }

    #[tokio::test]
    async fn a_higher_bound_lets_those_in_who_wait() {
        let gate = gate(0, 5);
        let mut waiting = pin!(gate.queue().expect("may wait").enter());
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        gate.set_limits(1, 5, 0);
        let permit = waiting.await;
        assert!(gate.take_place().is_none());
        drop(permit);
    }

    #[test]
    fn a_stream_gives_its_place_back_and_streams_have_a_bound_of_their_own() {
        let gate = gate(1, 0);
        let stream = gate.try_enter().expect("room for one").into_stream().expect("room for one stream");
        let second = gate.try_enter().expect("the place is free again");
        assert_eq!(second.into_stream().map(|_| ()), Err(Full));
        drop(stream);
        drop(gate.try_enter().expect("a refused one is gone").into_stream().expect("there is room again"));
        assert_eq!((gate.in_flight.load(Ordering::SeqCst), gate.streams.load(Ordering::SeqCst)), (0, 0));
    }

    #[test]
    fn requests_that_passed_pay_for_retries() {
        let gate = gate(1, 0);
        while gate.take_retry() {}
        for _ in 0..30 {
            drop(gate.try_enter());
        }
        assert_eq!((0..10).filter(|_| gate.take_retry()).count(), 3);
        gate.host_died(4);
        assert_eq!((0..10).filter(|_| gate.take_retry()).count(), 4);
    }
}
