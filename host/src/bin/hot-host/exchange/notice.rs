//! Notices: whom to wake when something of an exchange changes (docs/abi.md, "Wake-up").
//!
//! A notice is one value that is consumed by firing it, so it can't fire twice; that it fires at all is the business of
//! [`Notices::due`] and of the guard that fires what is due once the exchange's lock is free.

use hot_module::abi::{ENDING, EVENTS, READABLE, WRITABLE, Wake};
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Notices that were taken from their exchanges and whose `wake` has not returned: `stop` must not overtake them.
static FIRING: AtomicUsize = AtomicUsize::new(0);

/// How many notices are just being fired.
pub(crate) fn firing() -> usize {
    FIRING.load(Ordering::SeqCst)
}

/// The promise to call `wake(context)` once.
#[derive(Debug)]
pub(crate) struct Notice {
    wake: Wake,
    context: *mut c_void,
}

// SAFETY: the address is not looked at here, only handed back to the module's `wake`, which the contract lets be called
// on any thread.
unsafe impl Send for Notice {}

impl Notice {
    /// # Safety
    /// `wake` may be called once with `context`, on any thread.
    pub(crate) const unsafe fn new(wake: Wake, context: *mut c_void) -> Self {
        Self { wake, context }
    }
}

/// What an exchange is ready for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Readiness {
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The gateway asks for an end.
    pub(super) ending: bool,
    /// Nothing more is to be waited for: ended or cancelled.
    pub(super) over: bool,
}

impl Readiness {
    const fn is_for(self, events: u32) -> bool {
        self.over
            || (self.readable && events & READABLE != 0)
            || (self.writable && events & WRITABLE != 0)
            || (self.ending && events & ENDING != 0)
    }
}

/// Whether there are such events.
pub(super) const fn are_known(events: u32) -> bool {
    events <= EVENTS
}

/// The notices of one exchange: at most one for each value of `events`. Most exchanges never have any.
#[derive(Debug, Default)]
pub(super) struct Notices(Vec<(u32, Notice)>);

