//! Wakes exchanges at their deadlines: only those that have a notice, since calls that wait look at the clock themselves.
//!
//! One thread, made with the first notice, that sleeps until the earliest deadline it knew when it went to sleep. As
//! deadlines of later exchanges are later, as a rule, it is hardly ever woken for another reason.

use crate::engine::Engine;
use crate::output;
use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    plan: Mutex<Plan>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Plan {
    /// Deadlines with the exchanges' handles: at most one for each open exchange.
    at: BTreeSet<(Instant, u64)>,
    /// Until when the thread sleeps; `None` if it sleeps until it is woken.
    wakes: Option<Instant>,
    has_thread: bool,
}

impl Alarm {
    /// Has the exchange expire at its deadline. May be called under the exchange's lock.
    pub(crate) fn set(&'static self, engine: &'static Engine, deadline: Instant, handle: u64) {
        let mut plan = self.plan();
        plan.at.insert((deadline, handle));
        if !plan.has_thread {
            plan.has_thread = true;
            drop(plan);
            self.start(engine);
        } else if plan.wakes.is_none_or(|wakes| deadline < wakes) {
            self.changed.notify_one();
        }
    }

    /// The exchange has another deadline: as [`Alarm::set`], in the place of the one for which it was set.
    pub(crate) fn reset(
        &'static self,
        engine: &'static Engine,
        is_set: Option<Instant>,
        to_set: Option<Instant>,
        handle: u64,
    ) {
        if is_set == to_set {
            return;
        }
        if let Some(deadline) = is_set {
            self.clear(deadline, handle);
        }
        if let Some(deadline) = to_set {
            self.set(engine, deadline, handle);
        }
    }

    /// The exchange has ended.
    pub(crate) fn clear(&self, deadline: Instant, handle: u64) {
        self.plan().at.remove(&(deadline, handle));
    }

    fn start(&'static self, engine: &'static Engine) {
        let made = std::thread::Builder::new()
            .name("hot-alarm".to_owned())
            .stack_size(crate::pool::STACK)
            .spawn(move || self.look_on(engine));
        if let Err(error) = made {
            output::die(&format!("the thread that keeps deadlines can't be made: {error}"));
        }
    }

    fn look_on(&self, engine: &'static Engine) {
        let mut plan = self.plan();
        loop {
            let now = Instant::now();
            plan.wakes = plan.at.first().map(|&(at, _)| at);
            plan = match plan.wakes {
                Some(at) if at <= now => {
                    let due = plan.at.pop_first();
                    drop(plan);
                    if let Some(exchange) = due.and_then(|(_, handle)| engine.table.get(handle)) {
                        exchange.expire().ok();
                    }
                    self.plan()
                }
                Some(at) => {
                    let waited = self.changed.wait_timeout(plan, at - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(plan).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
