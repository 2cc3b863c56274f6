//! Who runs the module's handlers, on which thread.
//!
//! Each link has one **turn**, held by the thread that reads the link. It reads all that is there, runs the handlers of
//! what came one after the other, and then sends all answers with one write: for a module whose handlers do not wait,
//! no thread wakes another one. A handler that is about to wait in a service of the host gives the turn away first
//! ([`Engine::yield_turn`]); one that waits or computes by itself is noticed by the [watch](crate::watch) within a few
//! milliseconds, which takes the turn from its thread. Either way another thread of the [pool](crate::pool) goes on with
//! the rest. A module that needed the watch runs **eagerly** from then on, each handler on a thread of the pool, until
//! its handlers have been quick for a while.

use crate::alarm::Alarm;
use crate::exchange::{Exchange, firing};
use crate::library::Module;
use crate::link::{Link, LinkError};
use crate::pool::{Job, Pool};
use crate::table::Table;
use crate::watch::Watch;
use hot_wire::data::{self, AbortCode, Frame, FromGateway, Request};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// A handler that ends within this did not wait for anything worth a thread.
const QUICK: Duration = Duration::from_micros(200);

/// So many quick handlers in a row end the eager mode; doubled each time that this was too early.
const CALM_AT_FIRST: u32 = 1024;
const CALM_AT_MOST: u32 = 1 << 20;

/// The engine of this process: it has one module.
static ENGINE: OnceLock<Engine> = OnceLock::new();

/// What runs the module.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) table: Table,
    module: Module,
    pool: Pool,
    watch: Watch,
    alarm: Alarm,
    lanes: Mutex<Vec<Arc<Lane>>>,
    /// Handlers that have not returned.
    running: AtomicUsize,
    is_eager: AtomicBool,
    /// Quick handlers in a row, in the eager mode.
    calm: AtomicU32,
    calm_needed: AtomicU32,
}

/// A link with its turn.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) link: Arc<Link>,
    turn: Mutex<Turn>,
    /// The number of the turn, as in `turn`: changes only under its lock, and may be read without.
    current: AtomicU64,
}

#[derive(Debug, Default)]
struct Turn {
    queue: VecDeque<Arc<Exchange>>,
    /// How many handlers were begun within turns of this lane.
    begun: u64,
    /// The thread that runs a handler within the turn, if one does.
    runner: Option<i32>,
}

/// What the watch sees of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sight {
    pub(crate) begun: u64,
    pub(crate) runner: Option<i32>,
}

thread_local! {
    /// The exchange whose handler this thread runs.
    static HANDLING: RefCell<Option<Arc<Exchange>>> = const { RefCell::new(None) };
    /// The turn that this thread was given, with its number. It may have been taken from it since.
    static TURN: RefCell<Option<(Arc<Lane>, u64)>> = const { RefCell::new(None) };
}