impl Notices {
    /// Puts a notice in its place and gives the one that was there.
    pub(super) fn put(&mut self, events: u32, notice: Notice) -> Option<Notice> {
        match self.0.iter_mut().find(|(of, _)| *of == events) {
            Some((_, there)) => Some(std::mem::replace(there, notice)),
            None => {
                self.0.push((events, notice));
                None
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them waits for room to write.
    pub(super) fn wants_room(&self) -> bool {
        self.0.iter().any(|(events, _)| events & WRITABLE != 0)
    }

    /// Moves those that are due.
    pub(super) fn due(&mut self, ready: Readiness, due: &mut Due) {
        for (_, notice) in self.0.extract_if(.., |(events, _)| ready.is_for(*events)) {
            due.push(notice);
        }
    }
}

/// Notices that are fired when this is dropped. They count as being fired from the moment they are here.
#[derive(Debug, Default)]
pub(super) struct Due(Vec<Notice>);

impl Due {
    pub(super) fn push(&mut self, notice: Notice) {
        FIRING.fetch_add(1, Ordering::SeqCst);
        self.0.push(notice);
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        for Notice { wake, context } in self.0.drain(..) {
            // SAFETY: `Notice::new`'s caller vouches for one call with this context on any thread, and the notice is
            // consumed by it.
            unsafe { wake(context) };
            FIRING.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{exchange, exchange_within};
    use super::super::{Exchange, Refusal};
    use super::*;
    use bytes::Bytes;
    use hot_wire::data::{AbortCode, INITIAL_WINDOW};
    use std::iter::empty;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    /// Counts how often it is woken, and looks at the exchange meanwhile: with its lock held that would never end.
    struct Woken {
        times: AtomicUsize,
        exchange: Arc<Exchange>,
    }

    unsafe extern "C" fn wake(context: *mut c_void) {
        // SAFETY: the tests give the address of a `Woken` that outlives its exchange's notices.
        let woken = unsafe { &*context.cast::<Woken>() };
        woken.times.fetch_add(1, Ordering::SeqCst);
        woken.exchange.has_ended();
    }

    impl Woken {
        fn new(exchange: Exchange) -> Self {
            Self { times: AtomicUsize::new(0), exchange: Arc::new(exchange) }
        }

        fn ask(&self, events: u32) -> Result<(), Refusal> {
            // SAFETY: `wake` takes the address of a `Woken`, on any thread.
            let notice = unsafe { Notice::new(wake, (&raw const *self).cast_mut().cast()) };
            self.exchange.notify(events, notice, |_| {})
        }

        /// Asks for `events`, which must not be so, and expects that `act` wakes that often, once and for all.
        fn expect(&self, events: u32, times: usize, act: impl FnOnce(&Exchange)) {
            let before = self.times.load(Ordering::SeqCst);
            self.ask(events).unwrap();
            let woken = || self.times.load(Ordering::SeqCst) - before;
            assert_eq!(woken(), 0, "woken before anything happened");
            act(&self.exchange);
            assert_eq!(woken(), times);
        }

        /// Asks for `events`, which must be so already.
        fn expect_at_once(&self, events: u32) {
            let before = self.times.load(Ordering::SeqCst);
            self.ask(events).unwrap();
            assert_eq!(self.times.load(Ordering::SeqCst), before + 1);
        }
    }

    #[test]
    fn a_reader_is_woken_by_bytes_and_by_the_end() {
        let (x, _other) = exchange(b"", false);
        let woken = Woken::new(x);
        woken.expect(READABLE, 1, |x| x.body_came(&Bytes::from_static(b"a"), false));
        woken.expect_at_once(READABLE);
        woken.exchange.read().unwrap();
        woken.expect(READABLE, 1, |x| {
            // Credit is nothing to a reader.
            x.credit_came(1);
            x.body_came(&Bytes::new(), true);
        });
        woken.expect_at_once(READABLE);
        woken.expect_at_once(READABLE | WRITABLE);
    }

    #[test]
    fn a_writer_is_woken_by_credit() {
        let (x, _other) = exchange(b"", false);
        let woken = Woken::new(x);
        // Before the head a write is refused and does not wait.
        woken.expect_at_once(WRITABLE);
        let window = usize::try_from(INITIAL_WINDOW).unwrap();
        woken.exchange.respond(200, empty(), &vec![0; window], false).unwrap();
        woken.expect(WRITABLE, 1, |x| {
            // Bytes are nothing to a writer.
            x.body_came(&Bytes::from_static(b"a"), false);
            x.credit_came(1);
        });
        woken.expect_at_once(READABLE | WRITABLE);
    }

    #[test]
    fn a_writer_is_woken_when_the_link_has_room() {
        let (x, mut other) = exchange(b"", false);
        let woken = Woken::new(x);
        let link = Arc::clone(woken.exchange.link());
        link.open(&woken.exchange).unwrap();
        woken.exchange.respond(200, empty(), b"", false).unwrap();
        link.append(|out| out.resize(4_000_000, 0));
        woken.expect(WRITABLE, 0, |x| x.credit_came(1));
        let reader = std::thread::spawn(move || std::io::copy(&mut other, &mut std::io::sink()).unwrap());
        link.drain();
        assert_eq!(woken.times.load(Ordering::SeqCst), 1);
        link.end();
        reader.join().unwrap();
    }

    #[test]
    fn who_streams_is_woken_when_an_end_is_asked_for() {
        let (x, _other) = exchange(b"", false);
        let woken = Woken::new(x);
        woken.ask(0).unwrap();
        woken.expect(ENDING | READABLE, 1, |x| {
            x.deadline_came(None, false, |_, _| {});
            x.deadline_came(Some(Instant::now() + Duration::from_secs(60)), true, |_, to_set| {
                assert!(to_set.is_some(), "one notice is left, which the deadline fires");
            });
        });
        woken.expect_at_once(ENDING);
    }

    #[test]
    fn every_end_wakes_all_that_is_registered() {
        let ends: [fn(&Exchange); 5] = [
            Exchange::cancel,
            |x| assert_eq!(x.respond(200, empty(), b"", true), Ok(0)),
            |x| assert_eq!(x.abort(AbortCode::Failed, "no"), Ok(())),
            |x| x.body_came(&Bytes::from(vec![0; 1_000_000]), false),
            |x| assert_eq!(x.respond(200, empty(), b"", false).and_then(|_| x.finish()), Ok(())),
        ];
        for end in ends {
            let (x, _other) = exchange(b"", false);
            let woken = Woken::new(x);
            woken.ask(0).unwrap();
            woken.expect(READABLE, 2, end);
            let refused = woken.ask(0).unwrap_err();
            assert!(matches!(refused, Refusal::Ended | Refusal::Cancelled), "{refused:?}");
            assert_eq!(woken.times.load(Ordering::SeqCst), 2);
        }
    }

    #[test]
    fn each_value_of_events_has_a_place_of_its_own() {
        let (x, _other) = exchange(b"", false);
        let woken = Woken::new(x);
        woken.ask(0).unwrap();
        woken.ask(READABLE).unwrap();
        assert_eq!(woken.times.load(Ordering::SeqCst), 0);
        woken.ask(READABLE).unwrap();
        assert_eq!(woken.times.load(Ordering::SeqCst), 1, "the one that was replaced");
        assert_eq!(woken.ask(EVENTS + 1), Err(Refusal::Invalid));
        assert_eq!(woken.ask(u32::MAX), Err(Refusal::Invalid));
        woken.exchange.cancel();
        assert_eq!(woken.times.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn a_deadline_is_asked_for_once_and_refuses_notices_when_it_has_passed() {
        let (x, _other) = exchange_within(60_000, b"", false);
        let woken = Woken::new(x);
        let mut asked = Vec::new();
        for _ in 0..3 {
            // SAFETY: as in `Woken::ask`.
            let notice = unsafe { Notice::new(wake, (&raw const woken).cast_mut().cast()) };
            woken.exchange.notify(READABLE, notice, |at| asked.push(at)).unwrap();
        }
        assert_eq!(asked, woken.exchange.deadline().into_iter().collect::<Vec<_>>());
        assert_eq!(woken.exchange.expire(), Ok(()));
        woken.exchange.cancel();

        let (x, _other) = exchange_within(1, b"", false);
        let woken = Woken::new(x);
        while woken.exchange.deadline().unwrap() > Instant::now() {
            std::thread::yield_now();
        }
        assert_eq!(woken.ask(READABLE), Err(Refusal::Cancelled));
        assert_eq!(woken.times.load(Ordering::SeqCst), 0);
    }
}
