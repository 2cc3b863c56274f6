//! The life of an instance: the task that follows its host from the first message to the end of its process.

use std::sync::Arc;
use std::time::Duration;

use hot_wire::host::{Features, FromHost, HealthReply, Phase, Stage, ToHost};
use hot_wire::isolation::Parts;
use hot_wire::spawn::Cause;
use hot_wire::{MAX_MESSAGE, PROTOCOL};
use rustix::process::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::claims::Claims;
use super::connection::{Denials, HostEnd};
use super::health::{Health, Verdict};
use super::host_link::{HostLink, HostLinkError};
use super::metrics::{Gathering, MetricsError, Waiting};
use super::output::Output;
use super::pulse::Pulse;
use super::sandbox::{Isolation, Sandbox};
use super::spawn_link::SpawnLink;
use super::spec::Spec;
use super::state::{End, State, breach_of, describe, end_of, failed};

/// Between TERM and KILL for a host that did not stop when asked.
const TERM_GRACE: Duration = Duration::from_millis(500);
/// Between two KILLs for a host that is still there: one may be lost with the connection to hot-spawn.
const KILL_AGAIN: Duration = Duration::from_secs(1);
/// How long a host that said that it ends may take to do so.
const EXIT_GRACE: Duration = Duration::from_secs(2);
/// How long the rest of the output is waited for once the process is gone; something that it started may hold the pipe.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);

/// How a host ends that was killed by this supervisor, if by any signal.
const KILLED: Cause = Cause::Killed(Signal::KILL.as_raw());

/// What is due at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// To be ready.
    Start,
    /// To have stopped by itself.
    Term,
    /// To have ended.
    Kill,
}

/// What woke the task.
enum Woken {
    /// Somebody asked for its end, or nobody can any more.
    Stop {
        asked: bool,
    },
    Metrics(Waiting),
    /// What came over a data link is none of a host's words.
    Accused(String),
    /// System calls were refused.
    Denied(Vec<(u32, u64)>),
    Message(Result<FromHost, HostLinkError>),
    /// Something is due, or nothing but the pulse.
    Time,
}

/// The task's ends of what the handle has.
pub(super) struct Ends {
    pub(super) state: watch::Sender<State>,
    /// What the host has said that it understands.
    pub(super) features: watch::Sender<Features>,
    /// How it is held.
    pub(super) isolation: watch::Sender<Isolation>,
    pub(super) stop: watch::Receiver<Option<Duration>>,
    pub(super) metrics: mpsc::Receiver<Waiting>,
    /// What its data links were found to carry that no host sends.
    pub(super) accused: mpsc::Receiver<String>,
    /// The system calls that were refused so far.
    pub(super) denied: watch::Sender<Denials>,
}

/// The task's state.
pub(super) struct Life {
    spec: Spec,
    link: Arc<HostLink>,
    spawn: SpawnLink,
    state: watch::Sender<State>,
    stop: watch::Receiver<Option<Duration>>,
    /// Whether somebody can still ask for something.
    has_handle: bool,
    metrics_asked: mpsc::Receiver<Waiting>,
    gathering: Gathering,
    accused: mpsc::Receiver<String>,
    denied: watch::Sender<Denials>,
    claims: Claims,
    /// Why it is killed at the deadline, should nothing else have ended it by then.
    overdue: Option<&'static str>,
    /// What the host has said that it understands.
    features: watch::Sender<Features>,
    /// How every host of this node is to be held, and how this one is.
    sandbox: Arc<Sandbox>,
    isolation: watch::Sender<Isolation>,
    output: Output,
    health: Health,
    pulse: Pulse,
    deadline: Option<(Instant, Due)>,
    /// How its end will be told, once something made it inevitable.
    blame: Option<End>,
    /// Whether the host can still say something.
    link_open: bool,
    /// Whether an earlier `hotd` started the host: one that serves does so however it is held.
    adopted: bool,
    /// Whether it is known not to have been ready yet. Of an adopted host nothing is known until it answers; it was
    /// most likely ready, so a crash is called that.
    coming_up: bool,
}

