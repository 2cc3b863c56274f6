//! The supervisor: hosts, by way of hot-spawn.
//!
//! It starts an instance from a verified artifact, says when it is ready, asks it how it is, stops it, and tells in one
//! sentence how it ended. hot-spawn is the parent of the hosts and keeps them while there is no `hotd`; at connecting,
//! what runs is adopted.
//!
//! It does not choose what runs, nor when to try again: the agent does, with [`Backoff`] at hand. It does not look into
//! the data streams that it attaches: the gateway and the host speak there.
//!
//! Rooms: `spawn_link` is the way to hot-spawn, holds one `connection` after the other, and `address` finds or starts it;
//! `instance` is what others have of one, and its `life` follows its host over `host_link`, judges its answers with
//! `health` and what it claims with `claims`, gathers its `metrics`, and keeps its `output`; `pulse` tells when `hotd`
//! itself stood still; `presence` says whether hot-spawn is there, `sandbox` how instances are to be held, and `packet` is
//! the socket under both links.

mod address;
mod backoff;
mod claims;
mod connection;
mod health;
mod host_link;
mod instance;
mod life;
mod metrics;
mod output;
mod packet;
mod presence;
mod pulse;
mod sandbox;
mod spawn_link;
mod spec;
mod state;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use hot_artifact::Verified;
use thiserror::Error;
use tokio::sync::{broadcast, watch};

pub use address::{ReachError, SpawnAddress};
pub use backoff::Backoff;
pub use connection::{Denials, LinkError};
pub use host_link::HostLinkError;
pub use instance::{AttachError, Instance};
pub use metrics::MetricsError;
pub use output::Line;
pub use presence::{Absence, Presence};
pub use sandbox::{Isolation, Sandbox};
pub(crate) use sandbox::{doing_without, quoted, unbounded};
pub use spec::{InstanceId, LabelError, MAX_CONFIG, Spec};
pub use state::{End, State};

use connection::{Found, SpawnError};
use spawn_link::SpawnLink;

/// The handle. When the last one and the last instance's task are gone, so is the connection; the hosts live on.
#[derive(Debug, Clone)]
pub struct Supervisor {
    spawn: SpawnLink,
    sandbox: Arc<Sandbox>,
}

/// An instance that an earlier `hotd` started.
#[derive(Debug)]
pub struct Adopted {
    /// As it was started.
    pub spec: Spec,
    /// It is [`State::Starting`] until its host has answered, or [`State::Ended`] if it ended meanwhile.
    pub instance: Instance,
}

/// Why hot-spawn can't be used.
#[derive(Debug, Error)]
#[error("the hosts on this node can't be supervised")]
pub struct ConnectError(#[from] LinkError);

/// Why an instance was not started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The spec is too large for hot-spawn to keep.
    #[error("instance {instance} can't be described to hot-spawn")]
    Label {
        /// The instance.
        instance: InstanceId,
        /// What is wrong.
        source: LabelError,
    },
    /// The artifact could not be handed over.
    #[error("the artifact of instance {instance} can't be handed over")]
    Artifact {
        /// The instance.
        instance: InstanceId,
        /// What the system says.
        source: io::Error,
    },
    /// hot-spawn is gone, which says nothing about the module.
    #[error("instance {instance} was not started: hot-spawn is not there")]
    NoSpawn {
        /// The instance.
        instance: InstanceId,
    },
    /// hot-spawn did not start it.
    #[error("instance {instance} was not started: {text}")]
    Refused {
        /// The instance.
        instance: InstanceId,
        /// Why.
        text: String,
    },
    /// It was started, but its sockets can't be used; it was killed.
    #[error("instance {instance} was started and can't be watched")]
    Watch {
        /// The instance.
        instance: InstanceId,
        /// What the system says.
        source: io::Error,
    },
}

/// Why the gateway's listeners are not kept.
#[derive(Debug, Error)]
pub enum KeepError {
    /// It could not be duplicated.
    #[error("the listener {name} can't be duplicated")]
    Duplicate {
        /// Its name.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// hot-spawn is not there.
    #[error("hot-spawn is not there to keep listeners")]
    NoSpawn,
}

impl Supervisor {
    /// Connects to hot-spawn, starting it if `address` says how, and adopts what runs, however that is held. What is started
    /// from now on is held by `sandbox`.
    pub async fn connect(
        address: SpawnAddress,
        sandbox: Sandbox,
    ) -> Result<(Self, Vec<Adopted>), ConnectError> {
        let (spawn, found) = SpawnLink::connect(address).await?;
        let supervisor = Self { spawn, sandbox: Arc::new(sandbox) };
        let mut adopted = Vec::new();
        for host in found {
            adopted.extend(supervisor.adopt(host).await);
        }
        Ok((supervisor, adopted))
    }

