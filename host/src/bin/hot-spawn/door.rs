//! The socket where `hotd` connects: one process serves it, and only its owner or root gets in.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, Mode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, Uid};

use crate::folders::guarded;
use crate::{privileged, sys};

/// Connections that wait to be accepted; there is one `hotd`, and sometimes one that is to be refused.
const BACKLOG: i32 = 8;

/// A listening socket, and the lock that makes its path ours.
pub(crate) struct Door {
    listener: OwnedFd,
    path: PathBuf,
    /// Who may connect besides root.
    owner: Uid,
    _lock: File,
}

impl Door {
    /// Takes `path`. A socket that an ended process left there is replaced; one that is served is not, because then
    /// its lock is held. The socket becomes `owner`'s, or is ours.
    pub(crate) fn open(path: &Path, owner: Option<u32>) -> anyhow::Result<Self> {
        if owner.is_some_and(|owner| owner != rustix::process::geteuid().as_raw()) {
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty())
                .unwrap_or_else(|| Path::new("."));
            let folder =
                folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()))?;
            // As if the socket were there already.
            guarded(&folder.join("socket"))?;
        }
        // It gets its name only when it listens, so whoever finds it can connect.
        let new_path = with_suffix(path, ".new");
        for path in [path, &new_path] {
            is_socket_or_free(path)?;
        }
        let lock_path = with_suffix(path, ".lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .with_context(|| format!("cannot open {}", lock_path.display()))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => bail!("another hot-spawn serves {}", path.display()),
            Err(error) => return Err(error).with_context(|| format!("cannot lock {}", lock_path.display())),
        }
        remove(&new_path)?;
        let listener =
            listen(&new_path).with_context(|| format!("cannot listen at {}", new_path.display()))?;
        if let Some(owner) = owner {
            let given = privileged::give_socket(&new_path, owner);
            given.with_context(|| format!("cannot give {} to user {owner}", new_path.display()))?;
        }
        std::fs::rename(&new_path, path)
            .with_context(|| format!("cannot put a socket at {}", path.display()))?;
        let owner = owner.map_or_else(rustix::process::geteuid, Uid::from_raw);
        Ok(Self { listener, path: path.to_owned(), owner, _lock: lock })
    }

    /// The next connection and its process; `None` if none waits or it is of another user.
    pub(crate) fn accept(&self) -> io::Result<Option<(OwnedFd, Option<Pid>)>> {
        let socket =
            match rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => socket,
                Err(Errno::WOULDBLOCK | Errno::INTR | Errno::CONNABORTED) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
        let (pid, user) = sys::peer(&socket)?;
        if user != self.owner && !user.is_root() {
            let (pid, user) = (Pid::as_raw(pid), user.as_raw());
            crate::log(format_args!("refused a connection of process {pid}, which belongs to user {user}"));
            return Ok(None);
        }
        Ok(Some((socket, pid)))
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Door {
    /// The name goes before the lock, so it can't be a successor's.
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            crate::log(format_args!("{error:#}"));
        }
    }
}

fn listen(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let address = SocketAddrUnix::new(path)?;
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = rustix::net::bind(&socket, &address);
    rustix::process::umask(before);
    bound?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// What is no socket is somebody's, and not ours to replace.
fn is_socket_or_free(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => Ok(()),
        Ok(_) => bail!("{shown} is there and no socket; expected a socket or a name that is free"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot look at {shown}")),
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _removed_or_absent => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
