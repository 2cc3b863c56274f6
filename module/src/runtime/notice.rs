//! One wait for the host: the place of a waker that the host's `wake` wakes. All that is unsafe of the async side is here.

use crate::CallError;
use crate::abi::{self, Status};
use crate::sdk::{Notify, check};
use core::ffi::c_void;
use core::task::{Context, Poll, Waker};
use std::sync::{Arc, Mutex, PoisonError};

/// Who waits for one event of one exchange.
///
/// The host holds one notice per exchange and event, and a second takes the first one's place by waking it: two that took
/// each other's place would wake each other for ever. So there is one of these per event, which asks the host only if it is
/// owed no `wake`; until that comes, a later poll only changes whom it wakes.
#[derive(Debug, Default)]
pub(super) struct Notice {
    place: Mutex<Place>,
}

#[derive(Debug, Default)]
struct Place {
    /// The host owes a `wake`, and holds a reference to the notice.
    is_owed: bool,
    has_rung: bool,
    waker: Option<Waker>,
}

impl Notice {
    /// Has the task woken when one of `events` is so, or the exchange is over.
    ///
    /// Pending: it will be woken. An error: it is over already, and nothing will wake it.
    pub(super) fn wait(
        self: &Arc<Self>,
        notify: Notify,
        exchange: abi::Exchange,
        events: u32,
        task: &Context<'_>,
    ) -> Poll<CallError> {
        let (is_owed, _dropped_unlocked) = self.with(|place| {
            let before = match &place.waker {
                Some(waker) if waker.will_wake(task.waker()) => None,
                _ => place.waker.replace(task.waker().clone()),
            };
            (core::mem::replace(&mut place.is_owed, true), before)
        });
        if is_owed {
            return Poll::Pending;
        }
        // The lock is free here: `wake` may come within `notify`, and takes it.
        match self.ask(notify, exchange, events) {
            Ok(()) => Poll::Pending,
            Err(refused) => {
                let _dropped_unlocked = self.with(|place| {
                    place.is_owed = false;
                    place.waker.take()
                });
                Poll::Ready(refused)
            }
        }
    }

    /// Whether the host has woken it: an event that it waited for was so, or the exchange is over.
    pub(super) fn has_rung(&self) -> bool {
        self.with(|place| place.has_rung)
    }

