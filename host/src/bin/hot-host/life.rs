//! The module's life: start, health checks, stop, all on one thread of its own, so that a module that hangs in any of
//! them keeps the control thread from nothing.

use crate::control::Control;
use crate::engine::Engine;
use crate::library::{Module, StartError};
use crate::pool::STACK;
use crate::{ARTIFACT, confine, crash, output, services};
use hot_module::ABI;
use hot_wire::host::{Features, FromHost, HealthReply, Phase, Stage, Start};
use hot_wire::isolation::{Confine, Parts};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The handle on the module's life.
#[derive(Debug)]
pub(crate) struct Life {
    control: Arc<Control>,
    shared: Arc<Shared>,
    asks: Option<Sender<Ask>>,
    /// On which hot-spawn is told how to count refused calls; until the host has confined itself.
    report: Option<OwnedFd>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// What the host has taken from itself.
    parts: Parts,
    /// Since when the module's `health` has been running.
    checking: Option<Instant>,
}

#[derive(Debug)]
enum Ask {
    Health(u64),
    /// With the end of the grace.
    Stop(Instant),
}

impl Life {
    pub(crate) fn new(control: Arc<Control>, report: Option<OwnedFd>) -> Self {
        let state = State { phase: Phase::Waiting, parts: Parts::NONE, checking: None };
        Self { control, shared: Arc::new(Shared { state: Mutex::new(state) }), asks: None, report }
    }

    /// Confines the host, then loads and starts the module; what comes of it is told to hotd. A second start is refused.
    pub(crate) fn start(&mut self, mut start: Start) {
        if self.asks.is_some() {
            return output::say("hotd asked for a second start; a host has one module");
        }
        self.shared.with(|state| state.phase = Phase::Starting);
        self.confine(start.confine.take());
        let (asks, asked) = channel();
        self.asks = Some(asks);
        let (control, shared) = (Arc::clone(&self.control), Arc::clone(&self.shared));
        spawn("hot-module", move || live(&control, &shared, start, &asked));
    }

    /// The last that happens on the only thread. A hotd of before, which says nothing of it, knows no answer to it either.
    fn confine(&mut self, told: Option<Confine>) {
        let is_told = told.is_some();
        match confine::take(&told.unwrap_or_default(), self.report.take()) {
            Ok(parts) => {
                self.shared.with(|state| state.parts = parts);
                if is_told {
                    self.control.send(&FromHost::Confined { parts });
                }
            }
            Err(error) => {
                if let confine::ConfineError::Missing { parts, .. } = error
                    && is_told
                {
                    self.control.send(&FromHost::Confined { parts });
                }
                let text = format!("the host can't confine itself: {}", output::chain(&error));
                output::say(&text);
                let stage = if is_told { Stage::Confine } else { Stage::Load };
                self.control.send(&FromHost::Failed { stage, text });
                output::leave(1);
            }
        }
    }

    /// Answers a health check: at once, or when the module's `health` has.
    pub(crate) fn check(&self, seq: u64) {
        let (phase, parts, checking) = self.shared.with(|state| {
            let checking = state.checking;
            if state.phase == Phase::Ready && checking.is_none() {
                state.checking = Some(Instant::now());
            }
            (state.phase, state.parts, checking)
        });
        match (phase, checking, &self.asks) {
            (Phase::Ready, None, Some(asks)) if asks.send(Ask::Health(seq)).is_ok() => {}
            (Phase::Ready, Some(since), _) => {
                let text = format!("health has not returned for {} ms", since.elapsed().as_millis());
                self.control.send(&reply(seq, phase, parts, Err(text)));
            }
            _ => self.control.send(&reply(seq, phase, parts, Ok(()))),
        }
    }

