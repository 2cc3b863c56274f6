//! Where hot-spawn is, and how a dev node starts one.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use super::packet::PacketSocket;

/// A binary that was just built may have to come from the disk, on a machine that is busy building.
const START_WITHIN: Duration = Duration::from_secs(15);

/// Where hot-spawn is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpawnAddress {
    /// It serves this socket; somebody else, e.g. systemd, starts it.
    Socket(PathBuf),
    /// It serves this socket, or is started to.
    Dev {
        /// The socket. Beside it are `SOCKET.lock` and hot-spawn's messages, `SOCKET.log`.
        socket: PathBuf,
        /// `hot-spawn`; `hot-host` must lie beside it, unless `arguments` say where it is.
        binary: PathBuf,
        /// Further arguments, e.g. `--dev-grace-ms 500`.
        arguments: Vec<String>,
    },
}

impl SpawnAddress {
    /// A dev node's: `hot-spawn` lies beside the executable that runs.
    pub fn dev(socket: PathBuf) -> io::Result<Self> {
        let binary = std::env::current_exe()?.with_file_name("hot-spawn");
        Ok(Self::Dev { socket, binary, arguments: Vec::new() })
    }

    /// The socket's path.
    #[must_use]
    pub fn socket(&self) -> &Path {
        match self {
            Self::Socket(socket) | Self::Dev { socket, .. } => socket,
        }
    }
}

/// Why hot-spawn can't be reached.
#[derive(Debug, Error)]
pub enum ReachError {
    /// Nothing answers at the socket.
    #[error("nothing answers at {}; is hot-spawn running?", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Its log file can't be opened.
    #[error("cannot open hot-spawn's log {}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It could not be executed.
    #[error("cannot execute {}; it is built and installed with hotd", path.display())]
    Execute {
        /// The binary.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It ended, or did not become ready in time.
    #[error("{} did not become ready; {} says why", binary.display(), log.display())]
    NotReady {
        /// The binary.
        binary: PathBuf,
        /// Its messages.
        log: PathBuf,
    },
}

/// Connects, after starting it if nothing answers and the address says how.
pub(super) async fn reach(address: &SpawnAddress) -> Result<PacketSocket, ReachError> {
    let path = address.socket().to_owned();
    let connect =
        |path: PathBuf| PacketSocket::connect(&path).map_err(|source| ReachError::Connect { path, source });
    match (connect(path.clone()), address) {
        (Ok(socket), _) => Ok(socket),
        (Err(error), SpawnAddress::Socket(_)) => Err(error),
        (Err(_absent), SpawnAddress::Dev { socket, binary, arguments }) => {
            let started = start(socket, binary, arguments).await;
            // Another hotd may have started one at the same moment; then ours ended and theirs answers.
            match (connect(path), started) {
                (Ok(socket), _) => Ok(socket),
                (Err(_), Err(error)) | (Err(error), Ok(())) => Err(error),
            }
        }
    }
}

/// Starts hot-spawn and waits until it listens. It makes a session of its own, so nothing that ends us ends it, and
/// writes to a file, since our own stderr may be gone before it is.
async fn start(socket: &Path, binary: &Path, arguments: &[String]) -> Result<(), ReachError> {
    let mut log = socket.as_os_str().to_owned();
    log.push(".log");
    let log = PathBuf::from(log);
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&log)
        .map_err(|source| ReachError::Log { path: log.clone(), source })?;
    let mut child = Command::new(binary)
        .arg("--socket")
        .arg(socket)
        .arg("--dev")
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(file)
        .spawn()
        .map_err(|source| ReachError::Execute { path: binary.to_owned(), source })?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        let mut stdout = BufReader::new(stdout);
        // Whatever goes wrong here, no line is no readiness.
        timeout(START_WITHIN, stdout.read_line(&mut line))
            .await
            .map_or(Ok(0), |read| read)
            .unwrap_or_default();
    }
    let ready = line.starts_with("ready ");
    if !ready {
        child.start_kill().unwrap_or_default();
    }
    tokio::spawn(async move {
        let end = child.wait().await;
        tracing::debug!(?end, "a hot-spawn that this process started ended");
    });
    if ready { Ok(()) } else { Err(ReachError::NotReady { binary: binary.to_owned(), log }) }
}
