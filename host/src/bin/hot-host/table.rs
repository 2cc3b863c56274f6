//! The open exchanges by handle. A handle names one exchange and no other for the life of the process.
//!
//! A handle is a place in the table with the number of times that place was taken before. It is never 0.

use crate::exchange::Exchange;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;

/// The table. All methods may be called from any thread.
#[derive(Debug)]
pub(crate) struct Table {
    places: Mutex<Places>,
    emptied: Condvar,
    limit: usize,
}

#[derive(Debug, Default)]
struct Places {
    all: Vec<Place>,
    free: Vec<u32>,
    open: usize,
    is_closed: bool,
    /// Whether somebody waits for `open` to be 0. Only then is it told: a notice is a system call.
    is_awaited: bool,
}

/// Why an exchange is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum InsertError {
    /// The table was closed.
    #[error("the host is stopping")]
    Closed,
    /// As many exchanges are open as may be.
    #[error("the host has as many open exchanges as it may")]
    Full,
}

#[derive(Debug)]
struct Place {
    generation: u32,
    exchange: Option<Arc<Exchange>>,
}

impl Table {
    /// An empty table for at most `limit` open exchanges.
    pub(crate) fn new(limit: usize) -> Self {
        Self { places: Mutex::default(), emptied: Condvar::new(), limit }
    }

    /// Adds the exchange that `make` makes for its handle.
    pub(crate) fn insert(
        &self,
        make: impl FnOnce(u64) -> Arc<Exchange>,
    ) -> Result<Arc<Exchange>, InsertError> {
        let mut places = self.places();
        if places.is_closed {
            return Err(InsertError::Closed);
        }
        if places.open >= self.limit {
            return Err(InsertError::Full);
        }
        places.put(make).ok_or(InsertError::Full)
    }

    /// From here on nothing is taken: a table that is found to be [empty](Self::wait_empty) then stays so.
    pub(crate) fn close(&self) {
        self.places().is_closed = true;
    }

    /// The open exchange of that handle.
    pub(crate) fn get(&self, handle: u64) -> Option<Arc<Exchange>> {
        let (index, generation) = split(handle);
        let places = self.places();
        let place = places.all.get(usize::try_from(index).ok()?)?;
        if place.generation == generation { place.exchange.clone() } else { None }
    }

    /// Takes the exchange out; its handle is never valid again. Nothing happens if it is not there.
    pub(crate) fn remove(&self, handle: u64) {
        let (index, generation) = split(handle);
        let mut places = self.places();
        let Some(place) = usize::try_from(index).ok().and_then(|index| places.all.get_mut(index)) else {
            return;
        };
        if place.generation != generation || place.exchange.is_none() {
            return;
        }
        let removed = place.exchange.take();
        // A place whose generations are used up is never taken again: 16 bytes lost in 4 billion exchanges.
        if let Some(next) = generation.checked_add(1) {
            place.generation = next;
            places.free.push(index);
        }
        places.open -= 1;
        if places.open == 0 && places.is_awaited {
            self.emptied.notify_all();
        }
        drop(places);
        // Its memory is given back without the lock.
        drop(removed);
    }

    /// Every open exchange.
    pub(crate) fn all(&self) -> Vec<Arc<Exchange>> {
        self.places().all.iter().filter_map(|place| place.exchange.clone()).collect()
    }

    /// How many exchanges are open, and when the oldest of them came.
    pub(crate) fn open(&self) -> (usize, Option<Instant>) {
        let places = self.places();
        let oldest = places.all.iter().filter_map(|place| place.exchange.as_ref()).map(|x| x.arrived()).min();
        (places.open, oldest)
    }

    /// Waits until no exchange is open, or the deadline; whether none is.
    pub(crate) fn wait_empty(&self, deadline: Instant) -> bool {
        let mut places = self.places();
        places.is_awaited = true;
        while places.open > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return false;
            }
            (places, _) = self.emptied.wait_timeout(places, left).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    /// Makes an exchange for a free place and puts it there; `None` if there are no more numbers of places.
    fn put(&mut self, make: impl FnOnce(u64) -> Arc<Exchange>) -> Option<Arc<Exchange>> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.all.len()).ok()?;
                self.all.push(Place { generation: 1, exchange: None });
                index
            }
        };
        let place = self.all.get_mut(usize::try_from(index).ok()?)?;
        let exchange = make(u64::from(place.generation) << 32 | u64::from(index));
        place.exchange = Some(Arc::clone(&exchange));
        self.open += 1;
        Some(exchange)
    }
}

/// Index and generation of a handle: its two halves.
#[expect(clippy::cast_possible_truncation, reason = "the halves of 64 bits are 32 bits each")]
const fn split(handle: u64) -> (u32, u32) {
    (handle as u32, (handle >> 32) as u32)
}