impl Engine {
    /// Makes the engine for a started module. `workers` and `max_exchanges` are bounds; 0 takes the host's own.
    pub(crate) fn start(module: Module, workers: usize, max_exchanges: usize) -> &'static Self {
        /// Threads that may be stuck in handlers at once. Each costs its touched stack.
        const WORKERS: usize = 128;
        /// More than a gateway sends by its own bounds: this one is for the host's memory alone.
        const EXCHANGES: usize = 65_536;
        let or = |given: usize, own: usize| if given == 0 { own } else { given };
        let engine = ENGINE.get_or_init(|| Self {
            table: Table::new(or(max_exchanges, EXCHANGES)),
            module,
            pool: Pool::new(or(workers, WORKERS)),
            watch: Watch::default(),
            alarm: Alarm::default(),
            lanes: Mutex::default(),
            running: AtomicUsize::new(0),
            is_eager: AtomicBool::new(false),
            calm: AtomicU32::new(0),
            calm_needed: AtomicU32::new(CALM_AT_FIRST),
        });
        engine.watch.start(engine);
        engine
    }

    /// The engine, once the module has started. A module that calls a service in `start` comes before it.
    pub(crate) fn get() -> Option<&'static Self> {
        ENGINE.get()
    }

    pub(crate) const fn module(&self) -> &Module {
        &self.module
    }

    pub(crate) const fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    pub(crate) const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Serves one more link until it ends.
    pub(crate) fn attach(&'static self, link: Link) {
        let lane =
            Arc::new(Lane { link: Arc::new(link), turn: Mutex::default(), current: AtomicU64::new(0) });
        self.lanes().push(Arc::clone(&lane));
        self.pool.add_extra();
        self.pool.submit(self, Job::Turn(lane, 0));
    }

    /// From here on requests are refused.
    pub(crate) fn refuse_new(&self) {
        self.table.close();
    }

    /// Cancels all that is open: nobody will see those answers.
    pub(crate) fn cancel_all(&self) {
        self.table.all().iter().for_each(|exchange| exchange.cancel());
    }

    /// Waits until no exchange is open and neither a handler nor a `wake` runs, or the deadline; whether that came about.
    /// After [`Engine::refuse_new`] it stays so.
    pub(crate) fn drain(&self, deadline: Instant) -> bool {
        // A handler that has ended its exchange is about to return: rarely is there anything to wait for.
        self.table.wait_empty(deadline)
            && wait_until(deadline, || self.running.load(Ordering::SeqCst) + firing() == 0)
    }

    /// Waits until the gateway's sockets have all that was answered, or the deadline; whether they have.
    pub(crate) fn wait_sent(&self, deadline: Instant) -> bool {
        wait_until(deadline, || self.lanes().iter().all(|lane| lane.link.has_sent_all()))
    }

    /// Runs a job of the pool.
    pub(crate) fn run(&'static self, job: Job) {
        match job {
            Job::Turn(lane, number) => self.take_turn(&lane, number),
            Job::Handle(exchange) => {
                let begun = Instant::now();
                self.handle(&exchange);
                self.note_calm(begun.elapsed() < QUICK);
                self.send(exchange.link());
            }
            Job::Drain(link) => {
                link.drain();
                self.pool.remove_extra();
            }
        }
    }

    /// Reads the lane's link and runs handlers until the link ends or the turn is taken away.
    fn take_turn(&'static self, lane: &Arc<Lane>, number: u64) {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        TURN.set(Some((Arc::clone(lane), number)));
        // What the last turn left unsent.
        lane.link.flush_some();
        let ended = loop {
            if !self.run_queue(lane, number, thread) {
                break None;
            }
            lane.link.flush_some();
            if let Err(error) = lane.link.receive(|frame, came| self.frame_came(lane, frame, came)) {
                break Some(error);
            }
        };
        TURN.set(None);
        match ended {
            // What the handler that lost the turn has answered since.
            None => self.send(&lane.link),
            Some(error) => self.end_lane(lane, &error),
        }
    }

    /// Runs what is queued, on this `thread`; false if the turn was taken away.
    fn run_queue(&'static self, lane: &Arc<Lane>, number: u64, thread: i32) -> bool {
        loop {
            let mut turn = lane.turn();
            if lane.current.load(Ordering::SeqCst) != number {
                return false;
            }
            turn.runner = None;
            let Some(exchange) = turn.queue.pop_front() else { return true };
            if self.is_eager.load(Ordering::Relaxed) || self.pool.is_full() {
                drop(turn);
                self.pool.submit(self, Job::Handle(exchange));
            } else {
                turn.begun += 1;
                turn.runner = Some(thread);
                drop(turn);
                self.watch.wake();
                self.handle(&exchange);
            }
        }
    }

    /// One frame of a link.
    fn frame_came(
        &'static self,
        lane: &Arc<Lane>,
        frame: Frame<FromGateway>,
        came: Instant,
    ) -> Result<(), LinkError> {
        let number = frame.exchange;
        if let FromGateway::Request(request) = frame.message {
            return self.request_came(lane, number, request, came);
        }
        let Some(exchange) = lane.link.find(number) else { return Ok(()) };
        match frame.message {
            FromGateway::Request(_) => {}
            FromGateway::Body { data, end } => exchange.body_came(&data, end),
            FromGateway::Trailers(fields) => exchange.trailers_came(&fields),
            FromGateway::Window(credit) => exchange.credit_came(credit),
            FromGateway::Deadline { left_ms, ends } => {
                let at = (left_ms > 0).then(|| came + Duration::from_millis(u64::from(left_ms)));
                exchange.deadline_came(at, ends, |is_set, to_set| {
                    self.alarm.reset(self, is_set, to_set, exchange.handle());
                });
            }
            FromGateway::Cancel(_) => {
                lane.link.forget(number);
                exchange.cancel();
            }
        }
        Ok(())
    }

    fn request_came(
        &self,
        lane: &Arc<Lane>,
        number: u64,
        request: Request,
        came: Instant,
    ) -> Result<(), LinkError> {
        let link = &lane.link;
        let make = |handle| Arc::new(Exchange::new(handle, number, link, request, came));
        let exchange = match self.table.insert(make) {
            Ok(exchange) => exchange,
            Err(error) => {
                link.append(|out| data::abort(out, number, AbortCode::Refused, &error.to_string()));
                return Ok(());
            }
        };
        if let Err(error) = link.open(&exchange) {
            self.table.remove(exchange.handle());
            return Err(error);
        }
        lane.turn().queue.push_back(exchange);
        Ok(())
    }

    /// Has the module handle one exchange, unless nobody waits for it any more. It counts as running before that is looked
    /// at: an exchange that has not ended then is in the table, so a [drain](Self::drain) sees the one or the other.
    fn handle(&self, exchange: &Arc<Exchange>) {
        self.running.fetch_add(1, Ordering::SeqCst);
        if exchange.check().is_ok() {
            self.call(exchange);
        } else {
            self.forget(exchange);
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    /// Calls the module for one exchange.
    fn call(&self, exchange: &Arc<Exchange>) {
        HANDLING.set(Some(Arc::clone(exchange)));
        let was_called = self.module.handle(exchange.handle());
        HANDLING.set(None);
        if !was_called && exchange.abort(AbortCode::Refused, "the module has no function `handle`").is_ok() {
            self.forget(exchange);
        }
    }

    /// Takes an exchange that has ended, or that nobody will answer, out of the table and its link.
    pub(crate) fn forget(&self, exchange: &Exchange) {
        if let Some(deadline) = exchange.alarm() {
            self.alarm.clear(deadline, exchange.handle());
        }
        // What is left of its answer goes as the gateway gives credit for it.
        if !exchange.has_rest() {
            exchange.link().forget(exchange.number());
        }
        self.table.remove(exchange.handle());
    }

    /// The open exchange of that handle. The one whose handler this thread runs is at hand without a lock.
    pub(crate) fn find(&self, handle: u64) -> Option<Arc<Exchange>> {
        let own = HANDLING
            .try_with(|handling| handling.borrow().as_ref().filter(|x| x.handle() == handle).cloned())
            .ok()
            .flatten();
        own.or_else(|| self.table.get(handle))
    }

    /// Sees to it that what was appended to a link gets sent, without waiting: by this thread now, unless it holds the
    /// link's turn and it is little, for the end of the turn's batch sends that. The turn is looked at behind the append
    /// and behind the send, and whoever takes it sends what is there: nothing stays.
    pub(crate) fn flush(&'static self, link: &Arc<Link>) {
        if holds_turn(link) {
            if !link.has_much_to_send() {
                return;
            }
            link.flush_some();
            if holds_turn(link) {
                return;
            }
        }
        self.send(link);
    }

    /// Sends what the socket takes now, and has another thread see to what stays.
    fn send(&'static self, link: &Arc<Link>) {
        if link.send_now() {
            self.pool.add_extra();
            self.pool.submit(self, Job::Drain(Arc::clone(link)));
        }
    }

    /// Gives this thread's turn away, if it holds one: it is about to wait.
    pub(crate) fn yield_turn(&'static self) {
        if let Ok(Some((lane, number))) = TURN.try_with(RefCell::take) {
            self.pass_turn(&lane, number, None);
        }
    }

    /// Takes the turn from a thread that is stuck, if the lane is still as it was seen.
    pub(crate) fn take_from_stuck(&'static self, lane: &Arc<Lane>, seen: Sight) {
        if self.pass_turn(lane, lane.current.load(Ordering::SeqCst), Some(seen)) {
            self.calm.store(0, Ordering::Relaxed);
            if !self.is_eager.swap(true, Ordering::Relaxed) {
                let needed = self.calm_needed.load(Ordering::Relaxed);
                self.calm_needed.store(needed.saturating_mul(2).min(CALM_AT_MOST), Ordering::Relaxed);
            }
        }
    }

    /// Ends the turn of that number and has another thread begin the next; false if it had ended already.
    fn pass_turn(&'static self, lane: &Arc<Lane>, number: u64, seen: Option<Sight>) -> bool {
        let mut turn = lane.turn();
        let is_as_seen = seen.is_none_or(|seen| seen == turn.sight());
        if lane.current.load(Ordering::SeqCst) != number || !is_as_seen {
            return false;
        }
        turn.runner = None;
        lane.current.store(number + 1, Ordering::SeqCst);
        drop(turn);
        self.pool.submit(self, Job::Turn(Arc::clone(lane), number + 1));
        true
    }

    fn note_calm(&self, is_quick: bool) {
        if !is_quick {
            self.calm.store(0, Ordering::Relaxed);
        } else if self.calm.fetch_add(1, Ordering::Relaxed) >= self.calm_needed.load(Ordering::Relaxed) {
            self.is_eager.store(false, Ordering::Relaxed);
            self.calm.store(0, Ordering::Relaxed);
        }
    }

    fn end_lane(&self, lane: &Arc<Lane>, error: &LinkError) {
        if !matches!(error, LinkError::Closed) {
            crate::output::say(&format!("link {}: {}", lane.link.number(), crate::output::chain(error)));
        }
        self.lanes().retain(|other| !Arc::ptr_eq(other, lane));
        self.pool.remove_extra();
        lane.link.end();
        // Those that no handler has seen are over; the others are for the module to end.
        let unseen = std::mem::take(&mut lane.turn().queue);
        unseen.iter().for_each(|exchange| self.forget(exchange));
    }

    /// The lanes as they are now.
    pub(crate) fn lanes(&self) -> MutexGuard<'_, Vec<Arc<Lane>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks until something is so that will be soon, or the deadline; whether it is.
fn wait_until(deadline: Instant, is_so: impl Fn() -> bool) -> bool {
    const LOOK_AGAIN: Duration = Duration::from_millis(1);
    while !is_so() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    true
}

/// Whether this thread holds the turn of that link.
fn holds_turn(link: &Arc<Link>) -> bool {
    let holds = TURN.try_with(|turn| {
        turn.borrow().as_ref().is_some_and(|(lane, number)| {
            Arc::ptr_eq(&lane.link, link) && lane.current.load(Ordering::SeqCst) == *number
        })
    });
    holds.unwrap_or(false)
}

impl Lane {
    pub(crate) fn sight(&self) -> Sight {
        self.turn().sight()
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    const fn sight(&self) -> Sight {
        Sight { begun: self.begun, runner: self.runner }
    }
}
