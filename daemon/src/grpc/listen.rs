//! The doors of the control plane: a Unix socket; on a dev node a loopback port; and TCP with TLS, where the config has it.
//!
//! Knows nothing of the services behind them.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio_stream::{Stream, StreamExt as _};

use crate::tls::TlsFiles;

/// The pause after a failed accept: without descriptors left it fails again at once, and would spin.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Why a door can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The port can't be bound.
    #[error("{setting} {address}: {source}; choose a free port, or 0 for any")]
    Tcp {
        /// Which setting named it.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Somebody answers at the socket.
    #[error("{}: another hotd answers at this socket; stop it, or {setting}", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
        /// How another one is asked for.
        setting: &'static str,
    },
    /// The socket can't be bound.
    #[error(
        "the control socket {} can't be made: {source}; expected a folder that is there and that the user who runs hotd \
         may write to", path.display()
    )]
    Unix {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The open doors.
#[derive(Debug)]
pub struct Doors {
    /// For callers on this machine.
    pub socket: UnixListener,
    /// Where that is.
    pub path: PathBuf,
    /// For callers with the token.
    pub tcp: Option<(TcpListener, String)>,
    /// For callers with a certificate, and by which files they are judged.
    pub mutual: Option<(Vec<TcpListener>, TlsFiles)>,
}

/// Opens the Unix socket at `path` with `mode`. A socket that nobody answers at is a leftover and is replaced; where
/// one answers the error says to do `setting` for another socket.
pub fn unix(path: &Path, mode: u32, setting: &'static str) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Unix { path: path.to_owned(), source };
    match UnixStream::connect(path) {
        Ok(_) => return Err(ListenError::InUse { path: path.to_owned(), setting }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            // So says the system of any file, and somebody may still want that one.
            if !std::fs::symlink_metadata(path).map_err(failed)?.file_type().is_socket() {
                let source = io::Error::new(io::ErrorKind::AlreadyExists, "something else has that name");
                return Err(failed(source));
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok(listener)
}

/// Binds `address` for `setting`, which an error names.
pub fn tcp(address: SocketAddr, setting: &'static str) -> Result<StdTcpListener, ListenError> {
    let failed = |source| ListenError::Tcp { setting, address, source };
    let listener = StdTcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Who comes through a door. tonic asks for the next one at once, also where letting one in has failed.
pub(super) fn patient<T>(callers: impl Stream<Item = io::Result<T>>) -> impl Stream<Item = io::Result<T>> {
    callers.then(async |caller| {
        if let Err(error) = &caller
            && error.kind() != io::ErrorKind::ConnectionAborted
        {
            tracing::warn!(%error, "a caller can't be let in; trying again");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        caller
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_leftover_is_replaced_and_a_living_socket_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        drop(unix(&path, 0o600, "choose another").unwrap());
        assert!(path.exists(), "the file of a socket outlives it");
        let alive = unix(&path, 0o600, "choose another").unwrap();
        assert!(matches!(unix(&path, 0o600, "choose another"), Err(ListenError::InUse { .. })));
        drop(alive);
        let file = dir.path().join("file");
        std::fs::write(&file, "mine").unwrap();
        let refused = unix(&file, 0o600, "choose another").unwrap_err().to_string();
        assert!(refused.contains("something else has that name"), "{refused}");
        assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    }

    #[test]
    fn a_port_in_use_is_named() {
        let first = tcp("127.0.0.1:0".parse().unwrap(), "--http").unwrap();
        let error = crate::describe(&tcp(first.local_addr().unwrap(), "--http").unwrap_err());
        assert!(error.starts_with("--http 127.0.0.1:") && error.ends_with("or 0 for any"), "{error}");
        assert_eq!(error.matches("in use").count(), 1, "{error}");
    }
}