    /// Each time that hot-spawn is lost or there again, from now on.
    #[must_use]
    pub fn presence(&self) -> broadcast::Receiver<Presence> {
        self.spawn.presence().changes()
    }

    /// Whether hot-spawn is gone now; changes when that does.
    #[must_use]
    pub fn absence(&self) -> watch::Receiver<Option<Arc<Absence>>> {
        self.spawn.presence().now()
    }

    /// Starts an instance. Returns once its process runs; [`Instance::state`] tells the rest.
    pub async fn start(&self, spec: Spec, artifact: &Verified) -> Result<Instance, StartError> {
        let instance = spec.instance;
        let label = spec.to_label().map_err(|source| StartError::Label { instance, source })?;
        let artifact = artifact.try_clone_fd().map_err(|source| StartError::Artifact { instance, source })?;
        let process =
            self.spawn.spawn(instance.0, label, spec.module.clone(), spec.limits, artifact).await.map_err(
                |error| match error {
                    SpawnError::NoLink => StartError::NoSpawn { instance },
                    SpawnError::Silent | SpawnError::Failed(_) => {
                        StartError::Refused { instance, text: crate::describe(&error) }
                    }
                },
            )?;
        let sandbox = Arc::clone(&self.sandbox);
        match Instance::follow(spec, process, self.spawn.clone(), sandbox, false, b"") {
            Ok(instance) => Ok(instance),
            Err(source) => {
                self.spawn.signal(instance.0, rustix::process::Signal::KILL).await;
                Err(StartError::Watch { instance, source })
            }
        }
    }

    /// Has hot-spawn keep a duplicate of `listener` for the next `hotd`, in place of one that has this name.
    pub async fn keep_listener(&self, name: &str, listener: impl AsFd) -> Result<(), KeepError> {
        let duplicate = listener.as_fd().try_clone_to_owned();
        let duplicate = duplicate.map_err(|source| KeepError::Duplicate { name: name.to_owned(), source })?;
        if self.spawn.keep(name.to_owned(), duplicate).await { Ok(()) } else { Err(KeepError::NoSpawn) }
    }

    /// The listeners that hot-spawn keeps, by name.
    pub async fn kept_listeners(&self) -> Result<Vec<(String, OwnedFd)>, KeepError> {
        self.spawn.kept().await.ok_or(KeepError::NoSpawn)
    }

    /// Ends hot-spawn and with it every host and every kept listener: a dev node's way to leave nothing behind.
    pub async fn end_spawn(&self) {
        self.spawn.end().await;
    }

    /// Has hot-spawn close a listener that is not used any more.
    pub async fn forget_listener(&self, name: &str) {
        self.spawn.forget_listener(name.to_owned()).await;
    }

    /// A host whose label can't be read is ended: nobody knows what it is.
    async fn adopt(&self, host: Found) -> Option<Adopted> {
        let Found { id, label, tail, pid, held, process } = host;
        let spec = match Spec::from_label(&label) {
            Ok(spec) if spec.instance.0 == id => spec,
            Ok(_) | Err(_) => {
                tracing::error!(id, pid, "a host has a label that can't be read; it is killed");
                self.spawn.signal(id, rustix::process::Signal::KILL).await;
                return None;
            }
        };
        let instance = match process {
            Err(ending) => Instance::ended(&spec, pid, held, ending, &tail),
            Ok(process) => {
                let (spawn, sandbox) = (self.spawn.clone(), Arc::clone(&self.sandbox));
                match Instance::follow(spec.clone(), process, spawn, sandbox, true, &tail) {
                    Ok(instance) => instance,
                    Err(error) => {
                        tracing::error!(id, pid, %error, "a host can't be adopted; it is killed");
                        self.spawn.signal(id, rustix::process::Signal::KILL).await;
                        return None;
                    }
                }
            }
        };
        Some(Adopted { spec, instance })
    }
}