impl Life {
    /// `adopted`: an earlier `hotd` started the host.
    pub(super) fn new(
        spec: Spec,
        link: Arc<HostLink>,
        spawn: SpawnLink,
        sandbox: Arc<Sandbox>,
        output: Output,
        ends: Ends,
        adopted: bool,
    ) -> Self {
        let now = Instant::now();
        Self {
            deadline: Some((now + spec.start_deadline, Due::Start)),
            health: Health::new(spec.health_interval, spec.health_threshold, now),
            pulse: Pulse::new(spec.health_interval, now),
            spec,
            link,
            spawn,
            state: ends.state,
            stop: ends.stop,
            has_handle: true,
            metrics_asked: ends.metrics,
            gathering: Gathering::default(),
            accused: ends.accused,
            denied: ends.denied,
            claims: Claims::new(adopted),
            overdue: None,
            features: ends.features,
            sandbox,
            isolation: ends.isolation,
            output,
            blame: None,
            link_open: true,
            adopted,
            coming_up: !adopted,
        }
    }

    /// Until its process is gone. A new host is told to start; one that was adopted is asked where it stands.
    pub(super) async fn run(
        mut self,
        mut end: oneshot::Receiver<HostEnd>,
        mut denied: mpsc::Receiver<Vec<(u32, u64)>>,
        reader: JoinHandle<()>,
    ) {
        if self.adopted {
            let question = self.health.ask(Instant::now());
            self.tell(&question).await;
        } else {
            self.start().await;
        }
        let ended = loop {
            let now = Instant::now();
            let at = self.next_deadline(now).0;
            let woken = tokio::select! {
                biased;
                ended = &mut end => break ended.unwrap_or_else(|_| HostEnd::Lost("hotd is ending".to_owned())),
                asked = self.stop.changed(), if self.has_handle => Woken::Stop { asked: asked.is_ok() },
                Some(text) = self.accused.recv() => Woken::Accused(text),
                Some(calls) = denied.recv() => Woken::Denied(calls),
                Some(asker) = self.metrics_asked.recv() => Woken::Metrics(asker),
                message = self.link.receive(), if self.link_open => Woken::Message(message),
                () = sleep_until(self.pulse.sleep_until(at, now)) => Woken::Time,
            };
            // Before anything is judged.
            self.allow_for_a_pause(Instant::now());
            match woken {
                Woken::Stop { asked: true } => self.stop_asked().await,
                // The instance goes on: the next hotd finds it.
                Woken::Stop { asked: false } => self.has_handle = false,
                Woken::Accused(text) if self.is_watched() => self.kill(End::Forged { text }).await,
                // It ends for something else.
                Woken::Accused(_) => {}
                Woken::Denied(calls) => self.count_denied(&calls),
                Woken::Metrics(asker) => self.metrics_asked_by(asker).await,
                Woken::Message(Ok(message)) => self.heard(message).await,
                Woken::Message(Err(error)) => self.link_failed(&error).await,
                Woken::Time => self.due(Instant::now()).await,
            }
        };
        // What was refused last is told before the end is.
        while let Ok(calls) = denied.try_recv() {
            self.count_denied(&calls);
        }
        let end = self.finish(ended, reader).await;
        tracing::debug!(instance = %self.spec.instance, "ended: {end}");
        self.state.send_replace(State::Ended(end));
    }

