//! One connection of a `hotd`: packets in with their descriptors, packets out from a bounded queue.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hot_wire::spawn::{FromSpawn, ToSpawn};
use hot_wire::{MAX_MESSAGE, MessageError, TooLarge};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use thiserror::Error;

/// Descriptors beside one packet; no message has more than two.
const MAX_DESCRIPTORS: usize = 4;
/// Bytes that wait for a `hotd` that does not read: the list of a few hundred hosts with large labels.
const MAX_QUEUED: usize = 32 * 1024 * 1024;

/// Why a connection is of no more use.
#[derive(Debug, Error)]
pub(crate) enum PeerError {
    #[error("it closed the connection")]
    Closed,
    #[error("a packet was cut off")]
    Cut,
    #[error("a packet came with {found} descriptors, expected {expected}")]
    Descriptors { found: usize, expected: usize },
    #[error("its first message was no hello of protocol {}", hot_wire::PROTOCOL)]
    NoHello,
    #[error("hotd {by} is connected, which has to end first")]
    Occupied { by: u32 },
    #[error("it said hello twice")]
    OutOfTurn,
    #[error("it does not read its messages")]
    Stuck,
    #[error("a message is unreadable")]
    Message(#[from] MessageError),
    #[error("a message is too large")]
    TooLarge(#[from] TooLarge),
    #[error("the socket failed")]
    Socket(#[from] Errno),
}

/// A connection.
pub(crate) struct Peer {
    socket: OwnedFd,
    pid: u32,
    queue: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    queued: usize,
}

impl Peer {
    /// `socket` must not block; `pid` connected to it.
    pub(crate) fn new(socket: OwnedFd, pid: u32) -> Self {
        Self { socket, pid, queue: VecDeque::new(), queued: 0 }
    }

    /// The process at the other end.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether something waits for the socket to take it.
    pub(crate) fn wants_write(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The next message; `None`: wait until the socket is readable.
    pub(crate) fn receive(&mut self) -> Result<Option<(ToSpawn, Vec<OwnedFd>)>, PeerError> {
        // One more than a message may have, so that a longer packet is seen to be cut off.
        let mut bytes = vec![0; MAX_MESSAGE + 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = match rustix::net::recvmsg(&self.socket, &mut parts, &mut control, flags) {
            Ok(received) => received,
            // A reset is told once, before what the peer sent until then; its end is seen behind that.
            Err(Errno::WOULDBLOCK | Errno::INTR | Errno::CONNRESET) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        if received.bytes == 0 {
            return Err(PeerError::Closed);
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(PeerError::Cut);
        }
        let message = ToSpawn::decode(&bytes[..received.bytes])?;
        if message.descriptors() != descriptors.len() {
            return Err(PeerError::Descriptors { found: descriptors.len(), expected: message.descriptors() });
        }
        Ok(Some((message, descriptors)))
    }

    /// Sends a message with duplicates of `descriptors`, or queues it until the socket takes it.
    pub(crate) fn send(
        &mut self,
        message: &FromSpawn,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), PeerError> {
        debug_assert_eq!(message.descriptors(), descriptors.len(), "{message:?}");
        let bytes = message.encode()?;
        if self.queue.is_empty() && send_packet(self.socket.as_fd(), &bytes, descriptors)? {
            return Ok(());
        }
        self.queued += bytes.len();
        if self.queued > MAX_QUEUED {
            return Err(PeerError::Stuck);
        }
        let duplicates: Result<Vec<_>, _> =
            descriptors.iter().map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 0)).collect();
        self.queue.push_back((bytes, duplicates?));
        Ok(())
    }

    /// Sends what is queued, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> Result<(), PeerError> {
        while let Some((bytes, descriptors)) = self.queue.front() {
            let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            if !send_packet(self.socket.as_fd(), bytes, &borrowed)? {
                break;
            }
            self.queued -= bytes.len();
            self.queue.pop_front();
        }
        Ok(())
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sends one packet; false: the socket takes nothing now.
fn send_packet(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<bool, PeerError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        let room = control.push(SendAncillaryMessage::ScmRights(descriptors));
        debug_assert!(room, "no message has more than {MAX_DESCRIPTORS} descriptors");
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags) {
        Ok(_whole_packet) => Ok(true),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        Err(Errno::PIPE | Errno::CONNRESET) => Err(PeerError::Closed),
        Err(error) => Err(error.into()),
    }
}
