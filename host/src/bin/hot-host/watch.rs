//! Notices handlers that are stuck while they hold a turn, and takes the turn from them.
//!
//! One thread that looks every two milliseconds while handlers run, and sleeps while none does. It looks at numbers that
//! the turns keep anyway, so a handler costs it no clock and no system call.

use crate::engine::{Engine, Lane, Sight};
use crate::output;
use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How often it looks. A handler that waits is noticed within two looks.
const LOOK: Duration = Duration::from_millis(2);

/// So many looks without any handler, and it sleeps until there is one.
const QUIET_LOOKS: u32 = 16;

/// A handler that computes for this long within one call keeps others from being answered. Shorter ones do not: another
/// thread would only compete with it for the processor.
const COMPUTES: Duration = Duration::from_millis(4);

/// Without a word from the kernel on what a thread does, it counts as stuck after so many looks.
const LOOKS_AT_MOST: u32 = 10;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    is_asleep: AtomicBool,
    sleep: Mutex<()>,
    wake: Condvar,
}

/// A handler that was seen at the last look already.
struct Suspect {
    sight: Sight,
    looks: u32,
    /// Processor time of its thread when it was first seen.
    computed: Option<Duration>,
}

impl Watch {
    /// Starts the thread.
    pub(crate) fn start(&'static self, engine: &'static Engine) {
        let made = std::thread::Builder::new()
            .name("hot-watch".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || self.look_on(engine));
        if let Err(error) = made {
            output::die(&format!("the thread that watches handlers can't be made: {error}"));
        }
    }

    /// A handler begins. Must come after the turn shows it.
    pub(crate) fn wake(&self) {
        if self.is_asleep.load(Ordering::SeqCst) {
            let _sleep = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
            self.is_asleep.store(false, Ordering::SeqCst);
            self.wake.notify_one();
        }
    }

    fn look_on(&self, engine: &'static Engine) {
        let mut suspects: HashMap<*const Lane, Suspect> = HashMap::new();
        let mut last_begun = 0;
        let mut quiet = 0;
        loop {
            let lanes = engine.lanes().clone();
            suspects.retain(|lane, _| lanes.iter().any(|other| Arc::as_ptr(other) == *lane));
            let mut begun = 0_u64;
            let mut is_running = false;
            for lane in &lanes {
                let sight = lane.sight();
                begun = begun.wrapping_add(sight.begun);
                is_running |= sight.runner.is_some();
                look(engine, lane, sight, &mut suspects);
            }
            quiet = if is_running || begun != last_begun { 0 } else { quiet + 1 };
            last_begun = begun;
            if quiet < QUIET_LOOKS {
                std::thread::sleep(LOOK);
            } else {
                self.sleep_until_woken(engine);
                quiet = 0;
            }
        }
    }

    /// Whoever begins a handler after the flag is up wakes this thread; who began before is seen here, on a lane that came
    /// since the last look too.
    fn sleep_until_woken(&self, engine: &'static Engine) {
        let mut sleep = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_asleep.store(true, Ordering::SeqCst);
        if engine.lanes().iter().any(|lane| lane.sight().runner.is_some()) {
            self.is_asleep.store(false, Ordering::SeqCst);
        }
        while self.is_asleep.load(Ordering::SeqCst) {
            sleep = self.wake.wait(sleep).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn look(
    engine: &'static Engine,
    lane: &Arc<Lane>,
    sight: Sight,
    suspects: &mut HashMap<*const Lane, Suspect>,
) {
    let Some(thread) = sight.runner else {
        suspects.remove(&Arc::as_ptr(lane));
        return;
    };
    let suspect = suspects.entry(Arc::as_ptr(lane)).or_insert_with(|| Suspect {
        sight: Sight { begun: 0, runner: None },
        looks: 0,
        computed: None,
    });
    if suspect.sight != sight {
        *suspect = Suspect { sight, looks: 0, computed: None };
        return;
    }
    suspect.looks += 1;
    if suspect.is_stuck(thread) {
        engine.take_from_stuck(lane, sight);
    }
}

impl Suspect {
    /// Whether its thread waits for something, or has computed for long. One that is only kept from running by others
    /// is not stuck: on a busy machine that happens to any handler.
    fn is_stuck(&mut self, thread: i32) -> bool {
        if self.looks >= LOOKS_AT_MOST && self.computed.is_none() {
            return true;
        }
        if !is_runnable(thread) {
            return true;
        }
        let Some(computed) = processor_time(thread) else { return false };
        let before = *self.computed.get_or_insert(computed);
        computed.saturating_sub(before) >= COMPUTES
    }
}

/// Whether the kernel says that the thread runs or could run.
fn is_runnable(thread: i32) -> bool {
    // "123 (name) S 1 ...": the name may have anything in it, so the state is behind the last parenthesis.
    let Ok(stat) = fs::read_to_string(format!("/proc/self/task/{thread}/stat")) else { return true };
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    state.is_none_or(|state| state == 'R')
}

/// The time for which the thread has had a processor.
fn processor_time(thread: i32) -> Option<Duration> {
    let schedstat = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    schedstat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}