    /// What was not heard while this `hotd` stood still is not held against the host, which may have stood still as well:
    /// it gets its whole limits for answers anew, and as much longer to start or to stop. One that is to end has its end
    /// all the same.
    fn allow_for_a_pause(&mut self, now: Instant) {
        let Some(still) = self.pulse.stood_still(now) else { return };
        if self.is_watched() {
            tracing::warn!(instance = %self.spec.instance, ?still, "hotd stood still; the instance gets its limits anew");
            self.health.begin_anew(now);
        }
        match &mut self.deadline {
            // A start that stood still as well has lost that time; whole again, its deadline would not be one on a machine
            // that has little time for us. Exchanges that are to finish do so by way of this process.
            Some((at, Due::Start | Due::Term)) => *at += still,
            Some((_, Due::Kill)) | None => {}
        }
    }

    /// The earlier of the deadline and the next health question, which is `None`.
    fn next_deadline(&self, now: Instant) -> (Instant, Option<Due>) {
        let far = now + Duration::from_secs(3600);
        let (at, due) = self.deadline.map_or((far, None), |(at, due)| (at, Some(due)));
        match self.is_watched().then(|| self.health.next()) {
            Some(health) if health < at => (health, None),
            _ => (at, due),
        }
    }

    /// Health questions are asked of an instance that serves and is not to end.
    fn is_watched(&self) -> bool {
        self.blame.is_none() && *self.state.borrow() == State::Ready
    }

    async fn due(&mut self, now: Instant) {
        let (at, due) = self.next_deadline(now);
        if at > now {
            return;
        }
        match due {
            Some(Due::Start) => {
                let end = End::StartTimeout { limit: self.spec.start_deadline };
                self.kill(end).await;
            }
            Some(Due::Term) => {
                self.deadline = Some((now + TERM_GRACE, Due::Kill));
                self.spawn.signal(self.spec.instance.0, Signal::TERM).await;
            }
            Some(Due::Kill) => {
                if self.blame.is_none()
                    && let Some(text) = self.overdue
                {
                    self.will_end(End::Forged { text: text.to_owned() }, KILL_AGAIN);
                }
                self.deadline = Some((now + KILL_AGAIN, Due::Kill));
                self.spawn.signal(self.spec.instance.0, Signal::KILL).await;
            }
            None if self.is_watched() => match self.health.due(now) {
                Verdict::Fine => {
                    let question = self.health.ask(now);
                    self.tell(&question).await;
                }
                Verdict::Ended(end) => self.kill(end).await,
            },
            None => {}
        }
    }

    fn count_denied(&self, calls: &[(u32, u64)]) {
        self.denied.send_modify(|denied| denied.add(calls));
    }

    async fn heard(&mut self, message: FromHost) {
        if let Err(text) = self.claims.heard(&message)
            && self.blame.is_none()
        {
            return self.kill(End::Forged { text }).await;
        }
        match message {
            FromHost::Hello { protocol: PROTOCOL, features, .. } => {
                self.features.send_replace(features);
            }
            FromHost::Hello { protocol, .. } => {
                let text = format!("the host speaks protocol {protocol}, expected {PROTOCOL}");
                // It is not the module's, and none of it has run.
                self.kill(End::Refused { text }).await;
            }
            FromHost::Confined { parts } => {
                self.has_confined(parts);
                self.judge().await;
            }
            FromHost::Ready { .. } => self.says_ready().await,
            FromHost::Failed { stage, text } => {
                self.note_stage(stage);
                self.will_end(failed(stage, text), EXIT_GRACE);
            }
            FromHost::Health(reply) => self.healthy(reply).await,
            FromHost::Metrics(page) => {
                if let Some(question) = self.gathering.page(page) {
                    self.tell(&question).await;
                }
            }
            // Unasked it says nothing about why; the exit code does.
            FromHost::Stopped => {
                self.overdue = Some("it said that it had stopped, and did not end");
                self.deadline = Some((Instant::now() + EXIT_GRACE, Due::Kill));
            }
        }
    }

    async fn metrics_asked_by(&mut self, asker: Waiting) {
        let refusal = if *self.state.borrow() != State::Ready {
            Some(MetricsError::NotReady)
        } else if !self.features.borrow().has(Features::METRICS) {
            Some(MetricsError::Unknown)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            // Who is gone already needs no answer.
            drop(asker.send(Err(refusal)));
        } else if let Some(question) = self.gathering.ask(asker) {
            self.tell(&question).await;
        }
    }

