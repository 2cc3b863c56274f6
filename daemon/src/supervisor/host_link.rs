//! The control socket of one host. What comes from it is a claim of a process that runs foreign code.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hot_wire::host::{self, FromHost, ToHost};
use hot_wire::{MessageError, TooLarge};
use thiserror::Error;
use tokio::time::timeout;

use super::packet::PacketSocket;

/// A host reads its control socket all the time. One that does not for so long hangs.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);

/// Why a host can't be talked to.
#[derive(Debug, Error)]
pub enum HostLinkError {
    /// The socket failed.
    #[error("the control socket of the host failed")]
    Socket(#[from] io::Error),
    /// The host is gone.
    #[error("the host closed its control socket")]
    Closed,
    /// The host does not read.
    #[error("the host has not read its control socket for {TAKEN_WITHIN:?}")]
    Stuck,
    /// The host sent what is no message.
    #[error("the host sent an unreadable message")]
    Message(#[from] MessageError),
    /// A message is too large for a packet.
    #[error("a message to the host is too large")]
    TooLarge(#[from] TooLarge),
}

/// The socket.
#[derive(Debug)]
pub(super) struct HostLink {
    socket: PacketSocket,
    links: AtomicU64,
}

impl HostLink {
    pub(super) fn new(control: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: PacketSocket::new(control)?, links: AtomicU64::new(1) })
    }

    /// Sends a message without descriptors.
    pub(super) async fn send(&self, message: &ToHost) -> Result<(), HostLinkError> {
        self.send_with(message, None).await
    }

    async fn send_with(&self, message: &ToHost, descriptor: Option<&OwnedFd>) -> Result<(), HostLinkError> {
        let bytes = message.encode()?;
        let descriptors: Vec<_> = descriptor.iter().map(|fd| fd.as_fd()).collect();
        match timeout(TAKEN_WITHIN, self.socket.send(&bytes, &descriptors)).await {
            Err(_elapsed) => Err(HostLinkError::Stuck),
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Err(HostLinkError::Closed),
            Ok(other) => other.map_err(HostLinkError::Socket),
        }
    }

    /// Gives the host one more data stream; returns our end, which does not block.
    pub(super) async fn attach(&self) -> Result<UnixStream, HostLinkError> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let link = self.links.fetch_add(1, Ordering::Relaxed);
        self.send_with(&ToHost::Attach { link }, Some(&theirs.into())).await?;
        Ok(ours)
    }

    /// The next message; descriptors that a host sends are closed. A message of a host newer than this `hotd` is
    /// skipped: it can't be one that matters, since nobody asked for it.
    pub(super) async fn receive(&self) -> Result<FromHost, HostLinkError> {
        loop {
            let packet = self.socket.receive().await?.ok_or(HostLinkError::Closed)?;
            match FromHost::decode(&packet.bytes) {
                Err(MessageError::UnknownKind { found }) if host::is_from_host(found) => {}
                message => return Ok(message?),
            }
        }
    }

    /// A message that the host left behind.
    pub(super) fn try_receive(&self) -> Option<FromHost> {
        FromHost::decode(&self.socket.try_receive()?.bytes).ok()
    }
}
