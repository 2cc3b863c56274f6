//! The control socket: one message per packet, descriptors beside it.

use hot_wire::MAX_MESSAGE;
use hot_wire::MessageError;
use hot_wire::host::{FromHost, ToHost};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recvmsg, send,
};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use thiserror::Error;

use crate::output;

/// The socket. Packets go out whole, so any thread may send.
#[derive(Debug)]
pub(crate) struct Control {
    socket: OwnedFd,
}

/// Why nothing more can be heard from hotd.
#[derive(Debug, Error)]
pub(crate) enum ReceiveError {
    /// hotd and hot-spawn are gone.
    #[error("the control socket has ended")]
    Ended,
    /// Reading failed.
    #[error("reading the control socket failed")]
    Read(#[source] Errno),
    /// A packet was longer than any message.
    #[error("a packet on the control socket is longer than {MAX_MESSAGE} bytes")]
    TooLong,
    /// A packet is no message.
    #[error("a packet on the control socket is no message")]
    Message(#[source] MessageError),
}

impl Control {
    pub(crate) const fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Sends a message, without waiting for a hotd that does not read: it asks again when it needs to know.
    pub(crate) fn send(&self, message: &FromHost) {
        let packet = match message.encode() {
            Ok(packet) => packet,
            Err(error) => return output::say(&format!("a message to hotd was dropped: {error}")),
        };
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        if let Err(error) = retry_on_intr(|| send(&self.socket, &packet, flags)) {
            output::say(&format!("a message to hotd was dropped: {error}"));
        }
    }

    /// Waits for the next message and the descriptor beside it. `buffer` has room for [`MAX_MESSAGE`] bytes.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Result<(ToHost, Option<OwnedFd>), ReceiveError> {
        // Room for more than the one descriptor that a message has: what should not be there is closed.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let parts = &mut [IoSliceMut::new(buffer)];
            match recvmsg(&self.socket, parts, &mut beside, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                received => break received.map_err(ReceiveError::Read)?,
            }
        };
        let descriptor = beside
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .next();
        if received.bytes == 0 {
            return Err(ReceiveError::Ended);
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(ReceiveError::TooLong);
        }
        let message = ToHost::decode(&buffer[..received.bytes]).map_err(ReceiveError::Message)?;
        Ok((message, descriptor))
    }
}
