//! [`Config`]: everything that can be set, read from TOML once and validated as a whole.
//!
//! All mistakes are reported at once, each as `file:line: what was found and what was expected`; of a text that is no TOML
//! the first place alone. Nothing behind this door checks a value again. It opens no socket and no store; the only files
//! that it reads besides its own are those of trust ([`Trust`]) and of TLS ([`Tls`]). A check looks at the other places as well, and makes
//! nothing.

mod cluster;
mod dev;
mod listen;
mod places;
mod read;
mod sandbox;
mod sections;
mod tls;
mod trust;
mod units;
mod values;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use self::places::Places;
use self::sections::Draft;
use crate::gateway::GatewayConfig;

pub use cluster::Cluster;
pub(crate) use cluster::{MAX_LABELS, could_be_label};
pub use dev::{Dev, DevError};
pub use sandbox::{ModuleLimits, Network, OwnLimits, Sandbox};
pub(crate) use tls::{Authority, Identity, NameError, Validity, common_name};
pub use tls::{Part, Tls, TlsError};
pub(crate) use trust::Reading;
pub use trust::{Trust, TrustError};
pub(crate) use values::is_host_name as is_node_name;

/// Largest config file that is read: a thousand times what one has.
const MAX_FILE: u64 = 1 << 20;

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Config {
    /// Service or development.
    pub mode: Mode,
    /// This node's name in the fleet.
    pub node: String,
    /// Where the store is.
    pub data_dir: PathBuf,
    /// The gateway's listeners and bounds.
    pub http: Http,
    /// Where `hotctl` connects.
    pub grpc: Grpc,
    /// The fleet that it is in; none: it is alone.
    pub cluster: Option<Cluster>,
    /// Whose modules are let in.
    pub trust: Trust,
    /// How instances are kept apart from everything else.
    pub sandbox: Sandbox,
    /// What they may reach by TCP.
    pub network: Network,
    /// What they may use.
    pub limits: ModuleLimits,
    /// What is kept.
    pub store: Store,
    /// How rollouts go unless a push says otherwise.
    pub policy: hot_rollout::Policy,
    /// What becomes of a stable release that crash-loops.
    pub on_crash_loop: crate::driver::OnCrashLoop,
    /// Who starts hosts.
    pub spawn: Spawn,
    /// What is logged.
    pub log: Log,
}

/// How this node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// For trying out: loopback only, with a signing key and a `hot-spawn` of its own.
    Dev,
    /// As a service of the system.
    Service,
}

/// `[http]`: the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Addresses that it listens on without TLS: at least one, or it listens with TLS.
    pub listen: Vec<SocketAddr>,
    /// Where it listens with TLS, if anywhere.
    pub tls: Option<Tls>,
    /// How it treats its clients: bounds and time-outs of connections, whom it believes.
    pub gateway: GatewayConfig,
    /// From a request's arrival to the end of its response.
    pub request_deadline: Duration,
    /// Requests of one module that its hosts work on at once.
    pub max_in_flight: usize,
    /// Requests of one module that wait for that; the next one gets 503.
    pub max_waiting: usize,
    /// Streams of one module at once; the next one gets 503.
    pub max_streams: usize,
    /// Time for requests to end when the daemon stops, or the instance that has them.
    pub drain_deadline: Duration,
}

/// `[grpc]`: the control interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grpc {
    /// The Unix socket.
    pub socket: PathBuf,
    /// A loopback address; with [`Mode::Dev`] only, and each call needs the token.
    pub listen: Option<SocketAddr>,
    /// Where callers are let in whose certificate an authority has signed, if anywhere.
    pub tls: Option<Tls>,
}

impl Grpc {
    /// Connections of callers that come from elsewhere.
    #[must_use]
    pub fn max_callers(&self) -> usize {
        self.tls.as_ref().map_or(0, |_| crate::grpc::mutual::MAX_CONNECTIONS)
    }
}

/// `[store]`: what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Store {
    /// Versions of a module that are kept besides those in use.
    pub keep: usize,
    /// Largest artifact, in bytes.
    pub max_artifact: u64,
    /// How long the caller of an upload is waited for, for each 256 KiB.
    pub upload_patience: Duration,
}

/// `[spawn]`: who starts hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spawn {
    /// The `hot-spawn` that listens here.
    Socket(PathBuf),
    /// A `hot-spawn` of our own, told to listen here.
    Own(PathBuf),
}

impl Spawn {
    /// The socket of hot-spawn.
    #[must_use]
    pub fn socket(&self) -> &Path {
        match self {
            Self::Socket(path) | Self::Own(path) => path,
        }
    }
}