    fn ask(self: &Arc<Self>, notify: Notify, exchange: abi::Exchange, events: u32) -> Result<(), CallError> {
        let context = Arc::into_raw(Arc::clone(self)).cast_mut().cast::<c_void>();
        // SAFETY: `notify` takes any handle and any events. `context` is what `wake` expects, a reference of its own; the
        // host calls `wake` with it at most once. No `wake` calls this: `wake` below calls no service.
        let status: Status = unsafe { notify(exchange, events, Some(wake), context) };
        check(status).inspect_err(|_| {
            // SAFETY: on any other status than OK the host never calls `wake`, so the reference, made by `into_raw` above,
            // is still this function's own, and is taken back once.
            drop(unsafe { Arc::from_raw(context.cast_const().cast::<Self>()) });
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Place) -> T) -> T {
        act(&mut self.place.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the host calls, on any thread, once for each notice that it took on.
///
/// It waits for nothing: the lock is held for a few moves wherever it is taken. It calls no service: waking a task of an
/// async runtime schedules it, and what is dropped here is a reference to a place that holds no exchange.
unsafe extern "C" fn wake(context: *mut c_void) {
    // SAFETY: `context` is the reference that `ask` made by `into_raw` of this very type, and the host gives it back once.
    let notice = unsafe { Arc::from_raw(context.cast_const().cast::<Notice>()) };
    let waker = notice.with(|place| {
        place.is_owed = false;
        place.has_rung = true;
        place.waker.take()
    });
    // A waker of somebody's own may panic, which must not cross into the host.
    drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.map(Waker::wake))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::thread;
    use std::vec::Vec;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Takes every notice on and keeps it for the test to wake; the exchange is the test's number.
    unsafe extern "C" fn keep(
        exchange: abi::Exchange,
        _: u32,
        wake: Option<abi::Wake>,
        context: *mut c_void,
    ) -> Status {
        KEPT.lock().unwrap().push((exchange, wake.unwrap(), context.expose_provenance()));
        abi::OK
    }

    /// Wakes before it returns.
    unsafe extern "C" fn at_once(
        _: abi::Exchange,
        _: u32,
        wake: Option<abi::Wake>,
        context: *mut c_void,
    ) -> Status {
        // SAFETY: the context is for this wake, and it is called once.
        unsafe { wake.unwrap()(context) };
        abi::OK
    }

    unsafe extern "C" fn refuse(_: abi::Exchange, _: u32, _: Option<abi::Wake>, _: *mut c_void) -> Status {
        abi::CANCELLED
    }

    static KEPT: Mutex<Vec<(u64, abi::Wake, usize)>> = Mutex::new(Vec::new());

    fn wake_kept(exchange: u64) -> usize {
        let mut all = KEPT.lock().unwrap();
        let (due, rest) = all.drain(..).partition::<Vec<_>, _>(|(of, _, _)| *of == exchange);
        *all = rest;
        drop(all);
        for (_, wake, context) in &due {
            // SAFETY: each context is for one wake, and is called once: it was taken out of the list.
            unsafe { wake(core::ptr::with_exposed_provenance_mut(*context)) };
        }
        due.len()
    }

    #[test]
    fn one_notice_is_owed_at_a_time_and_the_last_task_is_woken() {
        let notice = Arc::new(Notice::default());
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        for task in [&first, &first, &second] {
            let waker = Arc::clone(task).into();
            assert!(notice.wait(keep, 1, 1, &Context::from_waker(&waker)).is_pending());
        }
        assert!(!notice.has_rung());
        assert_eq!(wake_kept(1), 1);
        assert!(notice.has_rung());
        assert_eq!((first.0.load(Ordering::SeqCst), second.0.load(Ordering::SeqCst)), (0, 1));
        // Neither the host nor the tasks hold anything of it any more.
        assert_eq!((Arc::strong_count(&notice), Arc::strong_count(&second)), (1, 1));
        let waker = Arc::clone(&first).into();
        assert!(notice.wait(keep, 1, 1, &Context::from_waker(&waker)).is_pending());
        assert_eq!(wake_kept(1), 1);
        assert_eq!(first.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_wake_within_the_call_is_not_lost() {
        let notice = Arc::new(Notice::default());
        let task = Arc::new(Count::default());
        let waker = Arc::clone(&task).into();
        assert!(notice.wait(at_once, 2, 1, &Context::from_waker(&waker)).is_pending());
        assert_eq!(task.0.load(Ordering::SeqCst), 1);
        assert_eq!(Arc::strong_count(&notice), 1);
    }

    #[test]
    fn a_refusal_gives_the_reference_back() {
        let notice = Arc::new(Notice::default());
        let task = Arc::new(Count::default());
        let waker = Arc::clone(&task).into();
        for _ in 0..2 {
            let polled = notice.wait(refuse, 3, 1, &Context::from_waker(&waker));
            assert_eq!(polled, Poll::Ready(CallError::Cancelled));
        }
        drop(waker);
        assert_eq!((Arc::strong_count(&notice), Arc::strong_count(&task)), (1, 1));
    }

    #[test]
    fn a_wake_outlives_whoever_waited() {
        let notice = Arc::new(Notice::default());
        let task = Arc::new(Count::default());
        let waker = Arc::clone(&task).into();
        assert!(notice.wait(keep, 4, 1, &Context::from_waker(&waker)).is_pending());
        drop((notice, waker));
        assert_eq!(thread::spawn(|| wake_kept(4)).join().unwrap(), 1);
        assert_eq!((task.0.load(Ordering::SeqCst), Arc::strong_count(&task)), (1, 1));
    }
}