    /// Its module may have said so in its place: the host is asked at once, which knows better.
    async fn says_ready(&mut self) {
        self.ready().await;
        if self.is_watched() {
            let question = self.health.ask(Instant::now());
            self.tell(&question).await;
        }
    }

    /// Tells the host what to start, unless it is not held as it must be.
    async fn start(&mut self) {
        self.adopted = false;
        if self.judge().await {
            let held = self.isolation.borrow().held;
            let start = ToHost::Start(self.spec.to_start(self.sandbox.confine(held)));
            self.tell(&start).await;
        }
    }

    /// Ends a host that was told by this `hotd` what to start, or is to be, and is not held as it must be. True: go on.
    async fn judge(&mut self) -> bool {
        let isolation = *self.isolation.borrow();
        match self.sandbox.refusal(isolation, &self.spec.limits) {
            Some(text) if !self.adopted => {
                self.kill(End::Refused { text }).await;
                false
            }
            _ => true,
        }
    }

    /// Of its parts the first word counts: as a rule that comes before there is any foreign code in the host.
    fn has_confined(&self, parts: Parts) {
        self.isolation.send_if_modified(|isolation| {
            let first = isolation.confined.is_none();
            isolation.confined.get_or_insert(parts);
            first
        });
    }

    /// A host that could not confine itself, and did not say how far it came, has nothing in force.
    fn note_stage(&self, stage: Stage) {
        if stage == Stage::Confine {
            self.has_confined(Parts::NONE);
        }
    }

    async fn ready(&mut self) {
        if self.blame.is_some() || *self.state.borrow() != State::Starting {
            return;
        }
        // One of a version that does not know of parts has none. An adopted one has said so to the hotd before, and says it
        // again when it is asked.
        if !self.adopted {
            self.has_confined(Parts::NONE);
        }
        if !self.judge().await {
            return;
        }
        self.coming_up = false;
        self.deadline = None;
        self.health.begin(Instant::now());
        self.state.send_replace(State::Ready);
    }

    async fn healthy(&mut self, reply: HealthReply) {
        self.features.send_replace(reply.features);
        let starting = *self.state.borrow() == State::Starting && self.blame.is_none();
        if starting {
            self.coming_up = matches!(reply.phase, Phase::Waiting | Phase::Starting);
        }
        // It answers nothing while it confines itself.
        if matches!(reply.phase, Phase::Starting | Phase::Ready | Phase::Stopping) {
            self.has_confined(reply.parts);
        }
        match (reply.phase, starting) {
            (Phase::Ready, true) => self.ready().await,
            // Told by the hotd before, which is gone.
            (Phase::Stopping, _) if self.blame.is_none() => self.will_end(End::Stopped, EXIT_GRACE),
            // Its hotd went away before it said what to start.
            (Phase::Waiting, true) => self.start().await,
            _ => {}
        }
        if let Verdict::Ended(end) = self.health.answered(reply, Instant::now())
            && self.is_watched()
        {
            self.kill(end).await;
        }
    }

    async fn stop_asked(&mut self) {
        let Some(grace) = *self.stop.borrow_and_update() else { return };
        if self.blame.is_some() {
            return;
        }
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        self.blame = Some(End::Stopped);
        self.deadline = Some((Instant::now() + grace, Due::Term));
        self.state.send_replace(State::Stopping);
        self.tell(&ToHost::Stop { grace_ms }).await;
    }

    /// It ends by itself, or is killed after `grace`.
    fn will_end(&mut self, end: End, grace: Duration) {
        if self.blame.is_none() {
            let state = if end == End::Stopped { State::Stopping } else { State::Failing(end.clone()) };
            self.blame = Some(end);
            self.state.send_replace(state);
        }
        self.deadline = Some((Instant::now() + grace, Due::Kill));
    }

