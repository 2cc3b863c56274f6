//! Threads for handlers: made when there is work that no idle one takes, gone when idle for long.

use crate::crash;
use crate::engine::{Engine, Lane};
use crate::exchange::Exchange;
use crate::link::Link;
use crate::output;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Stack of every thread on which a module runs. docs/abi.md promises it.
pub(crate) const STACK: usize = 2 * 1024 * 1024;

/// An idle thread ends after this.
const IDLE: Duration = Duration::from_secs(10);

/// What a thread of the pool does.
#[derive(Debug)]
pub(crate) enum Job {
    /// The turn of that number of a lane.
    Turn(Arc<Lane>, u64),
    /// One handler.
    Handle(Arc<Exchange>),
    /// What the socket of a link did not take.
    Drain(Arc<Link>),
}

/// The pool.
#[derive(Debug)]
pub(crate) struct Pool {
    jobs: Mutex<Jobs>,
    wake: Condvar,
    /// Threads for handlers. Those for what the handlers may wait for come on top.
    limit: usize,
    /// Changes under the lock of `jobs` only.
    threads: AtomicUsize,
    /// How many jobs there are that must be done while all handlers are stuck: somebody must read what the gateway says,
    /// one turn for each link, and send what it has not read yet.
    extra: AtomicUsize,
}

#[derive(Debug, Default)]
struct Jobs {
    queue: VecDeque<Job>,
    idle: usize,
}

impl Pool {
    pub(crate) fn new(limit: usize) -> Self {
        let count = AtomicUsize::new;
        Self { jobs: Mutex::default(), wake: Condvar::new(), limit, threads: count(0), extra: count(0) }
    }

    /// There is one turn or drain more.
    pub(crate) fn add_extra(&self) {
        self.extra.fetch_add(1, Ordering::SeqCst);
    }

    /// There is one turn or drain less.
    pub(crate) fn remove_extra(&self) {
        self.extra.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether no more threads may be made. Then a handler must not run within a turn either: would it wait, the turn
    /// would need a thread more.
    pub(crate) fn is_full(&self) -> bool {
        self.threads.load(Ordering::SeqCst) >= self.limit + self.extra.load(Ordering::SeqCst)
    }

    /// Has a thread do `job`: an idle one or a new one; a handler may have to wait for one that gets idle.
    pub(crate) fn submit(&self, engine: &'static Engine, job: Job) {
        let mut jobs = self.jobs();
        let is_handler = matches!(job, Job::Handle(_));
        if is_handler {
            jobs.queue.push_back(job);
        } else {
            jobs.queue.push_front(job);
        }
        if jobs.idle >= jobs.queue.len() {
            self.wake.notify_one();
            return;
        }
        if is_handler && self.is_full() {
            return;
        }
        self.threads.fetch_add(1, Ordering::SeqCst);
        drop(jobs);
        let made = std::thread::Builder::new()
            .name("hot-handler".to_owned())
            .stack_size(STACK)
            .spawn(move || engine.pool().work(engine));
        if let Err(error) = made {
            let _jobs = self.jobs();
            if self.threads.fetch_sub(1, Ordering::SeqCst) == 1 {
                output::die(&format!("no thread can be made, and there is none to serve with: {error}"));
            }
            // Another thread comes to the job when it is done with what it does.
            self.wake.notify_one();
        }
    }

    fn work(&self, engine: &'static Engine) {
        let _stack = crash::Stack::new();
        let mut jobs = self.jobs();
        loop {
            if let Some(job) = jobs.queue.pop_front() {
                drop(jobs);
                engine.run(job);
                jobs = self.jobs();
                continue;
            }
            jobs.idle += 1;
            let waited = self.wake.wait_timeout(jobs, IDLE).unwrap_or_else(PoisonError::into_inner);
            jobs = waited.0;
            jobs.idle -= 1;
            if waited.1.timed_out() && jobs.queue.is_empty() {
                self.threads.fetch_sub(1, Ordering::SeqCst);
                return;
            }
        }
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