/// `[log]`: what is logged, to stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A filter of `tracing-subscriber`: a level, or levels by target. The environment's `HOT_LOG` comes before it.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text; coloured on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why there is no config.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the config {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are mistakes in it.
    #[error(transparent)]
    Invalid(#[from] Mistakes),
}

/// All that is wrong in a config file and in the files of trust and of TLS that it names: at least one, in the
/// files' order.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Mistakes(pub Vec<Mistake>);

/// A config that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What in its files has no effect, though it is no mistake, and what only another user can tell.
    pub idle: Vec<Mistake>,
    /// The files that were read: the config, and those of trust and of TLS.
    pub files: Vec<PathBuf>,
}

/// One thing that is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What was found, what was expected, what to do.
    pub text: String,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

/// `FILE:LINE: TEXT`.
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, text } = self;
        write!(f, "{}:{line}: {text}", file.display())
    }
}

impl Config {
    /// Reads and validates the config file of a service, and that there is a certificate with its key where it wants
    /// TLS, and an authority where it wants one. What only the files of trust have wrong is not for here: a node that knows them from before starts all the
    /// same.
    ///
    /// # Errors
    /// When it can't be read, or with everything that is wrong in it and in the files of trust and of TLS that it names.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let mut draft = draft(path)?;
        draft.check_tls(path);
        if draft.mistakes.is_empty() { Ok(draft.config) } else { Ok(with_trust(draft, path)?.0) }
    }

    /// Checks the config file of a service, the files of trust and of TLS that it names, which must be good, too, and
    /// whether the user who asks could use the folders and sockets. Makes nothing.
    ///
    /// # Errors
    /// When it can't be read, or with everything that is wrong in all of them.
    pub fn check(path: &Path) -> Result<Checked, ConfigError> {
        let mut draft = draft(path)?;
        let places = draft
            .place_lines
            .as_ref()
            .map(|lines| places::check(&draft.config, path, lines, &draft.mistakes));
        let Places { mistakes, notes } = places.unwrap_or_default();
        draft.mistakes.extend(mistakes);
        let warnings = draft.check_tls(path);
        draft.mistakes.sort();
        let (config, mut idle) = with_trust(draft, path)?;
        idle.extend(warnings);
        idle.extend(notes);
        let Trust { allowed_signers, revoked, .. } = config.trust;
        let mut files: Vec<PathBuf> =
            [Some(path.to_owned()), Some(allowed_signers), revoked].into_iter().flatten().collect();
        for file in [config.http.tls, config.grpc.tls].into_iter().flatten().flat_map(Tls::into_files) {
            // One certificate may serve for both.
            if !files.contains(&file) {
                files.push(file);
            }
        }
        Ok(Checked { idle, files })
    }

    /// Validates the text of the config file at `path`, which is only named in messages.
    ///
    /// # Errors
    /// Everything that is wrong in it.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Mistakes> {
        let draft = sections::parse(text, path);
        or_mistakes(draft.config, draft.mistakes)
    }

    /// The config of a node for trying out, with everything in one folder.
    ///
    /// # Errors
    /// When an address is not a loopback one, or the folder's path is too long for a socket in it.
    pub fn dev(dev: &Dev) -> Result<Self, DevError> {
        dev::config(dev)
    }
}

fn draft(path: &Path) -> Result<Draft, ConfigError> {
    let text = trust::read_bounded(path, MAX_FILE)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    Ok(sections::parse(&text, path))
}

impl Draft {
    /// Adds what is wrong with the files of TLS. What a person has to see to though they can be used is given.
    fn check_tls(&mut self, path: &Path) -> Vec<Mistake> {
        let mut warnings = Vec::new();
        for (tls, lines) in [&self.config.http.tls, &self.config.grpc.tls].into_iter().zip(self.tls_lines) {
            let Some((tls, lines)) = tls.as_ref().zip(lines) else { continue };
            match tls.check(path, lines) {
                Ok(found) => warnings.extend(found),
                Err(wrong) => self.mistakes.extend(wrong),
            }
        }
        warnings
    }
}

/// The config, and what in the files of trust and in the rules about them has no effect.
fn with_trust(draft: Draft, path: &Path) -> Result<(Config, Vec<Mistake>), Mistakes> {
    let Draft { config, mut mistakes, trust_lines, .. } = draft;
    let idle = match trust_lines.map(|lines| config.trust.check(path, &lines)) {
        Some(Ok(idle)) => idle,
        Some(Err(wrong)) => {
            mistakes.extend(wrong);
            Vec::new()
        }
        None => Vec::new(),
    };
    or_mistakes((config, idle), mistakes)
}

fn or_mistakes<T>(good: T, mistakes: Vec<Mistake>) -> Result<T, Mistakes> {
    if mistakes.is_empty() { Ok(good) } else { Err(Mistakes(mistakes)) }
}

#[cfg(test)]
mod tests;
