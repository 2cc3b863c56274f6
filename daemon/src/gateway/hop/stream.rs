//! The stream to a host.
//!
//! The executor's own type for a Unix stream asks to be told of room to write, too. That is said whenever the other side has
//! read, however empty the socket was: each request would wake this thread in vain as its host takes it, two switches for
//! nothing. So this one listens for what can be read alone, and for room only while there is none.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::unix::pipe::{Receiver, Sender};

/// The stream to a host.
#[derive(Debug)]
pub(in crate::gateway) struct HostStream {
    /// It is read as a pipe is: of the executor's types that is the one which does not listen for room.
    socket: Receiver,
    /// The same socket while it is full, as the other end of a pipe, which listens for room alone.
    full: Option<Sender>,
    /// The same socket while it is not: a descriptor that is there when it is needed, however few are left by then.
    spare: Option<OwnedFd>,
}

impl HostStream {
    /// Within the executor.
    pub(in crate::gateway) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let spare = Some(socket.try_clone()?.into());
        Ok(Self { socket: Receiver::from_owned_fd_unchecked(socket.into())?, full: None, spare })
    }

    /// Whether something can be read, or the stream is at its end.
    pub(in crate::gateway) fn is_readable(&self, cx: &mut Context<'_>) -> bool {
        self.socket.poll_read_ready(cx).is_ready()
    }

    /// Reads what is there. How many bytes; none at the end.
    pub(in crate::gateway) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        pin!(self.socket.read_buf(buffer)).poll(cx)
    }

    /// Sends some of these bytes.
    pub(in crate::gateway) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let full = match &mut self.full {
            Some(full) => full,
            None => match send(&self.socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Err(Errno::AGAIN) => {
                    let same = self.spare.take().ok_or(io::ErrorKind::NotConnected)?;
                    self.full.insert(Sender::from_owned_fd_unchecked(same)?)
                }
                sent => return Poll::Ready(sent.map_err(io::Error::from)),
            },
        };
        let sent = ready!(Pin::new(full).poll_write(cx, bytes))?;
        self.spare = self.full.take().map(Sender::into_nonblocking_fd).transpose()?;
        Poll::Ready(Ok(sent))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::future::poll_fn;
    use std::io::Read;
    use std::os::fd::{AsFd, AsRawFd};
    use std::task::Waker;

    use rustix::event::epoll::EventFlags;

    use super::*;

    /// What the executor listens for on this descriptor, as the kernel has it.
    fn listened_for(socket: &impl AsFd) -> io::Result<u32> {
        let wanted = socket.as_fd().as_raw_fd().to_string();
        let mut mask = 0;
        for info in fs::read_dir("/proc/self/fdinfo")? {
            // The descriptor of the folder itself is gone by now.
            let text = fs::read_to_string(info?.path()).unwrap_or_default();
            for line in text.lines().filter(|line| line.starts_with("tfd:")) {
                let words: Vec<&str> = line.split_whitespace().collect();
                if words[1] == wanted {
                    mask |= u32::from_str_radix(words[3], 16).map_err(io::Error::other)?;
                }
            }
        }
        Ok(mask)
    }

    #[tokio::test]
    async fn room_is_listened_for_only_while_there_is_none() -> io::Result<()> {
        let [input, room] = [EventFlags::IN, EventFlags::OUT].map(|flags| flags.bits());
        let (ours, theirs) = UnixStream::pair()?;
        let mut stream = HostStream::new(ours)?;
        assert_eq!(listened_for(&stream.socket)? & (input | room), input);
        let cx = &mut Context::from_waker(Waker::noop());
        while stream.poll_send(cx, &[7; 64 * 1024])?.is_ready() {}
        let full = stream.full.as_ref().expect("nobody reads");
        assert_eq!(listened_for(full)? & (input | room), room);
        assert_eq!(listened_for(&stream.socket)? & (input | room), input);
        drop(theirs);
        Ok(())
    }

    #[tokio::test]
    async fn a_full_one_waits_for_room_and_then_goes_on() -> io::Result<()> {
        let (ours, mut theirs) = UnixStream::pair()?;
        let mut stream = HostStream::new(ours)?;
        let piece = [7; 64 * 1024];
        let mut sent = 0;
        let mut fill = |stream: &mut HostStream| {
            while let Poll::Ready(more) = stream.poll_send(&mut Context::from_waker(Waker::noop()), &piece) {
                sent += more?;
            }
            Ok::<_, io::Error>(sent)
        };
        let at_first = fill(&mut stream)?;
        assert!(stream.full.is_some(), "{at_first} bytes and no end");
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0; at_first + 1];
            theirs.read_exact(&mut bytes).map(|()| (theirs, bytes))
        });
        poll_fn(|cx| stream.poll_send(cx, &[7])).await?;
        assert!(stream.full.is_none() && stream.spare.is_some(), "ready to be full again");
        let (theirs, bytes) = reader.join().expect("the reader does not panic")?;
        assert!(bytes.iter().all(|byte| *byte == 7));
        drop(theirs);
        assert!(poll_fn(|cx| stream.poll_send(cx, &piece)).await.is_err(), "nobody reads any more");
        Ok(())
    }
}
