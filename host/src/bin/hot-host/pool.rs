//! Threads for handlers: made when there is work that no idle one takes, gone when idle for long.

use crate::engine::{Engine, Lane};
use crate::exchange::Exchange;
use crate::output;
use std::collections::VecDeque;
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
}

/// The pool.
#[derive(Debug)]
pub(crate) struct Pool {
    jobs: Mutex<Jobs>,
    wake: Condvar,
    /// Threads beyond this are made for turns only: somebody must read what the gateway says while all handlers are
    /// stuck. There is one turn for each link.
    limit: usize,
}

#[derive(Debug, Default)]
struct Jobs {
    queue: VecDeque<Job>,
    idle: usize,
    threads: usize,
}

impl Pool {
    pub(crate) fn new(limit: usize) -> Self {
        Self { jobs: Mutex::default(), wake: Condvar::new(), limit }
    }

    /// Has a thread do `job`: an idle one or a new one; a handler may have to wait for one that gets idle.
    pub(crate) fn submit(&self, engine: &'static Engine, job: Job) {
        let mut jobs = self.jobs();
        let is_turn = matches!(job, Job::Turn(..));
        if is_turn {
            jobs.queue.push_front(job);
        } else {
            jobs.queue.push_back(job);
        }
        if jobs.idle >= jobs.queue.len() {
            self.wake.notify_one();
            return;
        }
        if !is_turn && jobs.threads >= self.limit {
            return;
        }
        jobs.threads += 1;
        drop(jobs);
        let made = std::thread::Builder::new()
            .name("hot-handler".to_owned())
            .stack_size(STACK)
            .spawn(move || engine.pool().work(engine));
        if let Err(error) = made {
            let mut jobs = self.jobs();
            jobs.threads -= 1;
            if jobs.threads == 0 {
                drop(jobs);
                output::die(&format!("no thread can be made, and there is none to serve with: {error}"));
            }
            // Another thread comes to the job when it is done with what it does.
            self.wake.notify_one();
        }
    }

    fn work(&self, engine: &'static Engine) {
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
                jobs.threads -= 1;
                return;
            }
        }
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
