//! A thread's drain: since when it is on, until when it may take, and what it has cost.
//!
//! Nothing is told here. A client of HTTP/1 learns with its answer that its connection ends, so one that has asked for
//! nothing is kept for a while; one of HTTP/2 is told at once. Who comes in that while is let in: what waits in the
//! listener's backlog would wait for the next hotd, longer than it need to.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

/// What a drain cost clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut off at the deadline, with a request that was being answered.
    pub cut_off: usize,
    /// Connections on which a request came just as they were closed for asking nothing. It has no answer, and no answer had
    /// told its client of the end.
    pub crossed: usize,
}

/// A drain that was asked for.
#[derive(Debug)]
pub(super) struct Asked {
    /// When it is over at the latest.
    pub(super) deadline: Instant,
    /// Who asked.
    pub(super) done: oneshot::Sender<Drained>,
}

/// A thread's drain.
#[derive(Debug, Default)]
pub(super) struct Drain {
    asked: RefCell<Option<Asked>>,
    deadline: Cell<Option<Instant>>,
    began: Notify,
    shut: CancellationToken,
    crossed: Cell<usize>,
}

impl Drain {
    pub(super) fn begin(&self, asked: Asked) {
        self.deadline.set(Some(asked.deadline));
        self.crossed.set(0);
        *self.asked.borrow_mut() = Some(asked);
        self.began.notify_waiters();
    }

    /// Whether it is on.
    pub(super) fn is_on(&self) -> bool {
        self.deadline.get().is_some()
    }

    /// When it is over at the latest, if it is on.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.get()
    }

    /// Returns when one begins, from the call on.
    pub(super) fn began(&self) -> impl Future<Output = ()> {
        self.began.notified()
    }

    /// The drain that was asked for, once.
    pub(super) fn take(&self) -> Option<Asked> {
        self.asked.borrow_mut().take()
    }

    /// Lets nobody in any more.
    pub(super) fn shut_doors(&self) {
        self.shut.cancel();
    }

    /// Whether nobody is let in any more.
    pub(super) fn doors(&self) -> &CancellationToken {
        &self.shut
    }

    /// A request crossed the end of its connection.
    pub(super) fn crossed(&self) {
        self.crossed.set(self.crossed.get() + 1);
    }

    /// What it cost, with so many connections cut off.
    pub(super) fn cost(&self, cut_off: usize) -> Drained {
        Drained { cut_off, crossed: self.crossed.get() }
    }
}