    async fn kill(&mut self, end: End) {
        self.will_end(end, KILL_AGAIN);
        self.spawn.signal(self.spec.instance.0, Signal::KILL).await;
    }

    async fn tell(&mut self, message: &ToHost) {
        self.claims.told(message);
        if let Err(error) = self.link.send(message).await {
            self.link_failed(&error).await;
        }
    }

    /// A host without its control socket ends by itself, and hot-spawn tells how: that says more than the socket. One
    /// that sends rubbish is not what we started.
    async fn link_failed(&mut self, error: &HostLinkError) {
        let end = match error {
            // Longer than any message: its sender is none that we started.
            HostLinkError::Socket(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                End::Forged { text: format!("{error}, expected at most {MAX_MESSAGE} bytes") }
            }
            HostLinkError::Closed | HostLinkError::Socket(_) => {
                self.link_open = false;
                self.overdue = Some("its control socket was closed, and it did not end");
                let at = Instant::now() + EXIT_GRACE;
                if self.deadline.is_none_or(|(before, _)| at < before) {
                    self.deadline = Some((at, Due::Kill));
                }
                return;
            }
            HostLinkError::Stuck => {
                End::Hung { silent: self.health.silent(Instant::now()), limit: self.health.limit() }
            }
            HostLinkError::Message(_) => End::Forged { text: crate::describe(error) },
            // Of our own: the config of a release, as a rule.
            HostLinkError::TooLarge(_) => End::LoadFailed { stage: None, text: crate::describe(error) },
        };
        self.kill(end).await;
    }

    /// The process is gone: reads what it left, and says how it ended.
    async fn finish(&mut self, ended: HostEnd, mut reader: JoinHandle<()>) -> End {
        while let Some(message) = self.link.try_receive() {
            if self.blame.is_none()
                && let Err(text) = self.claims.heard(&message)
            {
                self.blame = Some(End::Forged { text });
            }
            match message {
                FromHost::Confined { parts } => {
                    self.has_confined(parts);
                    let refusal = self.sandbox.refusal(*self.isolation.borrow(), &self.spec.limits);
                    if let Some(text) = refusal.filter(|_| !self.adopted && self.blame.is_none()) {
                        self.blame = Some(End::Refused { text });
                    }
                }
                FromHost::Failed { stage, text } if self.blame.is_none() => {
                    self.note_stage(stage);
                    self.blame = Some(failed(stage, text));
                }
                FromHost::Ready { .. } => self.ready().await,
                _ => {}
            }
        }
        if timeout(OUTPUT_GRACE, &mut reader).await.is_err() {
            reader.abort();
        }
        let blame = self.blame.take();
        if let HostEnd::Ended(ending) = &ended
            && ending.told
            && blame.is_none()
        {
            return End::Lost { text: "hot-spawn was told to end".to_owned() };
        }
        // What the host made of a want of memory says less than the limit.
        if let HostEnd::Ended(ending) = &ended
            && blame != Some(End::Stopped)
            && let Some(breach) = breach_of(*ending)
        {
            return breach;
        }
        match (blame, ended) {
            (Some(End::Forged { .. }), HostEnd::Ended(ending))
                if self.overdue.is_some() && ending.cause != KILLED =>
            {
                // It did end by itself, only slowly.
                end_of(ending, self.output.last_words())
            }
            (Some(blame), _) => blame,
            (None, HostEnd::Lost(text)) => End::Lost { text },
            (None, HostEnd::Ended(ending)) => {
                let line = self.output.last_words();
                if !self.coming_up {
                    end_of(ending, line)
                } else {
                    let text = format!("the host {} before the module was ready", describe(ending.cause, ""));
                    let text =
                        if line.is_empty() { text } else { format!("{text}; it last printed: {line}") };
                    End::LoadFailed { stage: None, text }
                }
            }
        }
    }
}