    /// Lets open exchanges finish, stops the module, and ends the process, all within `grace`.
    pub(crate) fn stop(&mut self, grace: Duration) {
        let before = self.shared.with(|state| std::mem::replace(&mut state.phase, Phase::Stopping));
        let engine = Engine::get();
        match (before, engine, self.asks.take()) {
            (Phase::Stopping, _, _) => {}
            (Phase::Ready, Some(engine), Some(asks)) => {
                engine.refuse_new();
                spawn("hot-stop", move || stop(engine, &asks, grace));
            }
            _ => {
                // The module does not run yet. Its `start` may never return, so it is not waited for.
                self.control.send(&FromHost::Stopped);
                output::leave(0);
            }
        }
    }
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The module's thread.
fn live(control: &Control, shared: &Shared, start: Start, asked: &Receiver<Ask>) {
    let _stack = crash::Stack::new();
    let engine = match load(start) {
        Ok(engine) => engine,
        Err(error) => {
            let text = output::chain(&error);
            output::say(&text);
            control.send(&FromHost::Failed { stage: error.stage(), text });
            output::leave(1);
        }
    };
    // A stop that came meanwhile ends the process by itself.
    shared.with(|state| {
        if state.phase == Phase::Starting {
            state.phase = Phase::Ready;
        }
    });
    control.send(&FromHost::Ready { abi: ABI });
    while let Ok(ask) = asked.recv() {
        match ask {
            Ask::Health(seq) => {
                let health = engine.module().health();
                let (phase, parts) = shared.with(|state| {
                    state.checking = None;
                    (state.phase, state.parts)
                });
                control.send(&reply(seq, phase, parts, health));
            }
            Ask::Stop(deadline) => {
                engine.module().stop();
                // What was answered last may be on its way to a gateway that is slow to read.
                engine.wait_sent(deadline);
                control.send(&FromHost::Stopped);
                output::leave(0);
            }
        }
    }
}

fn load(start: Start) -> Result<&'static Engine, StartError> {
    let config = services::install_config(start.config);
    let path = format!("/proc/self/fd/{ARTIFACT}");
    let module = Module::start(&path, &services::HOST, config, start.options.serves)?;
    let size = |given: u32| usize::try_from(given).unwrap_or(usize::MAX);
    Ok(Engine::start(module, size(start.options.workers), size(start.options.max_exchanges)))
}

/// The thread of a stop.
fn stop(engine: &Engine, asks: &Sender<Ask>, grace: Duration) {
    let deadline = Instant::now() + grace;
    // Most of the grace is for those that end by themselves; then streams that would not end are cancelled, and the last
    // part is for the module's own `stop`.
    let drained = engine.drain(deadline - grace / 4) || {
        engine.cancel_all();
        engine.drain(deadline - grace / 8)
    };
    if drained {
        // If the module's thread has ended there is nothing to stop; the wait below ends the process.
        drop(asks.send(Ask::Stop(deadline)));
        let (_keep, never) = channel::<()>();
        if let Err(RecvTimeoutError::Timeout) =
            never.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            output::say(&format!(
                "the module's stop or health did not return, or its last answers were not read, within the grace of \
                 {grace:?}"
            ));
        }
    } else {
        let (open, _) = engine.table.open();
        output::say(&format!(
            "{open} exchanges were still open, or their handlers running, after the grace of {grace:?}"
        ));
    }
    output::leave(0)
}

fn reply(seq: u64, phase: Phase, parts: Parts, health: Result<(), String>) -> FromHost {
    let (open, oldest) = Engine::get().map_or((0, None), |engine| engine.table.open());
    let oldest_ms = oldest.map_or(0, |at| at.elapsed().as_millis());
    FromHost::Health(HealthReply {
        seq,
        phase,
        ok: health.is_ok(),
        text: health.err().unwrap_or_default(),
        in_flight: u32::try_from(open).unwrap_or(u32::MAX),
        oldest_ms: u32::try_from(oldest_ms).unwrap_or(u32::MAX),
        features: Features::ALL,
        parts,
    })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) {
    let made = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(run);
    if let Err(error) = made {
        output::die(&format!("the thread {name} can't be made: {error}"));
    }
}
