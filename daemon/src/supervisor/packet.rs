//! A `SEQPACKET` socket on the runtime: one message per packet, descriptors beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use hot_wire::MAX_MESSAGE;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Descriptors beside one packet; no message has more than two.
const MAX_DESCRIPTORS: usize = 4;

/// A packet and what came beside it.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) bytes: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
    /// Some descriptors found no place, as where this process has as many as it may.
    pub(super) cut: bool,
}

/// A connected socket.
#[derive(Debug)]
pub(super) struct PacketSocket(AsyncFd<OwnedFd>);

impl PacketSocket {
    /// Takes a socket that does not block.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for types whose descriptor can change; an OwnedFd that nobody can reach can't"
    )]
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        AsyncFd::new(socket).map(Self)
    }

    /// Connects to the socket at `path`, which never waits on a Unix socket.
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::connect(&socket, &address)?;
        Self::new(socket)
    }

    /// Sends one packet. Dropped before it is done, it has sent all or nothing.
    pub(super) async fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.0.async_io(Interest::WRITABLE, |socket| send_now(socket, bytes, descriptors)).await
    }

    /// The next packet; `None` when the other side is gone. Dropped before it is done, it has taken nothing.
    pub(super) async fn receive(&self) -> io::Result<Option<Packet>> {
        match self.0.async_io(Interest::READABLE, receive_now).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            other => other,
        }
    }

    /// A packet that is there already.
    pub(super) fn try_receive(&self) -> Option<Packet> {
        receive_now(self.0.get_ref()).ok().flatten()
    }
}

fn send_now(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    rustix::net::sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    )?;
    Ok(())
}

fn receive_now(socket: &OwnedFd) -> io::Result<Option<Packet>> {
    // One more than a message may have, so that a longer packet is seen to be cut off.
    let mut bytes = vec![0; MAX_MESSAGE + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet is longer than any message"));
    }
    bytes.truncate(received.bytes);
    bytes.shrink_to_fit();
    Ok(Some(Packet { bytes, descriptors, cut: received.flags.contains(ReturnFlags::CTRUNC) }))
}
