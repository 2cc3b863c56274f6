//! One instance, as others see it: what they may ask and hear of it. Its [`life`](super::life) goes on without them.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use hot_wire::host::Features;
use hot_wire::isolation::Held;
use hot_wire::metrics::Series;
use hot_wire::spawn::Ending;
use thiserror::Error;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::connection::{Denials, Process};
use super::host_link::{HostLink, HostLinkError};
use super::life::{Ends, Life};
use super::metrics::{ANSWERED_WITHIN, MAX_WAITING, MetricsError, Waiting};
use super::output::{Line, Output};
use super::sandbox::{Isolation, Sandbox};
use super::spawn_link::SpawnLink;
use super::spec::{InstanceId, Spec};
use super::state::{State, end_of};

/// An instance. Cheap to clone; dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct Instance {
    id: InstanceId,
    pid: u32,
    link: Option<Arc<HostLink>>,
    state: watch::Receiver<State>,
    features: watch::Receiver<Features>,
    isolation: watch::Receiver<Isolation>,
    stop: Arc<watch::Sender<Option<Duration>>>,
    /// Who asks for its metrics. Nobody hears of an instance that had ended when it was found.
    metrics: Option<mpsc::Sender<Waiting>>,
    /// Who found something on its data links.
    accuse: Option<mpsc::Sender<String>>,
    denied: watch::Receiver<Denials>,
    output: Output,
}

/// Why links can't be attached.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The instance does not serve.
    #[error("instance {instance} is not ready")]
    NotReady {
        /// The instance.
        instance: InstanceId,
    },
    /// The host can't be talked to.
    #[error("instance {instance} can't be given a link")]
    Host {
        /// The instance.
        instance: InstanceId,
        /// What went wrong.
        source: HostLinkError,
    },
}

impl Instance {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> InstanceId {
        self.id
    }

    /// The process of its host.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Where it stands, from now on. After [`State::Ended`] nothing comes any more.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// What its host has said that it understands.
    #[must_use]
    pub fn features(&self) -> Features {
        *self.features.borrow()
    }

    /// How it is held, as far as that is known.
    #[must_use]
    pub fn isolation(&self) -> Isolation {
        *self.isolation.borrow()
    }

    /// Makes `n` data streams to the host. They don't block; what was attached before stays.
    pub async fn attach(&self, n: usize) -> Result<Vec<UnixStream>, AttachError> {
        let ready = *self.state.borrow() == State::Ready;
        let Some(link) = self.link.as_ref().filter(|_| ready) else {
            return Err(AttachError::NotReady { instance: self.id });
        };
        let mut links = Vec::with_capacity(n);
        for _ in 0..n {
            links
                .push(link.attach().await.map_err(|source| AttachError::Host { instance: self.id, source })?);
        }
        Ok(links)
    }

    /// Ends it: a word to the host, which may use `grace` to let exchanges finish, then TERM, then KILL. Returns when
    /// the process is gone. The first call's grace counts.
    pub async fn stop(&self, grace: Duration) {
        self.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            stop.get_or_insert(grace);
            first
        });
        let mut state = self.state.clone();
        // An error means that its task is gone, e.g. because this process ends; then nobody can wait.
        state.wait_for(|state| matches!(state, State::Ended(_))).await.map(drop).unwrap_or_default();
    }

    /// What its module has counted so far, by name and labels.
    pub async fn metrics(&self) -> Result<Vec<Series>, MetricsError> {
        let asks = self.metrics.as_ref().ok_or(MetricsError::NotReady)?;
        let (asker, answer) = oneshot::channel();
        asks.try_send(asker).map_err(|error| match error {
            TrySendError::Full(_) => MetricsError::Busy,
            TrySendError::Closed(_) => MetricsError::NotReady,
        })?;
        match timeout(ANSWERED_WITHIN, answer).await {
            Ok(Ok(answer)) => answer,
            // It ended meanwhile.
            Ok(Err(_)) => Err(MetricsError::NotReady),
            Err(_elapsed) => Err(MetricsError::NoAnswer),
        }
    }

    /// Its data links carry what no host sends: it is killed for that if it still serves. Returns at once.
    pub fn accuse(&self, text: String) {
        if let Some(accuse) = &self.accuse {
            // One accusation is enough, and whose task has ended needs none.
            drop(accuse.try_send(text));
        }
    }

    /// The system calls of its host that were refused so far, and what follows.
    #[must_use]
    pub fn denied(&self) -> watch::Receiver<Denials> {
        self.denied.clone()
    }

    /// The last lines that it printed, oldest first.
    #[must_use]
    pub fn output_tail(&self) -> Vec<Line> {
        self.output.tail()
    }

    /// The lines that it prints from now on. Who reads too slowly misses some and is told so.
    #[must_use]
    pub fn subscribe_output(&self) -> broadcast::Receiver<Line> {
        self.output.subscribe()
    }

    /// An instance whose end hot-spawn kept while no `hotd` was there.
    pub(super) fn ended(spec: &Spec, pid: u32, held: Held, ending: Ending, tail: &[u8]) -> Self {
        let output = Output::new();
        output.take_up(tail);
        let end = end_of(ending, output.last_words());
        let (_, state) = watch::channel(State::Ended(end));
        let (_, features) = watch::channel(Features::default());
        let (_, isolation) = watch::channel(Isolation { held, confined: None });
        let stop = Arc::new(watch::Sender::new(None));
        let (_, denied) = watch::channel(Denials::default());
        Self {
            id: spec.instance,
            pid,
            link: None,
            state,
            features,
            isolation,
            stop,
            metrics: None,
            accuse: None,
            denied,
            output,
        }
    }

    /// Follows a host: a new one, which is told to start, or, if `adopted`, one that an earlier `hotd` started, which
    /// is asked where it stands. `tail` is what it printed meanwhile.
    pub(super) fn follow(
        spec: Spec,
        process: Process,
        spawn: SpawnLink,
        sandbox: Arc<Sandbox>,
        adopted: bool,
        tail: &[u8],
    ) -> std::io::Result<Self> {
        let output = Output::new();
        output.take_up(tail);
        let link = Arc::new(HostLink::new(process.control)?);
        let reader = tokio::spawn(output.clone().read(process.output, spec.module.clone(), spec.release));
        let (state_sender, state) = watch::channel(State::Starting);
        let (features_sender, features) = watch::channel(Features::default());
        let (isolation_sender, isolation) = watch::channel(Isolation { held: process.held, confined: None });
        let (stop, stop_asked) = watch::channel(None);
        let (metrics, metrics_asked) = mpsc::channel(MAX_WAITING);
        let (accuse, accused) = mpsc::channel(1);
        let (denied_sender, denied) = watch::channel(Denials::default());
        let instance = Self {
            id: spec.instance,
            pid: process.pid,
            link: Some(Arc::clone(&link)),
            state,
            features,
            isolation,
            stop: Arc::new(stop),
            metrics: Some(metrics),
            accuse: Some(accuse),
            denied,
            output: output.clone(),
        };
        let ends = Ends {
            state: state_sender,
            features: features_sender,
            isolation: isolation_sender,
            stop: stop_asked,
            metrics: metrics_asked,
            accused,
            denied: denied_sender,
        };
        let life = Life::new(spec, link, spawn, sandbox, output, ends, adopted);
        tokio::spawn(life.run(process.end, process.denied, reader));
        Ok(instance)
    }
}
